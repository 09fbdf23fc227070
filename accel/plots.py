"""Figures of runs. Series differ in more than colour (hatch, marker, dash), so that they read in black and white.

Figures are drawn without pyplot, so nothing global is left open, and written atomically in the format of the suffix.
"""

from __future__ import annotations

import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from accel.atomic import write_bytes
from accel.errors import ConfigError, listed
from accel.metrics import CAUSES, TRAFFIC
from accel.reporting import run_labels
from accel.run import Run

FORMATS = ("png", "svg", "pdf")
DPI = 130

# Okabe and Ito's palette, which colour-blind readers tell apart, and grey; hatches repeat the distinction.
_COLOURS = ("#0072B2", "#E69F00", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#F0E442", "#BBBBBB", "#555555")
_HATCHES = ("", "///", "...", "xxx", "\\\\\\", "+++", "|||", "---", "ooo")
_MARKERS = ("s", "o", "^", "D", "v", "P", "X", "*", "<", ">")
_DASHES: tuple[Any, ...] = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 1, 2)))
_LINE_COLOURS = (*_COLOURS[:6], *_COLOURS[7:])  # yellow is too pale for a line
_LARGEST_NAME = 30
_MOST_LAYERS = 120


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a speed-up plot; ``reference`` lines are thin and carry no markers."""

    label: str
    bandwidths: Sequence[float]
    speedups: Sequence[float]
    reference: bool = False


@dataclass(frozen=True, slots=True)
class SpeedupPanel:
    """Speed-up over int8 against DRAM bandwidth on one machine.

    ``own_bandwidth`` is the machine's and ``crossover`` the bandwidth marked as such, both in B/cycle; ``caption``
    explains the latter and is left out without it.
    """

    title: str
    curves: Sequence[Curve]
    own_bandwidth: float
    crossover: float | None
    caption: str


def plot_format(path: Path) -> str:
    """The format a suffix stands for; raises ``ConfigError`` for one we do not write."""
    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in FORMATS:
        raise ConfigError(f"plot file '{path}': suffix '.{suffix}'; allowed: {listed('.' + name for name in FORMATS)}")
    return suffix


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, without pyplot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def write_figure(figure: Figure, path: Path) -> None:
    """Write atomically; raises ``ConfigError`` for a suffix not in ``FORMATS``, ``FormatError`` if the disk refuses."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=plot_format(path), dpi=DPI)
    write_bytes(path, buffer.getvalue())


def _bar_style(index: int) -> dict[str, Any]:
    return {"color": _COLOURS[index % 9], "hatch": _HATCHES[index % 9], "edgecolor": "black", "linewidth": 0.4}


def _stacked(
    axes: Axes, labels: Sequence[str], parts: Sequence[Mapping[str, float]], keys: Mapping[str, str], scale: float
) -> None:
    """Horizontal bars, first label on top, one segment a key; keys that are nowhere used stay out of the legend."""
    left = [0.0] * len(labels)
    for index, key in enumerate(keys):
        values = [part.get(key, 0) * scale for part in parts]
        if any(values):
            axes.barh(range(len(labels)), values, left=left, height=0.8, label=key, **_bar_style(index))
            left = [a + b for a, b in zip(left, values, strict=True)]
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.4)
    axes.set_axisbelow(True)


def short_labels(names: Sequence[str]) -> list[str]:
    """Names short enough for an axis: if one is too long, all lose what they start with up to the block's index.

    Block index and last two components always stay: they tell layers apart.
    """
    if max(map(len, names), default=0) <= _LARGEST_NAME:
        return list(names)
    split = [_components(name) for name in names]
    stems = Counter(_stem(parts) for parts in split if any(part.isdigit() for part in parts))
    common = max(stems, key=lambda stem: stems[stem], default=())
    labels = [_abbreviated(parts[len(common) :] if _stem(parts) == common else parts) for parts in split]
    return labels if len(set(labels)) == len(labels) else [_abbreviated(parts) for parts in split]


