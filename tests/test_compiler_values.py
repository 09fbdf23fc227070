"""Compiled programs compute what their graphs say: every address, window and stride, in exact integer arithmetic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from executor import Executor, evaluate, small_integers
from hypothesis import HealthCheck, assume, event, given, settings
from hypothesis import strategies as st
from strategies import Coding, codings, graphs, machines, pack_randomly

from accel.check import check_compiled
from accel.errors import CompileError
from accel.graph import Graph, GraphBuilder
from accel.isa import decode_program
from accel.machine import Machine, Sram, load_machine
from accel.program import Program
from compiler import compile_model
from sim import check_weights, simulate

INEXACT = frozenset(("resize",))  # resizing keeps no phase when cut in parts: its values are not addresses alone


def has_exact_values(graph: Graph) -> bool:
    """Whether no operator interpolates, and no product with constants turns into a scale of the output stage."""
    for op in graph.ops:
        constant = len(op.inputs) > 1 and op.inputs[1] in graph.parameters
        if op.kind in INEXACT or (op.kind in ("mul", "div") and constant and graph.shapes[op.inputs[1]] != (1,)):
            return False
    return True


def random_inputs(graph: Graph, rng: np.random.Generator) -> dict[str, np.ndarray]:
    tables = {op.inputs[1]: graph.shapes[op.inputs[0]][0] for op in graph.ops if op.kind == "embedding"}
    inputs: dict[str, np.ndarray] = {}
    for name, shape in graph.inputs.items():
        kind = np.int32 if name in tables else np.uint8
        inputs[name] = rng.integers(0, tables.get(name, 256), shape).astype(kind)
    return inputs


def check_values(graph: Graph, coding: Coding, machine: Machine) -> Program:
    """Compile, execute and compare every output; returns the program."""
    rng = np.random.default_rng(0)
    packed = small_integers(pack_randomly(graph, coding), rng)
    program = compile_model(packed, machine)
    inputs = random_inputs(graph, rng)
    found, expected = Executor(program, packed, inputs).run(), evaluate(graph, packed, inputs)
    for name in graph.outputs:
        assert np.array_equal(found[name], expected[name]), name
    return program


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs(), codings(), machines())
def test_programs_compute_their_graphs(graph, coding, machine) -> None:
    assume(has_exact_values(graph))
    try:
        program = check_values(graph, coding, machine)
    except CompileError:
        event("refused")
    else:
        event(f"compiled, {'spilled' if program.report['spilled'] else 'resident'}")


def small_machine(
    array: tuple[int, int], activation_bytes: int, weight_bytes: int, accumulator_bytes: int, dataflow: str = "ws"
) -> Machine:
    sram = {"activation": activation_bytes, "weight": weight_bytes, "accumulator": accumulator_bytes}
    sizes = [f"array.rows={array[0]}", f"array.columns={array[1]}", f"array.dataflow={dataflow}"]
    return load_machine("edge64-ideal", [*sizes, *(f"sram.{name}_bytes={size}" for name, size in sram.items())])


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
    program = check_values(graph, Coding("int8", "out", False), machine)
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


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(wide_convolutions(), codings(), machines(), st.sampled_from(("ws", "os", "is")))
def test_tiny_rings_change_no_value(graph, coding, machine, dataflow) -> None:
    """Four rows of accumulators and a ring of a few blocks: many strips are loaded again each pass."""
    array = replace(machine.array, dataflow=dataflow, model="pipelined")
    sram = Sram(machine.sram.activation_bytes, 256, max(64, 16 * array.columns))
    try:
        program = check_values(graph, coding, replace(machine, array=array, sram=sram))
    except CompileError:
        return
    check_compiled(program)
    check_weights(program)
    event("loaded again" if program.report["reloaded_weights"] else "loaded once")


def test_groups_cut_by_strips_read_their_own_channels() -> None:
    graph = convolution((1, 10, 9, 5), (10, 1, 1, 2), (1, 0, 0, 0), groups=10, stride=(2, 1), dilation=(1, 2))
    check_values(graph, Coding("vq:k=4,d=2", "in", False), small_machine((5, 5), 1024, 256, 64))


def test_rows_that_see_only_padding_are_zero() -> None:
    graph = convolution((1, 9, 5, 9), (21, 9, 1, 2), (1, 1, 2, 2))
    for activation_bytes in range(1024, 4096, 512):
        check_values(graph, Coding("int8", "in", True), small_machine((4, 5), activation_bytes, 256, 2000))


def test_depthwise_kernels_taller_than_half_the_array() -> None:
    graph = convolution((1, 12, 6, 6), (12, 1, 3, 3), (1, 1, 1, 1), groups=12)
    for array in ((8, 8), (16, 32), (9, 9)):
        check_values(graph, Coding("int8", "out", False), small_machine(array, 4096, 512, 4096))


def test_indices_do_not_overlap_what_they_gather() -> None:
    b = GraphBuilder("embedding")
    x = b.op("embedding", b.parameter("table", (20, 4)), b.input("ids", (2, 18)))
    graph = b.build(b.op("gemm", x, b.parameter("w", (6, 4)), b.parameter("b", (6,))))
    check_values(graph, Coding("int8", "out", False), small_machine((4, 4), 1024, 512, 64))


def test_scaled_tensors_are_written_where_a_concatenation_wants_them() -> None:
    b = GraphBuilder("scaled")
    x = b.input("x", (1, 4, 3, 3))
    scaled = b.op("mul", b.op("add", x, x), b.parameter("half", (1,)))
    tokens = b.op("transpose", b.op("reshape", scaled, shape=(1, 4, 9)), perm=(0, 2, 1))
    both = b.op("concat", b.input("z", (1, 2, 4)), tokens, axis=1)
    graph = b.build(b.op("gemm", both, b.parameter("w", (5, 4))))
    check_values(graph, Coding("int8", "out", False), small_machine((4, 4), 4096, 512, 256))


def test_a_tensor_may_be_joined_with_itself() -> None:
    b = GraphBuilder("twice")
    x = b.op("gemm", b.input("x", (1, 9, 4)), b.parameter("w", (4, 4)))
    scaled = b.op("mul", x, b.parameter("half", (1,)))
    graph = b.build(b.op("concat", scaled, scaled, axis=1))
    check_values(graph, Coding("int8", "out", False), small_machine((4, 4), 4096, 512, 256))


def test_operators_may_share_a_weight() -> None:
    b = GraphBuilder("tied")
    x, w = b.input("x", (3, 4)), b.parameter("w", (4, 4))
    first = b.op("gemm", x, w, b.parameter("b1", (4,)))
    graph = b.build(b.op("gemm", first, w, b.parameter("b2", (4,))), first)
    check_values(graph, Coding("int8", "out", True), small_machine((4, 4), 1024, 256, 64))


def test_single_numbers_and_parameters_may_be_results() -> None:
    b = GraphBuilder("numbers")
    x = b.op("gemm", b.input("x", (3, 4)), b.parameter("w", (4, 4)))
    graph = b.build(b.op("relu", b.op("mean", x, axes=(0, 1), keepdims=False)), x)
    compile_model(pack_randomly(graph, Coding("int8", "out", False)), small_machine((4, 4), 1024, 256, 64), verify=True)


def test_masks_of_one_number_a_row() -> None:
    b = GraphBuilder("masked")
    q, k = b.input("q", (1, 2, 5, 4)), b.input("k", (1, 2, 5, 4))
    scores = b.op("add", b.op("matmul", q, k, transpose_b=True), b.parameter("mask", (1, 1, 5, 1)))
    weighted = b.op("matmul", b.op("softmax", scores, axis=-1), b.input("v", (1, 2, 5, 4)), transpose_b=False)
    graph = b.build(b.op("gemm", weighted, b.parameter("w", (4, 4))))
    compile_model(pack_randomly(graph, Coding("int8", "out", False)), small_machine((4, 4), 1024, 256, 64), verify=True)
