"""Halves of beats side by side: what comes of one kind goes on in the word that the last half of it began."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Packer(wiring.Component):
    """From ``take``, the halves of ``data`` that are wanted, to ``write``, the halves of a word to be written.

    The first of them goes where the last word has room, to its upper half if its lower one is written; what is beyond
    that goes to the lower half of the next word. ``close``: these are a strip's last ones; what comes next begins a
    new word. Combinational.
    """

    def __init__(self, word_bits: int) -> None:
        self._word_bits = word_bits
        super().__init__(
            {
                "take": In(2),
                "close": In(1),
                "data": In(word_bits),
                "write": Out(2),
                "write_data": Out(word_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        half, odd = self._word_bits // 2, Signal()
        upper_alone = self.take == 0b10
        m.d.comb += [
            self.write.eq(Mux(self.take.all(), 0b11, Cat(~odd, odd) & self.take.any().replicate(2))),
            self.write_data.eq(Mux(odd ^ upper_alone, self.data.rotate_left(half), self.data)),
        ]
        m.d.sync += odd.eq((odd ^ self.take.xor()) & ~self.close)
        return m
