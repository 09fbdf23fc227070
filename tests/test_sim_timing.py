"""Closed forms the kernel must hit exactly, and errors for programs that cannot run."""

import math

import numpy as np
import pytest

from accel.errors import SimError
from accel.isa import assemble_program, encode_program
from accel.machine import load_machine
from accel.metrics import CAUSES, TRAFFIC
from sim.params import INPUTS_STAY, OUTPUTS_STAY, TICKS, machine_params
from sim.timing import time_words

FAST = machine_params(load_machine("edge64-ideal"), 0)._replace(
    block_ticks=1024,
    longest_block_ticks=1024,
    latency_ticks=0,
    load_engines=1,
    lookups=4,
    lanes=16,
    ring_blocks=1 << 16,
)


def timed(text, params=FAST, layer=None):
    program = assemble_program(text)
    layer = np.zeros(len(program), np.int32) if layer is None else np.array(layer, np.int32)
    return time_words(encode_program(program), layer, int(layer.max(initial=0)) + 1, params)


def cycles_of(timing, instruction):
    return (timing.completed[instruction] - timing.started[instruction]) / TICKS


def causes(timing):
    return dict(zip(CAUSES, (timing.causes.sum(axis=0) / TICKS).tolist(), strict=True))


def traffic(timing):
    return {k: v for k, v in zip(TRAFFIC, timing.traffic.sum(axis=0).tolist(), strict=True) if v}


@pytest.mark.parametrize("streamed", [1, 63, 64, 65, 300])
@pytest.mark.parametrize("tiles", [1, 2, 7])
@pytest.mark.parametrize("tile_rows, tile_columns", [(64, 64), (16, 32)])
def test_weight_stationary_closed_form(streamed, tiles, tile_rows, tile_columns):
    """tiles * max(M, R) + R + C, plus min(M, R): the first tile's load, or the last one's stream, overlaps nothing."""
    timing = timed(f"""
        GMO reduction={tiles * tile_rows} tile_rows={tile_rows} tile_columns={tile_columns}
        GMS rows={streamed} columns={tile_columns} chunk=512
    """)
    longer, shorter = max(streamed, tile_rows), min(streamed, tile_rows)
    assert cycles_of(timing, 1) == tiles * longer + shorter + tile_rows + tile_columns
    assert causes(timing)["compute"] == tiles * streamed
    assert causes(timing)["drain"] == tile_rows + tile_columns
    assert causes(timing)["decode"] == tile_rows + (tiles - 1) * max(0, tile_rows - streamed)


def test_decoded_gemm_with_data_on_chip_takes_the_same_time():
    timing = timed(
        """
        LDW blocks=256 code_bits=8 vector_length=1 push=decode
        DEC code_bits=8 vector_length=1 rows=256 columns=64 tile_rows=64 tile_columns=64 groups_per_tile=1 passes=1 \
release=1 pop=load
        GMO reduction=256 tile_rows=64 tile_columns=64
        GEM rows=100 columns=64 chunk=512 groups_per_tile=1
    """.replace("\\\n", "")
    )
    assert (timing.completed[3] - timing.started[1]) / TICKS == 4 * 100 + 64 + 64 + 64
    assert traffic(timing) == {"weights": 256 * 64, "instructions": 64}


@pytest.mark.parametrize("lookups, code_bits, axis_in", [(1, 4, 0), (2, 8, 0), (1, 4, 1), (64, 4, 0)])
def test_decode_bound_takes_codes_over_lookups(lookups, code_bits, axis_in):
    codes = 64 * 8  # a tile of 64 x 64 weights in vectors of 8
    timing = timed(
        "LDW blocks=256 code_bits=4 vector_length=8 push=decode\n"
        f"DEC code_bits={code_bits} vector_length=8 codebook=1 rows=256 columns=64 tile_rows=64 tile_columns=64 "
        f"groups_per_tile=1 passes=1 release=1 axis_in={axis_in} pop=load\n"
        "GMO reduction=256 tile_rows=64 tile_columns=64\n"
        "GEM rows=10 columns=64 chunk=512 groups_per_tile=1",
        FAST._replace(lookups=lookups),
    )
    assert cycles_of(timing, 1) == 4 * (max(64, math.ceil(codes / lookups)) + 8 * axis_in)


