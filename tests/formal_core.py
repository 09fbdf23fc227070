"""Properties of the whole pipeline, for as many cycles as the solver gets through."""

from __future__ import annotations

from amaranth.hdl import Cat, Signal
from formal_flow import Bench, implies, opened
from formal_splitter import assume_job, small

from rtl.core import Core

PLACES = 16  # of the queue at the end


def core(bench: Bench, codec: str, count_bits: int) -> None:
    """The output keeps to the stream rules, and no beat comes out that no job owes; flags are exact."""
    config = small(codec, count_bits)
    unit = Core(config)
    inner = bench.add("core", unit)
    output, job = unit.output, unit.job
    bench.free(job.valid, job.payload, unit.beat.valid, unit.beat.payload, output.ready)
    if hasattr(unit, "codeword"):
        bench.free(unit.codeword.valid, unit.codeword.payload)
    bench.assume_stays(job)
    assume_job(bench, config, job.p, job.valid)
    bench.claim_stays(output)
    taken, given = job.valid & job.ready, output.valid & output.ready
    # One tile of one or two groups a job is enough: longer ones are the sequencer's, proved for themselves.
    run = job.p.last_run
    bench.assume(implies(job.valid, job.p.single & (run.single | (run.groups_less_2 == 0))))
    within, drops = Signal(), Signal()
    bench.assume(implies(job.valid, (job.p.first == ~within) & (job.p.first | (job.p.drop == drops))))
    with bench.m.If(taken):
        bench.m.d.sync += [within.eq(~job.p.last), drops.eq(job.p.drop)]
    owed, made = Signal(8), Signal(2)
    with bench.m.If(taken & ~job.p.drop):
        bench.m.d.comb += made.eq(2 - run.single)
    bench.m.d.sync += owed.eq(owed + made - given)
    bench.claim(implies(output.valid, owed != 0))
    placed, end = inner.placer.placed, inner.end
    bench.claim(unit.blocked == (output.valid & ~output.ready))
    there = Cat(there for _, _, there in inner.fields.values()).all()
    bench.claim(unit.starved == (placed.valid & ~there))
    bench.claim(placed.ready == (placed.valid & there))
    # Credit is taken when a group is placed: results not taken never exceed the places at the end.
    on_its_way = Signal(8)
    bench.m.d.sync += on_its_way.eq(on_its_way + inner.placer.start - given)
    bench.claim(on_its_way <= PLACES)
    bench.claim((inner.placer.credit == end.credit) & (end.start == inner.placer.start))
    if hasattr(unit, "codeword"):
        # No bank is written while groups look up in it.
        copy, looks = opened(inner.books).copy, inner.at_codes
        bench.claim(implies(looks.valid, ~(copy.write & (copy.write_address[-1] == looks.group.bank))))
    bench.reach(given & output.p.last & (owed == 1))
    bench.reach(unit.starved)
    bench.reach(unit.blocked)
