"""Dependency tokens: derived from what instructions read and write, so that no pass can forget one.

An instruction must wait for the last instruction of another queue that wrote what it reads, or touched what it writes.
Because queues run in order, only the latest such instruction of each queue matters, and what is known to be finished
through earlier tokens (vector clocks) needs no token of its own. Within the compute queue, which is pipelined, a GEM or
GMS that reads or overwrites results still in the pipeline carries a fence.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from accel.footprint import Access, accesses
from accel.isa import QUEUES, Instruction

Clock = list[int]


@dataclass(slots=True)
class Segments:
    """Who last wrote each stretch of one memory, and who has read it since; stretches are disjoint and sorted."""

    starts: list[int] = field(default_factory=list)
    rows: list[tuple[int, int, tuple[int, int] | None, dict[int, int]]] = field(default_factory=list)

    def touched(self, start: int, stop: int) -> tuple[int, int]:
        """Range of rows that overlap ``[start, stop)``."""
        low = bisect_right(self.starts, start) - 1
        if low < 0 or self.rows[low][1] <= start:
            low += 1
        return low, bisect_left(self.starts, stop)

    def note(self, access: Access, queue: int, index: int) -> None:
        """Record an access of instruction ``index`` (counted within its queue)."""
        low, high = self.touched(access.start, access.stop)
        pieces: list[tuple[int, int, tuple[int, int] | None, dict[int, int]]] = []
        at = access.start
        for start, stop, writer, readers in self.rows[low:high]:
            if start < access.start:
                pieces.append((start, access.start, writer, readers))
            if not access.write:
                if at < start:
                    pieces.append((at, start, None, {queue: index}))
                inner = (max(start, access.start), min(stop, access.stop))
                pieces.append((*inner, writer, {**readers, queue: index}))
                at = inner[1]
            if stop > access.stop:
                tail = (access.stop, stop, writer, readers)
                if access.write:
                    pieces.append((access.start, access.stop, (queue, index), {}))
                    pieces.append(tail)
                    self._replace(low, high, pieces)
                    return
                pieces.append(tail)
                at = stop
        if access.write:
            pieces.append((access.start, access.stop, (queue, index), {}))
        elif at < access.stop:
            pieces.append((at, access.stop, None, {queue: index}))
        self._replace(low, high, pieces)

    def _replace(
        self, low: int, high: int, pieces: list[tuple[int, int, tuple[int, int] | None, dict[int, int]]]
    ) -> None:
        self.rows[low:high] = pieces
        self.starts[low:high] = [piece[0] for piece in pieces]


def add_tokens(instructions: Sequence[Instruction]) -> list[Instruction]:
    """The same program with ``pop``, ``push`` and fences filled in."""
    number = {queue: i for i, queue in enumerate(QUEUES)}
    memory: dict[str, Segments] = {}
    position = [0] * len(QUEUES)
    known: list[Clock] = [[-1] * len(QUEUES) for _ in QUEUES]  # per queue: latest instruction known complete, per queue
    history: dict[tuple[int, int], tuple[int, Clock]] = {}
    pops: list[set[str]] = [set() for _ in instructions]
    pushes: list[set[str]] = [set() for _ in instructions]
    fenced_until = -1
    done: list[Instruction] = []
    for i, (instruction, found) in enumerate(zip(instructions, accesses(instructions), strict=True)):
        mine = number[instruction.spec.queue]
        needs = _needs(memory, found)
        fence = instruction.mnemonic in ("GEM", "GMS") and _reads_results(memory, found, mine, fenced_until)
        if fence:
            fenced_until = position[mine] - 1
        waits = {queue: index for queue, index in needs.items() if queue != mine and index > known[mine][queue]}
        for queue, index in waits.items():
            source, clock = history[queue, index]
            known[mine] = [max(a, b) for a, b in zip(known[mine], clock, strict=True)]
            if not any(history[other][1][queue] >= index for other in waits.items() if other[0] != queue):
                pushes[source].add(QUEUES[mine])
                pops[i].add(QUEUES[queue])
        for access in found:
            memory.setdefault(access.space, Segments()).note(access, mine, position[mine])
        complete = list(known[mine])
        complete[mine] = position[mine]
        history[mine, position[mine]] = (i, complete)
        position[mine] += 1
        done.append(replace(instruction, values={**instruction.values, "fence": 1}) if fence else instruction)
    return [replace(instruction, pop=_ordered(pops[i]), push=_ordered(pushes[i])) for i, instruction in enumerate(done)]


def _needs(memory: dict[str, Segments], found: Sequence[Access]) -> dict[int, int]:
    """Per queue, the latest instruction whose accesses conflict with ``found``."""
    needs: dict[int, int] = {}
    for access in found:
        segments = memory.get(access.space)
        if segments is None:
            continue
        low, high = segments.touched(access.start, access.stop)
        for _, _, writer, readers in segments.rows[low:high]:
            if writer is not None:
                needs[writer[0]] = max(needs.get(writer[0], -1), writer[1])
            if access.write:
                for queue, index in readers.items():
                    needs[queue] = max(needs.get(queue, -1), index)
    return needs


def _reads_results(memory: dict[str, Segments], found: Sequence[Access], mine: int, fenced_until: int) -> bool:
    """Whether something read was written, later than the last fence, by an instruction of the same queue."""
    for access in found:
        segments = memory.get(access.space)
        if access.write or segments is None:
            continue
        low, high = segments.touched(access.start, access.stop)
        for _, _, writer, _ in segments.rows[low:high]:
            if writer is not None and writer[0] == mine and writer[1] > fenced_until:
                return True
    return False


def _ordered(queues: set[str]) -> tuple[str, ...]:
    return tuple(queue for queue in QUEUES if queue in queues)
