"""The input side: takes the beats of one strip after the other and puts words of codes and of side bits into queues."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

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
        beat, job = self.beat.p, Signal(job_layout(self._config), reset_less=True)
        index, last = Signal(self._config.beat_count_bits), Signal()
        loaded, active, missing, surplus = Signal(), Signal(), Signal(), Signal()
        accept, end, load, missed = Signal(), Signal(), Signal(), Signal()
        wants_code, wants_side = self._wants(m, job, index, accept, load)
        has_room = (~wants_code | self.code_room) & (~wants_side | self.side_room)
        m.d.comb += [
            accept.eq(active & has_room & (self.beat.valid | missing)),
            end.eq(accept & last),
            load.eq(end | ~loaded),
            missed.eq(end & ~missing & ~beat.last),
            self.job.ready.eq(load),
            self.beat.ready.eq(surplus | (active & has_room & ~missing)),
            self.code_write.eq(accept & wants_code),
            self.side_write.eq(accept & wants_side),
            self.error_early.eq(accept & ~missing & beat.last & ~last),
            self.error_late.eq(missed),
        ]
        still_surplus = missed | (surplus & ~(self.beat.valid & beat.last))
        m.d.sync += [
            loaded.eq(self.job.valid | ~load),
            surplus.eq(still_surplus),
            active.eq((self.job.valid | ~load) & ~still_surplus),
        ]
        with m.If(load):
            m.d.sync += job.eq(self.job.payload)
        with m.If(accept):
            m.d.sync += [
                index.eq(Mux(last, 0, index + 1)),
                last.eq((index == job.strip.beats_less_2) & ~last),
                missing.eq((missing | beat.last) & ~last),
            ]
        self._gather(m, job)
        return m

    def _wants(self, m: Module, job: data.View, index: Signal, accept: Signal, load: Signal) -> tuple[Signal, Signal]:
        """Whether the beat at hand has a word of codes, of side bits: known when it comes."""
        strip, first = job.strip, self.job.p
        wants_code, wants_side, code_done, side_done = Signal(), Signal(), Signal(), Signal()
        in_sides = self._next_in_sides(m, strip, accept, load)
        # ``done``: the beat at hand is the last with something to want, or there was none before.
        with m.If(load):
            m.d.sync += [wants_code.eq(~first.drop), code_done.eq(first.drop | first.strip.code_single)]
        with m.Elif(accept):
            m.d.sync += [
                wants_code.eq((strip.aligned | ~in_sides) & ~code_done),
                code_done.eq(code_done | (index == strip.code_last_less_1)),
            ]
        if self._config.side_bits:
            with m.If(load):
                m.d.sync += [
                    wants_side.eq(first.strip.aligned & ~first.drop),
                    side_done.eq(first.drop | first.strip.side_single),
                ]
            with m.Elif(accept):
                m.d.sync += [
                    wants_side.eq((strip.aligned | in_sides) & ~side_done),
                    side_done.eq(side_done | (index == strip.side_last_less_1)),
                ]
        return wants_code, wants_side

    def _next_in_sides(self, m: Module, strip: data.View, accept: Signal, load: Signal) -> Value:
        """Whether the next word of a superblock is one of side bits."""
        if not self._config.side_bits:
            return Const(0)
        passed, in_sides, phase_end = Signal(self._config.record_word_bits), Signal(), Signal()
        words = Mux(in_sides, strip.side_words_less_1, strip.code_words_less_1)
        m.d.comb += phase_end.eq(passed == words)
        with m.If(load):
            m.d.sync += [passed.eq(0), in_sides.eq(0)]
        with m.Elif(accept):
            m.d.sync += [passed.eq(Mux(phase_end, 0, passed + 1)), in_sides.eq(in_sides ^ phase_end)]
        return in_sides ^ phase_end

    def _gather(self, m: Module, job: data.View) -> None:
        """Words as the extractors want them: of aligned records, codes and side bits apart."""
        m.d.comb += [self.code_word.eq(self.beat.p.data), self.side_word.eq(self.beat.p.data)]
        rows = [row for row in self._config.formats.values() if row.kind == "aligned"]
        with m.If(job.strip.aligned if rows else 0):
            m.d.comb += self._gathered(rows[0]) if rows else []
            for row in rows[1:]:
                with m.If(job.code_bits == row.code_bits):
                    m.d.comb += self._gathered(row)

    def _gathered(self, row: WordFormat) -> list[Value]:
        """Bits of a word beyond those in use are as they come."""
        starts = range(0, self._config.input_bits, row.record_bits)
        bits = self.beat.p.data
        return [
            self.code_word[: row.code_length].eq(Cat(bits[at : at + row.code_bits] for at in starts)),
            self.side_word[: row.side_length].eq(Cat(bits[at + row.code_bits : at + row.record_bits] for at in starts)),
        ]
