"""Properties of the whole pipeline, for as many cycles as the solver gets through."""

from __future__ import annotations

from amaranth.hdl import Cat, Signal
from formal_flow import Bench, implies
from formal_splitter import small

from rtl.core import Core


def core(bench: Bench, codec: str, count_bits: int) -> None:
    """The output keeps to the stream rules, and no beat comes out that no job owes; flags are exact."""
    unit = Core(small(codec, count_bits))
    inner = bench.add("core", unit)
    output, job = unit.output, unit.job
    bench.free(job.valid, job.payload, unit.beat.valid, unit.beat.payload, output.ready)
    if hasattr(unit, "codeword"):
        bench.free(unit.codeword.valid, unit.codeword.payload)
    shown = output.p.as_value()
    bench.claim(implies(bench.before(output.valid & ~output.ready), output.valid & (shown == bench.before(shown))))
    taken, given = job.valid & job.ready, output.valid & output.ready
    # One tile of one or two groups a job is enough: longer ones are the sequencer's, proved for themselves.
    run = job.p.last_run
    bench.assume(implies(job.valid, job.p.single & (run.single | (run.groups_less_2 == 0))))
    owed, made = Signal(8), Signal(2)
    with bench.m.If(taken & ~job.p.drop):
        bench.m.d.comb += made.eq(2 - run.single)
    bench.m.d.sync += owed.eq(owed + made - given)
    bench.claim(implies(output.valid, owed != 0))
    placed, end = inner.placer.placed, inner.end
    bench.claim(unit.blocked == (output.valid & ~output.ready))
    bench.claim(
        unit.starved == (placed.valid & end.credit & ~Cat(there for _, _, there in inner.fields.values()).all())
    )
    bench.reach(given & output.p.last & (owed == 1))
    bench.reach(unit.starved)
    bench.reach(unit.blocked)
