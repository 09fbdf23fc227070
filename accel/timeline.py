"""The timeline of a run in equal steps of time, as a figure shows it: how busy every unit is, which layer is worked on.

Made from slices and counters in any order of tracks. Memory depends on the steps and the program's instructions, not on
how many tiles and bursts they make.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from accel.isa import QUEUES
from accel.metrics import CAUSES
from accel.occupancy import MEMORIES

STEPS = 400  # of a timeline: as many as a figure's width can show
DRAM, TILE_DECODER, TILE_LOADS, VECTOR_UNIT = "DRAM data bus", "weight decoder", "tile loads from SRAM", "vector unit"
UNITS = (DRAM, TILE_DECODER, TILE_LOADS, VECTOR_UNIT)  # the order of every figure; the array comes before them
_PIECE = 1 << 16  # slices kept before they are added up

Steps = npt.NDArray[np.float64]
Key = tuple[str, str]  # what is busy: kind of lane and its name


@dataclass(frozen=True, slots=True)
class LayerSpan:
    """Cycles during which the array works for a layer, or waits for what it needs."""

    name: str
    begin: float
    end: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """``edges`` (float64[n + 1], cycles) bound n steps; the rest are shares of each step's cycles, float64[n].

    ``causes``: what the array does or waits for, adding up to 1 while the run lasts. ``units`` and ``queues``: how long
    each is busy, a queue while an instruction of it is under way. ``held_bytes``: the most a memory holds in a step.
    """

    edges: Steps
    causes: Mapping[str, Steps]
    units: Mapping[str, Steps]
    queues: Mapping[str, Steps]
    layers: tuple[LayerSpan, ...]
    held_bytes: Mapping[str, Steps]

    @property
    def step_cycles(self) -> float:
        """How long a step is."""
        return float(self.edges[1] - self.edges[0])


def coverage(edges: Steps, begins: npt.ArrayLike, ends: npt.ArrayLike) -> Steps:
    """Cycles of each step that spans cover, in float64; where spans overlap, they count each."""
    covered: Steps = np.diff(_elapsed(edges, begins) - _elapsed(edges, ends))
    return covered


def _elapsed(edges: Steps, times: npt.ArrayLike) -> Steps:
    """Sum over ``times`` of what has passed since, at each edge."""
    at = np.sort(np.asarray(times, np.float64))
    count = np.searchsorted(at, edges)
    elapsed: Steps = edges * count - np.append(0.0, np.cumsum(at))[count]
    return elapsed


def merged(begins: npt.ArrayLike, ends: npt.ArrayLike) -> tuple[Steps, Steps]:
    """Spans that overlap or touch as one each."""
    begin, end = np.asarray(begins, np.float64), np.asarray(ends, np.float64)
    order = np.argsort(begin, kind="stable")
    begin, reach = begin[order], np.maximum.accumulate(end[order])
    apart = begin[1:] > reach[:-1]
    return begin[np.append(True, apart)[: len(begin)]], reach[np.append(apart, True)[: len(reach)]]


@dataclass(slots=True)
class TimelineSums:
    """A timeline while its slices and counters come in. ``buses``: data buses of DRAM, whose average is shown."""

    edges: Steps
    buses: int
    _covered: dict[Key, Steps] = field(default_factory=dict)
    _pending: dict[Key, list[tuple[float, float]]] = field(default_factory=dict)
    _queued: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: {queue: [] for queue in QUEUES})
    _levels: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: {memory: [] for memory in MEMORIES})
    _count: int = 0

    def add_charge(self, cause: str, layer: str, begin: float, end: float) -> None:
        """The array streams, or waits for ``cause``, on behalf of a layer."""
        self._add(("cause", cause), begin, end)
        self._add(("layer", layer), begin, end)

    def add_unit(self, unit: str, begin: float, end: float) -> None:
        """One of ``UNITS`` is busy."""
        self._add(("unit", unit), begin, end)

    def add_instruction(self, queue: str, begin: float, end: float) -> None:
        """An instruction of a queue is under way."""
        self._queued[queue].append((begin, end))

    def set_level(self, memory: str, at: float, held_bytes: int) -> None:
        """How full a memory is from now on."""
        self._levels[memory].append((at, held_bytes))

    def _add(self, key: Key, begin: float, end: float) -> None:
        self._pending.setdefault(key, []).append((begin, end))
        self._count += 1
        if self._count % _PIECE == 0:
            self._flush()

    def _flush(self) -> None:
        for key, spans in self._pending.items():
            covered = coverage(self.edges, *zip(*spans, strict=True))
            self._covered[key] = self._covered.get(key, 0) + covered
        self._pending.clear()

    def timeline(self) -> Timeline:
        """What all that came in adds up to."""
        self._flush()
        width = np.diff(self.edges)
        covered = {key: sums / width for key, sums in self._covered.items()}
        idle = np.zeros(len(width))
        causes = {cause: covered.get(("cause", cause), idle) for cause in CAUSES}
        units = {unit: covered.get(("unit", unit), idle) / (self.buses if unit == DRAM else 1) for unit in UNITS}
        queues = {queue: _union(self.edges, spans) / width for queue, spans in self._queued.items()}
        levels = {memory: _peaks(self.edges, steps) for memory, steps in self._levels.items()}
        shares = {name: share for (kind, name), share in covered.items() if kind == "layer"}
        return Timeline(self.edges, causes, units, queues, tuple(_spans(self.edges, shares)), levels)


def _union(edges: Steps, spans: list[tuple[float, float]]) -> Steps:
    return coverage(edges, *merged(*zip(*spans, strict=True))) if spans else np.zeros(len(edges) - 1)


def _peaks(edges: Steps, changes: list[tuple[float, int]]) -> Steps:
    """The highest level in each step: of those that begin in it, and the one before."""
    peaks = np.zeros(len(edges) - 1)
    if changes:
        changes = sorted(changes, key=lambda change: change[0])
        at, level = (np.array(column, np.float64) for column in zip(*changes, strict=True))
        before = np.searchsorted(at, edges[:-1], "right")
        peaks[:] = np.append(0.0, level)[before]
        inside = (at > edges[0]) & (at < edges[-1])
        np.maximum.at(peaks, np.searchsorted(edges, at[inside], "right") - 1, level[inside])
    return peaks


def _spans(edges: Steps, shares: Mapping[str, Steps]) -> Iterator[LayerSpan]:
    """Steps in a row in which one layer has the largest share; steps behind the end of the run are no layer's."""
    if not shares:
        return
    names, table = list(shares), np.array(list(shares.values()))
    winners = np.where(table.max(axis=0) > 0, table.argmax(axis=0), -1).tolist()
    at = 0
    for winner, run in itertools.groupby(winners):
        length = len(list(run))
        if winner >= 0:
            yield LayerSpan(names[winner], float(edges[at]), float(edges[at + length]))
        at += length
