"""The simulator's decoder (``sim.front_end``) is the hardware's, cycle for cycle, with one table of figures."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from cycle_bench import CycleCase, Observed, observe, random_case

from accel.codecs import parse_codec
from accel.codecs.records import RecordLayout
from accel.decoder_timing import TIMING, DecoderTiming
from rtl import core, credit_queue, words
from rtl.configuration import DecoderConfig
from sim.front_end import Times, decode
from sim.words import INSIDE, Flow, Strip, flow_of, front_of

pytestmark = pytest.mark.rtl

BUILDS = [
    ("ssvq:k=256,d=8", 1, 64),
    ("ssvq:k=256,d=8", 4, 64),
    ("ssvq:k=16,d=8", 8, 64),
    ("vq:k=256,d=4", 2, 64),
    ("vq:k=4096,d=4", 4, 64),
    ("ssvq:k=64,d=9", 2, 64),
    ("ssvq:k=16,d=16", 1, 64),
    ("mvq:k=64,d=8,nm=2:4", 4, 64),
    ("lr2vq:k=64,m=18,r=4", 2, 64),
    ("int8", 8, 64),
    ("int4", 8, 64),
    ("ssvq:k=256,d=8", 8, 128),
    ("vq:k=64,d=8", 4, 128),
    ("ssvq:k=16,d=8", 8, 128),
    ("ssvq:k=64,d=9", 4, 128),
    ("mvq:k=64,d=8,nm=2:4", 8, 128),
]
CASES = 16  # of each build


def layout_of(config: DecoderConfig, code_bits: int) -> RecordLayout:
    return RecordLayout(code_bits, config.vector_length, config.side_bits)


def flow_of_case(case: CycleCase) -> Flow:
    strips = [
        Strip(
            front_of(layout_of(case.config, plan.code_bits), case.config.input_bits, case.config.lookups),
            [strip.vectors] * (strip.tiles - 1) + [strip.last_vectors],
            ends_layer=number == plan.strips - 1,
        )
        for plan in case.plans
        for number, strip in enumerate(plan)
    ]
    ready = np.array(case.stalls.ready)
    return flow_of(strips, arrival=np.array(case.stalls.arrival), ready=ready)


def simulated(case: CycleCase, timing: DecoderTiming = TIMING) -> Observed:
    flow = flow_of_case(case)
    times: Times = decode(flow, case.config.barrel_stages, timing)
    left = times.left.tolist()
    ends = times.left[flow.end != INSIDE].tolist()
    return Observed(times.taken.tolist(), times.issued.tolist(), left, ends, times.starved, times.blocked)


def cases_of(spelling: str, lookups: int, input_bits: int) -> list[CycleCase]:
    config = DecoderConfig(parse_codec(spelling), lookups, input_bits)
    chance = random.Random(f"{spelling} {lookups} {input_bits}")
    return [random_case(config, chance) for _ in range(CASES)]


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: f"{build[0]}-{build[1]}-{build[2]}")
def test_simulator_and_hardware_take_the_same_cycles(build: tuple[str, int, int]) -> None:
    """Beats, issues and handshakes in the same cycles, tiles end in the same cycles, as many starved and blocked."""
    cases = cases_of(*build)
    for case, found in zip(cases, observe(cases[0].config, cases), strict=True):
        assert found == simulated(case), (case.plans, case.stalls)


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: f"{build[0]}-{build[1]}-{build[2]}")
def test_barrels_have_the_stages_of_the_table(build: tuple[str, int, int]) -> None:
    config = DecoderConfig(parse_codec(build[0]), *build[1:])
    names = ("code", "side") if config.side_bits else ("code",)
    assert max(len(core.barrel_shape(config, name).stages) for name in names) == config.barrel_stages


CHANGES = [
    *({name: getattr(TIMING, name) + 1} for name in DecoderTiming._fields if name != "stage_shift_bits"),
    *({name: getattr(TIMING, name) - 1} for name in ("word_queue", "output_queue", "late_writes", "late_credits")),
]


@pytest.mark.parametrize("change", CHANGES, ids=str)
def test_cases_tell_every_constant_from_another(change: dict[str, int]) -> None:
    """What ``test_simulator_and_hardware_take_the_same_cycles`` would see if one side changed."""
    cases = [case for build in BUILDS for case in cases_of(*build)]
    assert any(simulated(case) != simulated(case, TIMING._replace(**change)) for case in cases)


def _shallow_output(shape: Any, depth: int, style: str) -> Any:
    return credit_queue.CreditQueue(shape, depth // 2, style)


HARDWARE_CHANGES = [
    (words, "LATE_WRITES", 4, {"late_writes": 4}),
    (words, "DEPTH", 32, {"word_queue": 32}),
    (core, "READ_CYCLES", 3, {"read": 3}),
    (core, "CreditQueue", _shallow_output, {"output_queue": 8}),
]


@pytest.mark.parametrize(
    ("module", "name", "value", "change"), HARDWARE_CHANGES, ids=["late_writes", "word_queue", "read", "output_queue"]
)
def test_other_hardware_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, module: Any, name: str, value: Any, change: dict[str, int]
) -> None:
    """It also takes the cycles of a table changed in the same way: constants mean the same on both sides."""
    timing = TIMING._replace(**change)
    drawn = [case for build in BUILDS for case in cases_of(*build)]
    case = next(case for case in drawn if simulated(case) != simulated(case, timing))
    monkeypatch.setattr(module, name, value)
    assert observe(case.config, [case]) == [simulated(case, timing)] != [simulated(case)]
