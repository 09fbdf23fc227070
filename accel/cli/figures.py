"""Every figure of a report: one table that the page, ``--plot`` and the folder of ``accel compare`` read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from accel.reporting import run_labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from accel.run import Run
    from accel.timeline import Timeline

GET_CURVES = "runs do not hold it: accel compare MODEL -o DIR simulates it (accel report --curves DIR/comparison.json)"
GET_TIMELINE = "runs do not hold it: accel sim --trace FILE records it (accel report --trace FILE)"
GET_OCCUPANCY = "these runs do not hold it: simulate the programs again with accel sim -o"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a report is made from: runs, and the document of ``accel compare`` where there is one.

    ``highlights`` are the runs whose layers are shown, if not those of all; ``timelines`` of some of ``runs``, each
    with its run.
    """

    runs: tuple[Run, ...]
    comparison: Mapping[str, Any] | None = None
    highlights: tuple[Run, ...] = ()
    timelines: tuple[tuple[Run, Timeline], ...] = ()

    @property
    def detailed(self) -> tuple[Run, ...]:
        """The runs whose layers are shown."""
        return self.highlights or self.runs

    def timeline_of(self, run: Run) -> Timeline | None:
        """The timeline of one of ``runs``, if there is one."""
        return next((timeline for each, timeline in self.timelines if each is run), None)

    @property
    def groups(self) -> dict[str, dict[str, Run]]:
        """Labelled runs by the machine they ran on."""
        from accel.cli.run_tables import dram_text

        found: dict[str, dict[str, Run]] = {}
        for label, run in zip(run_labels(self.runs), self.runs, strict=True):
            machine = run.machine
            title = f"{machine.name}: {machine.array.label}, {dram_text(machine)}"
            found.setdefault(title, {})[label] = run
        return found


@dataclass(frozen=True, slots=True)
class ReportFigure:
    """One row: what it shows, how to read it, and how it is drawn of some evidence and the runs to detail.

    ``of_each_run`` figures have a panel for each of the runs that ``shown`` picks. ``drawable`` says whether the
    evidence suffices; ``missing`` what to do where it does not.
    """

    name: str
    title: str
    caption: str
    draw: Callable[[Evidence, Sequence[Run]], Figure]
    of_each_run: bool = False
    drawable: Callable[[Evidence], bool] = lambda evidence: True
    missing: str = ""
    shown: Callable[[Evidence], Sequence[Run]] = lambda evidence: evidence.detailed

    def figure(self, evidence: Evidence) -> Figure:
        """All of it in one figure."""
        return self.draw(evidence, self.shown(evidence))


def _split(name: str) -> Callable[[Evidence, Sequence[Run]], Figure]:
    def draw(evidence: Evidence, _: Sequence[Run]) -> Figure:
        from accel.plots import SPLITS, split_figure

        return split_figure(evidence.groups, SPLITS[name])

    return draw


def _layers(evidence: Evidence, runs: Sequence[Run]) -> Figure:
    from accel.layers_plot import layer_bars, layers_figure

    several = len(evidence.detailed) > 1
    return layers_figure(runs, layer_bars(evidence.detailed).longest if several else 0)


def _roofline(_: Evidence, runs: Sequence[Run]) -> Figure:
    from accel.roofline_plot import roofline_figure

    return roofline_figure(runs)


def _occupancy(_: Evidence, runs: Sequence[Run]) -> Figure:
    from accel.occupancy_plot import occupancy_figure

    return occupancy_figure(runs)


def _timeline(evidence: Evidence, runs: Sequence[Run]) -> Figure:
    from accel.timeline_plot import timeline_figure

    shown = [(run, timeline) for run in runs if (timeline := evidence.timeline_of(run))]
    labels = zip(run_labels(evidence.runs), evidence.runs, strict=True)
    untold = [label for label, run in labels if run in evidence.detailed and not evidence.timeline_of(run)]
    return timeline_figure(shown, untold)


