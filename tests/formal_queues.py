"""Properties of what holds entries: queue, skid buffer, the queue at the pipeline's end.

Data never decide anything in these units, so one entry is watched, and it may be any: what holds for it holds for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

from amaranth.hdl import Signal, Value
from formal_flow import Bench, implies, opened

from rtl.credit_queue import CreditQueue
from rtl.queue import Queue
from rtl.skid import SkidBuffer


@dataclass(frozen=True, slots=True)
class Watch:
    """One entry on its way through a unit.

    ``inside``: entries in the unit. ``ahead``: those that come out before the watched one, which is in the unit if
    ``watching``.
    """

    inside: Value
    ahead: Value
    watching: Value
    data: Value

    def is_next(self) -> Value:
        return self.watching & (self.ahead == 0)


def watched(bench: Bench, most: int, put: Value, data: Value, got: Value) -> Watch:
    """Follows any entry but those that pass in no time: ``put`` and ``got`` say what goes in and out this cycle."""
    m, watch = bench.m, Watch(Signal(range(most + 2)), Signal(range(most + 2)), Signal(), Signal(len(data)))
    stays = put & ~(got & (watch.inside == 0))
    m.d.sync += watch.inside.eq(watch.inside + put - got)
    with m.If(bench.any(1, "watch") & stays & ~watch.watching):
        m.d.sync += [watch.watching.eq(1), watch.data.eq(data), watch.ahead.eq(watch.inside - got)]
    with m.Elif(watch.watching & got):
        m.d.sync += [watch.watching.eq(watch.ahead != 0), watch.ahead.eq(watch.ahead - 1)]
    return watch


def claim_queue(bench: Bench, unit: Queue, watch: Watch) -> None:
    """First in, first out, nothing lost or invented; the output stays until it is taken."""
    valid, data = unit.valid, Value.cast(unit.data)
    bench.claim(implies(valid, watch.inside != 0))
    bench.claim(implies(watch.is_next() & valid, data == watch.data))
    # Neither lost nor late: what was there two cycles ago and has not been taken since is at the output.
    waited = bench.before(watch.inside != 0) & ~bench.before(valid & unit.take)
    bench.claim(implies(bench.before(waited) & waited & (watch.inside != 0), valid))
    bench.claim(implies(bench.before(valid & ~unit.take), valid & (data == bench.before(data))))


def assume_room(bench: Bench, write: Value, room: Value) -> Value:
    """Written only while there is room, or was a cycle ago. Returns whether there was."""
    before = bench.before(room)
    bench.assume(implies(write, room | before))
    return before


def help_room(bench: Bench, stored: Value, room: Value, before: Value, depth: int) -> None:
    """Invariant: ``room`` leaves places for what is written late."""
    bench.helper(implies(room, stored <= depth - 3))
    bench.helper(implies(before, stored <= depth - 2))


def count(bench: Bench, inner: SimpleNamespace, depth: int) -> Value:
    """How many entries a queue has in memory."""
    stored = Signal(range(depth))
    bench.m.d.comb += stored.eq(inner.tail - inner.head)
    return stored


def help_queue(bench: Bench, inner: SimpleNamespace, depth: int, watch: Watch) -> Value:
    """Invariants: counts agree, and the watched entry is where its number says. Returns entries in memory."""
    stored, valid = count(bench, inner, depth), inner.self.valid
    place, entry = Signal(range(depth)), inner.ram.read_port(domain="comb")
    bench.m.d.comb += [
        place.eq(inner.head + watch.ahead - valid),
        entry.addr.eq(place),
    ]
    bench.helper(watch.inside == stored + valid)
    bench.helper(implies(watch.watching, watch.ahead < watch.inside))
    bench.helper(implies(watch.is_next() & valid, inner.read.data == watch.data))
    bench.helper(implies(watch.watching & ~(valid & (watch.ahead == 0)), entry.data == watch.data))
    return stored


def queue(bench: Bench, depth: int, width: int = 2) -> None:
    """Written while there is room and once after, it keeps all and gives it back in order."""
    unit = Queue(width, depth)
    inner = bench.add("queue", unit)
    bench.free(unit.write, unit.write_data, unit.take)
    before = assume_room(bench, unit.write, unit.room)
    watch = watched(bench, depth, unit.write, unit.write_data, unit.valid & unit.take)
    claim_queue(bench, unit, watch)
    bench.claim(watch.inside <= depth)
    help_room(bench, help_queue(bench, inner, depth, watch), unit.room, before, depth)
    filled = Signal()
    with bench.m.If(~unit.room):
        bench.m.d.sync += filled.eq(1)
    bench.reach(filled & unit.room & unit.valid & watch.is_next() & watch.data.all())
    bench.reach(watch.inside == depth)  # no place is wasted


def skid(bench: Bench, width: int = 2) -> None:
    """At most one entry stays inside; the output is stable if the input is."""
    unit = SkidBuffer(width)
    inner = bench.add("skid", unit)
    source, output = unit.input, unit.output
    bench.free(source.valid, source.payload, output.ready)
    payload = Value.cast(source.payload)
    bench.assume_stays(source)
    put, got = source.valid & source.ready, output.valid & output.ready
    watch = watched(bench, 1, put, payload, got)
    shown = Value.cast(output.payload)
    bench.claim(watch.inside <= 1)
    bench.claim(implies(got, put | (watch.inside != 0)))
    bench.claim(implies(watch.inside != 0, output.valid))
    bench.claim(implies(source.valid, output.valid))  # no cycle is lost
    bench.claim(source.ready == (watch.inside == 0))
    bench.claim(implies(watch.is_next(), shown == watch.data))
    bench.claim(implies(got & put & (watch.inside == 0), shown == payload))
    bench.claim_stays(output)
    bench.helper(watch.inside == inner.full)
    bench.helper(implies(watch.watching, (watch.ahead == 0) & inner.full & (inner.kept == watch.data)))
    bench.reach(watch.watching & got & (watch.data != bench.before(payload)))


def credit_queue(bench: Bench, depth: int, width: int = 2) -> None:
    """Whatever time an entry needs from its announcement to its arrival, there is a place for it."""
    unit = CreditQueue(width, depth, "distributed")
    inner = bench.add("end", unit)
    output, on_its_way = unit.output, Signal(range(depth + 2))
    bench.free(unit.start, unit.write, unit.write_data, output.ready)
    bench.assume(implies(unit.start, unit.credit))
    bench.assume(implies(unit.write, on_its_way != 0))
    bench.m.d.sync += on_its_way.eq(on_its_way + unit.start - unit.write)
    watch = watched(bench, depth, unit.write, unit.write_data, output.valid & output.ready)
    claim_queue(bench, inner.queue, watch)
    bench.claim(on_its_way + watch.inside <= depth)
    help_queue(bench, opened(inner.queue), depth, watch)
    bench.helper(inner.promised + inner.started - inner.taken == on_its_way + watch.inside)
    bench.reach(watch.inside == depth)  # no place is wasted


def full_speed(bench: Bench, depth: int, latency: int) -> None:
    """While what comes out is taken, credit never ends."""
    unit = CreditQueue(1, depth, "distributed")
    inner = bench.add("end", unit)
    bench.free(unit.start)
    pipeline = Signal(latency)
    bench.m.d.sync += pipeline.eq(pipeline << 1 | unit.start)
    bench.m.d.comb += [unit.write.eq(pipeline[-1]), unit.output.ready.eq(1)]
    bench.assume(implies(unit.start, unit.credit))
    bench.claim(implies(bench.begun, unit.credit))
    stored = count(bench, opened(inner.queue), depth)
    in_flight = sum(pipeline) + stored + unit.output.valid
    bench.helper(stored <= 1)
    bench.helper(inner.promised + inner.started - inner.taken == in_flight)
    bench.reach(pipeline.all() & unit.output.valid)
