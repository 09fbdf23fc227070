"""Deadlock freedom: five queues run without time, each as far as it can go, until all is done or nothing moves.

Every queue consumes from and produces into counters in a fixed order (a Kahn network), so the order of execution does
not matter: if this one finishes, all do. The same walk yields a vector clock per instruction: how many instructions of
every queue are known, through tokens, to be complete when it starts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from accel.errors import IsaError
from accel.isa import BLOCK_BYTES, QUEUE_DEPTH, QUEUES, Instruction
from accel.legality import place
from accel.machine import Machine
from accel.tiles import Region, region_of
from accel.weightflow import used_tiles

Clock = tuple[int, ...]  # completed instructions by queue, in the order of QUEUES
_START: Clock = (0,) * len(QUEUES)


@dataclass(frozen=True, slots=True)
class Execution:
    """``clocks[i]``: what is complete when instruction i starts; ``positions[i]``: its number within its queue."""

    clocks: list[Clock]
    positions: list[int]
    tokens: int
    peak_tokens: int


def execute(instructions: Sequence[Instruction], machine: Machine) -> Execution:
    """Run a program whose instructions and weight flow are legal; raises ``IsaError`` where it would stop for ever."""
    walk = _Walk(instructions, machine)
    while walk.advance():
        pass
    walk.check_finished()
    return Execution(walk.clocks, walk.positions, walk.tokens, walk.peak_tokens)


@dataclass(slots=True)
class _Queue:
    """One queue: its instructions in order and how many of them are dispatched, started and complete."""

    name: str
    indices: list[int] = field(default_factory=list)
    dispatched: int = 0
    started: int = 0
    done: int = 0
    start_clock: Clock = _START  # at the latest start
    done_clock: Clock = _START  # at the latest completion


class _Weights:
    """Ring credits and tiles between LDW, DEC and GEM. Bytes and tiles are counted from the start of the program."""

    def __init__(self, instructions: Sequence[Instruction], machine: Machine) -> None:
        self.ring_bytes = machine.sram.weight_bytes
        self.requested_bytes = self.freed_bytes = self.region_start = 0
        self.decoded = self.needed = 0  # tiles out of the decoder; tiles of all GEMs started so far
        self.region: Region | None = None
        self.region_tiles = 0  # decoded of this region
        self.gem_tiles: Counter[int] = Counter()
        for index, _, count in used_tiles(instructions):
            self.gem_tiles[index] += count

    def load(self, blocks: int) -> int:
        """Request up to ``blocks`` blocks, as many as there is room for; returns how many."""
        room = (self.ring_bytes - self.requested_bytes + self.freed_bytes) // BLOCK_BYTES
        granted = min(blocks, room)
        self.requested_bytes += granted * BLOCK_BYTES
        return granted

    def begin_region(self, region: Region) -> None:
        """A DEC starts."""
        self.region, self.region_tiles, self.region_start = region, 0, self.freed_bytes

    def decode(self, ahead: int) -> bool:
        """Decode while data has come and the array has room: tiles of started GEMs and ``ahead`` more. True: moved."""
        region, before = self.region, self.region_tiles
        assert region is not None
        limit = min(region.tiles, before + self.needed + ahead - self.decoded)
        while self.region_tiles < limit:
            reached = min(limit, self._arrived_tiles(region))
            if reached <= self.region_tiles:
                break
            self.region_tiles = reached
        self.decoded += self.region_tiles - before
        self.freed_bytes = self.region_start + region.freed_bytes(self.region_tiles)
        return self.region_tiles > before

    def _arrived_tiles(self, region: Region) -> int:
        """Tiles of this region that could be decoded within the current strip."""
        index = self.region_tiles // region.strip_tiles
        strip = region.strip(index)
        arrived = self.requested_bytes - self.region_start - index * region.full.stored_bytes
        if arrived >= strip.needed[-1]:
            return (index + 1) * region.strip_tiles
        return index * region.strip_tiles + bisect_right(strip.needed, arrived)


class _Walk:
    """State of the execution. A queue runs one instruction at a time: without time, overlap changes nothing."""

    def __init__(self, instructions: Sequence[Instruction], machine: Machine) -> None:
        self.instructions = instructions
        self.queues = {name: _Queue(name) for name in QUEUES}
        self.counters: dict[tuple[str, str], deque[Clock]] = {(a, b): deque() for a in QUEUES for b in QUEUES}
        self.clocks: list[Clock] = [_START] * len(instructions)
        self.positions: list[int] = []
        for index, instruction in enumerate(instructions):
            queue = self.queues[instruction.spec.queue]
            self.positions.append(len(queue.indices))
            queue.indices.append(index)
        self.tokens = self.peak_tokens = self.dispatched = 0
        self.weights = _Weights(instructions, machine)
        self.blocks_left = 0  # of the LDW that is running
        self.may_decode_ahead = self._shadow_grants()

    def _shadow_grants(self) -> list[bool]:
        """For each count of started compute instructions: does a GEM (not a GMS) use the array next?"""
        grants = [False]
        for index in reversed(self.queues["compute"].indices):
            mnemonic = self.instructions[index].mnemonic
            grants.append(mnemonic == "GEM" if mnemonic in ("GEM", "GMS") else grants[-1])
        return grants[::-1]

    def advance(self) -> bool:
        """Let every queue go as far as it can; whether anything moved."""
        moved = self._dispatch()
        for queue in self.queues.values():
            while self._start(queue) or self._continue(queue):
                moved = True
        return moved

    def _dispatch(self) -> bool:
        before = self.dispatched
        while self.dispatched < len(self.instructions):
            queue = self.queues[self.instructions[self.dispatched].spec.queue]
            if queue.dispatched - queue.started >= QUEUE_DEPTH:
                break
            queue.dispatched += 1
            self.dispatched += 1
        return self.dispatched > before

    def _start(self, queue: _Queue) -> bool:
        if queue.done < queue.started or queue.started == queue.dispatched:
            return False
        index = queue.indices[queue.started]
        instruction = self.instructions[index]
        sources = [self.counters[source, queue.name] for source in instruction.pop]
        if not all(sources):
            return False
        clock = queue.start_clock
        if instruction["fence"]:
            clock = _joined(clock, queue.done_clock)
        for source in sources:
            clock = _joined(clock, source.popleft())
        queue.start_clock = self.clocks[index] = clock
        queue.started += 1
        self._begin(index, instruction)
        return True

    def _begin(self, index: int, instruction: Instruction) -> None:
        if instruction.mnemonic == "LDW":
            self.blocks_left = instruction["blocks"]
        elif instruction.mnemonic == "DEC":
            self.weights.begin_region(region_of(instruction))
        elif instruction.mnemonic == "GEM":
            self.weights.needed += self.weights.gem_tiles[index]

    def _continue(self, queue: _Queue) -> bool:
        """Go on with the running instruction of a queue; whether anything moved."""
        if queue.done == queue.started:
            return False
        instruction = self.instructions[queue.indices[queue.done]]
        moved, finished = self._work(instruction)
        if finished:
            self._finish(queue, instruction)
        return moved or finished

    def _work(self, instruction: Instruction) -> tuple[bool, bool]:
        """(whether it moved, whether it is complete)."""
        if instruction.mnemonic == "LDW":
            granted = self.weights.load(self.blocks_left)
            self.blocks_left -= granted
            return granted > 0, self.blocks_left == 0
        if instruction.mnemonic == "DEC":
            moved = self.weights.decode(self.may_decode_ahead[self.queues["compute"].started])
            region = self.weights.region
            return moved, region is not None and self.weights.region_tiles == region.tiles
        if instruction.mnemonic in ("GEM", "GMS"):
            return False, self.weights.decoded >= self.weights.needed
        return True, True

    def _finish(self, queue: _Queue, instruction: Instruction) -> None:
        queue.done += 1
        clock = list(_joined(queue.start_clock, queue.done_clock))
        clock[QUEUES.index(queue.name)] = queue.done
        queue.done_clock = tuple(clock)
        for target in instruction.push:
            counter = self.counters[queue.name, target]
            counter.append(queue.done_clock)
            self.tokens += 1
            self.peak_tokens = max(self.peak_tokens, len(counter))

    def check_finished(self) -> None:
        """Raise ``IsaError`` saying where each queue stands, or which token is left over."""
        stuck = [self._standing(queue) for queue in self.queues.values() if queue.done < len(queue.indices)]
        if stuck:
            raise IsaError(f"deadlock: {'; '.join(stuck)}")
        for (source, target), counter in self.counters.items():
            if counter:
                raise IsaError(f"{len(counter)} token(s) from {source} to {target} left over; every push needs its pop")

    def _standing(self, queue: _Queue) -> str:
        index = queue.indices[queue.done]
        return f"{queue.name} at {place(index, self.instructions[index])} waits for {self._awaited(queue, index)}"

    def _awaited(self, queue: _Queue, index: int) -> str:
        instruction = self.instructions[index]
        if queue.done < queue.started:
            return self._work_awaited(instruction)
        if queue.started == queue.dispatched:
            first = self.instructions[self.dispatched]
            return f"its dispatch, behind {place(self.dispatched, first)}: the {first.spec.queue} queue is full"
        missing = [source for source in instruction.pop if not self.counters[source, queue.name]]
        return f"a token from {' and '.join(missing)}"

    def _work_awaited(self, instruction: Instruction) -> str:
        if instruction.mnemonic == "LDW":
            return f"room for {self.blocks_left} more blocks in the ring"
        if instruction.mnemonic == "GEM":
            return f"{self.weights.needed - self.weights.decoded} more tiles"
        region = self.weights.region
        assert region is not None and instruction.mnemonic == "DEC", instruction
        return (
            f"tile {self.weights.region_tiles} of {region.tiles}: weights to arrive or the array to take the last one"
        )


def _joined(a: Clock, b: Clock) -> Clock:
    return tuple(map(max, a, b))
