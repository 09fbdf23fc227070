"""Fronts drawn: every pair of objectives a panel, with every point, and a line along those no other beats in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise, zip_longest
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from accel.errors import ConfigError
from accel.plots import in_style, log_axis, new_figure, plain_number
from accel.reporting import STYLES, plain
from accel.speedup_plot import point_style
from accel.sweep.columns import DONE, MACHINE_PREFIX, POINT_METRICS
from accel.sweep.pareto import costs_of, pareto_mask

Rows = Sequence[Mapping[str, Any]]
PANELS_A_ROW = 3
MOST_MACHINES = 2  # named in a title
MOST_CODECS = 10  # of a colour and marker of their own
_LOG_FROM = 8.0  # largest over smallest value, from which on an axis is logarithmic
_TITLES = {"seconds": "time of a run", "sram_bytes": "memory on chip", "dram_bytes_total": "DRAM traffic"}
_SIZES: Mapping[str, tuple[str, float]] = {"sram_bytes": ("KiB", 1 / 1024)}


def plotted_pairs(objectives: Mapping[str, str]) -> list[tuple[str, str]]:
    """What the panels of a model show: nothing of the machine against something else of it, unless there is no more.

    Raises ``ConfigError`` for a single objective.
    """
    pairs = list(combinations(objectives, 2))
    if not pairs:
        raise ConfigError(f"--plot with one objective ({next(iter(objectives))}); allowed: two or more in [objectives]")
    return [pair for pair in pairs if not all(map(_is_given, pair))] or pairs


def _is_given(name: str) -> bool:
    """Whether an objective is what the spec asks of the machine, which no simulation tells."""
    return name.startswith(MACHINE_PREFIX) or name in ("sram_bytes", "multipliers")


@in_style
def fronts_figure(rows: Rows, objectives: Mapping[str, str]) -> Figure:
    """Panels for each model, one a pair of objectives; raises ``ConfigError`` for a single objective."""
    pairs = plotted_pairs(objectives)
    models = list(dict.fromkeys(row["model"] for row in rows))
    codecs = list(dict.fromkeys(row["codec"] for row in rows))
    columns = min(len(pairs), PANELS_A_ROW)
    rows_a_model = -(-len(pairs) // columns)
    figure = new_figure(1.2 + 4.6 * columns, 0.9 + 4.2 * rows_a_model * len(models))
    grid = figure.subplots(len(models) * rows_a_model, columns, squeeze=False)
    for model, panels in zip(models, grid.reshape(len(models), -1), strict=True):
        mine = [row for row in rows if row["model"] == model and row["status"] == DONE]
        for axes, pair in zip_longest(panels, pairs):
            if pair is None:
                axes.remove()
                continue
            _draw(axes, mine, {name: objectives[name] for name in pair}, codecs)
            axes.set_title(plain(f"{model} on {_machines(mine)}: {len(mine):,} points"), fontsize=10)
    handles = {
        label: handle for axes in grid.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=min(len(handles), 6), fontsize=8)
    return figure


def _machines(rows: Rows) -> str:
    """The names of the machines that points start from, or how many they are."""
    names = list(dict.fromkeys(str(row.get("machine")) for row in rows))
    return ", ".join(names) if len(names) <= MOST_MACHINES else f"{len(names)} machines"


def _draw(axes: Axes, rows: Rows, pair: Mapping[str, str], codecs: Sequence[str]) -> None:
    known = [row for row in rows if all(row.get(name) is not None for name in pair)]
    (x_name, _), (y_name, _) = pair.items()
    for index, codec in enumerate(codecs):
        mine = [row for row in known if row["codec"] == codec]
        label = codec if index < MOST_CODECS else "other codecs"
        x, y = ([row[name] * _shown(name)[1] for row in mine] for name in (x_name, y_name))
        axes.plot(x, y, label=label, **point_style(min(index, MOST_CODECS)))
    _draw_front(axes, known, pair)
    for name, axis in ((x_name, axes.xaxis), (y_name, axes.yaxis)):
        direction = "less is better" if pair[name] == "minimize" else "more is better"
        axis.set_label_text(f"{_label(name)}, {direction}", fontsize=9)
        values = [row[name] for row in known]
        if values and min(values) > 0 and max(values) >= _LOG_FROM * min(values):
            log_axis(axis, LogLocator(subs=(1, 2, 5)))
        else:
            axis.set_major_formatter(plain_number)
    axes.grid(alpha=0.4)
    axes.set_axisbelow(True)


def _draw_front(axes: Axes, rows: Rows, pair: Mapping[str, str]) -> None:
    """Steps between the best: what lies on the wrong side of the line, some point of the front beats."""
    if not rows:
        return
    mask, (x_name, y_name) = pareto_mask(costs_of(rows, pair)), pair
    best = [row for row, is_best in zip(rows, mask, strict=True) if is_best]
    x_scale, y_scale = (_shown(name)[1] for name in pair)
    corners = sorted((row[x_name] * x_scale, row[y_name] * y_scale) for row in best)
    steps, worse = corners[:1], max if pair[y_name] == "minimize" else min
    for left, right in pairwise(corners):
        turn = right[0] if pair[x_name] == "minimize" else left[0]
        steps += [(turn, worse(left[1], right[1])), right]
    axes.plot(*zip(*corners, strict=True), "o", color="black", markersize=10, markerfacecolor="none", zorder=1.5)
    axes.plot(*zip(*steps, strict=True), color="black", linewidth=1.1, zorder=1.5, label="Pareto front of the two")


def _shown(name: str) -> tuple[str, float]:
    """Unit and factor of a metric on an axis."""
    if name in _SIZES:
        return _SIZES[name]
    if name not in POINT_METRICS:
        return "", 1.0
    style = STYLES.get(POINT_METRICS[name].unit)
    return (style.unit, style.factor) if style and style.unit else (POINT_METRICS[name].unit, 1.0)


def _label(name: str) -> str:
    """A metric in words, a key of the machine as it is typed; units that the words hold already are not repeated."""
    if name.startswith(MACHINE_PREFIX):
        return name.removeprefix(MACHINE_PREFIX)
    unit = _shown(name)[0]
    words = _TITLES.get(name, name.replace("_", " "))
    return f"{words} [{unit}]" if unit not in ("", "1") else words
