"""The word at hand and the one after it: what a group takes its fields from."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from accel.decoder_timing import TIMING
from rtl.extractor import place_layout
from rtl.queue import LATE_WRITES

DEPTH = TIMING.word_queue
MOST_GONE = 2  # words that one group may be done with


class Words(wiring.Component):
    """A queue of words of which the two oldest can be seen.

    ``ready``: the words of the group that lies at ``place`` are there; ``issue`` takes the group, and with it the words
    it leaves behind. A word counts from the second cycle after it was written. ``room`` is that of ``rtl.queue``.

    With ``halves``, the halves of a word are written, and count, apart: the lower one first. ``close`` says that of the
    word begun last no more is written.
    """

    def __init__(self, word_bits: int, memory_style: str, halves: bool = False) -> None:
        self._word_bits, self._style, self._parts = word_bits, memory_style, 1 + halves
        super().__init__(
            {
                "write": In(self._parts),
                "write_data": In(word_bits),
                "room": Out(1, init=1),
                "place": In(place_layout(word_bits, halves)),
                "issue": In(1),
                "ready": Out(1),
                "current": Out(word_bits),
                "following": Out(word_bits),
                **({"close": In(1)} if halves else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Where each part of a word is written next: the upper half lags behind the lower one.
        tails = [Signal(range(DEPTH), name=f"tail{'_upper' * part}") for part in range(self._parts)]
        flags = [[Signal(name=f"{name}{'_upper' * part}") for name in ("one", "two")] for part in range(self._parts)]
        go = Signal()
        heads = [Signal(range(DEPTH), init=ahead, name=f"head{ahead}") for ahead in range(MOST_GONE)]
        levels = [(tail - heads[0])[: len(tail)] for tail in tails]
        there = [two | (one & ~self.place.straddle) for one, two in flags]
        ready = Mux(self.place.upper, there[-1], there[0]) if self._parts > 1 else there[0]
        m.d.comb += [go.eq(self.issue & self.place.leave), self.ready.eq(ready)]
        left = Signal(2)
        m.d.comb += left.eq(Mux(self.place.leave_both, 2, 1))
        m.d.sync += self.room.eq(levels[0] <= DEPTH - 1 - LATE_WRITES)
        for level, (one, two) in zip(levels, flags, strict=True):
            m.d.sync += [one.eq(Mux(go, level > left, level > 0)), two.eq(Mux(go, level > left + 1, level > 1))]
        self._move_tails(m, tails)
        for head, out in zip(heads, (self.current, self.following), strict=True):
            with m.If(go):
                m.d.sync += head.eq(head + left)
            for part, tail in enumerate(tails):
                self._remember(m, part, tail, (head, Mux(go, head + left, head)), out)
        return m

    def _move_tails(self, m: Module, tails: list[Signal]) -> None:
        for tail, write in zip(tails, self.write, strict=True):
            with m.If(write):
                m.d.sync += tail.eq(tail + 1)
        if self._parts > 1:
            with m.If(self.close):
                m.d.sync += tails[1].eq(tails[0] + self.write[0])

    def _remember(self, m: Module, part: int, tail: Signal, heads: tuple[Signal, Value], out: Signal) -> None:
        """A copy of a part of the words, read at the first of ``heads``: straight from LUT memory; from block RAM a
        cycle ahead, which shows the same, as no word is looked at in the first cycle after it was written."""
        bits = self._word_bits // self._parts
        ram = memory.Memory(shape=bits, depth=DEPTH, init=[], attrs={"ram_style": self._style})
        m.submodules += ram
        write = ram.write_port()
        data = self.write_data.word_select(part, bits)
        m.d.comb += [write.en.eq(self.write[part]), write.addr.eq(tail), write.data.eq(data)]
        read = ram.read_port(domain="comb" if self._style == "distributed" else "sync")
        address = heads[0] if self._style == "distributed" else heads[1]
        m.d.comb += [read.addr.eq(address), out.word_select(part, bits).eq(read.data)]
