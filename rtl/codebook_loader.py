"""Codebooks as they lie in DRAM: a stream of bytes becomes codewords."""

from __future__ import annotations

import math

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.codebook import codeword_layout
from rtl.configuration import DecoderConfig

BEAT_BYTES = 8


def unit_bytes(vector_length: int) -> int:
    """Bytes taken a cycle: beats and codewords are whole numbers of them (d=8 and 16: 8, d=4: 4, d=18: 2, d=9: 1)."""
    return math.gcd(BEAT_BYTES, vector_length)


class CodebookLoader(wiring.Component):
    """Beats of a packet (``keep``: its bytes, all but in the last beat), ``unit_bytes(d)`` bytes a cycle.

    A packet that ends within a codeword, or has an empty last beat, makes ``error_partial`` pulse; its last codeword is
    marked all the same and undefined, so that the next packet is the next codebook.
    """

    def __init__(self, config: DecoderConfig) -> None:
        self._config = config
        beat = data.StructLayout({"data": 8 * BEAT_BYTES, "keep": BEAT_BYTES, "last": 1})
        super().__init__(
            {
                "beat": In(stream.Signature(beat)),
                "codeword": Out(stream.Signature(codeword_layout(config))),
                "error_partial": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        unit = unit_bytes(self._config.vector_length)
        units, needed = BEAT_BYTES // unit, self._config.vector_length // unit
        bits, more, last = Signal(8 * BEAT_BYTES), Signal(units), Signal()
        beat, codeword = self.beat.p, self.codeword
        shift, final, full, filled = Signal(), Signal(), Signal(), Signal(range(needed))
        held, broken = Signal(), Signal()
        # ``more``: units of the beat at hand after the next one, from the lowest bit.
        m.d.comb += [
            shift.eq(held & (~codeword.valid | codeword.ready)),
            final.eq(~more[0]),
            full.eq(filled == needed - 1),
            self.beat.ready.eq(~held | (shift & final)),
        ]
        kept = Cat(beat.keep[at : at + unit].all() for at in range(0, BEAT_BYTES, unit))
        partly = Cat(beat.keep[at : at + unit].any() for at in range(0, BEAT_BYTES, unit)) != kept
        with m.If(codeword.ready):
            m.d.sync += codeword.valid.eq(0)
        with m.If(shift):
            m.d.sync += self._shift(codeword, bits, 8 * unit)
            end = last & final
            m.d.sync += [
                bits.eq(bits >> (8 * unit)),
                more.eq(more >> 1),
                filled.eq(Mux(full | end, 0, filled + 1)),
                codeword.valid.eq(full | end),
                codeword.p.last.eq(end),
            ]
        with m.If(self.beat.ready):
            m.d.sync += [
                held.eq(self.beat.valid),
                bits.eq(beat.data),
                more.eq(Mux(beat.last, kept >> 1, (1 << (units - 1)) - 1)),
                last.eq(beat.last),
                broken.eq(beat.last & (partly | ~kept[0])),
            ]
        m.d.sync += self.error_partial.eq(shift & final & last & (broken | ~full))
        return m

    def _shift(self, codeword: stream.Interface, bits: Signal, size: int) -> Value:
        """The lowest unit of ``bits`` comes in at the top; the first one in ends at the bottom."""
        weights = codeword.p.weights
        return weights.eq(Cat(weights, bits[:size])[size:])
