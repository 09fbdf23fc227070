"""Vector quantisation ``vq:k=K,d=D``: every vector of d weights is the index of one of k int8 codewords."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from accel.codecs.base import (
    Codebook,
    Codec,
    EncodedLayer,
    VectorAxis,
    check_layer,
    codes_shape,
    from_vectors,
    normalised,
    to_vectors,
)
from accel.codecs.bits import MAX_BITS
from accel.codecs.masks import Flags
from accel.codecs.records import MAX_VECTOR_LENGTH
from accel.errors import CodecError

_BLOCK_DISTANCES = 1 << 19  # distances held at once: 4 MiB, within the last-level cache


@dataclass(frozen=True, slots=True)
class CodebookCodec(Codec):
    """What codecs with a codebook share: k codewords, k a power of two; raises ``CodecError`` otherwise."""

    lowest: ClassVar[int]
    k: int

    def __post_init__(self) -> None:
        if not 2 <= self.k <= 1 << MAX_BITS or self.k & (self.k - 1):
            raise CodecError(
                f"{self}: k={self.k} is not a power of two from 2 to {1 << MAX_BITS}{_near_powers(self.k)}"
            )
        if not 1 <= self.vector_length <= MAX_VECTOR_LENGTH:
            name = fields(self)[1].name
            raise CodecError(f"{self}: {name}={self.vector_length} weights a vector; allowed: 1 to {MAX_VECTOR_LENGTH}")

    @property
    def code_bits(self) -> int:
        return self.k.bit_length() - 1

    @property
    def codebook_entries(self) -> int:
        return self.k

    def codewords(self, layer: EncodedLayer) -> Codebook:
        """The codebook ``int8[k, vector_length]`` that codes are looked up in."""
        return required_codebook(self, layer.codebook)

    def validate(self, layer: EncodedLayer) -> None:
        """Besides shapes: codeword elements must lie in ``lowest..127``."""
        check_layer(layer)
        if layer.codebook is not None and int(layer.codebook.min()) < self.lowest:
            raise CodecError(f"{self}: codebook element {layer.codebook.min()}; allowed: {self.lowest} to 127")


@dataclass(frozen=True, slots=True)
class VectorCodec(CodebookCodec):
    """Codebook codecs whose codewords are stored as they are: d weights each."""

    d: int

    @property
    def vector_length(self) -> int:
        return self.d


@dataclass(frozen=True, slots=True)
class VQ(VectorCodec):
    """Plain vector quantisation; codewords hold -127..127."""

    family: ClassVar[str] = "vq"
    lowest: ClassVar[int] = -127

    def encode(
        self,
        weights: npt.NDArray[np.float32],
        codebook: Codebook | None,
        scale: npt.NDArray[np.float32],
        vector_axis: VectorAxis = "out",
    ) -> EncodedLayer:
        """Nearest codeword in L2 of every vector of ``weights / scale``; ties go to the lowest index."""
        codes = nearest_codes(self, weights, required_codebook(self, codebook), scale, vector_axis)
        shape = (int(weights.shape[0]), int(weights.shape[1]))
        return EncodedLayer(self, shape, vector_axis, codes, None, codebook, scale)

    def decode(self, layer: EncodedLayer) -> npt.NDArray[np.int8]:
        """Look every index up."""
        return decode_vectors(self, layer)


def nearest_codes(
    codec: CodebookCodec,
    weights: npt.NDArray[np.float32],
    codewords: Codebook,
    scale: npt.NDArray[np.float32],
    vector_axis: VectorAxis,
) -> npt.NDArray[np.uint16]:
    """``EncodedLayer.codes``: for each vector of ``weights / scale`` the nearest of ``codewords[k, vector_length]``."""
    vectors = to_vectors(normalised(weights, scale), codec.vector_length, vector_axis)
    shape = (int(weights.shape[0]), int(weights.shape[1]))
    return nearest_codewords(vectors, codewords).reshape(codes_shape(codec, shape, vector_axis))


def decode_vectors(codec: CodebookCodec, layer: EncodedLayer) -> npt.NDArray[np.int8]:
    """``int8[out, reduction]``: every index looked up."""
    return from_vectors(look_up(codec.codewords(layer), layer.codes), layer.shape, layer.vector_axis)


def required_codebook(codec: Codec, codebook: Codebook | None) -> Codebook:
    """``codebook``, or ``CodecError`` if it is missing or of another shape or type."""
    expected = codec.codebook_shape or (0, 0)
    if codebook is None or codebook.shape != expected or codebook.dtype != np.int8:
        found = None if codebook is None else f"{codebook.dtype}{list(codebook.shape)}"
        raise CodecError(f"{codec}: codebook {found}; expected int8{list(expected)}")
    return codebook


def look_up(codebook: Codebook, codes: npt.NDArray[np.uint16]) -> Codebook:
    """Codewords ``int8[n, d]`` of all codes in row-major order; rows move as single words where d allows."""
    d = codebook.shape[1]
    if d in (2, 4, 8):
        rows = np.ascontiguousarray(codebook).view(f"<u{d}").reshape(-1)
        return rows.take(codes.reshape(-1)).view(np.int8).reshape(-1, d)
    return codebook.take(codes.reshape(-1), axis=0)


def nearest_codewords(
    vectors: npt.NDArray[np.float64], codebook: Codebook, kept: Flags | npt.NDArray[np.float64] | None = None
) -> npt.NDArray[np.uint16]:
    """Index of the codeword nearest to each of ``vectors[n, d]``, ties to the lowest; memory is bounded by blocks.

    With ``kept[n, d]`` only those weights count, or each as much as that says; ``vectors`` must be multiplied by it.
    ``|x - c|^2`` is ranked by ``|c|^2 / 2 - x.c``, the norm being that of the weights kept. In double precision the
    products with 8-bit codewords are exact and so, for weights of similar magnitude, are the sums: ties do not depend
    on the BLAS or its threads.
    """
    words = codebook.astype(np.float64)
    half_squares = (words * words).T / 2
    half_norms = half_squares.sum(axis=0)
    codes = np.empty(len(vectors), np.uint16)
    rows = max(1, _BLOCK_DISTANCES // len(codebook))
    for start in range(0, len(vectors), rows):
        block = slice(start, start + rows)
        ranking = vectors[block] @ words.T
        np.subtract(half_norms if kept is None else kept[block] @ half_squares, ranking, out=ranking)
        codes[block] = ranking.argmin(axis=1)
    return codes


def _near_powers(k: int) -> str:
    below = 1 << (max(k, 2).bit_length() - 1)
    near = sorted({min(max(power, 2), 1 << MAX_BITS) for power in (below, below * 2)}) if k > 1 else [2]
    return f"; nearest: {' and '.join(map(str, near))}"
