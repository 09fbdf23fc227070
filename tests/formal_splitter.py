"""Properties of the input side: which beats of a strip become which words, and what happens when TLAST errs.

The reference counts beats from the strip's own numbers, as the job's documentation words them.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

from amaranth.hdl import Cat, Const, Mux, Signal, Value
from amaranth.lib import data
from formal_flow import Bench, implies

from accel.codecs import parse_codec
from rtl.configuration import DecoderConfig
from rtl.jobs import job_layout
from rtl.splitter import Splitter


def small(codec: str, count_bits: int, lookups: int = 1, input_bits: int = 64) -> DecoderConfig:
    """A build with counters of ``count_bits``."""
    return DecoderConfig(parse_codec(codec), lookups, input_bits, count_bits, count_bits, count_bits)


@dataclass(frozen=True, slots=True)
class Strip:
    """The strip at hand: beat ``index`` of ``beats``; ``made_up``: its packet is over; ``surplus``: a packet goes on
    after its strip; ``phase`` counts the words of a superblock. ``code``, ``side``: the parts of the beat at hand, the
    whole or its halves, that hold some."""

    job: data.View
    there: Signal
    index: Signal
    phase: Signal
    made_up: Signal
    surplus: Signal
    is_last: Value
    code: Value
    side: Value
    code_over: Value
    side_over: Value


def strip_of(bench: Bench, config: DecoderConfig) -> Strip:
    bits = config.beat_count_bits + 2
    job = Signal(job_layout(config))
    index, phase = Signal(bits), Signal(config.record_word_bits + 3)
    strip, sides = job.strip, bool(config.side_bits)
    code_words = strip.code_words_less_1 + 1
    last_code, last_side = last_beat(strip.code), last_beat(strip.side)
    phases = [phase, Mux(phase + 1 == words_of(strip), 0, phase + 1)][: parts_of(config)]
    in_codes = [strip.aligned | (at < code_words) if sides else Const(1) for at in phases]
    in_sides = [strip.aligned | (at >= code_words) if sides else Const(0) for at in phases]
    if config.halves:
        in_codes[1] &= strip.aligned | ~strip.code.short | (index != last_code)
        in_sides[1] &= strip.aligned | ~strip.side.short | (index != last_side)
    return Strip(
        job,
        Signal(),
        index,
        phase,
        Signal(),
        Signal(),
        index == strip.beats_less_2 + 1,
        Mux((index <= last_code) & ~job.drop, Cat(in_codes), 0),
        Mux((index <= last_side) & ~job.drop, Cat(in_sides), 0),
        (index >= last_code) | job.drop,
        (index >= last_side) | job.drop,
    )


def last_beat(extent: data.View) -> Value:
    return Mux(extent.single, 0, extent.less_2 + 1)


def words_of(strip: data.View) -> Value:
    """64-bit words of a superblock."""
    return strip.code_words_less_1 + strip.side_words_less_1 + 2


def parts_of(config: DecoderConfig) -> int:
    return 2 if config.halves else 1


def later(phase: Value, strip: data.View, parts: int) -> Value:
    """The phase after ``parts`` words."""
    return Mux(phase + parts >= words_of(strip), phase + parts - words_of(strip), phase + parts)


def follow(bench: Bench, unit: Splitter, at: Strip, step: Value, parts: int) -> Value:
    """The reference moves on: ``step`` is a beat of the strip, come or made up. Returns whether a strip begins."""
    m, strip, beat = bench.m, at.job.strip, unit.beat
    ends = step & at.is_last
    with m.If(step):
        m.d.sync += [
            at.index.eq(Mux(ends, 0, at.index + 1)),
            at.phase.eq(Mux(ends, 0, later(at.phase, strip, parts))),
            at.made_up.eq(~ends & (at.made_up | beat.p.last)),
        ]
    with m.If(ends & ~at.made_up & ~beat.p.last):
        m.d.sync += at.surplus.eq(1)
    with m.Elif(beat.valid & beat.p.last):
        m.d.sync += at.surplus.eq(0)
    # A strip begins when there is a job and the one before is over, with all of its packet or before what is surplus.
    fresh = ends | (~at.there & ~at.surplus)
    begins = fresh & unit.job.valid
    with m.If(fresh):
        m.d.sync += [at.there.eq(unit.job.valid), at.job.eq(unit.job.p)]
    return begins


def assume_job(bench: Bench, config: DecoderConfig, job: data.View, valid: Value) -> None:
    """What a job may be: a strip is whole blocks, and its extents mark 2 beats as they should."""
    strip = job.strip
    bench.assume(implies(valid, strip.beats_less_2 >= 2))
    for extent in (strip.code, strip.side) if config.side_bits else (strip.code,):
        bench.assume(implies(valid, extent.double == (~extent.single & (extent.less_2 == 0))))
    if config.halves:
        bench.assume(implies(valid, strip.words_less_2 == strip.code_words_less_1 + strip.side_words_less_1))
    if config.side_bits:
        # The side bits of a superblock come after its codes: they are not all in the first beat, or half of it.
        alone = strip.code_words_less_1 == 0 if config.halves else 0
        bench.assume(implies(valid & strip.side.single, strip.aligned | alone))


def assume_short(bench: Bench, at: Strip) -> None:
    """What reaches only into the lower half of a beat is in that half."""
    for extent, there in ((at.job.strip.code, at.code), (at.job.strip.side, at.side)):
        is_last = at.there & (at.index == last_beat(extent)) & ~at.job.drop
        bench.assume(implies(is_last & extent.short & ~at.job.strip.aligned, there[0]))


def splitter(bench: Bench, codec: str, count_bits: int, input_bits: int = 64) -> None:
    """Beats become the right words, once; a strip takes as many beats as it has, whatever TLAST says."""
    config = small(codec, count_bits, input_bits=input_bits)
    unit = Splitter(config)
    inner = bench.add("splitter", unit)
    bench.free(unit.job.valid, unit.job.payload, unit.beat.valid, unit.beat.payload, unit.code_room, unit.side_room)
    bench.assume_stays(unit.job)
    assume_job(bench, config, unit.job.p, unit.job.valid)
    at = strip_of(bench, config)
    beat = unit.beat
    taken = beat.valid & beat.ready
    room = (~at.code.any() | unit.code_room) & (~at.side.any() | unit.side_room)
    active = at.there & ~at.surplus
    step = Signal()
    bench.m.d.comb += step.eq(active & room & (at.made_up | beat.valid))
    begins = follow(bench, unit, at, step, parts_of(config))
    # Words are written a cycle after their beat, and a job is taken a cycle after it was copied.
    bench.claim(unit.code_write == bench.before(Mux(step, at.code, 0)))
    bench.claim(unit.side_write == bench.before(Mux(step, at.side, 0)))
    bench.claim(implies(unit.code_write, bench.before(unit.code_room)))
    bench.claim(implies(unit.side_write, bench.before(unit.side_room)))
    if config.halves:
        assume_short(bench, at)
        bench.claim(unit.code_close == bench.before(step & at.code.any() & at.code_over))
        bench.claim(unit.side_close == bench.before(step & at.side.any() & at.side_over))
    claim_words(bench, config, unit, at)
    bench.claim(taken == (beat.valid & (at.surplus | (active & room & ~at.made_up))))
    bench.claim(unit.job.ready == bench.before(begins))
    bench.claim(unit.error_early == (step & ~at.made_up & beat.p.last & ~at.is_last))
    bench.claim(unit.error_late == (step & ~at.made_up & ~beat.p.last & at.is_last))
    help_splitter(bench, inner, at)
    reach_all(bench, unit, at, step)


def claim_words(bench: Bench, config: DecoderConfig, unit: Splitter, at: Strip) -> None:
    """A word is its beat; of aligned records, it is their codes or their side bits."""
    beat = unit.beat.p.data
    for row in config.formats.values():
        chosen = bench.before(at.there & at.job.strip.aligned & (at.job.code_bits == row.code_bits))
        if row.kind == "aligned":
            starts = range(0, config.input_bits, row.record_bits)
            codes = Cat(beat[start : start + row.code_bits] for start in starts)
            sides = Cat(beat[start + row.code_bits : start + row.record_bits] for start in starts)
            bench.claim(implies(chosen, unit.code_word[: len(codes)] == bench.before(codes)))
            bench.claim(implies(chosen, unit.side_word[: len(sides)] == bench.before(sides)))
    whole = bench.before(at.there & ~at.job.strip.aligned) if config.side_bits else Const(1)
    bench.claim(implies(whole, (unit.code_word == bench.before(beat)) & (unit.side_word == bench.before(beat))))


def help_splitter(bench: Bench, inner: SimpleNamespace, at: Strip) -> None:
    """Invariants: the unit's flags are those of the reference."""
    strip, there = at.job.strip, at.there
    bench.helper(inner.loaded == there)
    bench.helper(inner.surplus == at.surplus)
    bench.helper(inner.opened == (there & ~at.surplus & ~at.made_up))
    bench.helper(inner.given == (~at.surplus & (~there | at.made_up)))
    bench.helper(inner.last == (~there | at.is_last))
    bench.helper(implies(there, inner.index == (at.index + 1)[: len(inner.index)]))
    bench.helper(inner.nearly_last == (there & (at.index == strip.beats_less_2)))
    bench.helper(implies(~there, (at.index == 0) & (at.phase == 0) & ~at.made_up))
    bench.helper(implies(at.surplus, (at.index == 0) & (at.phase == 0) & ~at.made_up))
    bench.helper(implies(there, (inner.job == at.job) & (strip.beats_less_2 >= 2)))
    bench.helper(implies(there, at.index <= strip.beats_less_2 + 1))
    kinds = [("code", at.code, at.code_over), ("side", at.side, at.side_over)]
    for (name, wanted, over), wants, done, nearly in zip(
        kinds, inner.every["wants"], inner.every["done"], inner.every["nearly"], strict=False
    ):
        bench.helper(wants == (there & wanted.any()))
        bench.helper(implies(there, done == over))
        bench.helper(implies(there & ~over, nearly == (at.index == strip[name].less_2)))
    if hasattr(inner, "halves"):
        for wanted, halves in zip((at.code, at.side), inner.every["halves"], strict=True):
            bench.helper(implies(there & wanted.any(), halves == wanted))
        bench.helper(implies(there, strip.words_less_2 + 2 == words_of(strip)))
        bench.helper(implies(there, (inner.passed == later(at.phase, strip, 2)) & (at.phase < words_of(strip))))
    elif hasattr(inner, "passed"):
        help_phase(bench, inner, at)


def help_phase(bench: Bench, inner: SimpleNamespace, at: Strip) -> None:
    """Invariants: where in a superblock the unit is."""
    strip = at.job.strip
    words = Mux(inner.in_sides, strip.side_words_less_1, strip.code_words_less_1)
    before = Mux(inner.in_sides, strip.code_words_less_1 + 1, 0)
    bench.helper(implies(at.there, later(at.phase, strip, 1) == inner.passed + before))
    bench.helper(implies(at.there, (inner.passed <= words) & (at.phase < words_of(strip))))


def reach_all(bench: Bench, unit: Splitter, at: Strip, step: Value) -> None:
    recovered = Signal()
    with bench.m.If(unit.error_early | unit.error_late):
        bench.m.d.sync += recovered.eq(1)
    ends = step & at.is_last
    bench.reach(recovered & ends & ~at.made_up & unit.beat.p.last & at.code.any())
    bench.reach(at.surplus & unit.beat.valid & ~unit.beat.p.last)
    bench.reach(ends & at.made_up)
    bench.reach(step & at.job.drop)
