"""Properties of layers: where tiles are made and codebooks kept, each layer gives its own codebook back, in order."""

from __future__ import annotations

from amaranth.hdl import Signal
from formal_flow import Bench, implies
from formal_splitter import small

from rtl.codebook import BANKS, Codebooks
from rtl.sequencer import TileSource


def layers(bench: Bench, codec: str, count_bits: int) -> None:
    """A layer begins with a codebook of its own; one to drop ends when no other is in the pipeline."""
    config = small(codec, count_bits)
    tiles, books = TileSource(config), Codebooks(config)
    inner, _ = bench.add("tiles", tiles), bench.add("books", books)
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
    # Invariants: layers that have begun are at the source, in its output, or beyond it.
    at_source = Signal()
    bench.m.d.comb += at_source.eq(inner.started | within)
    bench.helper(
        using + tiles.layer_begun
        == leaving + (tile.valid & tile.p.layer_end) + at_source + tiles.layer_dropped
    )
    bench.reach(tiles.layer_dropped & bench.before(bench.before(tiles.layer_dropped)))
    bench.reach((using == BANKS) & tiles.layer_begun)
