"""In what order instructions run: queues in order, tokens and weights respected, and no time.

Neither the depth of queues nor the room in the weight ring holds anything back, as tokens alone must order accesses.
Eager order lets loads run as far ahead as tokens allow, then the decoder, and so on: a queue that does not wait for one
behind it in ``PRIORITY`` shows. Lazy order is the reverse, loads as late as possible: one that does not wait for one
before it shows. Program order departs from the program only where a queue waits (a DEC may stand behind its GEM), and
shows neither. No order shows a token that queue order and weights imply; ``accel.check`` asks for those too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from accel.errors import SimError, listed
from accel.isa import BLOCK_BYTES, QUEUES, Instruction
from accel.legality import place
from accel.tiles import TileShape, tile_runs
from accel.weightflow import used_tiles
from sim.regions import region_at

Order = Literal["eager", "lazy", "program"]
ORDERS: tuple[Order, ...] = ("eager", "lazy", "program")
PRIORITY = ("load", "decode", "store", "compute", "vector")  # of eager order


def schedule(instructions: Sequence[Instruction], order: Order) -> list[int]:
    """Numbers of all instructions in the order they run; raises ``SimError`` if they stop for ever."""
    if order not in ORDERS:
        raise SimError(f"order {order!r}; allowed: {listed(ORDERS)}")
    walk = Walk(instructions)
    found: list[int] = []
    while len(found) < len(instructions):
        found.append(walk.step(order))
    return found


def first_blocks(instructions: Sequence[Instruction]) -> dict[int, int]:
    """Where in the stream of LDW blocks each DEC begins: one that rewinds leaves it to the next."""
    base, first = 0, {}
    for index, dec in enumerate(instructions):
        if dec.mnemonic == "DEC":
            first[index] = base
            base += _region_blocks(dec, index) if dec["release"] else 0
    return first


def _region_blocks(dec: Instruction, index: int) -> int:
    return region_at(dec, place(index, dec)).stored_bytes // BLOCK_BYTES


class Walk:
    """How far a program has come: queues, token counters, blocks loaded and tiles decoded."""

    def __init__(self, instructions: Sequence[Instruction]) -> None:
        self.instructions = instructions
        self.queues: dict[str, list[int]] = {queue: [] for queue in QUEUES}
        for index, instruction in enumerate(instructions):
            self.queues[instruction.spec.queue].append(index)
        self.heads = dict.fromkeys(QUEUES, 0)
        self.tokens: Counter[tuple[str, str]] = Counter()
        self.blocks = self.tiles = 0
        self.blocks_needed = {
            index: first + _region_blocks(instructions[index], index)
            for index, first in first_blocks(instructions).items()
        }
        self.tiles_needed = _tiles_needed(instructions)

    def step(self, order: Order) -> int:
        """Run one instruction that may start; its number."""
        ready = [index for queue in PRIORITY if (index := self.head(queue)) is not None and self.may_start(index)]
        if not ready:
            raise SimError(f"deadlock: {'; '.join(self._standing())}")
        index = {"eager": ready[0], "lazy": ready[-1], "program": min(ready)}[order]
        self.run(index)
        return index

    def head(self, queue: str) -> int | None:
        """Number of the instruction that is next in ``queue``."""
        members, at = self.queues[queue], self.heads[queue]
        return members[at] if at < len(members) else None

    def may_start(self, index: int) -> bool:
        """Whether tokens and weights let the head of a queue start."""
        instruction = self.instructions[index]
        queue = instruction.spec.queue
        if not all(self.tokens[source, queue] for source in instruction.pop):
            return False
        return self.blocks >= self.blocks_needed.get(index, 0) and self.tiles >= self.tiles_needed.get(index, 0)

    def run(self, index: int) -> None:
        """Count what a head that may start takes and gives."""
        instruction = self.instructions[index]
        queue = instruction.spec.queue
        self.heads[queue] += 1
        for source in instruction.pop:
            self.tokens[source, queue] -= 1
        for target in instruction.push:
            self.tokens[queue, target] += 1
        if instruction.mnemonic == "LDW":
            self.blocks += instruction["blocks"]
        elif instruction.mnemonic == "DEC":
            self.tiles += _decoded_tiles(instruction)

    def _standing(self) -> list[str]:
        heads = ((queue, self.head(queue)) for queue in QUEUES)
        return [f"{queue} at {self._awaited(index)}" for queue, index in heads if index is not None]

    def _awaited(self, index: int) -> str:
        instruction = self.instructions[index]
        queue = instruction.spec.queue
        missing = [source for source in instruction.pop if not self.tokens[source, queue]]
        if missing:
            what = f"a token from {' and '.join(missing)}"
        elif instruction.mnemonic == "DEC":
            what = f"{self.blocks_needed[index] - self.blocks} more blocks of weights"
        else:
            what = f"{self.tiles_needed[index] - self.tiles} more decoded tiles"
        return f"{place(index, instruction)} waits for {what}"


def _decoded_tiles(dec: Instruction) -> int:
    tile = TileShape(dec["tile_rows"], dec["tile_columns"], dec["groups_per_tile"])
    return sum(run.count for run in tile_runs(dec["rows"], dec["columns"], tile, dec["passes"]))


def _tiles_needed(instructions: Sequence[Instruction]) -> Mapping[int, int]:
    """Tiles that must have been decoded for each GEM, those of earlier GEMs included."""
    total, needed = 0, {}
    for index, _, count in used_tiles(instructions):
        total += count
        needed[index] = total
    return needed
