"""The input side: takes the beats of one strip after the other and puts words of codes and of side bits into queues."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from accel.codecs.records import BEAT_BITS
from rtl.configuration import DecoderConfig, WordFormat
from rtl.jobs import job_layout


def beat_layout(input_bits: int) -> data.StructLayout:
    """A beat of an AXI4-Stream: TDATA and TLAST."""
    return data.StructLayout({"data": input_bits, "last": 1})


class Splitter(wiring.Component):
    """Beats in, words out (``code_write``, ``side_write``), while the queues have room.

    A strip is a packet of ``job.beats`` beats. If ``last`` comes early, ``error_early`` pulses and the missing beats are
    made up (their contents are undefined); if it is late, ``error_late`` pulses and beats are thrown away until it comes.
    """

    def __init__(self, config: DecoderConfig) -> None:
        self._config = config
        super().__init__(
            {
                "job": In(stream.Signature(job_layout(config))),
                "beat": In(stream.Signature(beat_layout(config.input_bits))),
                "code_room": In(1),
                "side_room": In(1),
                "code_write": Out(1),
                "side_write": Out(1),
                "code_word": Out(config.input_bits),
                "side_word": Out(config.input_bits),
                "error_early": Out(1),
                "error_late": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        job, beat = self.job.p, self.beat.p
        missing, surplus = Signal(), Signal()
        index = Signal(self._config.count_bits, init=1)
        code_done, side_done = Signal(), Signal()
        accept, last = Signal(), Signal()
        is_code, is_side = self._kinds(m, accept, last)
        wants_code, wants_side, has_room = Signal(), Signal(), Signal()
        m.d.comb += [
            last.eq(index == job.beats),
            wants_code.eq(is_code & ~code_done & ~job.drop),
            wants_side.eq(is_side & ~side_done & ~job.drop),
            has_room.eq((~wants_code | self.code_room) & (~wants_side | self.side_room)),
            accept.eq(self.job.valid & ~surplus & has_room & (self.beat.valid | missing)),
            self.beat.ready.eq(surplus | (self.job.valid & has_room & ~missing)),
            self.job.ready.eq(accept & last),
            self.code_write.eq(accept & wants_code),
            self.side_write.eq(accept & wants_side),
            self.error_early.eq(accept & ~missing & beat.last & ~last),
            self.error_late.eq(accept & ~missing & ~beat.last & last),
        ]
        with m.If(accept):
            m.d.sync += [
                index.eq(Mux(last, 1, index + 1)),
                missing.eq((missing | beat.last) & ~last),
                surplus.eq(~missing & last & ~beat.last),
                code_done.eq((code_done | (index == job.code_end)) & ~last),
                side_done.eq((side_done | (index == job.side_end)) & ~last),
            ]
        with m.Elif(self.beat.valid & beat.last):
            m.d.sync += surplus.eq(0)
        self._gather(m)
        return m

    def _kinds(self, m: Module, accept: Signal, last: Signal) -> tuple[Value, Value]:
        """Whether the word at hand holds codes, and whether it holds side bits."""
        formats = self._config.formats.values()
        if not self._config.side_bits:
            return Const(1), Const(0)
        aligned, in_sides = Signal(), Signal()
        words = max(max(row.code_words, row.side_words) for row in formats)
        left, code_words, side_words = Signal(range(words)), Signal(range(words)), Signal(range(words))
        started = Signal()
        with m.Switch(self.job.p.code_bits):
            for row in formats:
                with m.Case(row.code_bits):
                    m.d.comb += [
                        aligned.eq(row.kind == "aligned"),
                        code_words.eq(row.code_words - 1),
                        side_words.eq(row.side_words - 1),
                    ]
        phase_end = Signal()
        # ``passed`` counts words of the phase up: no load of another value when the width changes between strips.
        m.d.comb += phase_end.eq(left == Mux(in_sides, side_words, code_words))
        with m.If(accept):
            m.d.sync += [
                left.eq(Mux(phase_end | last, 0, left + 1)),
                in_sides.eq((in_sides ^ phase_end) & ~last),
            ]
        del started
        return aligned | ~in_sides, aligned | in_sides

    def _gather(self, m: Module) -> None:
        """Words as the extractors want them: of aligned records, codes and side bits apart."""
        m.d.comb += [self.code_word.eq(self.beat.p.data), self.side_word.eq(self.beat.p.data)]
        with m.Switch(self.job.p.code_bits):
            for row in self._config.formats.values():
                if row.kind == "aligned":
                    with m.Case(row.code_bits):
                        m.d.comb += self._gathered(row)

    def _gathered(self, row: WordFormat) -> list[Value]:
        starts = range(0, self._config.input_bits, row.record_bits)
        bits = self.beat.p.data
        return [
            self.code_word.eq(Cat(bits[at : at + row.code_bits] for at in starts)),
            self.side_word.eq(Cat(bits[at + row.code_bits : at + row.record_bits] for at in starts)),
        ]
