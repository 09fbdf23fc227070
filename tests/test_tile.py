"""Weight streams against a slow twin that writes them bit by bit, strip by strip, tile by tile, row by row."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import CODECS, Coding, encode_randomly

from accel.codecs import EncodedLayer
from accel.errors import CompileError
from accel.machine import Array, Machine, load_machine
from compiler.tile import Tiling, pack_stream, reduction_order, stream_digests, tile_layer

relaxed = settings(deadline=None, max_examples=150)


def machine_of(rows: int, columns: int) -> Machine:
    base = load_machine("edge64-ideal")
    return replace(base, array=Array(rows, columns), sram=replace(base.sram, accumulator_bytes=1 << 16))


@st.composite
def cases(draw: st.DrawFn) -> tuple[EncodedLayer, tuple[int, ...], int, Machine]:
    """A random layer with the shape of its weight, its groups, and a machine."""
    groups = draw(st.sampled_from((1, 1, 2, 3, 8, 12)))
    columns, channels = draw(st.integers(1, 20)), draw(st.integers(1, 12))
    kernel = draw(st.sampled_from(((), (1, 1), (3, 3), (2, 3)))) if groups == 1 else (draw(st.sampled_from((1, 3))), 3)
    shape = (groups * columns, channels, *kernel)
    coding = Coding(draw(st.sampled_from(CODECS)), draw(st.sampled_from(("out", "in"))), draw(st.booleans()))
    seed = draw(st.integers(0, 1000))
    layer = encode_randomly((shape[0], int(np.prod(shape[1:]))), coding, np.random.default_rng(seed))
    side = st.sampled_from((8, 9, 16, 20, 64))
    return layer, shape, groups, machine_of(draw(side), draw(side))


def source_index(row: int, shape: tuple[int, ...], axis: str) -> int:
    """Streamed row -> reduction index of the source: for axis ``out`` the array walks tap row, tap column, channel."""
    if len(shape) == 2 or axis == "in":
        return row
    _, channels, height, width = shape
    taps, channel = divmod(row, channels)
    y, x = divmod(taps, width)
    return (channel * height + y) * width + x


def tile_vectors(tiling: Tiling, left: int, top: int) -> list[tuple[int, int]]:
    """(row, column) within the gemm of the first weight of each code in one tile, in order."""
    d = tiling.layout.vector_length
    rows = range(top, min(top + tiling.tile_rows, tiling.rows), d if tiling.vector_axis == "in" else 1)
    right = min(left + tiling.tile_columns, tiling.columns)
    columns = range(left, right, d if tiling.vector_axis == "out" else 1)
    return [(row, column) for row in rows for column in columns]


def strip_bits(layer: EncodedLayer, shape: tuple[int, ...], tiling: Tiling, first: int, left: int) -> list[int]:
    """Bits of one strip: its vectors in order, record by record."""
    d, layout = tiling.layout.vector_length, tiling.layout
    vectors = []
    for top in range(0, tiling.rows, tiling.tile_rows):
        for row, column in tile_vectors(tiling, left, top):
            out, reduction = first + column, source_index(row, shape, layer.vector_axis)
            at = (out // d, reduction) if layer.vector_axis == "out" else (out, reduction // d)
            side = [] if layer.side is None else [int(bit) for bit in layer.side[at]]
            codes = np.atleast_1d(layer.codes[at]).tolist()  # of several stages they follow one another
            vectors += [(code & (1 << layout.code_bits) - 1, side) for code in codes]
    bits: list[int] = []
    blank = (0, [0] * layout.side_bits)
    for start in range(0, len(vectors), layout.vectors_per_record):
        record = vectors[start : start + layout.vectors_per_record]
        record += [blank] * (layout.vectors_per_record - len(record))
        for code, _ in record:
            bits += [code >> i & 1 for i in range(layout.code_bits)]
        for _, side in record:
            bits += side
    return bits + [0] * (-len(bits) % 512)


def slow_stream(layer: EncodedLayer, shape: tuple[int, ...], tiling: Tiling) -> np.ndarray:
    """The whole stream, bit by bit."""
    bits: list[int] = []
    for gemm in range(tiling.gemms):
        for left in range(0, tiling.columns, tiling.tile_columns):
            bits += strip_bits(layer, shape, tiling, gemm * tiling.columns, left)
    return np.packbits(np.array(bits, np.uint8), bitorder="little")


def tiling_of(layer: EncodedLayer, groups: int, machine: Machine) -> Tiling | None:
    try:
        return tile_layer(layer, groups, machine, "w")
    except CompileError as error:
        assert "allowed" in str(error) and "\n" not in str(error)
        return None


@relaxed
@given(cases())
def test_streams_agree_with_the_walk(case: tuple[EncodedLayer, tuple[int, ...], int, Machine]) -> None:
    layer, shape, groups, machine = case
    tiling = tiling_of(layer, groups, machine)
    if tiling is None:
        return
    stream = pack_stream(layer, tiling, reduction_order(shape, layer.vector_axis))
    assert np.array_equal(stream, slow_stream(layer, shape, tiling))
    assert stream.size == tiling.gemms * tiling.gemm_blocks * 64


@relaxed
@given(cases())
def test_tiles_fit_the_array_and_cover_the_matrix(case: tuple[EncodedLayer, tuple[int, ...], int, Machine]) -> None:
    layer, _, groups, machine = case
    tiling = tiling_of(layer, groups, machine)
    if tiling is None:
        return
    assert tiling.tile_rows * tiling.groups_per_tile <= machine.array.rows
    assert tiling.tile_columns <= machine.array.columns
    assert tiling.gemms * tiling.columns == layer.shape[0] and tiling.rows == layer.shape[1]
    assert tiling.gemms in (1, groups)
    whole = layer.codec.vector_length if layer.vector_axis == "out" else 1
    assert tiling.tile_columns % whole == 0 or tiling.strips == 1
    assert tiling.tile_columns % (layer.shape[0] // groups) == 0 or tiling.groups_per_tile == 1
    if layer.vector_axis == "in":
        assert tiling.tile_rows % layer.codec.vector_length == 0 or tiling.tile_rows >= tiling.rows


@relaxed
@given(cases())
def test_digests_are_of_the_weights_as_streamed(case: tuple[EncodedLayer, tuple[int, ...], int, Machine]) -> None:
    layer, shape, groups, machine = case
    tiling = tiling_of(layer, groups, machine)
    if tiling is None:
        return
    decoded = layer.codec.decode(layer)
    walked = [[row[source_index(r, shape, layer.vector_axis)] for r in range(tiling.rows)] for row in decoded]
    blocks = np.array(walked, np.int8).reshape(tiling.gemms, tiling.columns, tiling.rows)
    expected = tuple(hashlib.sha256(block.tobytes()).hexdigest() for block in blocks)
    assert stream_digests(layer, tiling, reduction_order(shape, layer.vector_axis)) == expected


def layer_of(codec: str, axis: str, shape: tuple[int, int]) -> EncodedLayer:
    return encode_randomly(shape, Coding(codec, axis, False), np.random.default_rng(0))


def test_depthwise_groups_share_a_tile() -> None:
    tiling = tile_layer(layer_of("int8", "out", (32, 9)), 32, machine_of(64, 64), "w")
    assert (tiling.gemms, tiling.groups_per_tile, tiling.tile_rows, tiling.tile_columns) == (1, 7, 9, 7)


def test_depthwise_vectors_keep_whole_groups() -> None:
    tiling = tile_layer(layer_of("ssvq:k=16,d=8", "out", (32, 9)), 32, machine_of(72, 64), "w")
    assert (tiling.groups_per_tile, tiling.tile_columns) == (8, 8)


def test_a_tile_larger_than_the_ring_is_refused() -> None:
    layer, machine = layer_of("int8", "out", (16, 40)), machine_of(16, 16)
    small = replace(machine, sram=replace(machine.sram, weight_bytes=256))
    assert tile_layer(layer, 1, small, "w").tile_rows == 16
    with pytest.raises(CompileError, match="one tile of 20x20 takes 448 bytes of the weight ring"):
        tile_layer(layer_of("int8", "out", (20, 40)), 1, replace(small, array=Array(20, 20)), "w")


def test_large_groups_are_gemms_of_their_own() -> None:
    tiling = tile_layer(layer_of("int8", "out", (80, 70)), 2, machine_of(64, 64), "w")
    assert (tiling.gemms, tiling.columns, tiling.groups_per_tile, tiling.strips) == (2, 40, 1, 1)


@pytest.mark.parametrize(
    ("codec", "axis", "shape", "groups", "words"),
    [
        ("vq:k=65536,d=4", "out", (8, 8), 1, "codebook of vq:k=65536,d=4 takes 262144 bytes"),
        ("rvq:k=256,d=8,stages=5", "out", (8, 8), 1, "codebook of rvq:k=256,d=8,stages=5 takes 10240 bytes"),
        ("ssvq:k=16,d=32", "out", (32, 8), 1, "vectors of 32 along 'out' exceed the array of 16x16"),
        ("ssvq:k=16,d=32", "in", (8, 32), 1, "vectors of 32 along 'in' exceed the array of 16x16"),
        ("vq:k=4,d=8", "out", (60, 9), 3, "3 groups of 20 channels"),
    ],
)
def test_what_does_not_fit_is_refused(codec, axis, shape, groups, words) -> None:
    with pytest.raises(CompileError, match=words):
        tile_layer(layer_of(codec, axis, shape), groups, machine_of(16, 16), "w")
