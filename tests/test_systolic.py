"""Closed forms of systolic arrays: equal to other simulators' reports, to slow sums, and to the timing kernel."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel.errors import ConfigError
from accel.isa import BLOCK_BYTES, Instruction, encode_program
from accel.machine import load_machine
from accel.metrics import CAUSES
from accel.systolic import ARRAY_MODELS, DATAFLOWS, NEVER_CUT, ArrayCost, ArrayShape, GemmShape, gemm_cost
from accel.systolic_reference import systolic_reference_rows, systolic_section
from sim.params import TICKS, machine_params
from sim.timing import time_words

PAIRS = [(model.name, flow) for model in ARRAY_MODELS.values() for flow in model.dataflows]
relaxed = settings(deadline=None, max_examples=150)


def gemms(most):
    size = st.integers(1, most)
    return st.builds(GemmShape, size, size, size)


def arrays(most):
    side, rows = st.integers(1, most), st.sampled_from((1, 7, 64, NEVER_CUT))
    return st.builds(
        lambda r, c, pair, held: ArrayShape(r, c, pair[1], pair[0], held), side, side, st.sampled_from(PAIRS), rows
    )


# --- what others report ---


def test_every_reported_row_is_exact():
    rows = list(systolic_reference_rows())
    assert len(rows) == 273 and {row.simulator for row in rows} == {"scalesim", "stonne"}
    for row in rows:
        assert gemm_cost(row.gemm, row.array) == ArrayCost(row.folds, row.cycles), row


def test_validation_shows_every_row_without_error():
    section = systolic_section()
    assert section.is_met and sum(len(group.comparisons) for group in section.groups) == 273


def test_totals_of_scale_sim():
    """Sums over layers times repeats; each report lacks one cycle."""
    totals = {}
    for row in systolic_reference_rows():
        key = (row.workload, row.array.rows, row.array.dataflow)
        totals[key] = totals.get(key, 0) + row.repeat * (gemm_cost(row.gemm, row.array).cycles - 1)
    assert totals["resnet18_padded", 32, "ws"] == 2_855_031
    assert totals["resnet18_padded", 64, "os"] == 601_427
    assert totals["deit_tiny", 16, "is"] == 6_200_950


DEIT_TINY = (  # m, k, n, products side by side, occurrences
    *((196, 768, 192, 1, 1), (197, 192, 576, 1, 12), (197, 64, 197, 3, 12), (197, 197, 64, 3, 12)),
    *((197, 192, 192, 1, 12), (197, 192, 768, 1, 12), (197, 768, 192, 1, 12), (1, 192, 1000, 1, 1)),
)


@pytest.mark.parametrize(("side", "cycles"), [(32, 1_258_928), (64, 331_648)])
def test_deit_tiny_weight_stationary(side, cycles):
    """Tile weights double-buffered: a tile costs max(M, R), a product R + C more; the heads of a layer run as one.

    Of our closed form that is all but the one load, or stream, that nothing hides.
    """
    total = 0
    for m, k, n, heads, occurrences in DEIT_TINY:
        gemm, array = GemmShape(m, k, n), ArrayShape(side, side, "ws", "pipelined", 512)
        cost = gemm_cost(gemm, array)
        assert cost.cycles == cost.folds * max(m, side) + min(m, side) + 2 * side
        total += occurrences * (heads * cost.folds * max(m, side) + 2 * side)
    assert total == cycles


# --- slow sums ---


def folds_one_by_one(gemm, array):
    """Every fold of a model without overlap, in two plain loops."""
    sizes = {"ws": (gemm.k, gemm.n, gemm.m), "os": (gemm.m, gemm.n, gemm.k), "is": (gemm.k, gemm.m, gemm.n)}
    down, across, stream = sizes[array.dataflow]
    folds = cycles = 0
    for first in range(0, down, array.rows):
        for left in range(0, across, array.columns):
            rows, columns = min(array.rows, down - first), min(array.columns, across - left)
            folds += 1
            if array.model == "stonne":
                cycles += stream + rows + columns + 3
            else:
                cycles += stream + (1 if array.dataflow == "os" else 2) * array.rows + array.columns - 2
    return ArrayCost(folds, cycles)


@relaxed
@given(gemms(90), arrays(20))
def test_serial_models_sum_their_folds(gemm, array):
    if array.model != "pipelined":
        assert gemm_cost(gemm, array) == folds_one_by_one(gemm, array)


# --- the kernel ---


def decoded_gemm(gemm, array, chunk):
    """A program of one GEMM whose weights (int8) are on chip when DEC and GEM start, both at once."""
    tile = {"tile_rows": array.rows, "tile_columns": array.columns}
    widths = (min(array.columns, gemm.n - first) for first in range(0, gemm.n, array.columns))
    blocks = sum(-(-gemm.k * width // BLOCK_BYTES) for width in widths)
    size = {"columns": gemm.n, "groups_per_tile": 1}
    code = {"code_bits": 8, "vector_length": 1}
    passes = -(-gemm.m // chunk)
    return [
        Instruction("GMO", {"reduction": gemm.k, **tile}),
        Instruction("LDW", {"blocks": blocks, **code}, push=("decode", "compute")),
        Instruction("DEC", {**code, **size, **tile, "rows": gemm.k, "passes": passes, "release": 1}, pop=("load",)),
        Instruction("GEM", {**size, "rows": gemm.m, "chunk": chunk}, pop=("load",)),
    ]


def stationary_gemm(gemm, array, chunk):
    """The same product with both operands in activation SRAM."""
    tile = {"tile_rows": array.rows, "tile_columns": array.columns}
    output = Instruction("GMO", {"reduction": gemm.k, **tile})
    return [output, Instruction("GMS", {"rows": gemm.m, "columns": gemm.n, "chunk": chunk})]


def timed(build, gemm, array):
    keys = {"rows": array.rows, "columns": array.columns, "dataflow": array.dataflow, "model": array.model}
    machine = load_machine("edge64-ideal", [f"array.{key}={value}" for key, value in keys.items()])
    fast = machine_params(machine, 0)._replace(block_ticks=1, latency_ticks=0, ring_blocks=1 << 20)
    program = build(gemm, array, min(gemm.m, array.chunk_rows))
    return time_words(encode_program(program), np.zeros(len(program), np.int32), 1, fast)


@relaxed
@given(gemms(50), arrays(12), st.sampled_from((decoded_gemm, stationary_gemm)))
def test_kernel_takes_the_cycles_of_the_closed_form(gemm, array, build):
    """From the start of GEM, with which the first preload, decode or stream begins, to its last result."""
    timing = timed(build, gemm, array)
    assert timing.completed[-1] - timing.started[-1] == gemm_cost(gemm, array).cycles * TICKS
    streamed = timing.causes.sum(axis=0)[list(CAUSES).index("compute")] / TICKS
    assert streamed == streamed_cycles(gemm, array)


def streamed_cycles(gemm, array):
    """What streams, once for every piece the other two dimensions are cut into."""
    cut = {"k": array.rows, "n": array.columns, "m": min(gemm.m, array.chunk_rows)}
    streamed = {"ws": "m", "os": "k", "is": "n"}[array.dataflow]
    return math.prod(gemm.size(d) if d == streamed else math.ceil(gemm.size(d) / step) for d, step in cut.items())


# --- the models compared ---


@relaxed
@given(st.sampled_from(PAIRS), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 40), st.data())
def test_what_overlap_saves(pair, down, across, along, rows, data):
    """On whole tiles that stream no shorter than they load, a pipeline pays for preload and skew once, others per fold.

    Overhead is -2 a fold for SCALE-Sim, 3 for STONNE; R counts twice where an operand is loaded first.
    """
    name, flow = pair
    columns = data.draw(st.integers(rows if flow == "is" else 1, 50))
    streamed = along * columns if flow == "is" else along * rows
    extents = {DATAFLOWS[flow].rows: down * rows, DATAFLOWS[flow].columns: across * columns}
    gemm = GemmShape(**extents, **{DATAFLOWS[flow].streamed: streamed})
    ours = gemm_cost(gemm, ArrayShape(rows, columns, flow, "pipelined"))
    theirs = gemm_cost(gemm, ArrayShape(rows, columns, flow, name))
    folds, once = down * across, 2 * rows + columns
    assert ours.cycles == folds * streamed + once
    if name != "pipelined":
        overhead = {"scalesim": -2, "stonne": 3}[name]
        per_fold = (1 if flow == "os" else 2) * rows + columns + overhead
        assert theirs.cycles - ours.cycles == folds * per_fold - once


@relaxed
@given(gemms(200), arrays(30))
def test_no_array_beats_its_multipliers(gemm, array):
    assert gemm_cost(gemm, array).cycles * array.rows * array.columns >= gemm.macs


def test_chunks_of_output_rows():
    def chunk(flow, model):
        return ArrayShape(32, 64, flow, model, 50).chunk_rows

    assert (chunk("ws", "pipelined"), chunk("os", "pipelined"), chunk("is", "pipelined")) == (50, 32, 50)
    assert (chunk("ws", "scalesim"), chunk("os", "scalesim"), chunk("is", "scalesim")) == (NEVER_CUT, 32, 64)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((8, 8, "rs", "pipelined"), "array.dataflow = 'rs'; allowed: ws, os, is"),
        ((8, 8, "ws", "stone"), "array.model = 'stone'; allowed: .* did you mean 'stonne'"),
        ((8, 8, "ws", "stonne"), "array.dataflow = 'ws'; allowed with array.model = 'stonne': os"),
    ],
)
def test_impossible_arrays_are_refused(shape, message):
    with pytest.raises(ConfigError, match=message):
        ArrayShape(*shape)


def test_sizes_of_zero_are_refused():
    with pytest.raises(ConfigError, match="GEMM of 3x0x2; allowed: sizes of at least 1"):
        GemmShape(3, 0, 2)
