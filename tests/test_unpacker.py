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
from sim.unpacker import CYCLES, NEVER, Front, bank_cycles, least_depths, tile_figures

MASKS = (Mask(1, 2), Mask(2, 4), Mask(1, 3), Mask(3, 8), Mask(4, 16))
ONE_EACH = np.zeros(0, np.int64)


def front_of(layout: RecordLayout, decoder: Decoder) -> Front:
    """The kernel's view of a record format and a decoder."""
    vectors, bits = 1, layout.code_bits
    if layout.side_bits:
        vectors, bits = layout.vectors_per_record, 8 * layout.record_bytes
    signs = decoder.sign_fifo_vectors if layout.side_bits else 1 << 40
    ports = (decoder.input_bits, decoder.lookups_per_cycle, decoder.index_fifo_vectors)
    return Front(layout.code_bits, layout.side_bits, vectors, bits, *ports, signs)


@st.composite
def cases(draw: st.DrawFn) -> tuple[RecordLayout, Decoder, int, list[int]]:
    """A record format, a decoder, where a tile begins, and its indices."""
    length = draw(st.sampled_from((1, 2, 3, 4, 5, 8, 16, 24)))
    mask = draw(st.sampled_from([None, *(mask for mask in MASKS if length % mask.group == 0)]))
    beside = side_bits(length, mask is None and draw(st.booleans()), mask)
    layout = RecordLayout(draw(st.sampled_from((1, 2, 3, 4, 5, 8, 9, 11, 16))), length, beside)
    depths = {name: draw(st.integers(1, 300)) for name in ("index_fifo_vectors", "sign_fifo_vectors")}
    decoder = Decoder(
        8192, draw(st.sampled_from((1, 2, 3, 4, 7, 8, 16, 33))), codebook_banks=draw(st.sampled_from((0, 1, 2, 4, 5))),
        input_bits=draw(st.sampled_from(INPUT_BITS)), **depths,
    )  # fmt: skip
    count = draw(st.integers(1, 200))
    random = draw(st.randoms(use_true_random=False))
    indices = [random.randrange(1 << layout.code_bits) for _ in range(count)]
    return layout, decoder, draw(st.integers(0, 300)), indices


def beside_codes(layout: RecordLayout) -> dict[str, int]:
    """How a DEC tells of the side bits of one of ``cases``."""
    if layout.side_bits in (0, layout.vector_length):
        return {"signed": int(layout.side_bits > 0), "mask_kept": 0, "mask_group": 0}
    mask = next(mask for mask in MASKS if layout.side_bits * mask.group == layout.vector_length * mask.index_bits)
    return {"signed": 0, "mask_kept": mask.kept, "mask_group": mask.group}


def naive(layout: RecordLayout, decoder: Decoder, first: int, indices: list[int]) -> list[int] | None:
    """Cycles and counters by the slow twin, or ``None`` if it gets stuck."""
    dec = {"code_bits": layout.code_bits, "vector_length": layout.vector_length, **beside_codes(layout)}
    try:
        cycles, counts = front_end(dec, decoder, first, indices)
    except FifoTooSmallError:
        return None
    return [cycles, *counts]


def compiled(layout: RecordLayout, decoder: Decoder, first: int, indices: list[int]) -> list[int] | None:
    """The same by the kernel."""
    count, codes = np.array([len(indices)]), np.array(indices, np.uint16)
    banks = decoder.codebook_banks
    costs = bank_cycles(codes, count, decoder.lookups_per_cycle, banks) if banks else ONE_EACH
    figures = tile_figures(front_of(layout, decoder), np.array([first]), count, costs)[0].tolist()
    return None if figures[CYCLES] == NEVER else figures


@settings(max_examples=150)
@given(cases())
def test_tiles_take_the_cycles_of_the_slow_twin(case: tuple[RecordLayout, Decoder, int, list[int]]) -> None:
    assert compiled(*case) == naive(*case)


