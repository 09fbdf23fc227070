"""The input side: takes the beats of one strip after the other and puts words of codes and of side bits into queues."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.configuration import DecoderConfig, WordFormat
from rtl.jobs import job_layout

_NONE: tuple[Value, Value] = Const(0), Const(0)


def beat_layout(input_bits: int) -> data.StructLayout:
    """A beat of an AXI4-Stream: TDATA and TLAST."""
    return data.StructLayout({"data": input_bits, "last": 1})


class Splitter(wiring.Component):
    """Beats in, words out a cycle later (``code_write``, ``side_write``), while the queues have room.

    Where codes and side bits change amid beats, a bit of ``code_write`` tells of each half of ``code_word`` whether it
    has codes, and ``code_close`` that they are the strip's last ones; the same of side bits.

    Every strip is a packet. If its ``last`` comes early, ``error_early`` pulses and the missing beats are made up
    (their contents are undefined); if it is late, ``error_late`` pulses and beats are thrown away until it comes.
    """

    def __init__(self, config: DecoderConfig) -> None:
        self._config = config
        writes = dict.fromkeys(("code_write", "side_write"), Out(1 + config.halves))
        closes = dict.fromkeys(("code_close", "side_close"), Out(1)) if config.halves else {}
        super().__init__(
            {
                "job": In(stream.Signature(job_layout(config))),
                "beat": In(stream.Signature(beat_layout(config.input_bits))),
                "code_room": In(1),
                "side_room": In(1),
                **writes,
                **closes,
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
        # ``index``: number of the beat after the one at hand. What the cycle after a reset sets, as a strip's
        # first beat does (``last`` and ``given`` are set then), needs none.
        index, nearly_last = Signal(self._config.beat_count_bits, reset_less=True), Signal()
        wanted = self._wants(m, job, index, accept, last)
        (wants_code, codes), (wants_side, sides) = wanted["code"], wanted.get("side", _NONE)
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
            self.code_write.eq(accept.replicate(len(codes)) & codes),
            self.side_write.eq(accept.replicate(len(sides)) & sides),
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

    def _wants(
        self, m: Module, job: data.View, index: Signal, accept: Signal, last: Signal
    ) -> dict[str, tuple[Value, Value]]:
        """Whether the beat at hand has codes, has side bits, and in which of its parts: known when it comes.

        ``done``: the beat at hand is the last one with any, or there was none before.
        """
        wanted = {}
        for name, (opening, following) in self._parts(m, job.strip, accept, last).items():
            first, part = self.job.p.strip[name], job.strip[name]
            wants, done, nearly = Signal(name=f"wants_{name}"), Signal(reset_less=True), Signal(reset_less=True)
            with m.If(accept & last):
                m.d.sync += [
                    wants.eq(self.job.valid & reduce(or_, opening) & ~self.job.p.drop),
                    done.eq(self.job.p.drop | first.single),
                    nearly.eq(first.double),
                ]
            with m.Elif(accept):
                m.d.sync += [
                    wants.eq(reduce(or_, following) & ~done),
                    done.eq(done | nearly),
                    nearly.eq(index == part.less_2),
                ]
            wanted[name] = wants, wants
            if self._config.halves:
                halves = Signal(2, name=f"{name}_halves")
                cut = first.single & first.short & ~self.job.p.strip.aligned, nearly & part.short & ~job.strip.aligned
                self._cut_upper(m, (accept & last, accept), halves, (opening, following), cut)
                m.d.sync += getattr(self, f"{name}_close").eq(accept & wants & done)
                wanted[name] = wants, halves & wants.replicate(2)
        return wanted

    def _cut_upper(
        self,
        m: Module,
        when: tuple[Value, Value],
        halves: Signal,
        parts: tuple[list[Value], ...],
        cut: tuple[Value, ...],
    ) -> None:
        """The halves of the next beat: the upper one of a strip's last may be padding, or of the other kind."""
        (now, opening, cut_opening), (later, following, cut_following) = zip(when, parts, cut, strict=True)
        with m.If(now):
            m.d.sync += halves.eq(Cat(opening[0], opening[1] & ~cut_opening))
        with m.Elif(later):
            m.d.sync += halves.eq(Cat(following[0], following[1] & ~cut_following))

    def _parts(self, m: Module, strip: data.View, accept: Signal, last: Signal) -> dict[str, tuple[list[Value], ...]]:
        """Which parts of a beat codes, and side bits, are in: of a strip's first beat, and of the one after that at
        hand."""
        aligned = self.job.p.strip.aligned
        if not self._config.side_bits:
            return {"code": ([Const(1)], [strip.aligned | Const(1)])}
        if not self._config.halves:
            in_sides = self._next_in_sides(m, strip, accept, last)
            return {"code": ([Const(1)], [strip.aligned | ~in_sides]), "side": ([aligned], [strip.aligned | in_sides])}
        alone, in_sides = self.job.p.strip.code_words_less_1 == 0, self._next_halves_in_sides(m, strip, accept, last)
        return {
            "code": ([Const(1), aligned | ~alone], [strip.aligned | ~there for there in in_sides]),
            "side": ([aligned, aligned | alone], [strip.aligned | there for there in in_sides]),
        }

    def _next_halves_in_sides(self, m: Module, strip: data.View, accept: Signal, last: Signal) -> tuple[Value, Value]:
        """Whether each half of the next beat is one of side bits: ``passed`` words of its superblock are before it."""
        passed = Signal(len(strip.words_less_2) + 1)
        with m.If(accept & last):
            m.d.sync += passed.eq(Mux(self.job.p.strip.words_less_2 == 0, 0, 2))
        with m.Elif(accept):
            rest = passed - strip.words_less_2
            m.d.sync += passed.eq(Mux(rest[-1], passed + 2, rest))
        lower = passed > strip.code_words_less_1
        upper = (passed >= strip.code_words_less_1) & (passed != strip.words_less_2 + 1)
        return lower, upper

    def _next_in_sides(self, m: Module, strip: data.View, accept: Signal, last: Signal) -> Value:
        """Whether the next word of a superblock is one of side bits: known when the beat at hand came, not worked out
        when it goes."""
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
