"""What bounds each layer of a run: cycles by cause, a bar a layer.

Of a large network only the costliest layers have one: hundreds of bars cannot be read, and a bar for all others would
be longer than any. What they cost is told instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from matplotlib.figure import Figure

from accel.plots import SPLITS, in_style, new_figure, run_title, shared_legend, short_labels, stacked_bars
from accel.reporting import numbered
from accel.run import Run

_FEWEST, _MOST = 36, 48  # layers shown of a network that has more

Causes = Mapping[str, int]


class LayerBars(NamedTuple):
    """Names in the order of execution; for each run a bar a name, how many layers have none, and their cycles."""

    names: list[str]
    bars: list[list[Causes]]
    left_out: list[int]
    rest_cycles: list[int]

    @property
    def longest(self) -> int:
        """Cycles of the longest bar."""
        return max((sum(causes.values()) for row in self.bars for causes in row), default=0)


def layer_bars(runs: Sequence[Run]) -> LayerBars:
    """The bars of runs, so that rows line up across them; layers that are free in every run are left out."""
    tables = [dict(zip(numbered(layer.name for layer in run.layers), run.layers, strict=True)) for run in runs]
    peak: dict[str, int] = {}
    for name, layer in (item for table in tables for item in table.items() if item[1].cycles):
        peak[name] = max(peak.get(name, 0), layer.cycles)
    ranked = sorted(peak, key=lambda name: -peak[name])
    kept = set(ranked[: _shown([peak[name] for name in ranked])])
    names = [name for name in dict.fromkeys(name for table in tables for name in table) if name in kept]
    bars = [[table[name].cycles_by_cause if name in table else {} for name in names] for table in tables]
    rest = [[layer.cycles for name, layer in table.items() if layer.cycles and name not in kept] for table in tables]
    return LayerBars(names, bars, list(map(len, rest)), list(map(sum, rest)))


def _shown(peaks: Sequence[int]) -> int:
    """How many of so many descending cycles have a bar: as the cut lies where they drop most, what is alike in every
    block is shown of all blocks or of none. Of layers that are all alike the first have one."""
    if len(peaks) <= _MOST:
        return len(peaks)
    return max(range(_FEWEST, _MOST + 1), key=lambda count: peaks[count - 1] / peaks[count])


@in_style
def layers_figure(runs: Sequence[Run], longest: int = 0) -> Figure:
    """Cycles by cause, stacked, one column a run, one bar a layer.

    Axes reach to ``longest`` cycles at least, so that several figures can have one scale.
    """
    shown, split = layer_bars(runs), SPLITS["cycles"]
    figure = new_figure(2.5 + 4.6 * len(runs), max(3.0, 1.6 + 0.16 * len(shown.names)))
    panels = figure.subplots(1, len(runs), squeeze=False, sharex=True, sharey=True)[0]
    panels[0].set_xlim(0, (max(longest, shown.longest) or 1) * split.scale * 1.03)
    same_scale = " (same scale for every run)" if len(runs) > 1 or longest else ""
    rests = zip(shown.left_out, shown.rest_cycles, strict=True)
    for axes, run, bars, rest in zip(panels, runs, shown.bars, rests, strict=True):
        stacked_bars(axes, shown.names, bars, split)
        axes.set_yticks(range(len(shown.names)), short_labels(shown.names))
        axes.set_title(f"{run_title(run)}\n{run.total_cycles:,} cycles", fontsize=9)
        axes.tick_params(axis="y", labelsize=7)
        axes.set_xlabel(f"{split.unit}{same_scale}{_rest(run, *rest)}", fontsize=9)
    shared_legend(figure, panels, split.legend)
    return figure


def _rest(run: Run, count: int, cycles: int) -> str:
    if not count:
        return ""
    return f"\nnot shown: {count} other layers, {100 * cycles / run.total_cycles:.1f} % of cycles"
