"""The word at hand and the one after it: what a group takes its fields from."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from rtl.extractor import place_layout
from rtl.queue import Queue


class Words(wiring.Component):
    """A queue of words and a register for the current one.

    ``ready``: the words of the group that lies at ``place`` are there. ``issue`` takes the group; what
    ``place.straddle`` will be in the next cycle is ``straddle_issued`` if it does, ``straddle_else`` if not, so that most
    of ``ready`` is decided before. A word that is not
    yet in the register when a group begins it is taken from the queue straight away: a new strip costs no cycle. Such a
    group begins with its word, so only ``group_bits`` can be wanted of it.
    """

    def __init__(self, word_bits: int, group_bits: int, memory_style: str) -> None:
        self._word_bits, self._group_bits, self._style = word_bits, group_bits, memory_style
        super().__init__(
            {
                "write": In(1),
                "write_data": In(word_bits),
                "room": Out(1),
                "place": In(place_layout(word_bits)),
                "straddle_issued": In(1),
                "straddle_else": In(1),
                "issue": In(1),
                "ready": Out(1),
                "current": Out(word_bits),
                "following": Out(word_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.queue = queue = Queue(self._word_bits, memory_style=self._style)
        held, enough = Signal(), Signal()
        word = Signal(self._word_bits, reset_less=True)
        # A group straddles only from a word that is held: it begins behind the start of its word.
        after = Mux(self.place.leave, held & queue.valid & ~self.place.leave_both, 1)
        m.d.comb += [
            queue.write.eq(self.write),
            queue.write_data.eq(self.write_data),
            self.room.eq(queue.room),
            self.ready.eq(queue.valid | enough),
            self.current.eq(Cat(Mux(held, word, queue.data)[: self._group_bits], word[self._group_bits :])),
            self.following.eq(queue.data),
            queue.take.eq(self.issue & (self.place.leave | ~held)),
        ]
        m.d.sync += [
            held.eq(Mux(self.issue, after, held)),
            enough.eq(Mux(self.issue, after & ~self.straddle_issued, held & ~self.straddle_else)),
        ]
        with m.If(queue.take):
            m.d.sync += word.eq(queue.data)
        return m
