"""The planner against its software twin: jobs of random layers, field by field; and which layers count as done."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import data
from amaranth.sim import Simulator
from decoder_bench import random_plan

from accel.codecs import parse_codec
from rtl.axi_lite import SETTLE_CYCLES
from rtl.configuration import DecoderConfig
from rtl.jobs import job_layout
from rtl.layer import LayerPlan, StripPlan, jobs, limits
from rtl.planner import JobSource, LayerRegisters, LayerTracker
from rtl.registers import layer_values, register_map

pytestmark = pytest.mark.rtl


def plain(value: Any) -> Any:
    """A structure of constants as a dictionary."""
    if not isinstance(value, data.Const):
        return int(value)
    return {name: plain(value[name]) for name in value.shape().members}


def planned(config: DecoderConfig, plans: list[LayerPlan]) -> tuple[list[Any], list[int]]:
    """The jobs the hardware makes of ``plans``, all queued before the first is taken, and the cycles they come in."""
    registers = register_map(config)
    m = Module()
    m.submodules.layer = layer = LayerRegisters(config, registers)
    m.submodules.source = source = JobSource(config)
    m.d.comb += source.layer.eq(layer.layer)
    sim, taken, cycles = Simulator(m), [], []
    sim.add_clock(1e-6)

    async def bench(ctx: Any) -> None:
        for plan in plans:
            for name, value in layer_values(plan).items():
                ctx.set(layer.write_address, registers[name].offset // 4)
                ctx.set(layer.write_data, value)
                await ctx.tick().repeat(SETTLE_CYCLES)
                ctx.set(layer.write, 1)
                await ctx.tick()
                ctx.set(layer.write, 0)
            assert ctx.get(source.room)
            ctx.set(source.start, 1)
            await ctx.tick()
            ctx.set(source.start, 0)
        ctx.set(source.job.ready, 1)
        for cycle in range(sum(plan.strips + 4 for plan in plans)):
            _, _, valid, payload = await ctx.tick().sample(source.job.valid, source.job.payload)
            if valid:
                taken.append(plain(data.Const(job_layout(config), payload.as_bits())))
                cycles.append(cycle)

    sim.add_testbench(bench)
    sim.run()
    return taken, cycles


def extreme_plan(config: DecoderConfig, edge: bool) -> LayerPlan:
    """Every count at its most, or at its least."""
    most = limits(config)
    names = ("tiles", "vectors", "last_vectors", "beats", "code_words", "side_words")
    low = StripPlan(1, 1, 1, 4, 1, 0)
    high = StripPlan(*(most[name] for name in names))
    return LayerPlan(next(iter(config.formats)), 3, *((low, low) if edge else (high, high)))


@pytest.mark.parametrize(
    ("spelling", "lookups", "input_bits"),
    [
        ("ssvq:k=256,d=8", 4, 64),
        ("ssvq:k=16,d=8", 1, 64),
        ("vq:k=64,d=9", 2, 64),
        ("ssvq:k=256,d=8", 4, 128),
        ("vq:k=64,d=9", 2, 128),
    ],
)
def test_jobs_are_those_of_the_twin(spelling: str, lookups: int, input_bits: int) -> None:
    config = DecoderConfig(parse_codec(spelling), lookups, input_bits)
    rng = np.random.default_rng(3)
    plans = [random_plan(config, rng, int(rng.choice(list(config.formats))), 4000) for _ in range(8)]
    plans += [extreme_plan(config, edge) for edge in (False, True)]
    taken, cycles = planned(config, plans)
    assert taken == [job for plan in plans for job in jobs(plan, config)]
    ends = np.cumsum([plan.strips for plan in plans])
    gaps = np.diff(cycles)
    assert set(np.delete(gaps, ends[:-1] - 1)) <= {1}, "a job a cycle"
    assert max(gaps) <= 4, "the next layer follows: a strip takes at least four beats"


def test_unknown_width_is_dropped() -> None:
    config = DecoderConfig(parse_codec("ssvq:k=16,d=8"))
    known = random_plan(config, np.random.default_rng(1), 4)
    for width in (0, 5, 20, 255):
        plan = LayerPlan(width, known.strips, known.full, known.edge)
        taken, _ = planned(config, [plan, known])
        assert [job["drop"] for job in taken] == [1] * plan.strips + [0] * plan.strips
        assert [job["strip"]["beats_less_2"] + 2 for job in taken[: plan.strips]] == [strip.beats for strip in plan]


def test_layers_are_done_when_their_last_tile_has_left() -> None:
    """Jobs (tiles, last, drop) and cycles in which tiles leave, after which so many layers are done."""
    config = DecoderConfig(parse_codec("ssvq:k=16,d=8"))
    rows = [(3, 0, 0), (1, 1, 0), (2, 1, 1), (1, 1, 0), (2, 1, 0)]
    m = Module()
    m.submodules.tracker = tracker = LayerTracker(config)
    sim, done = Simulator(m), [0]
    sim.add_clock(1e-6)

    async def count(ctx: Any) -> None:
        async for _, _, pulse in ctx.tick().sample(tracker.layer_done):
            done[0] += pulse

    async def bench(ctx: Any) -> None:
        for tiles, last, drop in rows:
            ctx.set(tracker.tiles_less_2, max(0, tiles - 2))
            for name, value in (("single", tiles == 1), ("last", last), ("drop", drop), ("job", 1)):
                ctx.set(getattr(tracker, name), value)
            await ctx.tick()
        ctx.set(tracker.job, 0)
        seen = []
        for pause in (9, 0, 9, 9, 0, 0, 9):
            ctx.set(tracker.tile_left, 1)
            await ctx.tick()
            ctx.set(tracker.tile_left, 0)
            if pause:
                await ctx.tick().repeat(pause)
            seen.append(done[0])
        assert seen[3:4] == [2] and seen[-1] == 4, seen
        assert seen[2] == 0

    sim.add_testbench(count, background=True)
    sim.add_testbench(bench)
    sim.run()