@settings(max_examples=150)
@given(cases())
def test_least_depths_suffice_and_nothing_less_does(case: tuple[RecordLayout, Decoder, int, list[int]]) -> None:
    layout, decoder, first, indices = case
    least = least_depths(front_of(layout, decoder), first, len(indices))
    depths = dict(zip(("index_fifo_vectors", "sign_fifo_vectors"), map(int, least), strict=True))
    smallest = replace(decoder, **depths)
    assert naive(layout, smallest, first, indices) is not None
    for name in depths if layout.side_bits else ("index_fifo_vectors",):
        if depths[name] > 1:
            assert naive(layout, replace(smallest, **{name: depths[name] - 1}), first, indices) is None


def test_several_tiles_share_their_costs_in_order() -> None:
    decoder, layout = Decoder(8192, 4, codebook_banks=2), RecordLayout(3, 8, 8)
    codes, count = np.arange(30, dtype=np.uint16) % 8, np.array([10, 13, 7])
    costs = bank_cycles(codes, count, 4, 2)
    first = np.cumsum(count) - count
    together = tile_figures(front_of(layout, decoder), first, count, costs)
    for n, (at, size) in enumerate(zip(first.tolist(), count.tolist(), strict=True)):
        assert together[n].tolist() == naive(layout, decoder, at, codes[at : at + size].tolist())


def test_a_superblock_by_hand() -> None:
    """Two records of ssvq:k=16,d=8 from 64-bit beats: 16 codes, 8 signs, 8 signs; 16 codes, 8 signs, 8 signs.

    With 8 look-ups the first group begins, and time starts, when the second beat has come. Each beat of signs feeds one
    group; the fourth beat brings codes alone, and the lack of signs costs a cycle.
    """
    layout, decoder = RecordLayout(4, 8, 8), Decoder(8192, 8, input_bits=64, index_fifo_vectors=32)
    assert compiled(layout, decoder, 0, [0] * 32) == [5, 4, 4, 0, 1]
    #   cycle  -1  0  1  2  3  4
    #   beat    0  1  2  3  4  5
    #   group      0  1     2  3
    shallow = replace(decoder, index_fifo_vectors=16)  # the fourth beat waits for group 1: its codes come in cycle 3
    assert compiled(layout, shallow, 0, [0] * 32) == [6, 4, 4, 1, 2]


@pytest.mark.parametrize("lookups", [1, 2, 4, 8])
@pytest.mark.parametrize("spelling", ["vq:k=256,d=4", "ssvq:k=16,d=8", "ssvq:k=256,d=8", "mvq:k=16,d=8,nm=2:4"])
@pytest.mark.parametrize("array", [8, 32, 64])
def test_default_fifos_slow_nothing_down(spelling: str, lookups: int, array: int) -> None:
    codec = parse_codec(spelling)
    layout = codec.layout
    codes = array * array // codec.vector_length
    for tile in range(5):
        found = compiled(layout, Decoder(8192, lookups), tile * codes, [0] * codes)
        assert found == [-(-codes // lookups)] * 3 + [0, 0]


def test_groups_wait_for_their_fullest_bank() -> None:
    rng = np.random.default_rng(0)
    codes, count = rng.integers(0, 32, 100).astype(np.uint16), np.array([41, 59])
    for lookups, banks in itertools.product((1, 3, 4, 16), (1, 2, 3, 8)):
        tiles = (codes[:41].tolist(), codes[41:].tolist())
        groups = [tile[at : at + lookups] for tile in tiles for at in range(0, len(tile), lookups)]
        expected = [max(Counter(index % banks for index in group).values()) for group in groups]
        assert bank_cycles(codes, count, lookups, banks).tolist() == expected


def test_a_fifo_too_small_is_refused_in_one_line() -> None:
    program = weight_program([random_layer("ssvq:k=16,d=8", (64, 64), "out", np.random.default_rng(0))])
    for key, least in (("index_fifo_vectors", 24), ("sign_fifo_vectors", 16)):
        simulate(program, load_machine("edge64", [f"decoder.{key}={least}"]))
        message = (
            rf"machine key decoder.{key} = {least - 1}: 4 look-ups .* 4-bit codes with 8 signs .* least {least} \("
        )
        with pytest.raises(SimError, match=message):
            simulate(program, load_machine("edge64", [f"decoder.{key}={least - 1}"]))


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
