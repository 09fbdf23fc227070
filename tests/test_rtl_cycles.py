"""The simulator's decoder (``sim.front_end``) is the hardware's, cycle for cycle; the figures of both are one table's."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest
from cycle_bench import CycleCase, Observed, observe, random_case

from accel.codecs import parse_codec
from accel.codecs.records import RecordLayout
from accel.decoder_timing import TIMING, DecoderTiming
from rtl import codebook, core, extractor, queue, words
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
]
CASES = 16  # of each build


def layout_of(config: DecoderConfig, code_bits: int) -> RecordLayout:
    return RecordLayout(code_bits, config.vector_length, config.side_bits)


def window_of(config: DecoderConfig) -> int:
    """Stages of the slower barrel, from what a build can be told."""
    rows = config.formats.values()
    code = TIMING.window([row.code_length for row in rows], [row.code_bits for row in rows])
    side = TIMING.window([row.side_length for row in rows], [config.side_bits]) if config.side_bits else 0
    return max(code, side)


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
    times: Times = decode(flow, window_of(case.config), timing)
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
