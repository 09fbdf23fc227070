"""Properties of what runs ahead of the data: jobs become tiles, tiles groups, none lost and each with its flags."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

from amaranth.hdl import Array, Cat, Const, Mux, Signal, Value
from amaranth.lib import data
from amaranth.lib.wiring import Component
from formal_flow import Bench, implies, opened
from formal_queues import Watch, watched
from formal_splitter import small

from rtl.configuration import DecoderConfig
from rtl.placer import Placer, step_key
from rtl.sequencer import GroupSource, TileSource


def stream_rules(bench: Bench, source: Component, output: Component) -> None:
    """The input keeps them; the output has to: what is offered stays until it is taken."""
    bench.free(source.valid, source.payload, output.ready)
    bench.assume_stays(source)
    bench.claim_stays(output)


def groups(bench: Bench, codec: str, lookups: int, count_bits: int) -> None:
    """Each tile makes exactly its groups: all full but the last, which alone bears its flags."""
    unit = GroupSource(small(codec, count_bits, lookups))
    inner = bench.add("groups", unit)
    stream_rules(bench, unit.tile, unit.group)
    tile, group = unit.tile.p, unit.group.p
    number, total = Signal(count_bits + 2), Mux(tile.run.single, 1, tile.run.groups_less_2 + 2)
    made, ends = Signal(), number + 1 == total
    # One is there whenever there is a tile: no cycle is lost.
    bench.m.d.comb += made.eq(unit.tile.valid & unit.group.ready)
    with bench.m.If(made):
        bench.m.d.sync += number.eq(Mux(ends, 0, number + 1))
    bench.claim(implies(unit.tile.valid, unit.tile.ready == (made & ends)))
    bench.claim(unit.group.valid == unit.tile.valid)
    expected = {
        "code_bits": tile.code_bits,
        "extra": Mux(ends, tile.run.extra, lookups - 1),
        "tile_end": ends,
        "strip_end": ends & tile.strip_end,
        "layer_end": ends & tile.layer_end,
        "bank": tile.bank,
    }
    for name, value in expected.items():
        bench.claim(implies(unit.group.valid, group[name] == value))
    help_count(bench, inner, number, total, unit.tile.valid, tile.run.single)
    bench.reach(made & ends & (total == 4))


def help_count(bench: Bench, inner: SimpleNamespace, number: Signal, total: Value, valid: Value, single: Value) -> None:
    """Invariant: the unit's counter is the reference's; with nothing there, it is at its start."""
    bench.helper(implies(~valid, number == 0))
    bench.helper(implies(valid, number < total))
    bench.helper(inner.index == number[: len(inner.index)])
    bench.helper(inner.last == ((number != 0) & (number + 1 == total)))
    bench.helper(implies(number != 0, valid & ~single))


def tiles(bench: Bench, codec: str, count_bits: int) -> None:
    """Each job makes exactly its tiles, or none if it is dropped; a layer begins once, when it may."""
    unit = TileSource(small(codec, count_bits))
    inner = bench.add("tiles", unit)
    stream_rules(bench, unit.job, unit.tile)
    bench.free(unit.codebook_loaded, unit.idle)
    job, tile = unit.job.p, unit.tile.p
    number, total = Signal(count_bits + 2), Mux(job.single, 1, job.tiles_less_2 + 2)
    made, ends, bank, may = Signal(), number + 1 == total, Signal(), Signal()
    begins = job.first & (number == 0)
    # Codebooks are counted two cycles after a layer has begun: until then, the next one is not let in.
    begun = bench.before(made & begins)
    lets = unit.job.valid & unit.codebook_loaded & (unit.idle | ~job.drop) & ~(made & begins) & ~begun
    bench.m.d.comb += [
        may.eq(bench.before(lets & begins)),
        made.eq(unit.job.valid & (~unit.tile.valid | unit.tile.ready) & (may | ~begins)),
    ]
    with bench.m.If(made):
        bench.m.d.sync += [number.eq(Mux(ends, 0, number + 1)), bank.eq(bank ^ (ends & job.last))]
    bench.claim(unit.job.ready == (made & ends))
    bench.claim(unit.layer_begun == begun)
    bench.claim(unit.layer_dropped == bench.before(made & ends & job.drop & job.last))
    shown = bench.before(made & ~job.drop)
    stays = bench.before(unit.tile.valid & ~unit.tile.ready)
    bench.claim(unit.tile.valid == (shown | stays))
    for name, value in {
        "code_bits": job.code_bits,
        "run": Mux(ends, job.last_run.as_value(), job.run.as_value()),
        "strip_end": ends,
        "layer_end": ends & job.last,
        "bank": bank,
    }.items():
        bench.claim(implies(shown, Value.cast(tile[name]) == bench.before(value)))
    help_count(bench, inner, number, total, unit.job.valid, job.single)
    bench.helper((inner.started == (number != 0)) & (inner.bank == bank))
    bench.helper(inner.granted == may)
    bench.reach(made & ends & (total == 4) & job.last & (tile.bank == 1))
    bench.reach(unit.layer_dropped & unit.tile.ready & bench.before(bench.before(unit.tile.valid)))


def placer(bench: Bench, codec: str, count_bits: int, lookups: int, input_bits: int = 64) -> None:
    """Groups come out as they went in, each once, in order, at its place, and only with credit for its results."""
    config = small(codec, count_bits, lookups, input_bits)
    unit = Placer(config)
    inner = bench.add("placer", unit)
    bench.free(unit.credit)
    stream_rules(bench, unit.group, unit.placed)
    put, got = unit.group.valid & unit.group.ready, unit.placed.valid & unit.placed.ready
    watch = watched(bench, 3, put, unit.group.p.as_value(), got)
    out = unit.placed.p.group.as_value()
    bench.claim(implies(unit.placed.valid, watch.inside != 0))
    bench.claim(watch.inside <= 3)
    # With credit and a way out all move on: what was put in is announced at the third move, and placed a cycle later.
    moves, first, second = unit.credit & (~unit.placed.valid | unit.placed.ready), Signal(), Signal()
    with bench.m.If(moves):
        bench.m.d.sync += [first.eq(unit.group.valid), second.eq(first)]
    bench.claim(unit.group.ready == moves)
    bench.claim(unit.start == (moves & second))
    bench.claim(unit.placed.valid == bench.before(unit.start | (unit.placed.valid & ~unit.placed.ready)))
    bench.claim(implies(watch.is_next() & unit.placed.valid, out == watch.data))
    width = assume_widths(bench, config, unit, inner, put, got)
    for number, name in enumerate(("code", "side") if config.side_bits else ("code",)):
        claim_place(bench, inner, unit, config, name, got, inner.every["step"][number], width)
    help_placer(bench, inner, unit, watch, first, second)
    bench.helper(implies(first, inner.key == step_key(config, inner.first)))
    bench.reach(got & watch.is_next() & (watch.inside == 3) & watch.data.any())
    if lookups > 1:  # one at a time, it takes too many groups
        bench.reach(unit.placed.valid & unit.placed.p.code.leave_both)
    bench.reach(unit.placed.valid & ~unit.credit & second)


def help_placer(
    bench: Bench, inner: SimpleNamespace, unit: Placer, watch: Watch, first: Signal, second: Signal
) -> None:
    """Invariants: the watched group is in the stage that its number says."""
    out = unit.placed.p.group.as_value()
    bench.helper((inner.waiting == first) & (inner.stepped == second))
    bench.helper(watch.inside == first + second + unit.placed.valid)
    bench.helper(implies(watch.watching, watch.ahead < watch.inside))
    for there, ahead, group in (
        (unit.placed.valid, 0, out),
        (second, unit.placed.valid, inner.group.as_value()),
        (first, second + unit.placed.valid, inner.first.as_value()),
    ):
        bench.helper(implies(there & watch.watching & (watch.ahead == ahead), group == watch.data))


@dataclass(frozen=True, slots=True)
class Width:
    """The width of codes in the strip at hand, if its last group has not come (``within``)."""

    within: Value
    bits: Value

    def passed(self, there: Value, group: data.View) -> Width:
        """After ``group``, if it is there."""
        return Width(Mux(there, ~group.strip_end, self.within), Mux(there, group.code_bits, self.bits))

    def fits(self, config: DecoderConfig, there: Value, group: data.View) -> Value:
        known = Cat(group.code_bits == bits for bits in config.formats).any()
        return implies(there, known & (~self.within | (group.code_bits == self.bits)))


def assume_widths(
    bench: Bench, config: DecoderConfig, unit: Placer, inner: SimpleNamespace, put: Value, got: Value
) -> Width:
    """A build's widths, one for a strip. Returns that of what left."""
    came, left = (Width(Signal(), Signal(config.code_width_bits)) for _ in range(2))
    for width, there, group in ((came, put, unit.group.p), (left, got, unit.placed.p.group)):
        after = width.passed(there, group)
        bench.m.d.sync += [width.within.eq(after.within), width.bits.eq(after.bits)]
    bench.assume(came.fits(config, unit.group.valid, unit.group.p))
    # Invariant: so it is in every stage.
    width = left
    for there, group in (
        (unit.placed.valid, unit.placed.p.group),
        (inner.stepped, inner.group),
        (inner.waiting, inner.first),
    ):
        bench.helper(width.fits(config, there, group))
        width = width.passed(there, group)
    bench.helper((width.within == came.within) & (width.bits == came.bits))
    return left


