"""Low-rank vector quantisation ``lr2vq:k=K,m=M,r=R`` (LR2VQ, arXiv 2211.11397): codewords of M weights are R numbers
times a projection the layer shares. Folded when the layer is loaded, it decodes as ``vq:k=K,d=M``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from accel.codecs.base import Codebook, EncodedLayer, VectorAxis
from accel.codecs.projection import Projection
from accel.codecs.vq import CodebookCodec, decode_vectors, nearest_codes, required_codebook
from accel.errors import CodecError


@dataclass(frozen=True, slots=True)
class LR2VQ(CodebookCodec):
    """A codebook ``int8[k, r]`` and a projection ``int8[r, m]``, all -127..127; raises ``CodecError`` unless r is at
    most k and m."""

    family: ClassVar[str] = "lr2vq"
    lowest: ClassVar[int] = -127
    m: int
    r: int

    def __post_init__(self) -> None:
        CodebookCodec.__post_init__(self)
        if not 1 <= self.r <= min(self.k, self.m):
            raise CodecError(f"{self}: r={self.r}; allowed: 1 to {min(self.k, self.m)}, no more than k and m")

    @property
    def vector_length(self) -> int:
        return self.m

    @property
    def codebook_shape(self) -> tuple[int, int]:
        return self.k, self.r

    @property
    def projection_shape(self) -> tuple[int, int]:
        return self.r, self.m

    def encode(
        self,
        weights: npt.NDArray[np.float32],
        codebook: Codebook | None,
        scale: npt.NDArray[np.float32],
        vector_axis: VectorAxis = "out",
        projection: Projection | None = None,
    ) -> EncodedLayer:
        """Nearest folded codeword in L2 of every vector of ``weights / scale``; ties go to the lowest index."""
        folded = self._folded(required_codebook(self, codebook), projection)
        codes = nearest_codes(self, weights, folded, scale, vector_axis)
        shape = (int(weights.shape[0]), int(weights.shape[1]))
        return EncodedLayer(self, shape, vector_axis, codes, None, codebook, scale, projection)

    def codewords(self, layer: EncodedLayer) -> Codebook:
        """The folded codebook ``int8[k, m]``."""
        return self._folded(required_codebook(self, layer.codebook), layer.projection)

    def decode(self, layer: EncodedLayer) -> npt.NDArray[np.int8]:
        """Fold, then look every index up."""
        return decode_vectors(self, layer)

    def _folded(self, codebook: Codebook, projection: Projection | None) -> Codebook:
        if projection is None or projection.matrix.shape != self.projection_shape:
            found = None if projection is None else list(projection.matrix.shape)
            raise CodecError(f"{self}: projection of shape {found}; expected {list(self.projection_shape)}")
        return projection.fold(codebook)
