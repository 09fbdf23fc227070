"""The timeline of a run: what the array does or waits for, how busy units and queues are, and how full memories.

Every lane is as high as the share of a step it is busy: figures of a whole run and of a few tiles read the same way.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from accel.metrics import CAUSES
from accel.occupancy import memory_bytes
from accel.plots import (
    bar_style,
    block_name,
    in_style,
    new_figure,
    plain_number,
    run_title,
    shared_legend,
    short_labels,
)
from accel.reporting import plain
from accel.run import Run
from accel.svg import add_hover
from accel.timeline import LayerSpan, Steps, Timeline

_WIDTH, _LANE_INCHES, _SHOWN_INCHES = 7.2, 0.2, 4.8  # a page of two columns; one lane; what is left beside their names
_ARRAY_LANES = 3  # the array's lane is as high as so many others
_GAP = 0.2  # between lanes, of a lane's height
_DIGITS = 2  # of a share: finer than its lane can show
_UNIT, _QUEUE, _MEMORY = "#000000", "#888888", "#56B4E9"
_LETTER_POINTS = 3.6  # of a layer's name
_NAMES_PER_INCH, _MOST_NAMES = 9.0, 40  # of layers; more than that are shown as blocks
_FEW_CYCLES = 20_000  # that need no thousands


class _Lane(NamedTuple):
    """Name, the parts its height is made of from the bottom, each with its style, and what stands to the right."""

    name: str
    parts: Sequence[tuple[Steps, Mapping[str, Any]]]
    note: str
    height: int = 1


@in_style
def timeline_figure(shown: Sequence[tuple[Run, Timeline]], missing: Sequence[str] = ()) -> Figure:
    """Each run above the next, over the same length of time: what is busy, and below it what memories hold.

    ``missing`` are the names of runs of the same report that have no timeline: the figure says so.
    """
    with rc_context({"hatch.linewidth": 0.5}):  # lanes are low
        figure = _figure(shown)
    if missing:
        last = figure.axes[-1]
        last.set_xlabel(f"{last.get_xlabel()}\nnot shown, as no trace of it is given: {', '.join(map(plain, missing))}")
    return figure


def _figure(shown: Sequence[tuple[Run, Timeline]]) -> Figure:
    lanes = [lanes for run, timeline in shown for lanes in (list(_busy(timeline)), list(_memories(run, timeline)))]
    heights = [sum(lane.height for lane in each) + 0.3 for each in lanes]
    figure = new_figure(_WIDTH, _LANE_INCHES * sum(heights) + 1.2 * len(shown) + 0.8)
    panels = figure.subplots(len(lanes), 1, squeeze=False, gridspec_kw={"height_ratios": heights})
    edges = [timeline.edges for _, timeline in shown]
    scale, unit = (1e-3, "thousand cycles") if max(each[-1] for each in edges) > _FEW_CYCLES else (1.0, "cycles")
    longest = max(float(each[-1] - each[0]) for each in edges)
    notes = itertools.cycle(("mean", "peak"))
    pairs = (each * scale for each in edges for _ in range(2))  # what is busy, and memories
    for axes, rows, at in zip(panels[:, 0], lanes, pairs, strict=True):
        _draw(axes, rows, at, next(notes))
        axes.set_xlim(at[0], at[0] + longest * scale)
    for (run, timeline), axes in zip(shown, panels.reshape(-1, 2), strict=True):
        names = _mark_layers(axes.tolist(), timeline.layers, scale, longest)
        above = max(map(len, names), default=0) * _LETTER_POINTS
        axes[0].set_title(_title(run, timeline), fontsize=9, loc="left", pad=8 + above)
        axes[0].tick_params(axis="x", labelbottom=False)
        axes[1].set_xlabel(f"{unit}; steps of {_cycles(timeline.step_cycles)}", fontsize=8)
    shared_legend(figure, panels[:, 0], "what the array does, or waits for")
    return figure


def _cycles(count: float) -> str:
    return f"{count:,.{0 if count >= 1000 else 1}f} cycle{'' if count == 1 else 's'}".replace(".0 ", " ")


def _title(run: Run, timeline: Timeline) -> str:
    first, stop = timeline.edges[0], timeline.edges[-1]
    part = "" if (first, stop) == (0, run.total_cycles) else f"cycles {first:,.0f} to {stop:,.0f} of "
    clock = f"{run.total_cycles:,} cycles at {run.machine.clock.hz / 1e6:g} MHz"
    return f"{run_title(run)}\n{part}{clock}"


def _busy(timeline: Timeline) -> Iterator[_Lane]:
    """The array, split by cause, then units and queues."""
    used = [(cause, share) for cause, share in timeline.causes.items() if share.any()]
    styles = {cause: bar_style(index) | {"label": cause} for index, cause in enumerate(CAUSES)}
    streaming = timeline.causes["compute"].mean()
    yield _Lane("array", [(share, styles[cause]) for cause, share in used], f"{streaming:.0%}", _ARRAY_LANES)
    for unit, share in timeline.units.items():
        yield _Lane(unit, [(share, {"color": _UNIT})], f"{share.mean():.0%}")
    for queue, share in timeline.queues.items():
        yield _Lane(f"{queue} queue", [(share, {"color": _QUEUE})], f"{share.mean():.0%}")


def _memories(run: Run, timeline: Timeline) -> Iterator[_Lane]:
    """A lane a memory that is used, full at its capacity; all memories where none is used yet."""
    peaks = _peaks(run) if (timeline.edges[0], timeline.edges[-1]) == (0, run.total_cycles) else {}
    sizes = {memory: size for memory, size in memory_bytes(run.machine).items() if size}
    used = {memory: size for memory, size in sizes.items() if timeline.held_bytes[memory].any()}
    for memory, size in (used or sizes).items():
        held = timeline.held_bytes[memory]
        note = f"{max(held.max(), peaks.get(memory, 0)) / 1024:,.4g} of {size / 1024:,.4g} KiB"
        yield _Lane(f"{memory} memory", [(held / size, {"color": _MEMORY})], note)


def _peaks(run: Run) -> Mapping[str, int]:
    """The most each memory holds: of the weight memory, a file has but the level every so many cycles."""
    return {level.memory: max(level.held_bytes, default=0) for level in run.occupancy}


def _draw(axes: Axes, lanes: Sequence[_Lane], edges: Steps, note: str) -> None:
    """Lanes from top to bottom; ``note`` says what stands to their right."""
    base, ticks = float(sum(lane.height for lane in lanes)), []
    axes.set_ylim(0, base)
    for lane in lanes:
        base -= lane.height
        ticks.append(base + (lane.height - _GAP) / 2)
        _draw_lane(axes, lane, base, edges)
        axes.text(1.005, ticks[-1], plain(lane.note), transform=axes.get_yaxis_transform(), fontsize=6.5, va="center")
    axes.text(1.005, 1.0, note, transform=axes.transAxes, fontsize=6.5, va="bottom", style="italic")
    axes.set_yticks(ticks, [lane.name for lane in lanes], fontsize=7)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=7)
    axes.xaxis.set_major_formatter(plain_number)


def _draw_lane(axes: Axes, lane: _Lane, base: float, edges: Steps) -> None:
    full = lane.height - _GAP
    axes.stairs([base + full], edges[[0, -1]], baseline=base, fill=True, color="#bbbbbb", alpha=0.25, linewidth=0)
    below = np.zeros(len(edges) - 1)
    for share, style in lane.parts:
        above = np.minimum(np.round(below + share, _DIGITS), 1.0)
        changed = (np.diff(above, prepend=-1) != 0) | (np.diff(below, prepend=-1) != 0)
        kept = np.flatnonzero(changed)  # as little as draws the same
        outline = {"baseline": base + below[kept] * full, "fill": True, **style, "linewidth": 0}
        patch = axes.stairs(base + above[kept] * full, edges[np.append(kept, -1)], **outline)
        add_hover(patch, plain(f"{lane.name}: {style.get('label', 'busy')} {share.mean():.1%} of the time shown"))
        below = above


def _mark_layers(panels: Sequence[Axes], layers: Sequence[LayerSpan], scale: float, longest: float) -> list[str]:
    """Shade layers, or blocks of them where they are many, in turn; returns the names that stand above wide ones."""
    spans = list(layers if len(layers) <= _MOST_NAMES else _joined(layers))
    labels = dict(zip(names := list(dict.fromkeys(span.name for span in spans)), short_labels(names), strict=True))
    shown = []
    for index, span in enumerate(spans):
        for axes in panels if index % 2 else ():
            axes.axvspan(span.begin * scale, span.end * scale, color="black", alpha=0.07, linewidth=0, zorder=-1)
        if (span.end - span.begin) / longest * _SHOWN_INCHES * _NAMES_PER_INCH >= 1:
            shown.append(labels[span.name])
            panels[0].text(
                (span.begin + span.end) / 2 * scale, 1.02, shown[-1], transform=panels[0].get_xaxis_transform(),
                rotation=90, ha="center", va="bottom", fontsize=6,
            )  # fmt: skip
    return shown


def _joined(layers: Sequence[LayerSpan]) -> Iterator[LayerSpan]:
    """Layers of a block in a row as one."""
    for block, spans in itertools.groupby(layers, lambda span: block_name(span.name)):
        first, *more = spans
        yield LayerSpan(block, first.begin, (more or [first])[-1].end)
