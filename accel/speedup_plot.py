"""Speed-up over int8 against what a machine may have more or less of: DRAM bandwidth, or multipliers in its array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from accel.plots import DASHES, LINE_COLOURS, MARKERS, in_style, new_figure
from accel.reporting import plain

_SHOWN_INCHES, _LETTERS_PER_INCH = 6.0, 11.0  # of an axis between its first and last value; of ticks


@dataclass(frozen=True, slots=True)
class Sweep:
    """What is swept, in which unit; the marks of machine and crossover are spelled with it."""

    quantity: str
    unit: str


BANDWIDTH = Sweep("DRAM bandwidth", "B/cycle")
ARRAY = Sweep("array", "MAC/cycle")


@dataclass(frozen=True, slots=True)
class Curve:
    """One line: speed-ups at ascending values of what is swept; ``reference`` lines are thin and carry no markers."""

    label: str
    swept: Sequence[float]
    speedups: Sequence[float]
    reference: bool = False

    def __post_init__(self) -> None:
        if not self.swept or len(self.swept) != len(self.speedups):
            raise ValueError(f"curve '{self.label}': {len(self.speedups)} speed-ups for {len(self.swept)} values")


@dataclass(frozen=True, slots=True)
class SpeedupPanel:
    """The curves of one machine.

    ``own`` is what the machine has of the swept quantity and ``crossover`` where the gain ends or begins; ``caption``
    explains the latter and is left out without it. ``names`` are shown at the values of the first curve instead of
    these, and ``order`` says how they are placed; ``own_text`` and ``crossover_text`` then say what the two marks are
    at, which their places do not.
    """

    title: str
    curves: Sequence[Curve]
    own: float
    crossover: float | None
    caption: str
    sweep: Sweep = BANDWIDTH
    names: Sequence[str] = ()
    order: str = ""
    own_text: str = ""
    crossover_text: str = ""


@in_style
def speedup_figure(panels: Sequence[SpeedupPanel]) -> Figure:
    """Speed-up over int8: a panel a machine, a line a codec, crossover and the machine itself marked."""
    figure = new_figure(9.5, 5.4 * len(panels))
    figure.set_layout_engine("constrained", h_pad=0.12)
    for axes, panel in zip(figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels, strict=True):
        _draw(axes, panel)
    return figure


def _draw(axes: Axes, panel: SpeedupPanel) -> None:
    unit = panel.sweep.unit
    for index, curve in enumerate(panel.curves):
        axes.plot(curve.swept, curve.speedups, label=plain(curve.label), **curve_style(index, curve.reference))
    own = panel.own_text or f"{_number(panel.own)} {unit}"
    _mark(axes, panel.own, f"this machine: {own}", "-", 1.01)
    if panel.crossover is not None:
        crossover = panel.crossover_text or f"{_number(panel.crossover)} {unit}"
        _mark(axes, panel.crossover, f"crossover: {crossover}", "--", 1.05)
    _ticks(axes, panel)
    axes.set_ylim(0, max(max(curve.speedups) for curve in panel.curves) * 1.18)
    caption = f"\n{plain(panel.caption)}" if panel.crossover is not None else ""
    named = f"rows x columns, {panel.order}" if panel.names else f"[{unit}], log scale"
    axes.set_xlabel(plain(f"{panel.sweep.quantity} {named}") + caption, fontsize=9)
    axes.set_ylabel("speed-up over int8 [x]")
    axes.set_title(plain(panel.title), fontsize=10, pad=34)  # above the two labels
    axes.grid(alpha=0.4)
    axes.legend(fontsize=8, handlelength=4, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _ticks(axes: Axes, panel: SpeedupPanel) -> None:
    axes.set_xscale("log", base=2)
    if panel.names:
        _name_ticks(axes, panel.curves[0].swept, [plain(name) for name in panel.names])
        return
    axes.xaxis.set_major_locator(LogLocator(base=2, numticks=16))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def _name_ticks(axes: Axes, places: Sequence[float], names: Sequence[str]) -> None:
    """Names at their places; slanted where they would run into each other."""
    octave = _SHOWN_INCHES * _LETTERS_PER_INCH / math.log2(places[-1] / places[0])  # letters there is room for in one
    longest = max(map(len, names)) + 1
    slanted = any(math.log2(b / a) * octave < longest for a, b in pairwise(places))
    axes.set_xticks(places, names, rotation=45 if slanted else 0, ha="right" if slanted else "center")
    axes.xaxis.set_minor_locator(NullLocator())


def curve_style(index: int, reference: bool) -> dict[str, Any]:
    """How the line at ``index`` looks: a dash, a colour and a marker of its own."""
    if reference:
        return {"linewidth": 1.0, "color": "black", "linestyle": DASHES[index % 8]}
    return {
        "linewidth": 1.8,
        "linestyle": DASHES[index % 8],
        "color": LINE_COLOURS[index % 8],
        "marker": MARKERS[index % 10],
        "markersize": 6,
        "markeredgecolor": "black",
        "markeredgewidth": 0.6,
    }


def point_style(index: int) -> dict[str, Any]:
    """Colour and marker of the ``index``-th kind of point in a scatter plot."""
    style = curve_style(index, reference=False)
    return style | {"linestyle": "none", "markersize": 5, "markeredgewidth": 0.4, "alpha": 0.85}


def _mark(axes: Axes, value: float, text: str, dash: str, height: float) -> None:
    """A vertical line; its label stands above the axes, where no line runs, each at a height of its own."""
    axes.axvline(value, color="black", linestyle=dash, linewidth=1.2)
    where = axes.get_xaxis_transform()
    axes.text(value, height, text, transform=where, ha="center", va="bottom", fontsize=8)
