"""The roofline: what each layer attains of the array against its arithmetic intensity, MAC for a byte of DRAM."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from accel.metrics import CAUSES
from accel.plots import COLOURS, MARKERS, in_style, new_figure, run_title, shared_legend, short_labels, short_log_axis
from accel.point_labels import PointLabel, place_labels
from accel.reporting import plain, ratio
from accel.run import LayerRun, Run
from accel.svg import add_hover

ABOVE_THE_ROOF = (
    "Weights are fetched while earlier layers still compute: a layer may\n"
    "lie above the slope of DRAM; the whole network cannot."
)
NAMED = "Named: the costliest layers, one of those in one place, where there is room"
_LABELLED = 5
_APART = 0.25  # decades between two labelled points
_MARGIN = 3.0  # times the widest point: where layers without DRAM traffic stand


@dataclass(frozen=True, slots=True)
class RooflinePoint:
    """One layer: MAC for a byte of its DRAM traffic (``None``: it has none), MAC a cycle attained, what bounds it."""

    name: str
    intensity: float | None
    attained: float
    bound: str
    cycles: int


def roofline_points(run: Run) -> tuple[RooflinePoint, ...]:
    """Every layer that multiplies; the others have no place on a roofline."""
    return tuple(_point(layer) for layer in run.layers if layer.macs and layer.cycles)


def _point(layer: LayerRun) -> RooflinePoint:
    traffic = sum(layer.dram_bytes.values())
    return RooflinePoint(
        layer.name, ratio(layer.macs, traffic), layer.macs / layer.cycles, layer.bound, layer.cycles
    )  # fmt: skip


@in_style
def roofline_figure(runs: Sequence[Run]) -> Figure:
    """One panel a run: a marker a layer, shaped and coloured by what bounds it, under the roofs of the machine."""
    figure = new_figure(1.2 + 5.6 * len(runs), 5.2)
    panels = figure.subplots(1, len(runs), squeeze=False, sharex=True, sharey=True)[0]
    points = [roofline_points(run) for run in runs]
    low, high = _reach(runs, [point for row in points for point in row])
    for axes, run, row in zip(panels, runs, points, strict=True):
        _draw_roofs(axes, run, low, high)
        for index, cause in enumerate(CAUSES):
            _draw_points(axes, [point for point in row if point.bound == cause], index, cause, high)
        _draw_network(axes, run)
    for axes, run, row in zip(panels, runs, points, strict=True):
        _describe(axes, run, row, low, high)
    shared_legend(figure, panels, "a layer is bound by")
    for axes, row in zip(panels, points, strict=True):
        _label_costliest(axes, row, high)
    return figure


def _reach(runs: Sequence[Run], points: Iterable[RooflinePoint]) -> tuple[float, float]:
    """Intensities the axis reaches from and to; layers without DRAM traffic stand at its right end."""
    found = [point.intensity for point in points if point.intensity]
    ridges = [run.machine.macs_per_cycle / run.machine.bandwidth_bytes_per_cycle for run in runs]
    return min([*found, *ridges]) / 2, max([*found, *ridges]) * _MARGIN


def _draw_roofs(axes: Axes, run: Run, low: float, high: float) -> None:
    machine = run.machine
    for bandwidth, dash, what in (
        (machine.bandwidth_bytes_per_cycle, "-", "peak"),
        (machine.sustained_bandwidth_bytes_per_cycle, "--", "sustained"),
    ):
        ridge = machine.macs_per_cycle / bandwidth
        roof = [low * bandwidth, machine.macs_per_cycle, machine.macs_per_cycle]
        axes.plot(
            [low, ridge, high * _MARGIN], roof, dash, color="black", linewidth=1.2, label=f"roof, {what} DRAM rate"
        )


def _draw_points(axes: Axes, points: Sequence[RooflinePoint], index: int, cause: str, high: float) -> None:
    for number, point in enumerate(points):
        (line,) = axes.plot(
            point.intensity or high, point.attained, MARKERS[index], color=COLOURS[index], markersize=6, alpha=0.9,
            markeredgecolor="black", markeredgewidth=0.5, label="_" if number else cause,
        )  # fmt: skip
        add_hover(line, _hover(point))


def _hover(point: RooflinePoint) -> str:
    work = f"{point.intensity:,.3g} MAC/B" if point.intensity else "no DRAM traffic"
    return plain(f"{point.name}: {work}, {point.attained:,.4g} MAC/cycle, {point.cycles:,} cycles, {point.bound}")


def _draw_network(axes: Axes, run: Run) -> None:
    traffic, cycles = run.dram_bytes_total, run.total_cycles
    if run.macs and traffic and cycles:
        style: dict[str, Any] = {
            "markersize": 15,
            "markerfacecolor": "none",
            "markeredgecolor": "black",
            "markeredgewidth": 1.4,
        }
        axes.plot(run.macs / traffic, run.macs / cycles, "*", label="whole network", linestyle="", **style)


def _label_costliest(axes: Axes, points: Sequence[RooflinePoint], high: float) -> None:
    """Names of the layers with most cycles; of several in one place, the costliest."""
    texts = dict(zip(points, short_labels([point.name for point in points]), strict=True))
    apart: dict[tuple[float, float], RooflinePoint] = {}
    for point in sorted(points, key=lambda each: -each.cycles):
        at = (math.log10(point.intensity or high), math.log10(point.attained))
        if all(abs(at[0] - x) > _APART or abs(at[1] - y) > _APART / 2 for x, y in apart):
            apart[at] = point
    labels = [PointLabel(texts[point], point.intensity or high, point.attained) for point in apart.values()]
    place_labels(axes, labels, _LABELLED)


def _describe(axes: Axes, run: Run, points: Sequence[RooflinePoint], low: float, high: float) -> None:
    axes.set_xlim(low, high * _MARGIN**0.5)
    for axis in (axes.xaxis, axes.yaxis):
        short_log_axis(axis)
    if any(point.intensity is None for point in points):
        axes.axvline(high / _MARGIN**0.5, color="black", linestyle=":", linewidth=0.8)
        axes.text(high, 1.01, "no DRAM traffic", transform=axes.get_xaxis_transform(), fontsize=7, ha="center")
    elsewhere = sum(layer.cycles for layer in run.layers if not layer.macs)
    rest = f"; layers without MACs, {100 * elsewhere / run.total_cycles:.1f} % of cycles, are not" if elsewhere else ""
    axes.set_xlabel(
        f"arithmetic intensity [MAC/B of DRAM traffic], log scale\n{len(points)} layers are shown{rest}\n{NAMED}\n"
        f"{ABOVE_THE_ROOF}", fontsize=9,
    )  # fmt: skip
    axes.set_ylabel("attained [MAC/cycle], log scale")
    axes.set_title(run_title(run), fontsize=9, pad=14)
    axes.grid(alpha=0.3)
