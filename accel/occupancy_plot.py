"""How full the memories on chip are over the time of a run."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from accel.plots import COLOURS, in_style, new_figure, plain_number, run_title
from accel.reporting import plain
from accel.run import MemoryLevel, Run


@in_style
def occupancy_figure(runs: Sequence[Run]) -> Figure:
    """One column a run, one panel a memory: bytes in use over cycles, under the line of its capacity.

    ``runs`` hold the same memories.
    """
    rows = max(len(run.occupancy) for run in runs)
    figure = new_figure(1.0 + 5.4 * len(runs), 0.8 + 1.5 * rows)
    panels = figure.subplots(rows, len(runs), squeeze=False, sharex=True)
    panels[0, 0].set_xlim(0, max(run.total_cycles for run in runs) / 1e3)
    for column, run in enumerate(runs):
        panels[0, column].set_title(run_title(run), fontsize=9, pad=18)
        panels[-1, column].set_xlabel("thousand cycles")
        panels[-1, column].xaxis.set_major_formatter(plain_number)
        for axes, level in zip(panels[:, column], run.occupancy, strict=False):
            _draw(axes, level, run.total_cycles)
    return figure


def _draw(axes: Axes, level: MemoryLevel, total_cycles: int) -> None:
    kib = [held / 1024 for held in level.held_bytes]
    ends = [cycle / 1e3 for cycle in (*level.cycles, total_cycles)]
    axes.stairs(kib, ends, fill=True, color=COLOURS[2], alpha=0.8)
    axes.stairs(kib, ends, color="black", linewidth=0.6)
    capacity = level.capacity_bytes / 1024
    axes.axhline(capacity, color="black", linestyle="--", linewidth=1)
    peak = max(kib, default=0)
    share = f", {peak / capacity:.0%}" if capacity else ""
    note = f"{level.memory}: peak {peak:,.1f} of {capacity:,.1f} KiB{share}"
    axes.text(0.0, 1.02, plain(note), transform=axes.transAxes, fontsize=8, va="bottom")
    axes.set_ylim(0, max(capacity, peak, 1) * 1.05)
    axes.set_ylabel("KiB in use", fontsize=8)
    axes.grid(alpha=0.3)