def test_output_stationary_results_leave_before_the_next_are_complete():
    """Three output tiles of 16 rows with a reduction of 5: the first streams at once, each later one ends 16 later."""
    text = "GMO reduction=5 tile_rows=16 tile_columns=16\nGMS rows=48 columns=16 chunk=16"
    timing = timed(text, FAST._replace(dataflow=OUTPUTS_STAY))
    assert cycles_of(timing, 1) == 5 + 5 + 2 * 16 + 16 + 16  # load, stream, wait, skew
    assert causes(timing)["compute"] == 3 * 5
    assert causes(timing)["drain"] == 2 * (16 - 5) + 16 + 16
    assert causes(timing)["decode"] == 5


def test_input_stationary_loads_inputs_beside_weights():
    """Weights cost nothing to load here; inputs take sixteen cycles, once a chunk, of which the stream hides ten."""
    dec = "DEC code_bits=8 vector_length=1 rows=16 columns=10 tile_rows=16 tile_columns=16 groups_per_tile=1"
    timing = timed(
        f"LDW blocks=3 code_bits=8 vector_length=1 push=decode,compute\n{dec} passes=2 release=1 pop=load\n"
        "GMO reduction=16 tile_rows=16 tile_columns=16\nGEM rows=20 columns=10 chunk=16 groups_per_tile=1 pop=load",
        FAST._replace(dataflow=INPUTS_STAY, row_cycles=0),
    )
    assert cycles_of(timing, 3) == 16 + 16 + 10 + 16 + 16  # two loads of inputs, the second stream, skew
    assert causes(timing)["compute"] == 2 * 10
    assert causes(timing)["decode"] == 16 + 6


def test_memory_bound_takes_bytes_over_bandwidth():
    """Start-up: one block of instructions and its latency; then every block back to back; then the last latency."""
    block, latency, blocks = round(64 / 5.12 * TICKS), 100 * TICKS, 1024
    timing = timed(
        f"LDW blocks={blocks} code_bits=8 vector_length=1\n"
        "DEC code_bits=8 vector_length=1 rows=1024 columns=64 tile_rows=64 tile_columns=64 groups_per_tile=1 passes=1 "
        "release=1\n"
        "GMO reduction=1024 tile_rows=64 tile_columns=64\n"
        "GEM rows=10 columns=64 chunk=512 groups_per_tile=1",
        FAST._replace(block_ticks=block, latency_ticks=latency),
    )
    assert timing.completed[0] == (blocks + 1) * block + 2 * latency
    assert timing.total == timing.completed[0] + (64 + 10 + 64 + 64) * TICKS
    assert sum(causes(timing).values()) == timing.total / TICKS
    assert causes(timing)["weight_dma"] > 0.85 * timing.total / TICKS  # the rest: decode of what came last


def test_a_full_ring_holds_loads_back():
    text = (
        "LDW blocks=128 code_bits=8 vector_length=1\n"
        "DEC code_bits=8 vector_length=1 rows=128 columns=64 tile_rows=64 tile_columns=64 groups_per_tile=1 passes=1 "
        "release=1\n"
        "GMO reduction=128 tile_rows=64 tile_columns=64\n"
        "GEM rows=1000 columns=64 chunk=2000 groups_per_tile=1"
    )
    wide, tight = timed(text), timed(text, FAST._replace(ring_blocks=64))
    assert wide.completed[0] < tight.completed[0] < tight.completed[1]
    assert tight.completed[0] > tight.dispatched[1] + 64 * TICKS


def test_gaps_are_charged_to_what_was_waited_for():
    timing = timed(
        "LDA kind=activations_read rows=1 row_bytes=640 push=compute\n"
        "GMO reduction=8 tile_rows=8 tile_columns=8\n"
        "GMS rows=10 columns=8 chunk=16 pop=load push=vector\n"
        "VEC function=softmax rows=10 columns=16 pop=compute push=compute\n"
        "GMS rows=10 columns=8 chunk=16 pop=vector push=store\n"
        "STA kind=activations_written rows=1 row_bytes=128 pop=compute\n"
        "FIN",
        FAST._replace(block_ticks=TICKS * 8),
        [0, 0, 0, 1, 2, 3, 3],
    )
    found = (timing.causes / TICKS).tolist()
    name = list(CAUSES).index
    assert found[1][name("vector")] == 3 * 10 * 16 / 16
    assert found[2][name("drain")] == 8 + 8 + 8 + 8  # of the first GMS before the VEC, of the second at the end
    assert found[2][name("compute")] == found[0][name("compute")] == 10
    assert found[3][name("activation_dma")] == 2 * 8
    assert found[0][name("activation_dma")] == (1 + 10) * 8  # the second block of instructions goes first
    assert found[0][name("dependency")] == 8
    assert traffic(timing) == {"activations_read": 640, "activations_written": 128, "instructions": 128}


