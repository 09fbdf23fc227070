"""Properties of what takes fields from words: the words at hand, the pointer into them, the barrel behind them.

The reference is a distance: how many words the watched one lies beyond the word in which the next group begins. Places
are those of the real pointer; steps, lengths and ends are any that the placer could ask for.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

from amaranth.hdl import Array, Const, Mux, Signal, Value
from formal_flow import Bench, implies
from formal_queues import assume_room, help_room

from rtl.extractor import Barrel, BarrelShape, Pointer
from rtl.words import DEPTH, Words


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked for: the format in use, the bits of the group and whether it ends its strip.

    ``between``: no strip has begun.
    """

    row: Value
    step: Value
    length: Value
    end: Value
    between: Value


def asked(bench: Bench, formats: tuple[tuple[int, int], ...], lookups: int, issue: Value) -> Asked:
    """Any groups of fields of one of ``formats`` (bits of a field, of a word); it changes with a strip only."""
    row, extra, end = bench.any(range(len(formats)), "row"), bench.any(range(lookups), "extra"), bench.any(1, "end")
    between, last_row = Signal(init=1), Signal.like(row)
    with bench.m.If(issue):
        bench.m.d.sync += [between.eq(end), last_row.eq(row)]
    bench.assume(row < len(formats))
    bench.assume(between | (row == last_row))
    bits, length = (Array(Const(value) for value in column)[row] for column in zip(*formats, strict=True))
    return Asked(row, (extra + 1) * bits, length, end, between)


@dataclass(frozen=True, slots=True)
class Reference:
    """The stream as it is: where the next group begins, and the watched word relative to that.

    ``inside``: words written of which some bits may still be wanted. ``ahead``: words before the watched one.
    ``needed``: words that the group at hand has bits in. ``there``: those written before the last cycle.
    """

    offset: Signal
    inside: Signal
    ahead: Signal
    watching: Signal
    data: Signal
    needed: Value
    there: Signal


def reference(bench: Bench, words: Words, group: Asked) -> Reference:
    m = bench.m
    offset, inside, ahead = Signal(8), Signal(6), Signal(6)
    watching, data, finished, used = Signal(), Signal(len(words.write_data)), Signal(2), Signal(8)
    after = offset + group.step
    begins = bench.any(1, "watch") & words.write & ~watching
    m.d.comb += [
        # Words of which all wanted bits are taken: at the end of a strip, what is left of the last one is padding.
        used.eq(Mux(after > group.length, 2, 1)),
        finished.eq(
            Mux(words.issue, Mux(group.end, used, (after >= group.length)), 0),
        ),
    ]
    there = Signal.like(inside)
    m.d.sync += [inside.eq(inside + words.write - finished), there.eq(inside - finished)]
    with m.If(words.issue):
        m.d.sync += offset.eq(Mux(group.end, 0, Mux(after >= group.length, after - group.length, after)))
    with m.If(begins):
        m.d.sync += [watching.eq(1), data.eq(words.write_data), ahead.eq(inside - finished)]
    with m.Elif(watching):
        m.d.sync += [watching.eq(ahead >= finished), ahead.eq(ahead - finished)]
    return Reference(offset, inside, ahead, watching, data, used, there)


def build(
    bench: Bench, word_bits: int, formats: tuple[tuple[int, int], ...], lookups: int, style: str
) -> tuple[Words, Asked, Reference]:
    """Words read at the places of a pointer, and the reference beside them."""
    words, pointer = Words(word_bits, style), Pointer(word_bits)
    group = asked(bench, formats, lookups, words.issue)
    inner, at = bench.add("words", words), bench.add("pointer", pointer)
    bench.free(words.write, words.write_data, words.issue)
    bench.m.d.comb += [
        pointer.step.bits.eq(group.step),
        pointer.step.less_length.eq(group.step - group.length),
        pointer.step.less_length_1.eq(group.step - group.length - 1),
        pointer.end.eq(group.end),
        pointer.advance.eq(words.issue),
        words.place.eq(pointer.place),
    ]
    before = assume_room(bench, words.write, words.room)
    bench.assume(implies(words.issue, words.ready))
    model = reference(bench, words, group)
    help_room(bench, model.inside, words.room, before, DEPTH)
    help_words(bench, inner, at, group, model)
    return words, group, model


def help_words(bench: Bench, inner: SimpleNamespace, at: SimpleNamespace, group: Asked, model: Reference) -> None:
    """Invariants: the pointer is where the reference is, and the watched word is in both copies."""
    (tail,), (head, second), unit = inner.tails, inner.heads, inner.self
    ((one, two),) = inner.flags
    bench.helper(at.position == model.offset)
    bench.helper(model.offset < group.length)
    bench.helper(implies(group.between, model.offset == 0))
    bench.helper(model.inside < DEPTH)
    bench.helper(((tail - head)[: len(tail)] == model.inside) & ((head + 1)[: len(tail)] == second))
    bench.helper(implies(model.watching, model.ahead < model.inside))
    bench.helper((one == (model.there >= 1)) & (two == (model.there >= 2)) & (model.there <= model.inside))
    for number, (ram, out) in enumerate(zip(inner.every["ram"], (unit.current, unit.following), strict=True)):
        port = ram.read_port(domain="comb")
        bench.m.d.comb += port.addr.eq(head + model.ahead)
        bench.helper(implies(model.watching, port.data == model.data))
        seen = model.watching & (model.ahead == number) & (model.there > number)
        bench.helper(implies(seen, out == model.data))