def _components(name: str) -> tuple[str, ...]:
    """Parts between dots and slashes, a part that repeats the one before left out: ``attention.attention.query``."""
    parts = [part for part in re.split(r"[./]", name) if part]
    return tuple(part for i, part in enumerate(parts) if part.isdigit() or i == 0 or part != parts[i - 1])


def _stem(parts: tuple[str, ...]) -> tuple[str, ...]:
    """What precedes the first number."""
    return tuple(itertools.takewhile(lambda part: not part.isdigit(), parts))


def _abbreviated(parts: tuple[str, ...]) -> str:
    text = ".".join(parts)
    if len(text) <= _LARGEST_NAME:
        return text
    index = next((part for part in parts[:-1] if part.isdigit()), "")
    tail = ".".join(part for part in parts[-2:] if part != index)
    return f"{index}…{tail[len(index) + 1 - _LARGEST_NAME :]}"


def _layer_rows(runs: Sequence[Run]) -> tuple[list[str], list[list[Mapping[str, int]]]]:
    """Names of the bars and, for each run, the causes of each, so that rows line up across runs.

    Layers that are free in every run are left out; the cheapest of a very deep network become one last bar.
    """
    tables = [{layer.name: layer.cycles_by_cause for layer in run.layers} for run in runs]
    peak: dict[str, int] = {}
    for layer in (layer for run in runs for layer in run.layers if layer.cycles):
        peak[layer.name] = max(peak.get(layer.name, 0), layer.cycles)
    ranked = sorted(peak, key=lambda name: -peak[name])
    kept, rest = set(ranked[:_MOST_LAYERS]), ranked[_MOST_LAYERS:]
    names = [name for name in dict.fromkeys(name for table in tables for name in table) if name in kept]
    bars = [[table.get(name, {}) for name in names] for table in tables]
    if rest:
        names.append(f"({len(rest)} cheaper layers)")
        for table, row in zip(tables, bars, strict=True):
            row.append({cause: sum(table.get(name, {}).get(cause, 0) for name in rest) for cause in CAUSES})
    return names, bars


def layers_figure(runs: Sequence[Run]) -> Figure:
    """What bounds each layer: cycles by cause, stacked, one column a run, one bar a layer (free layers left out)."""
    names, bars = _layer_rows(runs)
    figure = new_figure(2.5 + 4.6 * len(runs), max(3.0, 1.6 + 0.16 * len(names)))
    panels = figure.subplots(1, len(runs), squeeze=False, sharex=True, sharey=True)[0]
    for axes, run, causes in zip(panels, runs, bars, strict=True):
        _stacked(axes, short_labels(names), causes, CAUSES, 1e-3)
        axes.set_title(f"{run.program.get('codec')} on {run.machine.name}: {run.total_cycles:,} cycles", fontsize=9)
        axes.set_xlabel("thousand cycles (same scale for every run)" if len(runs) > 1 else "thousand cycles")
        axes.tick_params(axis="y", labelsize=7)
    _shared_legend(figure, panels, "cause of a cycle")
    return figure


def _shared_legend(figure: Figure, panels: Iterable[Axes], title: str) -> None:
    """One legend below all panels, each key once."""
    handles: dict[str, Any] = {}
    for axes in panels:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 5) or 1, title=title,
        fontsize=8, handleheight=1.4, handlelength=2.4,
    )  # fmt: skip


def comparison_figure(runs: Sequence[Run]) -> Figure:
    """Total cycles by cause and DRAM bytes by kind, one bar a run."""
    figure = new_figure(10, 3.4 + 0.5 * len(runs))
    cycles, traffic = figure.subplots(2, 1)
    labels = run_labels(runs)
    _stacked(cycles, labels, [run.cycles_by_cause for run in runs], CAUSES, 1e-3)
    _stacked(traffic, labels, [run.dram_bytes for run in runs], TRAFFIC, 1e-6)
    cycles.set_xlabel("thousand cycles, by cause")
    traffic.set_xlabel("DRAM MB (1e6 B) a run, by kind")
    for axes in (cycles, traffic):
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8, handleheight=1.4, handlelength=2.4)
    return figure


