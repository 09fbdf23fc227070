"""Properties of words that are written by halves: each half of a beat goes where it should, and each group waits for
the half it ends in, no longer.

The reference counts halves as they come: ``odd`` ones since a strip began leave the upper half of a word open.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

from amaranth.hdl import Mux, Signal, Value
from formal_flow import Bench, implies
from formal_queues import assume_room, help_room
from formal_words import Asked, asked

from rtl.extractor import Pointer
from rtl.packer import Packer
from rtl.words import DEPTH, Words


@dataclass(frozen=True, slots=True)
class Halves:
    """The stream as it is: where the next group begins, and the watched half relative to that.

    ``begun``, ``whole``: words of which some bits may still be wanted that have a half, that get no more of them;
    ``begun_there``, ``whole_there``: those of before the last cycle. ``ahead``: words before the one of the watched
    half, which is its ``upper`` one or not.
    """

    offset: Signal
    odd: Signal
    begun: Signal
    whole: Signal
    begun_there: Signal
    whole_there: Signal
    used: Value
    watching: Signal
    ahead: Signal
    upper: Signal
    data: Signal


def reference(bench: Bench, packer: Packer, issue: Value, group: Asked, half: int) -> Halves:
    m, take, close = bench.m, packer.take, packer.close
    at = Halves(
        Signal(8), Signal(), *(Signal(6) for _ in range(4)), Signal(8), Signal(), Signal(6), Signal(), Signal(half)
    )
    after, finished = at.offset + group.step, Signal(2)
    m.d.comb += [
        at.used.eq(Mux(after > group.length, 2, 1)),
        finished.eq(Mux(issue, Mux(group.end, at.used, after >= group.length), 0)),
    ]
    begun = at.begun + (take.all() | (take.any() & ~at.odd)) - finished
    whole = at.whole + (take.all() | (take.any() & at.odd)) - finished
    m.d.sync += [
        at.begun.eq(begun),
        at.whole.eq(Mux(close, begun, whole)),
        at.begun_there.eq(at.begun - finished),
        at.whole_there.eq(at.whole - finished),
        at.odd.eq((at.odd ^ take.xor()) & ~close),
    ]
    with m.If(issue):
        m.d.sync += at.offset.eq(Mux(group.end, 0, Mux(after >= group.length, after - group.length, after)))
    watch(bench, packer, at, finished, half)
    return at


def watch(bench: Bench, packer: Packer, at: Halves, finished: Value, half: int) -> None:
    """Follow any half of any beat."""
    m, take, which = bench.m, packer.take, bench.any(1, "which")
    # Where it goes: 0 and 1 are the halves of the word begun last, or of the next one if none is open; 2 is behind.
    slot = at.odd + (take.all() & which)
    with m.If(bench.any(1, "watch") & take.bit_select(which, 1) & ~at.watching):
        m.d.sync += [
            at.watching.eq(1),
            at.data.eq(packer.data.word_select(which, half)),
            at.ahead.eq(at.begun - (at.odd & (slot == 1)) - finished),
            at.upper.eq(slot[0]),
        ]
    with m.Elif(at.watching):
        m.d.sync += [at.watching.eq(at.ahead >= finished), at.ahead.eq(at.ahead - finished)]


def halves(bench: Bench, word_bits: int, formats: tuple[tuple[int, int], ...], lookups: int, style: str) -> None:
    """Each group finds its halves of words, and is ready as soon as they are there."""
    words, pointer, packer = Words(word_bits, style, True), Pointer(word_bits, True), Packer(word_bits)
    group = asked(bench, formats, lookups, words.issue)
    inner = bench.add("words", words), bench.add("pointer", pointer), bench.add("packer", packer)
    bench.free(packer.take, packer.close, packer.data, words.issue)
    bench.m.d.comb += [
        pointer.step.bits.eq(group.step),
        pointer.step.bits_less_1.eq(group.step - 1),
        pointer.step.less_length.eq(group.step - group.length),
        pointer.step.less_length_1.eq(group.step - group.length - 1),
        pointer.end.eq(group.end),
        pointer.advance.eq(words.issue),
        words.place.eq(pointer.place),
        words.write.eq(packer.write),
        words.write_data.eq(packer.write_data),
        words.close.eq(packer.close),
    ]
    at = reference(bench, packer, words.issue, group, word_bits // 2)
    before = assume_room(bench, packer.take.any(), words.room)
    bench.assume(implies(words.issue, words.ready))
    bench.assume(implies(packer.close, packer.take.any()))
    # A strip's last group comes after its last half.
    bench.assume(implies(words.issue & group.end, at.whole >= at.used))
    claim_halves(bench, words, group, at, word_bits)
    help_room(bench, at.begun, words.room, before, DEPTH)
    help_halves(bench, *inner, group, at)
    bench.reach(packer.close & at.odd & packer.take.all())
    bench.reach(packer.close & ~at.odd & (packer.take == 0b10))
    bench.reach(words.issue & at.watching & (at.ahead == 1) & at.upper & pointer.place.straddle & at.data.all())
    bench.reach(words.issue & (at.begun_there > at.whole_there) & (at.begun_there == at.used))


def room_of_halves(bench: Bench) -> None:
    """Whatever groups lie where, no word is begun over one that is there, and no place is wasted."""
    unit, packer = Words(2, "distributed", True), Packer(2)
    inner, packs = bench.add("words", unit), bench.add("packer", packer)
    place, begun, whole, take = unit.place, Signal(6), Signal(6), packer.take
    bench.free(take, packer.close, unit.issue, place)
    bench.m.d.comb += [unit.write.eq(packer.write), unit.close.eq(packer.close)]
    before = assume_room(bench, take.any(), unit.room)
    left = Mux(unit.issue & place.leave, 1 + place.leave_both, 0)
    bench.assume(implies(unit.issue, unit.ready & (whole >= left)))
    bench.assume(implies(place.leave_both, place.straddle & place.leave))
    bench.m.d.sync += [
        begun.eq(begun + (take.all() | (take.any() & ~packs.odd)) - left),
        whole.eq(Mux(packer.close, begun + (take.all() | (take.any() & ~packs.odd)), whole + unit.write[1]) - left),
    ]
    bench.claim(begun < DEPTH)
    bench.claim(implies(unit.issue, begun > place.straddle))
    bench.claim(implies(bench.before(begun == 0), unit.room))
    help_room(bench, begun, unit.room, before, DEPTH)
    head, bits = inner.heads[0], len(inner.heads[0])
    bench.helper(begun == whole + packs.odd)
    for tail, (one, two), count in zip(inner.tails, inner.flags, (begun, whole), strict=True):
        bench.helper((tail - head)[:bits] == count)
        bench.helper(implies(one, count >= 1) & implies(two, count >= 2))
    bench.reach(begun == DEPTH - 1)
    bench.reach(unit.issue & place.leave_both & (begun == 2))


def claim_halves(bench: Bench, words: Words, group: Asked, at: Halves, word_bits: int) -> None:
    half, after = word_bits // 2, at.offset + group.step
    straddles = after > group.length
    ends_upper = Mux(straddles, after - group.length, after) > half
    bench.claim(words.ready == ((at.begun_there >= at.used) & (~ends_upper | (at.whole_there >= at.used))))
    bench.claim(at.begun < DEPTH)
    low = Signal(word_bits)
    bench.m.d.comb += [low[bit].eq((bit >= at.offset) & (bit < after)) for bit in range(word_bits)]
    wrong = (words.current.word_select(at.upper, half) ^ at.data) & low.word_select(at.upper, half)
    bench.claim(implies(words.issue & at.watching & (at.ahead == 0), wrong == 0))
    wanted = words.issue & at.watching & (at.ahead == 1) & straddles & (~at.upper | ends_upper)
    bench.claim(implies(wanted, words.following.word_select(at.upper, half) == at.data))


def help_halves(
    bench: Bench, words: SimpleNamespace, pointer: SimpleNamespace, packer: SimpleNamespace, group: Asked, at: Halves
) -> None:
    """Invariants: the pointer is where the reference is, and the watched half is in both copies."""
    (tail, tail_upper), (head, second), unit = words.tails, words.heads, words.self
    bench.helper((pointer.position == at.offset) & (at.offset < group.length))
    bench.helper(implies(group.between, at.offset == 0))
    bench.helper(packer.odd == at.odd)
    bench.helper((at.begun == at.whole + at.odd) & (at.begun < DEPTH))
    bench.helper(((tail - head)[: len(tail)] == at.begun) & ((tail_upper - head)[: len(tail)] == at.whole))
    bench.helper((head + 1)[: len(tail)] == second)
    there = (at.begun_there, at.whole_there)
    for (one, two), count in zip(words.flags, there, strict=True):
        bench.helper((one == (count >= 1)) & (two == (count >= 2)))
    bench.helper((at.begun_there <= at.begun) & (at.whole_there <= at.whole) & (at.whole_there <= at.begun_there))
    bench.helper(implies(at.watching, at.ahead < Mux(at.upper, at.whole, at.begun)))
    half = len(at.data)
    for number, ram in enumerate(words.every["ram"]):
        copy, part = divmod(number, 2)
        port = ram.read_port(domain="comb")
        bench.m.d.comb += port.addr.eq(head + at.ahead)
        watched = at.watching & (at.upper == part)
        bench.helper(implies(watched, port.data == at.data))
        out = (unit.current, unit.following)[copy].word_select(part, half)
        bench.helper(implies(watched & (at.ahead == copy) & (there[part] > copy), out == at.data))
