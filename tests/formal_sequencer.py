"""Properties of what runs ahead of the data: jobs become tiles, tiles groups, none lost and each with its flags."""

from __future__ import annotations

from types import SimpleNamespace

from amaranth.hdl import Mux, Signal, Value
from amaranth.lib.wiring import Component
from formal_flow import Bench, implies
from formal_queues import watched
from formal_splitter import small

from rtl.placer import Placer
from rtl.sequencer import GroupSource, TileSource


def stream_rules(bench: Bench, source: Component, output: Component) -> None:
    """The input keeps them; the output has to: what is offered stays until it is taken."""
    offered, shown = source.p.as_value(), output.p.as_value()
    bench.free(source.valid, source.payload, output.ready)
    bench.assume(implies(bench.before(source.valid & ~source.ready), source.valid & (offered == bench.before(offered))))
    bench.claim(implies(bench.before(output.valid & ~output.ready), output.valid & (shown == bench.before(shown))))


def groups(bench: Bench, codec: str, lookups: int, count_bits: int) -> None:
    """Each tile makes exactly its groups: all full but the last, which alone bears its flags."""
    unit = GroupSource(small(codec, count_bits, lookups))
    inner = bench.add("groups", unit)
    stream_rules(bench, unit.tile, unit.group)
    tile, group = unit.tile.p, unit.group.p
    number, total = Signal(count_bits + 2), Mux(tile.run.single, 1, tile.run.groups_less_2 + 2)
    made, ends = Signal(), number + 1 == total
    # One is made whenever there is a tile and the last group is gone: no cycle is lost.
    bench.m.d.comb += made.eq(unit.tile.valid & (~unit.group.valid | unit.group.ready))
    with bench.m.If(made):
        bench.m.d.sync += number.eq(Mux(ends, 0, number + 1))
    bench.claim(unit.tile.ready == (made & ends))
    bench.claim(implies(bench.begun, unit.group.valid == (bench.before(made | (unit.group.valid & ~unit.group.ready)))))
    expected = {
        "code_bits": tile.code_bits,
        "extra": Mux(ends, tile.run.extra, lookups - 1),
        "tile_end": ends,
        "strip_end": ends & tile.strip_end,
        "layer_end": ends & tile.layer_end,
        "bank": tile.bank,
    }
    for name, value in expected.items():
        bench.claim(implies(bench.before(made), group[name] == bench.before(value)))
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
    bench.m.d.comb += [
        may.eq(unit.codebook_loaded & (unit.idle | ~job.drop)),
        made.eq(unit.job.valid & (~unit.tile.valid | unit.tile.ready) & (may | ~begins)),
    ]
    with bench.m.If(made):
        bench.m.d.sync += [number.eq(Mux(ends, 0, number + 1)), bank.eq(bank ^ (ends & job.last))]
    bench.claim(unit.job.ready == (made & ends))
    bench.claim(unit.layer_begins == (made & begins))
    bench.claim(unit.layer_dropped == (made & ends & job.drop & job.last))
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
    bench.reach(made & ends & (total == 4) & job.last & (tile.bank == 1))
    bench.reach(unit.layer_dropped & unit.tile.valid)


def placer(bench: Bench, codec: str, count_bits: int) -> None:
    """Groups come out as they went in, each once and in order."""
    unit = Placer(small(codec, count_bits))
    inner = bench.add("placer", unit)
    stream_rules(bench, unit.group, unit.placed)
    put, got = unit.group.valid & unit.group.ready, unit.placed.valid & unit.placed.ready
    watch = watched(bench, 2, put, unit.group.p.as_value(), got)
    out = unit.placed.p.group.as_value()
    bench.claim(implies(unit.placed.valid, watch.inside != 0))
    bench.claim(watch.inside <= 2)
    bench.claim(implies((watch.inside != 0) & ~bench.before(put), unit.placed.valid))
    bench.claim(implies(watch.is_next() & unit.placed.valid, out == watch.data))
    bench.helper(watch.inside == inner.stepped + unit.placed.valid)
    bench.helper(implies(watch.watching, watch.ahead < watch.inside))
    last = watch.watching & inner.stepped & (watch.ahead == unit.placed.valid)
    bench.helper(implies(last, inner.group.as_value() == watch.data))
    bench.helper(implies(watch.is_next() & unit.placed.valid, out == watch.data))
    bench.reach(got & watch.is_next() & (watch.inside == 2) & watch.data.any())
