"""Races and reads before writes: every pair of conflicting accesses must be ordered by tokens, as in program order.

Each memory is kept as a sorted list of segments; a segment remembers its last writer and, per queue, its last reader.
Because instructions of a queue complete in order, being ordered after the last one is being ordered after all.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from accel.errors import IsaError
from accel.footprint import CODEBOOK_SPAN, Access
from accel.isa import QUEUES, Instruction
from accel.legality import place
from accel.liveness import Execution
from accel.machine import Machine

_UNWRITTEN, _LOADED = -1, -2  # writers of a segment that are no instruction


@dataclass(slots=True)
class _Segment:
    """Bytes ``start`` .. next segment's start. ``readers``: instruction by queue since the last write, or -1."""

    start: int
    writer: int
    readers: tuple[int, ...]


_NO_READERS = (-1,) * len(QUEUES)


class _Memory:
    """One address space from 0 to ``size`` as adjacent segments."""

    def __init__(self, size: int) -> None:
        self.segments = [_Segment(0, _UNWRITTEN, _NO_READERS), _Segment(size, _UNWRITTEN, _NO_READERS)]
        self.starts = [0, size]

    def cut(self, start: int, stop: int) -> slice:
        """Split segments at both ends; the slice of those in between."""
        return slice(self._split(start), self._split(stop))

    def _split(self, at: int) -> int:
        position = bisect_left(self.starts, at)
        if self.starts[position] != at:
            before = self.segments[position - 1]
            self.starts.insert(position, at)
            self.segments.insert(position, _Segment(at, before.writer, before.readers))
        return position

    def write(self, where: slice, writer: int) -> None:
        """One segment replaces those of the slice."""
        start = self.starts[where.start]
        self.starts[where] = [start]
        self.segments[where] = [_Segment(start, writer, _NO_READERS)]

    def read(self, where: slice, reader: int, queue: int) -> None:
        """Note the reader; neighbours that have become alike are joined, which keeps the list short."""
        kept: list[_Segment] = []
        for segment in self.segments[where]:
            segment.readers = (*segment.readers[:queue], reader, *segment.readers[queue + 1 :])
            if not kept or (kept[-1].writer, kept[-1].readers) != (segment.writer, segment.readers):
                kept.append(segment)
        self.segments[where] = kept
        self.starts[where] = [segment.start for segment in kept]


def check_hazards(
    instructions: Sequence[Instruction],
    found: Sequence[Sequence[Access]],
    execution: Execution,
    machine: Machine,
    dram_bytes: int,
    loaded: Iterable[tuple[int, int]],
) -> int:
    """Check all accesses (``found[i]`` of instruction i) and return how many there are; raises ``IsaError``.

    ``loaded`` lists the DRAM intervals ``(start, stop)`` that hold data before the program starts.
    """
    check = _HazardCheck(instructions, execution, machine, dram_bytes)
    for start, stop in loaded:
        check.load(start, stop)
    for index, group in enumerate(found):
        for access in group:
            check.visit(index, access)
    return sum(map(len, found))


class _HazardCheck:
    def __init__(
        self, instructions: Sequence[Instruction], execution: Execution, machine: Machine, dram_bytes: int
    ) -> None:
        self.instructions, self.execution = instructions, execution
        self.queues = [QUEUES.index(instruction.spec.queue) for instruction in instructions]
        self.loads_overlap = machine.dram.load_engines > 1
        self.users: dict[int, set[int]] = {}  # of what an instruction of the load queue wrote
        self.memories = {
            "dram": _Memory(dram_bytes),
            "activation": _Memory(machine.sram.activation_bytes),
            "codebook": _Memory(2 * CODEBOOK_SPAN),
        }

    def load(self, start: int, stop: int) -> None:
        """Mark DRAM bytes that hold data from the start."""
        if stop > start:
            memory = self.memories["dram"]
            memory.write(memory.cut(start, stop), _LOADED)

    def visit(self, index: int, access: Access) -> None:
        """Check one access against all earlier ones, then remember it."""
        memory = self.memories[access.space]
        where = memory.cut(access.start, access.stop)
        stops = memory.starts[where.start + 1 : where.stop + 1]
        for segment, stop in zip(memory.segments[where], stops, strict=True):
            if access.write:
                self._require_order(index, segment.writer, access, "written")
                for reader in segment.readers:
                    self._require_order(index, reader, access, "read")
            else:
                if segment.writer == _UNWRITTEN and _reaches(self.instructions[index], access, segment.start, stop):
                    raise self._unwritten(index, access, segment)
                self._require_order(index, segment.writer, access, "written")
                self.users.setdefault(segment.writer, set()).add(index)
        if access.write:
            memory.write(where, index)
        else:
            memory.read(where, index, self.queues[index])

    def _require_order(self, later: int, earlier: int, access: Access, did: str) -> None:
        if earlier < 0 or earlier == later or self._is_ordered(earlier, later, raw=not access.write):
            return
        does = "writes" if access.write else "reads"
        same = self.queues[later] == self.queues[earlier]
        missing = "nothing orders them" if same and QUEUES[self.queues[later]] == "load" else "no fence between them"
        missing = missing if same else "no chain of tokens orders them"
        raise IsaError(
            f"{place(later, self.instructions[later])} {does} {access.space} bytes {access.start} to "
            f"{access.stop - 1}, {did} by {place(earlier, self.instructions[earlier])}: {missing}"
        )

    def _is_ordered(self, earlier: int, later: int, raw: bool) -> bool:
        """Whether ``later`` starts after ``earlier`` is complete, or its own queue's order is enough."""
        queue = self.queues[earlier]
        if queue == self.queues[later] and not (raw and QUEUES[queue] == "compute"):
            return raw or QUEUES[queue] != "load" or self._loads_are_ordered(earlier, later)
        return self.execution.clocks[later][queue] > self.execution.positions[earlier]

    def _loads_are_ordered(self, earlier: int, later: int) -> bool:
        """One engine moves one load after another. With more of them, data of the earlier may come last, unless the
        later waits for somebody who has used them; nothing starts beside a GTH that still reads its indices."""
        if not self.loads_overlap or (earlier not in self.users and self.instructions[earlier].mnemonic == "GTH"):
            return True
        users = (user for user in self.users.get(earlier, ()) if self.queues[user] != self.queues[later])
        return any(self._is_ordered(user, later, raw=True) for user in users)

    def _unwritten(self, index: int, access: Access, segment: _Segment) -> IsaError:
        return IsaError(
            f"{place(index, self.instructions[index])} reads {access.space} bytes {access.start} to "
            f"{access.stop - 1}; nothing has written byte {segment.start} before"
        )


STRIDED = frozenset(("VEC", "GEM", "GMS"))


def _reaches(instruction: Instruction, access: Access, start: int, stop: int) -> bool:
    """Whether an instruction certainly reads some of ``start`` .. ``stop - 1``, a stretch of its bounding interval.

    LDA is exact: it skips the gaps between its rows. Strided work in SRAM is judged by its first and last byte only.
    """
    if instruction.mnemonic in STRIDED:
        return start <= access.start < stop or start < access.stop <= stop
    stride, size = instruction["stride"], instruction["row_bytes"]
    if instruction.mnemonic != "LDA" or stride <= size:
        return True
    row = max(0, (start - instruction["address"] - size) // stride + 1)  # the first that ends behind start
    return row < instruction["rows"] and instruction["address"] + row * stride < stop
