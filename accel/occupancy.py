"""How full the memories on chip are over time: a step function each, from what instructions touch and when they run.

A byte of the activation SRAM or of a codebook bank is in use from the start of the instruction that writes it to the
completion of the last one that reads it, or of the writer if none does. Accesses are the intervals of
``accel.footprint``, gaps between strided rows included. A write that leaves gaps adds to what its own layer wrote there
before (the heads of an attention side by side) instead of replacing it. The accumulators belong to one GEM or GMS at a
time, from its start to its completion or the start of the next. The weight ring is not in the instructions' times: it
fills and empties block by block, which ``sim.occupancy`` records.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from accel.footprint import Access, QueueState, instruction_accesses
from accel.isa import VECTOR_FUNCTIONS, Instruction
from accel.machine import Machine

ACCUMULATOR_BYTES = 4  # int32
_UNUSED = -1

# Memory on chip -> what a byte of it holds. The order is that of every table and plot.
MEMORIES: Mapping[str, str] = {
    "activation": "activations, parameters and tables that are still to be read",
    "weight": "blocks of the weight ring reserved by a load and not yet freed by the decoder",
    "accumulator": "sums of the GEM or GMS under way",
    "codebook": "codebooks that are still to be decoded with",
}


@dataclass(frozen=True, slots=True)
class Occupancy:
    """One row: from cycle ``cycles[i]`` (float64, increasing) on, ``held_bytes[i]`` (int64) bytes of a memory are in
    use, up to ``cycles[i + 1]``; none before the first and as the last says after it. ``memory`` is a key of
    ``MEMORIES``."""

    memory: str
    capacity_bytes: int
    cycles: npt.NDArray[np.float64]
    held_bytes: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        assert self.memory in MEMORIES and self.cycles.shape == self.held_bytes.shape
        assert (np.diff(self.cycles) > 0).all() and (self.held_bytes >= 0).all()

    @property
    def peak_bytes(self) -> int:
        """The most bytes in use at any time."""
        return int(self.held_bytes.max(initial=0))

    def at(self, cycles: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Bytes in use at each of ``cycles``."""
        return np.append(0, self.held_bytes)[np.searchsorted(self.cycles, cycles, "right")]

    def thinned(self, points: int) -> Occupancy:
        """At most ``points`` steps for a plot: the highest level in each of so many equal stretches of time."""
        if len(self.cycles) <= points:
            return self
        width = float(self.cycles[-1]) / points or 1.0
        bins = np.minimum(self.cycles // width, points - 1).astype(np.int64)
        starts = np.arange(points, dtype=np.float64) * width
        held = self.at(starts)
        np.maximum.at(held, bins, self.held_bytes)
        return Occupancy(self.memory, self.capacity_bytes, starts, held)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A program and when it runs: cycles (float64) at which each instruction starts and is complete."""

    instructions: Sequence[Instruction]
    layers: Sequence[int]
    started: npt.NDArray[np.float64]
    completed: npt.NDArray[np.float64]


def occupancy(memory: str, capacity_bytes: int, cycles: npt.ArrayLike, changes: npt.ArrayLike) -> Occupancy:
    """Level of a memory from ``changes`` in bytes at ``cycles``, in any order."""
    at, inverse = np.unique(np.asarray(cycles, np.float64), return_inverse=True)
    change = np.zeros(len(at), np.int64)
    np.add.at(change, inverse, np.asarray(changes, np.int64))
    kept = change != 0
    return Occupancy(memory, capacity_bytes, at[kept], np.cumsum(change[kept]))


def instruction_occupancy(schedule: Schedule, machine: Machine) -> dict[str, Occupancy]:
    """Occupancy of activation SRAM, accumulators and codebook banks of a program that the static checker has passed."""
    sizes = memory_bytes(machine)
    lives = {"activation": _Lives(schedule), "codebook": _Lives(schedule)}
    sums: list[tuple[float, int]] = []
    state, last = QueueState(), (0.0, 0)
    for index, instruction in enumerate(schedule.instructions):
        state.update(instruction)
        for access in instruction_accesses(instruction, state):
            if access.space in lives:
                lives[access.space].visit(index, access, _has_gaps(instruction, access, state))
        if instruction.mnemonic in ("GEM", "GMS"):
            last = _next_sums(schedule, index, _sum_bytes(instruction, state, machine), last, sums)
    sums.append((last[0], -last[1]))
    found = {space: occupancy(space, sizes[space], *zip(*lives[space].changes(), strict=True)) for space in lives}
    return found | {"accumulator": occupancy("accumulator", sizes["accumulator"], *zip(*sums, strict=True))}


def memory_bytes(machine: Machine) -> dict[str, int]:
    """Capacity of each memory on chip."""
    sram, decoder = machine.sram, machine.decoder
    codebooks = decoder.codebook_bytes * decoder.codebook_buffers
    sizes = (sram.activation_bytes, sram.weight_bytes, sram.accumulator_bytes, codebooks)
    return dict(zip(MEMORIES, sizes, strict=True))


def _next_sums(
    schedule: Schedule, index: int, size: int, last: tuple[float, int], changes: list[tuple[float, int]]
) -> tuple[float, int]:
    """Pass the accumulators on to instruction ``index``; returns when it gives them back, and how many bytes."""
    started = float(schedule.started[index])
    changes += [(min(last[0], started), -last[1]), (started, size)]
    return float(schedule.completed[index]), size


def _sum_bytes(product: Instruction, state: QueueState, machine: Machine) -> int:
    """Accumulators that a pass of a GEM or GMS uses; output stationary, the array holds the sums."""
    if machine.array.dataflow == "os":
        return 0
    columns = min(product["columns"], state.required("GMO", product)["tile_columns"])
    return min(product["rows"], product["chunk"]) * columns * ACCUMULATOR_BYTES


def _has_gaps(instruction: Instruction, access: Access, state: QueueState) -> bool:
    """Whether a write leaves some bytes of its interval as they are."""
    if instruction.mnemonic not in ("GEM", "GMS", "VEC") or not access.write:
        return False
    written = instruction["rows"] * instruction["columns"]
    if instruction.mnemonic == "VEC":
        if VECTOR_FUNCTIONS[instruction["function"]].reduces_rows:
            written = instruction["columns"]
        batches = state.latest.get("VBT")
        written *= batches["count"] if batches else 1
    return access.stop - access.start > written


@dataclass(slots=True)
class _Life:
    """Bytes from ``start`` to the next life's start, in use from cycle ``begin`` to ``end``; written by ``layer``."""

    start: int
    begin: float
    end: float
    layer: int


@dataclass(slots=True)
class _Lives:
    """One address space as adjacent lives, and the changes of level of those that are over."""

    schedule: Schedule
    lives: list[_Life] = field(default_factory=lambda: [_Life(0, 0.0, 0.0, _UNUSED)])
    starts: list[int] = field(default_factory=lambda: [0])
    over: list[tuple[float, int]] = field(default_factory=list)

    def visit(self, index: int, access: Access, has_gaps: bool) -> None:
        """Instruction ``index`` reads or writes an interval."""
        first, last = self._split(access.start), self._split(access.stop)
        completed, layer = float(self.schedule.completed[index]), self.schedule.layers[index]
        if not access.write:
            for life in self.lives[first:last]:
                life.end = max(life.end, completed)
            return
        begun = float(self.schedule.started[index])
        if has_gaps:
            inside = self.lives[first:last]
            begun = min([begun, *(life.begin for life in inside if life.layer == layer)])
        self._replace(first, last, _Life(access.start, begun, completed, layer))

    def _split(self, at: int) -> int:
        position = bisect_left(self.starts, at)
        if position == len(self.starts) or self.starts[position] != at:
            before = self.lives[position - 1]
            self.starts.insert(position, at)
            self.lives.insert(position, _Life(at, before.begin, before.end, before.layer))
        return position

    def _replace(self, first: int, last: int, life: _Life) -> None:
        """One life follows those of a slice, which are over."""
        stop = self.starts[last]
        for old, end in zip(self.lives[first:last], [*self.starts[first + 1 : last], stop], strict=True):
            self._finish(old, end, life)
        self.lives[first:last] = [life]
        self.starts[first:last] = [life.start]

    def _finish(self, old: _Life, stop: int, following: _Life | None) -> None:
        """``old`` is over at its last use, at the latest when ``following`` begins."""
        if old.layer == _UNUSED:
            return
        end = min(old.end, following.begin) if following else old.end
        if end > old.begin:
            self.over += [(old.begin, stop - old.start), (end, old.start - stop)]

    def changes(self) -> list[tuple[float, int]]:
        """All changes of level, when the last instruction has been visited."""
        for life, stop in zip(self.lives, self.starts[1:], strict=False):  # nobody has used what the last one holds
            self._finish(life, stop, None)
        return self.over or [(0.0, 0)]