def test_fence_waits_for_the_pipeline():
    text = "GMO reduction=8 tile_rows=8 tile_columns=8\nGMS rows=9 columns=8 chunk=16\nGMS rows=9 columns=8 chunk=16"
    loose, fenced = timed(text), timed(text + " fence=1")
    assert loose.total_cycles + 8 + 8 + 8 - 0 == fenced.total_cycles + 8 - 8


@pytest.mark.parametrize(
    "layout, total",
    [
        ("rows=3 row_bytes=64 stride=64 address=32", 4),  # contiguous: shared blocks count once
        ("rows=3 row_bytes=64 stride=128 address=32", 6),
        ("rows=3 row_bytes=10 stride=20 address=0", 3),
        ("rows=1 row_bytes=65 stride=999 address=0", 2),
        ("rows=0 row_bytes=65 stride=999 address=0", 0),
    ],
)
def test_blocks_of_a_transfer(layout, total):
    assert traffic(timed(f"LDA kind=parameters {layout}")).get("parameters", 0) == 64 * total


def test_ldw_bytes_are_split_between_indices_and_signs():
    moved = traffic(
        timed("LDW blocks=9 code_bits=4 vector_length=8 signed=1\nLDW blocks=2 code_bits=8 vector_length=4")
    )
    assert moved == {"indices": 9 * 64 - 384 + 128, "signs": 384, "instructions": 64}


@pytest.mark.parametrize(
    "text, message",
    [
        (
            "VEC rows=1 columns=1 pop=compute",
            "queue vector stands at instruction 0 'VEC .*a token from compute that no",
        ),
        (
            "GMC pop=vector push=vector\nVEC rows=1 columns=1 pop=compute push=compute",
            "queue compute stands at instruction 0 .*the token from vector of instruction 1; queue vector stands",
        ),
        ("LDW blocks=70000 code_bits=8 vector_length=1", "instruction 0 'LDW .*waits for room in the weight ring"),
        (
            "GMO reduction=8 tile_rows=8 tile_columns=8\nGEM rows=1 columns=1 chunk=1 groups_per_tile=1",
            "queue compute stands at instruction 1 'GEM .*waits for a tile from the decode queue",
        ),
        (
            "DEC code_bits=8 vector_length=1 rows=1 columns=1 tile_rows=1 tile_columns=1 groups_per_tile=1 passes=1",
            "queue decode stands at instruction 0 .*waits for weights in the ring",
        ),
        (
            "VEC pop=load\n" * 70 + "LDA push=vector",
            r"its dispatch \(instruction 64 finds queue vector full, as 0 has not started",
        ),
    ],
)
def test_a_deadlock_is_explained(text, message):
    with pytest.raises(SimError, match=message):
        timed(text)


@pytest.mark.parametrize(
    "text, message",
    [
        ("GEM rows=1 columns=1 chunk=1 groups_per_tile=1", r"instruction 0 GEM: reduction \(of GMO\) = 0"),
        ("DEC code_bits=17 vector_length=1", "instruction 0 DEC: rows = 0; allowed: at least 1"),
        (
            "DEC code_bits=17 vector_length=1 rows=1 columns=1 tile_rows=1 tile_columns=1 groups_per_tile=1 passes=1",
            "code_bits = 17; allowed: 1 to 16",
        ),
        (
            "DEC code_bits=1 vector_length=1 rows=1000000 columns=1000000 tile_rows=1 tile_columns=1 passes=60000 "
            "groups_per_tile=1",
            "tiles; allowed:",
        ),
        ("VBT count=65535\n" + "VEC function=softmax rows=65535 columns=65535\n" * 9, "could take .* cycles"),
    ],
)
def test_impossible_programs_are_refused(text, message):
    with pytest.raises(SimError, match=message):
        timed(text, FAST._replace(lanes=1))


def test_an_unknown_opcode_is_named():
    words = encode_program(assemble_program("FIN\nFIN")).copy()
    words[1, 0] = 31
    with pytest.raises(SimError, match="instruction 1: opcode 31"):
        time_words(words, np.zeros(2, np.int32), 1, FAST)


def test_an_empty_program_takes_no_time():
    assert time_words(np.zeros((0, 16), np.uint8), np.zeros(0, np.int32), 1, FAST).total == 0