def _with_timeline(evidence: Evidence) -> Sequence[Run]:
    return [run for run in evidence.detailed if evidence.timeline_of(run)]


def _bandwidth(evidence: Evidence, _: Sequence[Run]) -> Figure:
    from accel.cli.curves import bandwidth_panels
    from accel.speedup_plot import speedup_figure

    return speedup_figure(bandwidth_panels(evidence.comparison or {}))


def _arrays(evidence: Evidence, _: Sequence[Run]) -> Figure:
    from accel.cli.curves import array_panels
    from accel.speedup_plot import speedup_figure

    return speedup_figure(array_panels(evidence.comparison or {}))


def _has_arrays(evidence: Evidence) -> bool:
    from accel.cli.curves import array_panels

    return evidence.comparison is not None and bool(array_panels(evidence.comparison))


FIGURES: Mapping[str, ReportFigure] = MappingProxyType(
    {
        row.name: row
        for row in (
            ReportFigure(
                "bandwidth",
                "Speed-up against DRAM bandwidth",
                "Cycles of int8 over cycles of each format when only DRAM bandwidth changes. A single speed-up is one "
                "point of this curve.",
                _bandwidth,
                drawable=lambda evidence: evidence.comparison is not None,
                missing=GET_CURVES,
            ),
            ReportFigure(
                "arrays",
                "Speed-up against array size",
                "The same network compiled for arrays of other sizes, at the machine's own DRAM bandwidth. A small "
                "array is busy computing and has no use for fewer bytes.",
                _arrays,
                drawable=_has_arrays,
                missing=GET_CURVES,
            ),
            ReportFigure(
                "traffic",
                "DRAM traffic by kind",
                "Bytes moved in one run, in whole 64-byte blocks, instructions included.",
                _split("traffic"),
            ),
            ReportFigure(
                "cycles",
                "Cycles by cause",
                "Every cycle has exactly one cause: what the array waited for, not what its removal would save.",
                _split("cycles"),
            ),
            ReportFigure(
                "energy",
                "Energy by component",
                "Counted accesses and operations times the figures of one table; leakage, clock and control are not "
                "in it.",
                _split("energy"),
            ),
            ReportFigure(
                "layers",
                "Cycles by cause, layer by layer",
                "In order of execution. Of a large network the costliest layers, and how much the others cost; the "
                "table of layers has all. A wait counts for the layer that waits, also if it is for what earlier "
                "layers move. Layers that cost nothing are left out.",
                _layers,
                of_each_run=True,
            ),
            ReportFigure(
                "roofline",
                "Roofline",
                "One marker a layer; equal layers lie on top of one another. The costliest are named where there is "
                "room, one of those in one place; the table of layers has all. Weights are fetched while earlier "
                "layers still compute, so a layer may lie above the slope of DRAM, the whole network cannot; one that "
                "waits for the activations of layers before it lies below.",
                _roofline,
                of_each_run=True,
                drawable=lambda evidence: any(layer.macs for run in evidence.detailed for layer in run.layers),
                missing="no layer of these runs multiplies anything",
            ),
            ReportFigure(
                "timeline",
                "Timeline",
                "A lane is as high as the share of each step in which a unit is busy, or an instruction of a queue is "
                "under way; the array's is split by what it does or waits for, and its mean is that of compute. Below, "
                "the most each memory holds in a step, full at its capacity; of the weight memory, a file has the "
                "level only every so many cycles. Shading and names: the layer, or block of layers, that the array "
                "works for or waits for.",
                _timeline,
                of_each_run=True,
                drawable=lambda evidence: bool(_with_timeline(evidence)),
                missing=GET_TIMELINE,
                shown=_with_timeline,
            ),
            ReportFigure(
                "occupancy",
                "Memories on chip over time",
                "Bytes in use; the dashed line is the capacity.",
                _occupancy,
                of_each_run=True,
                drawable=lambda evidence: all(run.occupancy for run in evidence.detailed),
                missing=GET_OCCUPANCY,
            ),
        )
    }
)
