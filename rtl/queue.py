"""A queue in a small memory with a registered output, and its room as a flag: no path from its reader to its writer."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, ShapeLike, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from accel.decoder_timing import TIMING

LATE_WRITES = TIMING.late_writes
DEPTH = 16


def most_held(depth: int = DEPTH) -> int:
    """Entries that a queue takes until its ``room`` ends, if writers are slow and nothing is removed."""
    return depth - LATE_WRITES + 1


class Queue(wiring.Component):
    """First in, first out: up to ``depth - 1`` entries in memory (a power of two) and one in the output register.

    - ``write``, ``write_data``: stores an entry at the clock edge; only while ``room`` allows.
    - ``room``: one more entry fits. It is answered late, by writers too, so ``LATE_WRITES`` still fit when it ends.
    - ``valid``, ``data``: the oldest entry, from the second cycle after it was written; ``take`` removes it.
    """

    def __init__(self, shape: ShapeLike, depth: int = DEPTH, memory_style: str = "distributed") -> None:
        assert depth & (depth - 1) == 0
        self._shape, self._depth, self._style = shape, depth, memory_style
        super().__init__(
            {
                "write": In(1),
                "write_data": In(shape),
                "room": Out(1, init=1),
                "valid": Out(1),
                "data": Out(shape),
                "take": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = Shape.cast(self._shape).width
        m.submodules.ram = ram = memory.Memory(shape=bits, depth=self._depth, init=[], attrs={"ram_style": self._style})
        write, read = ram.write_port(), ram.read_port(domain="sync")
        head, tail, fetch = Signal(range(self._depth)), Signal(range(self._depth)), Signal()
        m.d.comb += [
            write.en.eq(self.write),
            write.addr.eq(tail),
            write.data.eq(self.write_data),
            fetch.eq((head != tail) & (~self.valid | self.take)),
            read.en.eq(~self.valid | self.take),  # of an empty queue whatever is read is not valid
            read.addr.eq(head),
            self.data.eq(read.data),
        ]
        m.d.sync += [
            self.valid.eq(fetch | (self.valid & ~self.take)),
        ]
        with m.If(self.write):
            m.d.sync += tail.eq(tail + 1)
        with m.If(fetch):
            m.d.sync += head.eq(head + 1)
        # From registers alone: what goes in and out decides nothing in the same cycle.
        level = (tail - head)[: len(tail)]
        m.d.sync += self.room.eq(level <= self._depth - 1 - LATE_WRITES)
        return m
