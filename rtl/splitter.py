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
    """Beats in, words out a cycle later (``code_write``, ``side_write``), while the queues have room.

    Every strip is a packet. If its ``last`` comes early, ``error_early`` pulses and the missing beats are made up
    (their contents are undefined); if it is late, ``error_late`` pulses and beats are thrown away until it comes.
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
        accept, fresh, missed, over = Signal(), Signal(), Signal(), Signal()
        # A beat is taken (``open``) or made up (``given``). Between strips there is one of nothing, made up and last.
        opened, given, last, loaded, surplus = Signal(), Signal(init=1), Signal(init=1), Signal(), Signal()
        # ``index``: number of the beat after the one at hand.
        index, nearly_last = Signal(self._config.beat_count_bits), Signal()
        wants_code, wants_side = self._wants(m, job, index, accept, last)
        has_room = (~wants_code | self.code_room) & (~wants_side | self.side_room)
        m.d.comb += [
            accept.eq(has_room & ((opened & self.beat.valid) | given)),
            fresh.eq(accept & last),
            missed.eq(fresh & opened & ~beat.last),
            over.eq(surplus & self.beat.valid & beat.last),
            self.beat.ready.eq(surplus | (opened & has_room)),
            self.error_early.eq(accept & opened & beat.last & ~last),
            self.error_late.eq(missed),
        ]
        # A job is copied when it begins and taken a cycle later: it has several beats, the next is not needed yet.
        m.d.sync += [
            self.code_write.eq(accept & wants_code),
            self.side_write.eq(accept & wants_side),
            self.job.ready.eq(fresh & self.job.valid),
            surplus.eq(missed | (surplus & ~over)),
        ]
        with m.If(fresh):
            m.d.sync += [job.eq(self.job.payload), loaded.eq(self.job.valid), index.eq(1)]
        with m.Elif(accept):
            m.d.sync += index.eq(index + 1)
        with m.If(accept):
            m.d.sync += [
                nearly_last.eq((index == job.strip.beats_less_2) & ~last),
                last.eq(Mux(last, ~self.job.valid, nearly_last)),
            ]
        with m.If(accept | over):
            with m.If(surplus):
                m.d.sync += [opened.eq(loaded), given.eq(~loaded)]
            with m.Elif(last):
                late = opened & ~beat.last
                m.d.sync += [opened.eq(self.job.valid & ~late), given.eq(~self.job.valid & ~late)]
            with m.Else():
                m.d.sync += [opened.eq(~given & ~beat.last), given.eq(given | beat.last)]
        self._gather(m, job)
        return m

    def _wants(self, m: Module, job: data.View, index: Signal, accept: Signal, last: Signal) -> tuple[Value, Value]:
        """Whether the beat at hand has a word of codes, of side bits: known when it comes.

        ``done``: the beat at hand is the last one with any, or there was none before.
        """
        in_sides = self._next_in_sides(m, job.strip, accept, last)
        wants = {}
        for name, is_next in (
            (("code", ~in_sides), ("side", in_sides)) if self._config.side_bits else (("code", Const(1)),)
        ):
            first, part = self.job.p.strip[name], job.strip[name]
            wants[name], done, nearly = Signal(name=f"wants_{name}"), Signal(), Signal()
            at_once = self.job.p.strip.aligned if name == "side" else 1
            with m.If(accept & last):
                m.d.sync += [
                    wants[name].eq(self.job.valid & at_once & ~self.job.p.drop),
                    done.eq(self.job.p.drop | first.single),
                    nearly.eq(first.double),
                ]
            with m.Elif(accept):
                m.d.sync += [
                    wants[name].eq((job.strip.aligned | is_next) & ~done),
                    done.eq(done | nearly),
                    nearly.eq(index == part.less_2),
                ]
        return wants["code"], wants.get("side", Const(0))

    def _next_in_sides(self, m: Module, strip: data.View, accept: Signal, last: Signal) -> Value:
        """Whether the next word of a superblock is one of side bits: known when the beat at hand came, not worked out
        when it goes."""
        if not self._config.side_bits:
            return Const(0)
        passed, in_sides = Signal(self._config.record_word_bits), Signal()  # of the next word
        words = Mux(in_sides, strip.side_words_less_1, strip.code_words_less_1)
        phase_end = passed == words
        first_alone = self.job.p.strip.code_words_less_1 == 0
        with m.If(accept & last):
            m.d.sync += [passed.eq(~first_alone), in_sides.eq(first_alone)]
        with m.Elif(accept):
            m.d.sync += [passed.eq(Mux(phase_end, 0, passed + 1)), in_sides.eq(in_sides ^ phase_end)]
        return in_sides

    def _gather(self, m: Module, job: data.View) -> None:
        """Words as the extractors want them, a cycle after the beat: of aligned records, codes and side bits apart."""
        bits = Signal(self._config.input_bits, reset_less=True)
        m.d.sync += bits.eq(self.beat.p.data)
        m.d.comb += [self.code_word.eq(bits), self.side_word.eq(bits)]
        for row in self._config.formats.values():
            if row.kind == "aligned":
                chosen = Signal(name=f"aligned{row.code_bits}")
                m.d.sync += chosen.eq(job.strip.aligned & (job.code_bits == row.code_bits))
                with m.If(chosen):
                    m.d.comb += self._gathered(row, bits)

    def _gathered(self, row: WordFormat, bits: Value) -> list[Value]:
        """Bits of a word beyond those in use are as they come."""
        starts = range(0, self._config.input_bits, row.record_bits)
        return [
            self.code_word[: row.code_length].eq(Cat(bits[at : at + row.code_bits] for at in starts)),
            self.side_word[: row.side_length].eq(Cat(bits[at + row.code_bits : at + row.record_bits] for at in starts)),
        ]
