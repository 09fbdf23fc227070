"""The decoder's pipeline in Amaranth's simulator, cycle by cycle: beats taken, groups issued, weights taken."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from amaranth.sim import Simulator
from formal_flow import opened

from rtl.configuration import DecoderConfig
from rtl.core import Core
from rtl.layer import LayerPlan, jobs, strip_plan

SETTLE = 32  # cycles in which jobs are there and beats are not
PATIENCE = 3000


@dataclass(frozen=True)
class Stalls:
    """``arrival[b]``: the cycle from which a beat is offered; ``ready``: whether the output is taken, over and over."""

    arrival: tuple[int, ...]
    ready: tuple[bool, ...]


@dataclass(frozen=True)
class CycleCase:
    """Layers for one build, and the patterns at both ends."""

    config: DecoderConfig
    plans: tuple[LayerPlan, ...]
    stalls: Stalls


@dataclass
class Observed:
    """Cycles of every beat taken, group issued and output handshake, and of tiles' last ones; counted flags."""

    taken: list[int] = field(default_factory=list)
    issued: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)
    tile_ends: list[int] = field(default_factory=list)
    starved: int = 0
    blocked: int = 0


def random_case(config: DecoderConfig, chance: random.Random) -> CycleCase:
    """One or two layers of up to three strips of up to four tiles; stalls from none to most of the time."""
    plans = tuple(_random_plan(config, chance) for _ in range(chance.choice((1, 1, 2))))
    beats = sum(strip.beats for plan in plans for strip in plan)
    return CycleCase(config, plans, Stalls(_random_arrival(beats, chance), _random_ready(chance)))


def _random_plan(config: DecoderConfig, chance: random.Random) -> LayerPlan:
    code_bits, tiles = chance.choice(list(config.formats)), chance.randint(1, 3)
    most = chance.choice((2, 6, 16, 40)) * chance.choice((1, config.lookups))
    sizes = [[chance.randint(1, most) for _ in range(2)] for _ in range(2)]
    full, edge = (strip_plan(config, code_bits, tiles, size[0] if tiles > 1 else size[1], size[1]) for size in sizes)
    strips = chance.randint(1, 3)
    return LayerPlan(code_bits, strips, full if strips > 1 else edge, edge)


def _random_arrival(beats: int, chance: random.Random) -> tuple[int, ...]:
    """Beats as likely as a rate, with pauses between runs."""
    rate, pause, cycle, cycles = chance.choice((1.0, 1.0, 0.7, 0.4)), chance.choice((0.0, 0.05)), 0, []
    for _ in range(beats):
        while cycles and chance.random() > rate:
            cycle += 1
        cycle += 25 * (chance.random() < pause)
        cycles.append(cycle)
        cycle += 1
    return tuple(cycle - cycles[0] for cycle in cycles)


def _random_ready(chance: random.Random) -> tuple[bool, ...]:
    """Taken always, often, seldom, or in long runs."""
    rate = chance.choice((1.0, 1.0, 0.8, 0.4))
    length = chance.choice((1, 1, 12, 40))
    pattern = [chance.random() <= rate for _ in range(15 if length < 40 else 3)]
    return tuple(value for value in [*pattern, True] for _ in range(length))


def observe(config: DecoderConfig, cases: Sequence[CycleCase]) -> list[Observed]:
    """Run ``cases``, all of one build, one after the other."""
    core, found = Core(config), []
    inner = opened(core)
    sim = Simulator(core)
    sim.add_clock(1e-6)

    async def bench(ctx: Any) -> None:
        for case in cases:
            driver = _Driver(ctx, core, inner.issue, case)
            await driver.prepare()
            found.append(await driver.run())

    sim.add_testbench(bench)
    sim.run()
    return found


class _Driver:
    """One case: all signals set before, and looked at in, each cycle."""

    def __init__(self, ctx: Any, core: Core, issue: Any, case: CycleCase) -> None:
        self.ctx, self.core, self.issue, self.case = ctx, core, issue, case
        self.jobs = [job for plan in case.plans for job in jobs(plan, case.config)]
        self.lasts = [n == strip.beats - 1 for plan in case.plans for strip in plan for n in range(strip.beats)]
        self.signals = {"valid": core.beat.valid, "last": core.beat.p.last, "ready": core.output.ready}
        self.values: dict[str, int] = {}

    def set(self, **values: int) -> None:
        """Only what changes: setting is what takes time."""
        for name, value in values.items():
            if self.values.get(name) != value:
                self.values[name] = value
                self.ctx.set(self.signals[name], value)

    async def prepare(self) -> None:
        """Load a codeword for each layer, then offer jobs for a while."""
        self.ctx.set(self.core.output.ready, 1)
        if self.case.config.has_codebook:
            port = self.core.codeword
            self.ctx.set(port.p.last, 1)
            self.ctx.set(port.valid, 1)
            for _ in self.case.plans:
                await self.ctx.tick().until(port.ready)
            self.ctx.set(port.valid, 0)
        self._offer_job()
        for _ in range(SETTLE):
            await self._tick()

    def _offer_job(self) -> None:
        self.ctx.set(self.core.job.valid, bool(self.jobs))
        if self.jobs:
            self.ctx.set(self.core.job.payload, self.jobs[0])

    async def _tick(self) -> None:
        moved = self.jobs and self.ctx.get(self.core.job.ready)
        await self.ctx.tick()
        if moved:
            self.jobs.pop(0)
            self._offer_job()

    async def run(self) -> Observed:
        seen, groups, cycle = Observed(), _groups(self.case), 0
        while len(seen.left) < groups or len(seen.taken) < len(self.lasts):
            self._drive(seen, cycle)
            self._look(seen, cycle)
            await self._tick()
            cycle += 1
            assert cycle < PATIENCE, f"{len(seen.left)} of {groups} groups"
        self.set(valid=0)
        await self.ctx.tick().repeat(8)
        return seen

    def _drive(self, seen: Observed, cycle: int) -> None:
        beat, stalls = len(seen.taken), self.case.stalls
        offered = beat < len(self.lasts) and stalls.arrival[beat] <= cycle
        self.set(valid=offered, ready=stalls.ready[cycle % len(stalls.ready)])
        if offered:
            self.set(last=self.lasts[beat])

    def _look(self, seen: Observed, cycle: int) -> None:
        get, core = self.ctx.get, self.core
        if get(core.beat.valid) and get(core.beat.ready):
            seen.taken.append(cycle)
        if get(self.issue):
            seen.issued.append(cycle)
        seen.starved += get(core.starved)
        seen.blocked += get(core.blocked)
        if get(core.output.valid) and get(core.output.ready):
            seen.left.append(cycle)
            if get(core.output.p.last):
                seen.tile_ends.append(cycle)


def _groups(case: CycleCase) -> int:
    counts = [
        -(-vectors // case.config.lookups)
        for plan in case.plans
        for strip in plan
        for vectors in (strip.vectors,) * (strip.tiles - 1) + (strip.last_vectors,)
    ]
    return sum(counts)
