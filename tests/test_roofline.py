"""DeiT-tiny end to end: traffic, work and cycles against a closed form (``accel/reference/pipeline.csv``)."""

from __future__ import annotations

import pytest
from strategies import Coding, pack_randomly

from accel.cli.pipeline_reference import compressed, matching_machine, measure
from accel.machine import Machine, load_machine
from accel.packed import Packed
from accel.run import Run
from compiler import compile_model
from compiler.frontend import load_model
from sim import check_weights, simulate

MACS = 1_253_683_200
MEGABYTES = {"int8": 5.943, "int4": 3.119, "vq:k=256,d=4": 1.759, "ssvq:k=256,d=8": 1.810, "ssvq:k=16,d=8": 1.361}
FORMATS, SMALLEST = tuple(MEGABYTES), "ssvq:k=16,d=8"


@pytest.fixture(scope="module")
def packed() -> dict[str, Packed]:
    """By codec; two get random codes, since k-means takes seconds there and neither cycles nor traffic depend on it."""
    model = load_model("deit_tiny")
    large = {codec: pack_randomly(model.graph, Coding(codec, "out", False)) for codec in FORMATS if "k=256" in codec}
    return {codec: large.get(codec) or compressed(codec) for codec in FORMATS}


@pytest.fixture(scope="module")
def ideal_runs(packed: dict[str, Packed]) -> dict[str, Run]:
    return {codec: run_on(model, load_machine("edge64-ideal")) for codec, model in packed.items()}


def run_on(model: Packed, machine: Machine) -> Run:
    program = compile_model(model, machine, verify=True)
    check_weights(program)
    return simulate(program)


def speedup(packed: dict[str, Packed], machine: Machine) -> float:
    """int8 cycles over those of the smallest format, both compiled for ``machine``."""
    int8, small = (simulate(compile_model(packed[codec], machine)).total_cycles for codec in ("int8", SMALLEST))
    return int8 / small


@pytest.mark.parametrize("codec", FORMATS)
def test_traffic_is_that_of_the_closed_form(ideal_runs: dict[str, Run], codec: str) -> None:
    run = ideal_runs[codec]
    assert run.dram_bytes_total - run.dram_bytes["instructions"] == pytest.approx(MEGABYTES[codec] * 1e6, rel=0.01)
    assert run.macs == MACS


def test_nothing_but_input_and_output_activations_move(ideal_runs: dict[str, Run]) -> None:
    image, classes = 3 * 224 * 224, 1000
    for run in ideal_runs.values():
        assert run.dram_bytes["activations_read"] == image
        assert run.dram_bytes["activations_written"] == -(-classes // 64) * 64


def test_instructions_are_below_one_percent(ideal_runs: dict[str, Run]) -> None:
    run = ideal_runs[SMALLEST]
    assert run.dram_bytes["instructions"] < 0.01 * run.dram_bytes_total


def test_cycles_lie_between_the_closed_forms(packed: dict[str, Packed]) -> None:
    points = list(measure(packed))
    assert len(points) == 50
    assert not [point for point in points if not point.is_within]


def test_three_times_faster_than_int8_where_claimed(packed: dict[str, Packed]) -> None:
    assert speedup(packed, matching_machine(64, 5.12)) >= 3.0


@pytest.mark.parametrize("settings", [(), ("vector.lanes=0",)], ids=["as it is", "free vector work"])
def test_no_gain_where_compute_bound(packed: dict[str, Packed], settings: tuple[str, ...]) -> None:
    assert 0.95 < speedup(packed, load_machine("u65-mid", settings)) < 1.1


def test_a_slow_decoder_eats_the_gain(packed: dict[str, Packed]) -> None:
    def gain(bandwidth: float, lookups: int) -> float:
        return speedup(packed, matching_machine(64, bandwidth, f"decoder.lookups_per_cycle={lookups}"))

    assert gain(4, 1) == pytest.approx(1.81, rel=0.05)
    assert gain(8, 1) < 1
    assert gain(4, 1) < gain(4, 2) < gain(4, 8)
