"""Properties of layers: where tiles are made and codebooks kept, each layer gives its own codebook back, in order."""

from __future__ import annotations

from types import SimpleNamespace

from amaranth.hdl import Mux, Signal, Value
from formal_flow import Bench, implies
from formal_splitter import small

from rtl.codebook import BANKS, Codebooks
from rtl.sequencer import TileSource


def layers(bench: Bench, codec: str, count_bits: int) -> None:
    """A layer begins with a codebook of its own; one to drop ends when no other is in the pipeline."""
    config = small(codec, count_bits)
    tiles, books = TileSource(config), Codebooks(config)
    inner, kept = bench.add("tiles", tiles), bench.add("books", books)
    job, tile, last = tiles.job, tiles.tile, bench.any(1, "last")
    bench.free(job.valid, job.payload, tile.ready, books.load.valid, books.load.payload)
    bench.m.d.comb += [
        tiles.codebook_loaded.eq(books.loaded),
        tiles.idle.eq(books.idle),
        books.begin.eq(tiles.layer_begun),
        books.release.eq(last | tiles.layer_dropped),
    ]
    bench.assume_stays(job)
    taken, left = job.valid & job.ready, tile.valid & tile.ready & tile.p.layer_end
    # Jobs of a layer follow one another, all to be dropped or none.
    within, drops, using, leaving = Signal(), Signal(), Signal(4), Signal(4)
    bench.assume(implies(job.valid, (job.p.first == ~within) & (job.p.first | (job.p.drop == drops))))
    with bench.m.If(taken):
        bench.m.d.sync += [within.eq(~job.p.last), drops.eq(job.p.drop)]
    # A layer made gives its codebook back some time after its last tile was taken.
    bench.assume(implies(last, leaving != 0))
    bench.m.d.sync += [
        leaving.eq(leaving + left - last),
        using.eq(using + tiles.layer_begun - last - tiles.layer_dropped),
    ]
    bench.claim(implies(tiles.layer_begun, books.loaded))
    bench.claim(implies(tiles.layer_dropped, (using + tiles.layer_begun == 1) & ~last))
    bench.claim(using <= BANKS)
    help_layers(bench, inner, kept, using, leaving, Mux(within, drops, job.p.drop), within)
    made = Signal()
    bench.m.d.sync += made.eq(made | last)
    bench.reach(tiles.layer_dropped & made)
    bench.reach(using == BANKS)


def help_layers(
    bench: Bench,
    tiles: SimpleNamespace,
    books: SimpleNamespace,
    using: Signal,
    leaving: Signal,
    drops: Value,
    within: Signal,
) -> None:
    """Invariants: layers that have begun are at the source, in its output, or beyond; one to drop is the only one."""
    unit, at_source = tiles.self, Signal()
    tile, job = unit.tile, unit.job
    beyond = (leaving != 0) | tile.valid
    bench.m.d.comb += at_source.eq(tiles.started | within)
    begun = leaving + (tile.valid & tile.p.layer_end) + at_source + unit.layer_dropped
    bench.helper(using + unit.layer_begun == begun)
    bench.helper(implies(tile.valid & ~tile.p.layer_end, at_source))
    bench.helper(implies(at_source & drops, ~beyond & ~unit.layer_dropped))
    bench.helper(implies(unit.layer_dropped, ~beyond & ~at_source))
    bench.helper(implies(tiles.started, job.valid))
    lets = unit.codebook_loaded & ~unit.layer_begun & ((using == 0) | ~job.p.drop)
    bench.helper(implies(tiles.granted, job.valid & job.p.first & ~tiles.started & lets))
    bench.helper(books.free + books.unused + using == BANKS)
    bench.helper(implies(books.done, books.free != 0))
    bench.helper(books.self.loaded == (books.unused != 0))
    bench.helper(implies(books.self.idle, using == 0))
