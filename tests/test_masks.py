"""Mask indices against the combinatorial number system as it is written down, and what is refused."""

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel.codecs.masks import (
    MAX_INDEX_BITS,
    Mask,
    kept_weights,
    largest_kept,
    mask_indices,
    masks,
    pack_masks,
)
from accel.errors import CodecError

SHAPES = [
    (kept, group) for group in range(2, 17) for kept in range(1, group) if math.comb(group, kept) <= 1 << MAX_INDEX_BITS
]


def slow_rank(positions):
    """The definition: the sum of binomial(p_i, i) over kept positions p_1 < p_2 < ..."""
    return sum(math.comb(position, i) for i, position in enumerate(sorted(positions), 1))


@pytest.mark.parametrize("kept, group", SHAPES, ids=str)
def test_the_table_is_the_number_system(kept, group):
    table = masks(kept, group)
    assert (table.dtype, table.shape) == (np.uint16, (Mask(kept, group).count,))
    for positions in combinations(range(group), kept):
        assert table[slow_rank(positions)] == sum(1 << position for position in positions)


def test_by_hand():
    assert masks(2, 4).tolist() == [0b0011, 0b0101, 0b0110, 0b1001, 0b1010, 0b1100]
    assert (Mask(4, 16).count, Mask(4, 16).index_bits, Mask(2, 4).index_bits) == (1820, 11, 3)
    with pytest.raises(ValueError, match="read-only"):
        masks(2, 4)[0] = 0


@st.composite
def vectors(draw):
    mask = Mask(*draw(st.sampled_from(SHAPES)))
    groups = draw(st.integers(1, 64 // mask.group))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    return mask, rng.integers(-3, 4, (draw(st.integers(0, 9)), groups * mask.group)).astype(np.float64)


@given(vectors())
def test_masks_survive_packing(case):
    mask, weights = case
    kept = largest_kept(weights, mask)
    side = pack_masks(kept, mask)
    assert side.shape == (len(weights), mask.vector_bits(weights.shape[1]))
    for row, bits, flags in zip(weights, side, kept, strict=True):
        for group in range(len(row) // mask.group):
            cut = slice(group * mask.group, (group + 1) * mask.group)
            order = sorted(range(mask.group), key=lambda i, values=row[cut]: (-abs(values[i]), i))[: mask.kept]
            assert np.flatnonzero(flags[cut]).tolist() == sorted(order)
            field = bits[group * mask.index_bits : (group + 1) * mask.index_bits]
            assert sum(int(bit) << i for i, bit in enumerate(field)) == slow_rank(order)
    np.testing.assert_array_equal(kept_weights(side, mask), kept)


def test_an_index_without_mask_is_refused():
    assert mask_indices(np.ones((1, 11), bool) & (1819 >> np.arange(11) & 1 > 0), Mask(4, 16)).tolist() == [[1819]]
    with pytest.raises(CodecError, match="mask 2:4: mask index 6 is out of range; allowed: below 6"):
        kept_weights(np.array([[0, 0, 0, 0, 1, 1]], bool), Mask(2, 4))


def test_another_number_of_kept_weights_is_refused():
    with pytest.raises(CodecError, match="allowed: 2"):
        pack_masks(np.array([[1, 1, 1, 0]], bool), Mask(2, 4))


@pytest.mark.parametrize(
    "kept, group, message",
    [
        (1, 1, "M=1 weights; allowed: 2 to 16"),
        (4, 17, "M=17 weights; allowed: 2 to 16"),
        (0, 4, "N=0 of M=4 kept; allowed: 1 to 3"),
        (4, 4, "N=4 of M=4 kept; allowed: 1 to 3"),
        (8, 16, "an index of 14 bits; allowed: at most 12 bits, for M=16 that is N up to 4 and from 12"),
        (6, 15, "an index of 13 bits; allowed: at most 12 bits, for M=15 that is N up to 5 and from 10"),
    ],
)
def test_impossible_masks_are_refused(kept, group, message):
    with pytest.raises(CodecError, match=message):
        Mask(kept, group)


def test_masks_fill_vectors():
    with pytest.raises(CodecError, match="vectors of 10 weights; allowed: multiples of M=4"):
        Mask(2, 4).vector_bits(10)
