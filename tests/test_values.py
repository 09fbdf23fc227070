"""Compiled programs compute what their graphs say, bit for bit: random networks, machines, codecs and scales.

``ACCEL_EXAMPLES`` sets the number of examples of each property (CONTRIBUTING.md).
"""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
from differential import check_values, random_inputs
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from networks import graphs
from strategies import Coding, codings, machines
from value_events import events_of
from value_models import Numbers, models, numbers, packed_model, quantisation

from accel.check import check_compiled
from accel.errors import CompileError
from accel.graph import Graph, GraphBuilder
from accel.isa import decode_program
from accel.machine import Machine, Sram, load_machine
from accel.packed import Packed
from accel.program import Program
from compiler import compile_model
from sim import check_weights, simulate

PLAIN = ("calibrated", "random")


def examples(usual: int) -> settings:
    """Of so many random models, or of as many as the environment says."""
    count = int(os.environ.get("ACCEL_EXAMPLES", usual))
    return settings(max_examples=count, deadline=None, suppress_health_check=list(HealthCheck))


def check_program(packed: Packed, machine: Machine, batch: int = 1, seed: int = 0) -> Program:
    """Compile, verify, execute and compare; returns the program."""
    program = compile_model(packed, machine, batch=batch, verify=True)
    check_values(program, packed, random_inputs(packed, np.random.default_rng(seed), batch))
    return program


@examples(600)
@given(models(), machines(), st.sampled_from((1, 1, 1, 2, 3)), st.integers(0, 9))
def test_programs_compute_their_graphs(packed, machine, batch, seed) -> None:
    try:
        program = check_program(packed, machine, batch, seed)
    except CompileError:
        event("refused")
    else:
        for each in events_of(packed, program):
            event(each)


AMPLE = load_machine("edge64-ideal", ["sram.activation_bytes=262144", "sram.weight_bytes=1048576"])


@examples(150)
@given(graphs(), codings(), numbers())
def test_no_legal_scales_make_a_model_impossible_to_compile(graph, coding, chosen) -> None:
    packed = packed_model(graph, coding, chosen)
    try:
        compile_model(replace(packed, quantisation=None), AMPLE)
    except CompileError as error:
        assert "divides by the constant 0" in str(error) or "groups of" in str(error)
        return
    check_program(packed, AMPLE)


def small_machine(
    array: tuple[int, int], activation_bytes: int, weight_bytes: int, accumulator_bytes: int, dataflow: str = "ws"
) -> Machine:
    sram = {"activation": activation_bytes, "weight": weight_bytes, "accumulator": accumulator_bytes}
    sizes = [f"array.rows={array[0]}", f"array.columns={array[1]}", f"array.dataflow={dataflow}"]
    return load_machine("edge64-ideal", [*sizes, *(f"sram.{name}_bytes={size}" for name, size in sram.items())])


def check_graph(graph: Graph, coding: Coding, machine: Machine) -> Program:
    """With calibrated scales, and with some that are merely legal; returns the last program."""
    program = None
    for seed, scales in enumerate(PLAIN):
        program = check_program(packed_model(graph, coding, Numbers(scales, "plain", seed)), machine)
    assert program is not None
    return program


def convolution(shape, weight, padding, groups=1, stride=(1, 1), dilation=(1, 1)) -> Graph:
    b = GraphBuilder("convolution")
    window = {"kernel": weight[2:], "stride": stride, "padding": padding, "dilation": dilation}
    x = b.op(
        "conv", b.input("x", shape), b.parameter("w", weight), b.parameter("b", weight[:1]), groups=groups, **window
    )
    return b.build(b.op("add", x, x))


