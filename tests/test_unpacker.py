"""The decoder's front end against its slow twin (``naive.front_end``), by hand, and against balls thrown into bins."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive import FifoTooSmallError, front_end
from weight_cases import random_layer, weight_program

from accel.codecs import parse_codec
from accel.codecs.masks import Mask
from accel.codecs.records import RecordLayout, side_bits
from accel.errors import SimError
from accel.graph import GraphBuilder
from accel.machine import INPUT_BITS, Decoder, load_machine
from benchmarks.conflicts import PORTS, TOLERANCE, expected_factor, measure
from compiler import compile_model
from compiler.compress import compress
from sim import simulate
from sim.unpacker import bank_cycles, tile_figures
from sim.words import Flow, Strip, flow_of, front_of, least_queue

MASKS = (Mask(1, 2), Mask(2, 4), Mask(1, 3), Mask(3, 8), Mask(4, 16))


@st.composite
def cases(draw: st.DrawFn) -> tuple[RecordLayout, Decoder, list[int], list[int]]:
    """A record format, a decoder, the tiles of a strip, and its indices."""
    length = draw(st.sampled_from((1, 2, 3, 4, 5, 8, 16, 24)))
    mask = draw(st.sampled_from([None, *(mask for mask in MASKS if length % mask.group == 0)]))
    beside = side_bits(length, mask is None and draw(st.booleans()), mask)
    layout = RecordLayout(draw(st.sampled_from((1, 2, 3, 4, 5, 8, 9, 11, 16))), length, beside)
    decoder = Decoder(
        8192, draw(st.sampled_from((1, 2, 3, 4, 7, 8, 16, 33))), codebook_banks=draw(st.sampled_from((0, 1, 2, 4, 5))),
        input_bits=draw(st.sampled_from(INPUT_BITS)), fifo_words=draw(st.integers(4, 40)),
    )  # fmt: skip
    tiles = draw(st.lists(st.integers(1, 60), min_size=1, max_size=4))
    random = draw(st.randoms(use_true_random=False))
    indices = [random.randrange(1 << layout.code_bits) for _ in range(sum(tiles))]
    return layout, decoder, tiles, indices


def beside_codes(layout: RecordLayout) -> dict[str, int]:
    """How a DEC tells of the side bits of one of ``cases``."""
    if layout.side_bits in (0, layout.vector_length):
        return {"signed": int(layout.side_bits > 0), "mask_kept": 0, "mask_group": 0}
    mask = next(mask for mask in MASKS if layout.side_bits * mask.group == layout.vector_length * mask.index_bits)
    return {"signed": 0, "mask_kept": mask.kept, "mask_group": mask.group}


def naive(layout: RecordLayout, decoder: Decoder, tiles: list[int], indices: list[int]) -> list[list[int]] | None:
    """Cycles and counters of each tile by the slow twin, or ``None`` if it gets stuck."""
    dec = {"code_bits": layout.code_bits, "vector_length": layout.vector_length, **beside_codes(layout)}
    try:
        return [[cycles, *counts] for cycles, counts in front_end(dec, decoder, tiles, indices)]
    except FifoTooSmallError:
        return None


def flow(layout: RecordLayout, decoder: Decoder, tiles: list[int], indices: list[int]) -> Flow:
    """What the kernel runs."""
    lookups, banks = decoder.lookups_per_cycle, decoder.codebook_banks
    costs = bank_cycles(np.array(indices, np.uint16), np.array(tiles), lookups, banks) if banks else None
    return flow_of([Strip(front_of(layout, decoder.input_bits, lookups), tiles, ends_layer=True)], cost=costs)


def compiled(layout: RecordLayout, decoder: Decoder, tiles: list[int], indices: list[int]) -> list[list[int]] | None:
    """The same as ``naive`` by the kernel."""
    strip = flow(layout, decoder, tiles, indices)
    if least_queue(strip) > decoder.fifo_words:
        return None
    return tile_figures(strip, decoder.fifo_words).tolist()


@settings(max_examples=100, deadline=None)
@given(cases())
def test_tiles_take_the_cycles_of_the_slow_twin(case: tuple[RecordLayout, Decoder, list[int], list[int]]) -> None:
    assert compiled(*case) == naive(*case)


@settings(max_examples=60, deadline=None)
@given(cases())
def test_the_least_queue_suffices_and_nothing_less_does(
    case: tuple[RecordLayout, Decoder, list[int], list[int]],
) -> None:
    layout, decoder, tiles, indices = case
    least = least_queue(flow(*case))
    assert naive(layout, replace(decoder, fifo_words=least), tiles, indices) is not None
    if least > 4:
        assert naive(layout, replace(decoder, fifo_words=least - 1), tiles, indices) is None


def test_the_cycles_of_tiles_add_up_to_the_strip() -> None:
    decoder, layout = Decoder(8192, 4, codebook_banks=2), RecordLayout(3, 8, 8)
    codes = (np.arange(30) % 8).tolist()
    whole, parts = ((compiled(layout, decoder, tiles, codes)) for tiles in ([32 - 2], [12, 12, 6]))
    assert whole is not None and parts is not None
    assert np.sum(parts, axis=0).tolist() == whole[0]


def test_a_superblock_by_hand() -> None:
    """Two records of ssvq:k=16,d=8 from 64-bit beats: 16 codes, 8 signs, 8 signs; 16 codes, 8 signs, 8 signs.

    With 8 look-ups each beat of signs feeds one group, three cycles after it was taken; the beat of codes between them
    costs the third group a cycle, for want of both.
    """
    layout, decoder = RecordLayout(4, 8, 8), Decoder(8192, 8, input_bits=64)
    assert compiled(layout, decoder, [32], [0] * 32) == [[5, 4, 4, 0, 1]]
    #   cycle  0  1  2  3  4  5  6  7  8
    #   beat   0  1  2  3  4  5
    #   group              0  1     2  3
    assert compiled(layout, decoder, [16, 16], [0] * 32) == [[2, 2, 2, 0, 0], [3, 2, 2, 0, 1]]


@pytest.mark.parametrize("lookups", [1, 2, 4, 8])
@pytest.mark.parametrize("spelling", ["vq:k=256,d=4", "ssvq:k=16,d=8", "ssvq:k=256,d=8", "mvq:k=16,d=8,nm=2:4"])
@pytest.mark.parametrize("array", [8, 32, 64])
def test_default_fifos_slow_nothing_down(spelling: str, lookups: int, array: int) -> None:
    codec = parse_codec(spelling)
    layout = codec.layout
    codes = array * array // codec.vector_length
    found = compiled(layout, Decoder(8192, lookups), [codes] * 5, [0] * 5 * codes)
    assert found == [[-(-codes // lookups)] * 3 + [0, 0]] * 5


def test_groups_wait_for_their_fullest_bank() -> None:
    rng = np.random.default_rng(0)
    codes, count = rng.integers(0, 32, 100).astype(np.uint16), np.array([41, 59])
    for lookups, banks in itertools.product((1, 3, 4, 16), (1, 2, 3, 8)):
        tiles = (codes[:41].tolist(), codes[41:].tolist())
        groups = [tile[at : at + lookups] for tile in tiles for at in range(0, len(tile), lookups)]
        expected = [max(Counter(index % banks for index in group).values()) for group in groups]
        assert bank_cycles(codes, count, lookups, banks).tolist() == expected


def test_a_fifo_too_small_is_refused_in_one_line() -> None:
    program = weight_program([random_layer("ssvq:k=512,d=8", (64, 64), "out", np.random.default_rng(0))])
    machine, key, least = (
        "decoder.input_bits=64",
        "decoder.fifo_words",
        12,
    )  # nine words of codes before the first signs
    simulate(program, load_machine("edge64", [machine, f"{key}={least}"]))
    message = rf"machine key {key} = {least - 1}: 4 look-ups .* 9-bit codes with 8 signs .* least {least} \("
    with pytest.raises(SimError, match=message):
        simulate(program, load_machine("edge64", [machine, f"{key}={least - 1}"]))


def test_stalls_are_charged_to_decode_and_counted_by_layer() -> None:
    rng = np.random.default_rng(0)
    layers = [random_layer(name, (64, 64), "out", rng) for name in ("ssvq:k=16,d=8", "int8", "vq:k=256,d=4")]
    program = weight_program(layers, tile_rows=64, tile_columns=64)
    fast = ["decoder.lookups_per_cycle=8", "dram.bandwidth_bytes_per_cycle=64", "dram.latency_cycles=0"]
    fast += ["dram.load_engines=1"]
    free, slow = (
        simulate(program, load_machine("edge64-ideal", [*fast, *each])) for each in ([], ["decoder.input_bits=64"])
    )
    empty = [layer.decoder["sign_fifo_empty"] for layer in slow.layers]
    assert empty[0] > 0 and empty[1:] == [0, 0] and slow.decoder["sign_fifo_empty"] == empty[0]
    assert slow.layers[1].decoder["lookup_groups"] == 0
    lost = slow.total_cycles - free.total_cycles
    assert 0 < lost <= slow.cycles_by_cause["decode"] - free.cycles_by_cause["decode"]
    assert "look-ups paused" in slow.notes[-1] and not free.decoder["sign_fifo_empty"]


def test_balls_in_bins_by_enumeration() -> None:
    for balls, bins in ((1, 1), (2, 2), (3, 2), (4, 4), (5, 3)):
        loads = [max(Counter(throw).values()) for throw in itertools.product(range(bins), repeat=balls)]
        assert (
            expected_factor(balls, bins) == sum(loads) / len(loads)
            or abs(float(expected_factor(balls, bins)) - sum(loads) / len(loads)) < 1e-12
        )
    assert [round(float(expected_factor(p, p)), 3) for p in PORTS] == [1.5, 2.125, 2.597, 3.078]


def test_random_weights_conflict_like_balls_in_bins() -> None:
    builder = GraphBuilder("random")
    builder.op("gemm", builder.input("x", (8, 512)), builder.parameter("w", (384, 512)), output="y")
    weights = {"w": np.random.default_rng(0).normal(0, 1, (384, 512)).astype(np.float32)}
    packed = compress(builder.build("y"), weights, parse_codec("vq:k=256,d=4")).packed
    for ports, factor in measure(compile_model(packed, load_machine("edge64"))):
        assert factor == pytest.approx(float(expected_factor(ports, ports)), rel=TOLERANCE)


def test_with_zero_weights_every_look_up_meets_in_bank_0() -> None:
    program = weight_program([random_layer("vq:k=256,d=4", (64, 64), "out", np.random.default_rng(0))])
    bare = replace(program, image=np.zeros_like(program.image), streams=())
    run = simulate(bare, load_machine("edge64", ["decoder.codebook_banks=4"]))
    assert run.conflict_factor == 4
    copies = simulate(bare)
    assert copies.conflict_factor == 1 and copies.total_cycles < run.total_cycles
