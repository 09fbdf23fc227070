"""The word at hand and the one after it: what a group takes its fields from."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
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
    """

    def __init__(self, word_bits: int, memory_style: str) -> None:
        self._word_bits, self._style = word_bits, memory_style
        super().__init__(
            {
                "write": In(1),
                "write_data": In(word_bits),
                "room": Out(1, init=1),
                "place": In(place_layout(word_bits)),
                "issue": In(1),
                "ready": Out(1),
                "current": Out(word_bits),
                "following": Out(word_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        tail, one, two, go = Signal(range(DEPTH)), Signal(), Signal(), Signal()
        heads = [Signal(range(DEPTH), init=ahead, name=f"head{ahead}") for ahead in range(MOST_GONE)]
        level = (tail - heads[0])[: len(tail)]
        m.d.comb += [go.eq(self.issue & self.place.leave), self.ready.eq(two | (one & ~self.place.straddle))]
        left = Signal(2)
        m.d.comb += left.eq(Mux(self.place.leave_both, 2, 1))
        m.d.sync += [
            self.room.eq(level <= DEPTH - 1 - LATE_WRITES),
            one.eq(Mux(go, level > left, level > 0)),
            two.eq(Mux(go, level > left + 1, level > 1)),
        ]
        with m.If(self.write):
            m.d.sync += tail.eq(tail + 1)
        for head, out in zip(heads, (self.current, self.following), strict=True):
            with m.If(go):
                m.d.sync += head.eq(head + left)
            self._remember(m, tail, head, Mux(go, head + left, head), out)
        return m

    def _remember(self, m: Module, tail: Signal, head: Signal, head_next: Signal, out: Signal) -> None:
        """A copy of the words, read at ``head``: straight from LUT memory; from block RAM a cycle ahead, which shows
        the same, as no word is looked at in the first cycle after it was written."""
        ram = memory.Memory(shape=self._word_bits, depth=DEPTH, init=[], attrs={"ram_style": self._style})
        m.submodules += ram
        write = ram.write_port()
        m.d.comb += [write.en.eq(self.write), write.addr.eq(tail), write.data.eq(self.write_data)]
        read = ram.read_port(domain="comb" if self._style == "distributed" else "sync")
        m.d.comb += [read.addr.eq(head if self._style == "distributed" else head_next), out.eq(read.data)]
