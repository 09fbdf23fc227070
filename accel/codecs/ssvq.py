"""Sign-splitting vector quantisation ``ssvq:k=K,d=D``: codewords of magnitudes, one sign bit for every weight."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from accel.codecs.base import (
    Codebook,
    EncodedLayer,
    VectorAxis,
    codes_shape,
    from_vectors,
    normalised,
    to_vectors,
)
from accel.codecs.vq import VectorCodec, look_up, nearest_codewords, required_codebook


@dataclass(frozen=True, slots=True)
class SSVQ(VectorCodec):
    """Magnitudes 0..127 by codeword, sign bit 1 = negative."""

    family: ClassVar[str] = "ssvq"
    lowest: ClassVar[int] = 0

    @property
    def has_signs(self) -> bool:
        return True

    def encode(
        self,
        weights: npt.NDArray[np.float32],
        codebook: Codebook | None,
        scale: npt.NDArray[np.float32],
        vector_axis: VectorAxis = "out",
    ) -> EncodedLayer:
        """Signs apart, then the codeword nearest in L2 to the magnitudes; ties go to the lowest index."""
        codebook = required_codebook(self, codebook)
        vectors = to_vectors(normalised(weights, scale), self.d, vector_axis)
        shape = (int(weights.shape[0]), int(weights.shape[1]))
        grid = codes_shape(self, shape, vector_axis)
        codes = nearest_codewords(np.abs(vectors), codebook).reshape(grid)
        return EncodedLayer(self, shape, vector_axis, codes, (vectors < 0).reshape(*grid, self.d), codebook, scale)

    def decode(self, layer: EncodedLayer) -> npt.NDArray[np.int8]:
        """Look every index up, negate where the sign bit is set."""
        assert layer.side is not None, "validated on construction"
        magnitudes = look_up(required_codebook(self, layer.codebook), layer.codes)
        return from_vectors(apply_signs(magnitudes, layer.side), layer.shape, layer.vector_axis)


def apply_signs(magnitudes: Codebook, negative: npt.NDArray[np.bool_]) -> Codebook:
    """``-m`` where negative: two's complement by xor and subtract, in place and without branches."""
    mask = np.negative(negative.view(np.int8)).reshape(magnitudes.shape)
    magnitudes ^= mask
    magnitudes -= mask
    return magnitudes
