"""What a format's answers are worth against how long they take: a figure a machine, a panel a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from accel.plots import write_figure
from benchmarks.quality_scores import pareto
from benchmarks.quality_tables import FLOAT, Scored

MARKERS = ("s", "o", "^", "D", "v", "P", "X", "*")
GREYS = ("black", "dimgray", "white", "silver", "gainsboro", "gray", "white", "black")
PERCENT = "percent"


def write_plots(models: Sequence[Scored], folder: Path) -> Iterator[Path]:
    """``quality_MACHINE.png`` and ``.svg`` for every machine; yields what it wrote."""
    for machine in dict.fromkeys(cost.machine for each in models for quality in each.formats for cost in quality.costs):
        figure = pareto_figure(models, machine)
        for suffix in ("png", "svg"):
            path = folder / f"quality_{machine}.{suffix}"
            write_figure(figure, path)
            yield path


def pareto_figure(models: Sequence[Scored], machine: str) -> Figure:
    """Score against latency of every format on ``machine``; the float model's score is a line."""
    columns = min(len(models), 2)
    rows = -(-len(models) // columns)
    figure = Figure(figsize=(4.6 * columns + 0.4, 3.1 * rows + 0.9), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, scored in zip(panels, models, strict=False):
        _panel(axes, scored, machine)
    for axes in panels[len(models) :]:
        axes.set_visible(False)
    handles, labels = next(iter(figure.axes)).get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2 + columns, fontsize=8, frameon=False)
    figure.suptitle(f"Scores against latency, {machine}", fontsize=10)
    return figure


def _panel(axes: Axes, scored: Scored, machine: str) -> None:
    measure = scored.profile.measures[0]
    factor = 100 if measure.style == PERCENT else 1
    points = [
        (1e3 * cost.seconds, factor * quality.values[measure.key])
        for quality in scored.formats
        for cost in quality.costs
        if cost.machine == machine
    ]
    reference = factor * scored.reference[measure.key]
    axes.axhline(reference, color="black", linestyle="--", linewidth=1, label=f"{FLOAT} (score only)")
    front = [points[index] for index in pareto(points)]
    axes.plot(
        *zip(*front, strict=True),
        color="gray",
        linewidth=1,
        drawstyle="steps-post",
        label="no format is faster and better",
        zorder=1,
    )
    for index, (quality, point) in enumerate(zip(scored.formats, points, strict=True)):
        look = {"marker": MARKERS[index % 8], "markerfacecolor": GREYS[index % 8], "markeredgecolor": "black"}
        axes.plot(*point, linestyle="", markersize=8, label=quality.codec, zorder=2, **look)
    axes.set_title(scored.profile.title, fontsize=9)
    axes.set_xlabel("latency of one inference [ms]", fontsize=8)
    axes.set_ylabel(f"{measure.title}{' [%]' if factor == 100 else ''}", fontsize=8)
    if measure.style == "count":
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.margins(x=0.12, y=0.12)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.4)
