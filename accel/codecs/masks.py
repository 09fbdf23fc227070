"""N:M masks: of every group of M weights N are kept, the others are 0. A mask is stored as a combination index.

For kept positions p_1 < p_2 < ... < p_N of a group the index is the sum of binomial(p_i, i): the combinatorial number
system in colexicographic order, which is the order of the masks as numbers (bit p set: weight p of the group is kept).
``masks`` is the one table of it: encoder, decoder, simulator and the decoder's ROM read it.

A vector of d weights stores d/M indices of ``index_bits`` bits, group 0 (the first weights) in the lowest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from accel.errors import CodecError

MAX_GROUP = 16
MAX_INDEX_BITS = 12  # 4096 masks: what a ROM at each look-up port may hold

Flags = npt.NDArray[np.bool_]
MaskIndices = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Mask:
    """``kept`` weights of every ``group``; raises ``CodecError`` unless ``group`` is 2 to 16, ``kept`` below it and
    an index at most 12 bits."""

    kept: int
    group: int

    def __post_init__(self) -> None:
        if not 2 <= self.group <= MAX_GROUP:
            raise CodecError(f"mask {self}: groups of M={self.group} weights; allowed: 2 to {MAX_GROUP}")
        if not 1 <= self.kept < self.group:
            raise CodecError(f"mask {self}: N={self.kept} of M={self.group} kept; allowed: 1 to {self.group - 1}")
        if self.index_bits > MAX_INDEX_BITS:
            narrow = max(n for n in range(self.group // 2) if _index_bits(n, self.group) <= MAX_INDEX_BITS)
            raise CodecError(
                f"mask {self}: an index of {self.index_bits} bits; allowed: at most {MAX_INDEX_BITS} bits, for "
                f"M={self.group} that is N up to {narrow} and from {self.group - narrow}"
            )

    def __str__(self) -> str:
        return f"{self.kept}:{self.group}"

    @property
    def count(self) -> int:
        """Masks of this shape: binomial(M, N); indices are below it."""
        return math.comb(self.group, self.kept)

    @property
    def index_bits(self) -> int:
        """Bits of one index: log2 of ``count``, rounded up."""
        return _index_bits(self.kept, self.group)

    def vector_bits(self, vector_length: int) -> int:
        """Bits of all indices of a vector; raises ``CodecError`` unless groups fill it."""
        if vector_length % self.group:
            raise CodecError(f"mask {self}: vectors of {vector_length} weights; allowed: multiples of M={self.group}")
        return vector_length // self.group * self.index_bits


def _index_bits(kept: int, group: int) -> int:
    return (math.comb(group, kept) - 1).bit_length()


@lru_cache(maxsize=64)
def masks(kept: int, group: int) -> npt.NDArray[np.uint16]:
    """``uint16[binomial(group, kept)]``: the mask of every index, bit p set where weight p of the group is kept."""
    table = np.array([mask for mask in range(1 << group) if mask.bit_count() == kept], np.uint16)
    table.flags.writeable = False
    return table


@lru_cache(maxsize=64)
def _flags(mask: Mask) -> Flags:
    """``bool[count, group]``: ``masks`` with a byte for each weight."""
    bits = np.arange(mask.group, dtype=np.uint16)
    return (masks(mask.kept, mask.group)[:, None] >> bits & 1).astype(np.bool_)


def largest_kept(vectors: npt.NDArray[np.float64], mask: Mask) -> Flags:
    """``bool[n, d]``: the N largest magnitudes of every group of ``vectors[n, d]``; of equals the first."""
    groups = -np.abs(vectors.reshape(-1, mask.group))
    kept = np.zeros(groups.shape, np.bool_)
    order = np.argsort(groups, axis=1, kind="stable")[:, : mask.kept]
    np.put_along_axis(kept, order, True, axis=1)
    return kept.reshape(vectors.shape)


def pack_masks(kept: Flags, mask: Mask) -> Flags:
    """Side bits ``bool[n, side_bits]`` of the masks of ``kept[n, d]``; raises ``CodecError`` if a group keeps another
    number of weights."""
    groups = kept.reshape(-1, mask.group)
    if (groups.sum(axis=1) != mask.kept).any():
        raise CodecError(f"mask {mask}: a group keeps another number of weights; allowed: {mask.kept}")
    words = groups.astype(np.uint16) @ (1 << np.arange(mask.group)).astype(np.uint16)
    indices = np.searchsorted(masks(mask.kept, mask.group), words).astype(np.uint16)
    side = indices[:, None] >> np.arange(mask.index_bits, dtype=np.uint16) & 1
    return side.astype(np.bool_).reshape(len(kept), mask.vector_bits(kept.shape[1]))


def mask_indices(side: Flags, mask: Mask) -> MaskIndices:
    """``uint16[n, d/M]`` from ``side[n, side_bits]``; raises ``CodecError`` for an index that no mask has."""
    weights = (1 << np.arange(mask.index_bits)).astype(np.uint16)
    fields = side.reshape(len(side), side.shape[1] // mask.index_bits, mask.index_bits)
    indices: MaskIndices = fields.astype(np.uint16) @ weights
    if indices.max(initial=0) >= mask.count:
        raise CodecError(f"mask {mask}: mask index {int(indices.max())} is out of range; allowed: below {mask.count}")
    return indices


def kept_weights(side: Flags, mask: Mask) -> Flags:
    """``bool[n, d]`` from ``side[n, side_bits]``: which weights the masks keep; raises as ``mask_indices`` does."""
    flags = _flags(mask).take(mask_indices(side, mask), axis=0)
    return flags.reshape(len(side), flags.shape[1] * mask.group)