def claim_place(
    bench: Bench,
    inner: SimpleNamespace,
    unit: Placer,
    config: DecoderConfig,
    name: str,
    got: Value,
    step: data.View,
    width: Width,
) -> None:
    """Each group lies where the one before it ended, at the start of a word after the end of a strip."""
    placed, group, place = unit.placed.valid, unit.placed.p.group, unit.placed.p[name]
    at = Signal(range(config.input_bits), name=f"{name}_at")
    bits, length = fields(config, name, group)
    after = at + bits
    moved = Mux(group.strip_end, 0, Mux(after >= length, after - length, after))
    with bench.m.If(got):
        bench.m.d.sync += at.eq(moved)
    expected = {
        "shift": at,
        "straddle": after > length,
        "leave": (after >= length) | group.strip_end,
        "leave_both": (after > length) & group.strip_end,
        **({"upper": ((after - 1) & (config.input_bits // 2)) != 0} if config.halves else {}),
    }
    for part, value in expected.items():
        bench.claim(implies(placed, place[part] == value))
    # Invariants: the pointer is a group ahead of what is placed, the step one ahead of the pointer.
    pointer = opened(inner.m._named_submodules[f"{name}_pointer"][0]).position
    bench.helper(pointer == Mux(placed, moved, at))
    bench.helper(Mux(width.within, at < column(config, name, 1)[width.bits], at == 0))
    if not config.straddles(name):
        bench.helper(at % config.side_bits == 0)
    bits, length = fields(config, name, inner.group)
    right = (step.bits == bits) & (step.less_length == bits - length) & (step.less_length_1 == bits - length - 1)
    bench.helper(implies(inner.stepped, right))
    if config.halves:
        bench.helper(implies(inner.stepped, step.bits_less_1 == bits - 1))


def column(config: DecoderConfig, name: str, part: int) -> Array:
    """By code width: bits of a field (0), of a word (1)."""
    rows = config.formats
    sizes = [rows[bits].field(name, config.side_bits)[part] if bits in rows else 0 for bits in range(1 + max(rows))]
    return Array(Const(size, 8) for size in sizes)


def fields(config: DecoderConfig, name: str, group: data.View) -> tuple[Value, Value]:
    """The bits of a group and the length of its words."""
    each, length = (column(config, name, part)[group.code_bits] for part in range(2))
    return (group.extra + 1) * each, length
