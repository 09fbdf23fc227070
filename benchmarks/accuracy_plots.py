"""Bits against quality: every method before and after training, spread over seeds as bars."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from accel.plots import new_figure, write_figure
from benchmarks.accuracy_methods import ABOVE, METHODS
from benchmarks.accuracy_page import FLOAT, Entry
from benchmarks.accuracy_parts import PROFILES
from benchmarks.quality_models import Measure

# Okabe and Ito's palette, as accel.plots has it; markers repeat the distinction.
LOOKS = {
    "int8": ("#555555", "s"),
    "int4": ("#BBBBBB", "s"),
    "vq": ("#0072B2", "o"),
    "ssvq-fixed": ("#E69F00", "^"),
    "ssvq-free": ("#D55E00", "v"),
    "ssvq": ("#CC79A7", "D"),
    "lr2vq": ("#56B4E9", "P"),
    "mvq": ("#009E73", "X"),
}
TICKS = (1, 1.25, 1.5, 2, 4, 8)  # bits
SHIFT = 1.01  # between neighbours, so that equal bits do not hide one another


def write_plots(found: Sequence[Entry], folder: Path, suffixes: Sequence[str] = ("png", "svg")) -> list[Path]:
    """``accuracy_PART`` with each suffix; returns what it wrote."""
    paths = []
    for part in PROFILES:
        of_part = [each for each in found if each.part == part]
        for suffix in suffixes if of_part else ():
            paths.append(folder / f"accuracy_{part}.{suffix}")
            write_figure(quality_figure(of_part), paths[-1])
    return paths


def quality_figure(found: Sequence[Entry]) -> Figure:
    """A panel a measure; full markers are trained models, hollow ones those not trained yet."""
    profile = PROFILES[found[0].part]
    measures = profile.measures
    columns = min(len(measures), 2)
    rows = -(-len(measures) // columns)
    figure = new_figure(4.4 * columns + 1.4, 3.2 * rows + 1.1)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, measure in zip(panels, measures, strict=False):
        _panel(axes, found, measure)
    for axes in panels[len(measures) :]:
        axes.remove()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    figure.suptitle(f"{profile.title}: filled trained, hollow not", fontsize=10)
    return figure


def _panel(axes: Axes, found: Sequence[Entry], measure: Measure) -> None:
    factor = 100 if measure.style == "percent" else 1
    for index, each in enumerate(found):
        if each.method == FLOAT:
            _line(axes, statistics.fmean(each.values(measure.key)) * factor, "-", METHODS[FLOAT].title)
            _line(axes, each.untrained[0]["scores"][measure.key] * factor, ":", "float32 as it was")
            continue
        colour, marker = LOOKS[each.method]
        bits = each.bits * SHIFT ** (list(LOOKS).index(each.method) - len(LOOKS) / 2)
        label = METHODS[each.method].title if each.method not in {e.method for e in found[:index]} else None
        style = {"color": colour, "marker": marker, "markeredgecolor": "black", "linestyle": "", "capsize": 3}
        mean, deviation = _mean_and_deviation(each.values(measure.key), factor)
        axes.errorbar(bits, mean, deviation, markersize=7, label=label, zorder=3, **style)
        before, _ = _mean_and_deviation(each.values(measure.key, each.untrained), factor)
        axes.plot(bits, before, marker=marker, markerfacecolor="none", markeredgecolor=colour, markersize=6, zorder=2)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    most = max((each.bits / ABOVE for each in found if each.method != FLOAT), default=0.0)
    ticks = [tick for index, tick in enumerate(TICKS) if index == 0 or TICKS[index - 1] < most]
    axes.set_xticks(ticks)
    axes.set_xlim(ticks[0] * 0.94, ticks[-1] * 1.1)
    axes.set_xlabel("bits a weight, everything counted (log scale; neighbours set apart)", fontsize=8)
    axes.set_ylabel(f"{measure.title}{' [%]' if factor == 100 else ''}", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.4)


def _line(axes: Axes, height: float, dash: str, label: str) -> None:
    axes.axhline(height, color="black", linestyle=dash, linewidth=1, label=label)


def _mean_and_deviation(values: Sequence[float], factor: float) -> tuple[float, float]:
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return factor * statistics.fmean(values), factor * deviation