def words_room(bench: Bench) -> None:
    """Whatever groups lie where, no word is written over one that is there, and no place is wasted."""
    unit = Words(1, "distributed")
    inner = bench.add("words", unit)
    place, inside = unit.place, Signal(6)
    bench.free(unit.write, unit.issue, place)
    before = assume_room(bench, unit.write, unit.room)
    bench.assume(implies(unit.issue, unit.ready))
    bench.assume(implies(place.leave_both, place.straddle & place.leave))
    left = Mux(unit.issue & place.leave, 1 + place.leave_both, 0)
    bench.m.d.sync += inside.eq(inside + unit.write - left)
    bench.claim(inside < DEPTH)
    bench.claim(implies(unit.issue, inside > place.straddle))
    bench.claim(implies(bench.before(inside == 0), unit.room))
    help_room(bench, inside, unit.room, before, DEPTH)
    (tail,), ((one, two),) = inner.tails, inner.flags
    bench.helper((tail - inner.heads[0])[: len(tail)] == inside)
    bench.helper(implies(one, inside >= 1) & implies(two, inside >= 2))
    bench.reach(inside == DEPTH - 1)
    bench.reach(unit.issue & place.leave_both & (inside == 2))


def match(model: Reference, group: Asked, index: int) -> Value:
    """Whether bit ``index`` of the group at hand is in the watched word."""
    over = model.offset + index >= group.length
    return model.watching & (index < group.step) & (model.ahead == over)


def words(bench: Bench, word_bits: int, formats: tuple[tuple[int, int], ...], lookups: int, style: str) -> None:
    """Each group finds its words: the one it begins in and, where it straddles, the one after it."""
    unit, group, model = build(bench, word_bits, formats, lookups, style)
    # Neither early nor late: from the second cycle after they were written.
    bench.claim(unit.ready == (model.there >= model.needed))
    bench.claim(model.inside < DEPTH)
    straddles = model.offset + group.step > group.length
    low = Signal(word_bits)
    for bit in range(word_bits):
        inside = (bit >= model.offset) & (bit < model.offset + group.step) & (bit < group.length)
        bench.m.d.comb += low[bit].eq(inside)
    bench.claim(implies(unit.issue & model.watching & (model.ahead == 0), ((unit.current ^ model.data) & low) == 0))
    bench.claim(implies(unit.issue & model.watching & (model.ahead == 1) & straddles, unit.following == model.data))
    bench.reach(unit.issue & straddles & model.watching & (model.ahead == 1) & model.data.all())
    bench.reach(unit.issue & straddles & group.end)
    bench.reach(unit.issue & (model.offset == 0) & bench.before(unit.issue & group.end))
    bench.reach(model.inside == DEPTH - 1)  # no place is wasted


def barrel_of(word_bits: int, formats: tuple[tuple[int, int], ...], lookups: int) -> BarrelShape:
    """Joined by word length alone: each length with the longest reach that its fields want."""
    most = lookups * max(bits for bits, _ in formats)
    lengths = sorted({length for _, length in formats}, reverse=True)
    return BarrelShape(word_bits, most, 1, tuple((length, most - 1) for length in lengths))


def extractor(bench: Bench, word_bits: int, formats: tuple[tuple[int, int], ...], lookups: int) -> None:
    """Every bit of a window is the bit of the stream that it should be."""
    unit, group, model = build(bench, word_bits, formats, lookups, "distributed")
    shape = barrel_of(word_bits, formats, lookups)
    bench.m.submodules.barrel = barrel = Barrel(shape)
    joint = Array(Const(shape.joints.index((length, shape.joints[0][1]))) for _, length in formats)
    bench.m.d.comb += [
        barrel.current.eq(unit.current),
        barrel.following.eq(unit.following),
        barrel.joint.eq(joint[group.row]),
        barrel.shift.eq(unit.place.shift),
    ]
    watched, value = Signal(shape.bits), Signal(shape.bits)
    for index in range(shape.bits):
        at = (model.offset + index)[:8]
        bit = Mux(at >= group.length, at - group.length, at)[: len(unit.place.shift)]
        bench.m.d.comb += [
            watched[index].eq(unit.issue & match(model, group, index)),
            value[index].eq(model.data.bit_select(bit, 1)),
        ]
    for _ in range(shape.cycles):
        watched, value = bench.before(watched), bench.before(value)
    bench.claim(((barrel.window ^ value) & watched) == 0)
    bench.reach(watched.all() & value.any() & ~value.all())
    bench.reach(watched[-1] & ~watched[0])
