"""Masked vector quantisation ``mvq:k=K,d=D,nm=N:M`` (MVQ, arXiv 2412.10261): of every M weights of a vector only N are
kept; those are the codeword's, the others 0."""

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
from accel.codecs.masks import Mask, kept_weights, largest_kept, mask_indices, pack_masks
from accel.codecs.records import SideBits
from accel.codecs.vq import VectorCodec, look_up, nearest_codewords, required_codebook


@dataclass(frozen=True, slots=True)
class MVQ(VectorCodec):
    """Codewords hold -127..127; beside each code, D/M mask indices (``accel.codecs.masks``)."""

    family: ClassVar[str] = "mvq"
    lowest: ClassVar[int] = -127
    nm: Mask

    def __post_init__(self) -> None:
        VectorCodec.__post_init__(self)
        self.nm.vector_bits(self.d)

    @property
    def mask(self) -> Mask:
        return self.nm

    def encode(
        self,
        weights: npt.NDArray[np.float32],
        codebook: Codebook | None,
        scale: npt.NDArray[np.float32],
        vector_axis: VectorAxis = "out",
    ) -> EncodedLayer:
        """Keep the N largest of every M weights (in units of ``scale``; of equals the first), then take the codeword
        nearest to them in L2; ties go to the lowest index."""
        codebook = required_codebook(self, codebook)
        vectors = to_vectors(normalised(weights, scale), self.d, vector_axis)
        kept = largest_kept(vectors, self.nm)
        shape = (int(weights.shape[0]), int(weights.shape[1]))
        grid = codes_shape(self, shape, vector_axis)
        codes = nearest_codewords(vectors * kept, codebook, kept).reshape(grid)
        return EncodedLayer(
            self, shape, vector_axis, codes, pack_masks(kept, self.nm).reshape(*grid, -1), codebook, scale
        )

    def decode(self, layer: EncodedLayer) -> npt.NDArray[np.int8]:
        """Look every index up, put 0 where the mask keeps nothing."""
        assert layer.side is not None, "validated on construction"
        vectors = look_up(required_codebook(self, layer.codebook), layer.codes)
        side = layer.side.reshape(len(vectors), -1)
        return from_vectors(apply_masks(vectors, side, self.nm), layer.shape, layer.vector_axis)

    def validate(self, layer: EncodedLayer) -> None:
        """Besides shapes and codewords: every mask index must name a mask."""
        VectorCodec.validate(self, layer)
        assert layer.side is not None, "its shape was checked"
        mask_indices(layer.side.reshape(-1, self.layout.side_bits), self.nm)


def apply_masks(vectors: Codebook, side: SideBits, mask: Mask) -> Codebook:
    """``vectors[n, d]`` with zeros where the masks of ``side[n, side_bits]`` keep nothing, in place."""
    vectors *= kept_weights(side, mask)
    return vectors