@pytest.mark.parametrize("dataflow", ["ws", "os", "is"])
@pytest.mark.parametrize("activation_bytes", [4096, 1024], ids=["whole", "in parts"])
def test_strips_larger_than_the_ring_are_loaded_again_each_pass(dataflow: str, activation_bytes: int) -> None:
    """288 bytes a strip, a ring of 256, four output rows a pass, and lines of nine that cannot be cut."""
    graph = convolution((1, 8, 6, 9), (6, 8, 3, 3), (1, 1, 1, 1))
    machine = small_machine((4, 4), activation_bytes, 256, 64, dataflow)
    program = check_graph(graph, Coding("int8", "out", False), machine)
    check_compiled(program)
    check_weights(program)
    instructions = decode_program(program.words)
    passes = sum(-(-gem["rows"] // gem["chunk"]) for gem in instructions if gem.mnemonic == "GEM")
    assert passes >= 14 and program.report["reloaded_weights"] == 1
    blocks = 288 // 64 + 1 + 144 // 64 + 1  # of the strips of four channels and of two
    assert sum(load["blocks"] for load in instructions if load.mnemonic == "LDW") == passes * blocks
    assert simulate(program).dram_bytes["weights"] == passes * blocks * 64
    assert [note for note in program.notes if note.startswith("1 weights do not fit sram.weight_bytes = 256 and")]


@st.composite
def wide_convolutions(draw: st.DrawFn) -> Graph:
    """Long reductions, several groups sometimes."""
    groups, kernel = draw(st.sampled_from((1, 1, 2, 3))), draw(st.sampled_from((1, 3)))
    channels, columns = (groups * draw(st.integers(low, 16)) for low in (4, 1))
    size, padding = (1, channels, draw(st.integers(3, 7)), draw(st.integers(3, 9))), draw(st.sampled_from((0, 1)))
    weight = (columns, channels // groups, kernel, kernel)
    return convolution(size, weight, (padding,) * 4, groups, (draw(st.sampled_from((1, 2))), 1))


@examples(100)
@given(wide_convolutions(), codings(), numbers(), machines(), st.sampled_from(("ws", "os", "is")))
def test_tiny_rings_change_no_value(graph, coding, chosen, machine, dataflow) -> None:
    """Four rows of accumulators and a ring of a few blocks: many strips are loaded again each pass."""
    array = replace(machine.array, dataflow=dataflow, model="pipelined")
    sram = Sram(machine.sram.activation_bytes, 256, max(64, 16 * array.columns))
    packed = packed_model(graph, coding, chosen)
    try:
        program = check_program(packed, replace(machine, array=array, sram=sram))
    except CompileError:
        return
    check_compiled(program)
    check_weights(program)
    event("loaded again" if program.report["reloaded_weights"] else "loaded once")


def test_groups_cut_by_strips_read_their_own_channels() -> None:
    graph = convolution((1, 10, 9, 5), (10, 1, 1, 2), (1, 0, 0, 0), groups=10, stride=(2, 1), dilation=(1, 2))
    check_graph(graph, Coding("vq:k=4,d=2", "in", False), small_machine((5, 5), 1024, 256, 64))


def test_rows_that_see_only_padding_are_zero() -> None:
    graph = convolution((1, 9, 5, 9), (21, 9, 1, 2), (1, 1, 2, 2))
    for activation_bytes in range(1536, 4096, 512):
        check_graph(graph, Coding("int8", "in", True), small_machine((4, 5), activation_bytes, 256, 2000))


def test_depthwise_kernels_taller_than_half_the_array() -> None:
    graph = convolution((1, 12, 6, 6), (12, 1, 3, 3), (1, 1, 1, 1), groups=12)
    for array in ((8, 8), (16, 32), (9, 9)):
        check_graph(graph, Coding("int8", "out", False), small_machine(array, 4096, 512, 4096))


def test_indices_do_not_overlap_what_they_gather() -> None:
    b = GraphBuilder("embedding")
    x = b.op("embedding", b.parameter("table", (20, 4)), b.input("ids", (2, 18)))
    graph = b.build(b.op("gemm", x, b.parameter("w", (6, 4)), b.parameter("b", (6,))))
    check_graph(graph, Coding("int8", "out", False), small_machine((4, 4), 1024, 512, 64))


def test_scaled_tensors_are_written_where_a_concatenation_wants_them() -> None:
    b = GraphBuilder("scaled")
    x = b.input("x", (1, 4, 3, 3))
    scaled = b.op("mul", b.op("add", x, x), b.parameter("half", (1,)))
    tokens = b.op("transpose", b.op("reshape", scaled, shape=(1, 4, 9)), perm=(0, 2, 1))
    both = b.op("concat", b.input("z", (1, 2, 4)), tokens, axis=1)
    graph = b.build(b.op("gemm", both, b.parameter("w", (5, 4))))
    check_graph(graph, Coding("int8", "out", False), small_machine((4, 4), 4096, 512, 256))


def test_a_tensor_may_be_joined_with_itself() -> None:
    b = GraphBuilder("twice")
    x = b.op("gemm", b.input("x", (1, 9, 4)), b.parameter("w", (4, 4)))
    scaled = b.op("mul", x, b.parameter("half", (1,)))
    graph = b.build(b.op("concat", scaled, scaled, axis=1))
    check_graph(graph, Coding("int8", "out", False), small_machine((4, 4), 4096, 512, 256))


def test_operators_may_share_a_weight() -> None:
    b = GraphBuilder("tied")
    x, w = b.input("x", (3, 4)), b.parameter("w", (4, 4))
    first = b.op("gemm", x, w, b.parameter("b1", (4,)))
    graph = b.build(b.op("gemm", first, w, b.parameter("b2", (4,))), first)
    check_graph(graph, Coding("int8", "out", True), small_machine((4, 4), 1024, 256, 64))


def test_single_numbers_and_parameters_may_be_results() -> None:
    b = GraphBuilder("numbers")
    x = b.op("gemm", b.input("x", (3, 4)), b.parameter("w", (4, 4)))
    graph = b.build(b.op("relu", b.op("mean", x, axes=(0, 1), keepdims=False)), x)
    check_graph(graph, Coding("int8", "out", False), small_machine((4, 4), 1024, 256, 64))


def test_masks_of_one_number_a_row() -> None:
    b = GraphBuilder("masked")
    q, k = b.input("q", (1, 2, 5, 4)), b.input("k", (1, 2, 5, 4))
    scores = b.op("add", b.op("matmul", q, k, transpose_b=True), b.parameter("mask", (1, 1, 5, 1)))
    weighted = b.op("matmul", b.op("softmax", scores, axis=-1), b.input("v", (1, 2, 5, 4)), transpose_b=False)
    graph = b.build(b.op("gemm", weighted, b.parameter("w", (4, 4))))
    check_graph(graph, Coding("int8", "out", False), small_machine((4, 4), 1024, 256, 64))


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
def test_images_resized_in_parts(mode: str) -> None:
    b = GraphBuilder("resized")
    x = b.op("resize", b.input("x", (1, 4, 9, 11)), size=(23, 17), mode=mode)
    window = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1)}
    graph = b.build(b.op("conv", x, b.parameter("w", (3, 4, 1, 1)), groups=1, **window))
    program = check_graph(graph, Coding("int8", "out", False), small_machine((4, 4), 1536, 256, 64))
    assert any(each["out_row"] for each in decode_program(program.words) if each.mnemonic == "VRS")


@pytest.mark.parametrize("factor", [-0.5, 0.0])
@pytest.mark.parametrize("kind", ["gemm", "relu"])
def test_factors_that_are_not_positive(factor: float, kind: str) -> None:
    b = GraphBuilder("scaled")
    x = b.input("x", (1, 6, 5))
    x = b.op("gemm", x, b.parameter("v", (5, 5))) if kind == "gemm" else b.op("relu", x)
    x = b.op("mul", x, b.parameter("factor", (1,)))
    graph = b.build(b.op("gemm", b.op("add", x, x), b.parameter("w", (3, 5))))
    for scales in PLAIN:
        chosen = packed_model(graph, Coding("int8", "out", True), Numbers("nominal", "plain", 0))
        chosen.parameters["factor"][:] = factor
        scaled = quantisation(chosen, scales, np.random.default_rng(0))
        check_program(replace(chosen, quantisation=scaled), small_machine((4, 4), 4096, 512, 256))
