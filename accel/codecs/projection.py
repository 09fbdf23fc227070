"""Low-rank codebooks: ``int8[k, r]`` times a projection ``int8[r, m]`` is a codebook of k codewords of m weights.

Folding is integer and done once, when a layer is loaded: ``clip(round(C @ P / 2**shift), -127, 127)``, rounded as
``accel.arithmetic.rounding_shift`` does. What it gives is an ordinary codebook.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel.arithmetic import rounding_shift
from accel.codecs.records import MAX_VECTOR_LENGTH
from accel.errors import CodecError

MAX_FOLD_SHIFT = 20  # sums are below 2**20: at most 64 products of 7-bit magnitudes
FOLD_LIMIT = 127

Integers8 = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Projection:
    """``matrix`` is ``int8[r, m]`` of -127..127, 1 <= r <= m <= 64; raises ``CodecError`` otherwise."""

    matrix: Integers8
    shift: int

    def __post_init__(self) -> None:
        if self.matrix.ndim != 2 or self.matrix.dtype != np.int8:
            raise CodecError(f"projection {self.matrix.dtype}{list(self.matrix.shape)}; expected int8[r, m]")
        rank, length = self.matrix.shape
        check_rank(rank, length)
        if not 0 <= self.shift <= MAX_FOLD_SHIFT:
            raise CodecError(f"projection: shift {self.shift}; allowed: 0 to {MAX_FOLD_SHIFT}")
        if int(self.matrix.min()) < -FOLD_LIMIT:
            raise CodecError(f"projection element {self.matrix.min()}; allowed: {-FOLD_LIMIT} to {FOLD_LIMIT}")

    def fold(self, codebook: Integers8) -> Integers8:
        """``int8[k, m]``, the codewords that ``codebook[k, r]`` stands for."""
        sums = codebook.astype(np.int64) @ self.matrix.astype(np.int64)
        return rounding_shift(sums, self.shift).clip(-FOLD_LIMIT, FOLD_LIMIT).astype(np.int8)


def check_rank(rank: int, length: int) -> None:
    """Raise ``CodecError`` unless ``1 <= rank <= length <= 64``."""
    if not 1 <= rank <= length <= MAX_VECTOR_LENGTH:
        raise CodecError(
            f"rank {rank} of codewords of {length} weights; allowed: 1 to m, and m at most {MAX_VECTOR_LENGTH}"
        )