def traffic_figure(groups: Mapping[str, Mapping[str, Run]]) -> Figure:
    """DRAM bytes by kind, one labelled bar a run, its total beside it; one titled panel a group."""
    rows = sum(map(len, groups.values()))
    figure = new_figure(9, 1.8 + 0.9 * len(groups) + 0.42 * rows)
    ratios = [len(runs) + 1 for runs in groups.values()]
    panels = figure.subplots(len(groups), 1, squeeze=False, gridspec_kw={"height_ratios": ratios})[:, 0]
    for axes, (title, labelled) in zip(panels, groups.items(), strict=True):
        runs = list(labelled.values())
        _stacked(axes, list(labelled), [run.dram_bytes for run in runs], TRAFFIC, 1e-6)
        axes.set_title(title, fontsize=10)
        axes.set_xlabel("DRAM MB (1e6 B) a run")
        widest = max(run.dram_bytes_total for run in runs) / 1e6
        axes.set_xlim(0, (widest or 1) * 1.14)
        for row, run in enumerate(runs):
            megabytes = run.dram_bytes_total / 1e6
            axes.text(megabytes + widest * 0.01, row, f"{megabytes:.3f}", va="center", fontsize=8)
    _shared_legend(figure, panels, "kind of DRAM traffic")
    return figure


def speedup_figure(panels: Sequence[SpeedupPanel]) -> Figure:
    """Speed-up over int8 against DRAM bandwidth: a panel a machine, a line a codec, crossover and machine marked."""
    figure = new_figure(9.5, 5.4 * len(panels))
    for axes, panel in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        _draw_speedup(axes, panel)
    return figure


def _draw_speedup(axes: Axes, panel: SpeedupPanel) -> None:
    for index, curve in enumerate(panel.curves):
        axes.plot(curve.bandwidths, curve.speedups, label=curve.label, **_curve_style(index, curve.reference))
    _mark(axes, panel.own_bandwidth, f"this machine: {panel.own_bandwidth:.3g} B/cycle", "-", 1.01)
    if panel.crossover is not None:
        _mark(axes, panel.crossover, f"crossover: {panel.crossover:.3g} B/cycle", "--", 1.05)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=16))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylim(0, max(max(curve.speedups) for curve in panel.curves) * 1.18)
    caption = f"\n{panel.caption}" if panel.crossover is not None else ""
    axes.set_xlabel(f"DRAM bandwidth [B/cycle], log scale{caption}", fontsize=9)
    axes.set_ylabel("speed-up over int8 [x]")
    axes.set_title(panel.title, fontsize=10, pad=34)  # above the two labels
    axes.grid(alpha=0.4)
    axes.legend(fontsize=8, handlelength=4, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _curve_style(index: int, reference: bool) -> dict[str, Any]:
    if reference:
        return {"linewidth": 1.0, "color": "black", "linestyle": _DASHES[index % 8]}
    return {
        "linewidth": 1.8,
        "linestyle": _DASHES[index % 8],
        "color": _LINE_COLOURS[index % 8],
        "marker": _MARKERS[index % 10],
        "markersize": 6,
        "markeredgecolor": "black",
        "markeredgewidth": 0.6,
    }


def point_style(index: int) -> dict[str, Any]:
    """Colour and marker of the ``index``-th kind of point in a scatter plot."""
    style = _curve_style(index, reference=False)
    return style | {"linestyle": "none", "markersize": 5, "markeredgewidth": 0.4, "alpha": 0.85}


def _mark(axes: Axes, bandwidth: float, text: str, dash: str, height: float) -> None:
    """A vertical line; its label stands above the axes, where no line runs, each at a height of its own."""
    axes.axvline(bandwidth, color="black", linestyle=dash, linewidth=1.2)
    where = axes.get_xaxis_transform()
    axes.text(bandwidth, height, text, transform=where, ha="center", va="bottom", fontsize=8)
