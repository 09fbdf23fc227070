"""The record format against a slow twin that writes one integer a record, and against records worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.codecs.records import RecordLayout, pack_records, unpack_records
from accel.errors import CodecError


def slow_pack(codes, side, layout):
    group, packed = layout.vectors_per_record, b""
    for start in range(0, len(codes), group):
        record = position = 0
        for code in codes[start : start + group]:
            record |= int(code) << position
            position += layout.code_bits
        position = group * layout.code_bits
        for sign in side[start : start + group].reshape(-1) if side is not None else ():
            record |= int(sign) << position
            position += 1
        packed += record.to_bytes(layout.record_bytes, "little")
    return np.frombuffer(packed, np.uint8)


@st.composite
def streams(draw):
    length = draw(st.integers(1, 64))
    layout = RecordLayout(draw(st.integers(1, 16)), length, draw(st.sampled_from((0, length)) | st.integers(0, length)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(0, 150))
    codes = rng.integers(0, 1 << layout.code_bits, count).astype(np.uint16)
    return codes, rng.random((count, layout.side_bits)) < 0.5 if layout.side_bits else None, layout


def check(codes, side, layout):
    packed = pack_records(codes, side, layout)
    expected = slow_pack(codes, side, layout)
    if not layout.side_bits:  # pack_records may stop at the last byte used only if that is where the record ends
        assert packed.size == layout.stream_bytes(len(codes))
    np.testing.assert_array_equal(packed, expected)
    found_codes, found_side = unpack_records(packed, len(codes), layout)
    np.testing.assert_array_equal(found_codes, codes)
    if side is None:
        assert found_side is None
    else:
        np.testing.assert_array_equal(found_side, side)


@given(streams())
def test_packs_and_unpacks_as_the_slow_twin(stream):
    check(*stream)


@pytest.mark.parametrize("code_bits, length", [(8, 8), (1, 7), (9, 7), (4, 4), (16, 16), (8, 24), (16, 48), (1, 63)])
def test_aligned_records_hold_one_vector(code_bits, length):
    layout = RecordLayout(code_bits, length, length)
    assert (layout.vectors_per_record, layout.record_bytes) == (1, (code_bits + length) // 8)
    rng = np.random.default_rng(0)
    check(rng.integers(0, 1 << code_bits, 33).astype(np.uint16), rng.random((33, length)) < 0.5, layout)


@pytest.mark.parametrize(
    "layout, vectors, size",
    [
        (RecordLayout(8, 8, 8), 1, 2),
        (RecordLayout(4, 8, 8), 16, 24),
        (RecordLayout(6, 8, 8), 32, 56),
        (RecordLayout(5, 64, 64), 64, 552),
        (RecordLayout(9, 16, 11), 64, 160),
        (RecordLayout(5, 16, 11), 1, 2),
        (RecordLayout(8, 4, 0), 1, 1),
        (RecordLayout(4, 1, 0), 2, 1),
        (RecordLayout(6, 4, 0), 4, 3),
        (RecordLayout(7, 4, 0), 8, 7),
        (RecordLayout(16, 4, 0), 1, 2),
    ],
)
def test_record_sizes(layout, vectors, size):
    assert (layout.vectors_per_record, layout.record_bytes) == (vectors, size)
    assert layout.stream_bytes(0) == 0
    assert layout.stream_bytes(vectors + 1) == 2 * size


def test_aligned_record_by_hand():
    side = np.array([[1, 0, 0, 0, 0, 0, 1, 0]], bool)
    assert pack_records(np.array([0xAB], np.uint16), side, RecordLayout(8, 8, 8)).tolist() == [0xAB, 0b0100_0001]


def test_superblock_by_hand():
    """k=16, d=8: one beat of codes, then two beats of signs; the missing 14 vectors are zero."""
    side = np.zeros((2, 8), bool)
    side[1, 0] = True
    packed = pack_records(np.array([0x3, 0xC], np.uint16), side, RecordLayout(4, 8, 8))
    assert packed.tolist() == [0xC3, *[0] * 7, 0, 1, *[0] * 14]


@pytest.mark.parametrize("code_bits, length", [(0, 8), (17, 8), (8, 0), (8, 65)])
def test_impossible_layouts_are_refused(code_bits, length):
    with pytest.raises(CodecError, match="allowed: 1 to 16 bits, 1 to 64 weights"):
        RecordLayout(code_bits, length, length)


@pytest.mark.parametrize("side_bits", [-1, 9])
def test_impossible_side_bits_are_refused(side_bits):
    with pytest.raises(CodecError, match="side bits for 8 weights; allowed: 0 to 8"):
        RecordLayout(8, 8, side_bits)


def test_masks_by_hand():
    """code_bits 5 and an 11-bit mask index make an aligned word: index 0x7A5 above code 3."""
    side = np.array([[0x7A5 >> bit & 1 for bit in range(11)]], bool)
    packed = pack_records(np.array([3], np.uint16), side, RecordLayout(5, 16, 11))
    assert packed.view("<u2").tolist() == [3 | 0x7A5 << 5]


@pytest.mark.parametrize("length", [4, 8, 12])
def test_wrong_streams_are_refused(length):
    layout = RecordLayout(8, length, length)
    codes, side = np.zeros(3, np.uint16), np.zeros((3, length), bool)
    with pytest.raises(CodecError, match="with side bits None"):
        pack_records(codes, None, layout)
    with pytest.raises(CodecError, match="side bits"):
        pack_records(codes, side[:2], layout)
    with pytest.raises(CodecError, match="fit into 8 bits"):
        pack_records(codes + np.uint16(256), side, layout)
    packed = pack_records(codes, side, layout)
    with pytest.raises(CodecError, match=f"{packed.size - 1} given"):
        unpack_records(packed[:-1], 3, layout)
