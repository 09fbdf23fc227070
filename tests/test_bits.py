"""Bit packing against a slow twin that places one bit at a time."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.codecs.bits import pack_bits, packed_bytes, unpack_bits
from accel.errors import CodecError


def slow_pack(values, bits):
    packed = [0] * -(-len(values) * bits // 8)
    for index, value in enumerate(values):
        for bit in range(bits):
            position = index * bits + bit
            packed[position // 8] |= (int(value) >> bit & 1) << position % 8
    return np.array(packed, np.uint8)


@st.composite
def codes_and_width(draw):
    bits = draw(st.integers(1, 16))
    return draw(st.lists(st.integers(0, (1 << bits) - 1), max_size=70)), bits


@given(codes_and_width())
def test_packs_and_unpacks_as_the_slow_twin(case):
    values, bits = np.array(case[0], np.uint16), case[1]
    packed = pack_bits(values, bits)
    np.testing.assert_array_equal(packed, slow_pack(values, bits))
    np.testing.assert_array_equal(unpack_bits(packed, bits, len(values)), values)


@pytest.mark.parametrize("bits", range(1, 17))
def test_blocks_join_seamlessly(bits):
    """More codes than one internal block, and an odd number of them."""
    values = np.random.default_rng(bits).integers(0, 1 << bits, 2 * 65536 + 11).astype(np.uint16)
    packed = pack_bits(values, bits)
    assert packed.size == packed_bytes(values.size, bits)
    tail = 65536 - 8  # group-aligned, so the packed stream can be cut here
    np.testing.assert_array_equal(packed[tail * bits // 8 :][: 3 * bits], slow_pack(values[tail : tail + 24], bits))
    np.testing.assert_array_equal(unpack_bits(packed, bits, values.size), values)


def test_first_code_is_in_the_lowest_bits():
    assert pack_bits(np.array([0b101, 0b011, 0b110], np.uint16), 3).tolist() == [0b10_011_101, 0b1]


def test_unpacking_ignores_what_lies_behind_and_refuses_too_little():
    packed = pack_bits(np.arange(8, dtype=np.uint16), 5)
    assert unpack_bits(np.append(packed, np.uint8(255)), 5, 8).tolist() == list(range(8))
    with pytest.raises(CodecError, match="5 bytes, 4 given"):
        unpack_bits(packed[:4], 5, 8)


@pytest.mark.parametrize("bits", [0, 17, -1])
def test_widths_out_of_range_are_refused(bits):
    with pytest.raises(CodecError, match="allowed: 1 to 16"):
        pack_bits(np.zeros(1, np.uint16), bits)
    with pytest.raises(CodecError, match="allowed: 1 to 16"):
        unpack_bits(np.zeros(8, np.uint8), bits, 1)


@pytest.mark.parametrize("bits", [3, 8, 15])
def test_values_too_large_are_refused(bits):
    with pytest.raises(CodecError, match=f"value {1 << bits} does not fit into {bits} bits"):
        pack_bits(np.array([0, 1 << bits], np.uint16), bits)
