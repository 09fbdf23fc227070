"""What every codec is: one frozen object with the numbers hardware needs and the NumPy encode/decode that is the oracle.

A layer is seen as the matrix ``W[out, reduction]``. Vectors of ``vector_length`` weights run along ``vector_axis``:
``out`` (d adjacent output channels at one reduction index) or ``in`` (d adjacent reduction indices of one channel).
A *code* is what is stored per vector: an index into the codebook, or for integer codecs (vector length 1) the
two's-complement integer itself.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt

VectorAxis = Literal["out", "in"]
VECTOR_AXES: tuple[VectorAxis, ...] = ("out", "in")

Codes = npt.NDArray[np.uint16]
Codebook = npt.NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class EncodedLayer:
    """One weight matrix in compressed form, before any packing into bits.

    ``shape`` is ``(out, reduction)`` of the real matrix; ``codes`` cover the axis padded to a multiple of the vector
    length: ``[ceil(out/d), reduction]`` for axis ``out``, ``[out, ceil(reduction/d)]`` for ``in``. ``negative`` (bool,
    same layout with a trailing axis of length d) is present only for sign-splitting codecs. ``codebook`` is
    ``int8[k, d]`` or ``None`` for integer codecs. ``scale`` is float32 ``[1]`` (per tensor) or ``[out]`` (per channel).
    """

    codec: Codec
    shape: tuple[int, int]
    vector_axis: VectorAxis
    codes: Codes
    negative: npt.NDArray[np.bool_] | None
    codebook: Codebook | None
    scale: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        self.codec.validate(self)


@dataclass(frozen=True, slots=True)
class Codec(ABC):
    """Parameters of one codec. ``family`` is its row in ``CODECS``; ``str(codec)`` its spelling (``ssvq:k=16,d=8``)."""

    family: ClassVar[str]

    @property
    @abstractmethod
    def vector_length(self) -> int:
        """Weights per code (d)."""

    @property
    @abstractmethod
    def code_bits(self) -> int:
        """Bits of one stored code: log2 k, or the integer's width."""

    @property
    @abstractmethod
    def codebook_entries(self) -> int:
        """Codewords per layer (k); 0 for integer codecs."""

    @property
    @abstractmethod
    def has_signs(self) -> bool:
        """Whether one sign bit a weight (1 = negative) is stored beside the code."""

    @abstractmethod
    def encode(
        self,
        weights: npt.NDArray[np.float32],
        codebook: Codebook | None,
        scale: npt.NDArray[np.float32],
        vector_axis: VectorAxis = "out",
    ) -> EncodedLayer:
        """Code every vector of ``weights[out, reduction] / scale`` by its nearest codeword (or integer)."""

    @abstractmethod
    def decode(self, layer: EncodedLayer) -> npt.NDArray[np.int8]:
        """The decoded integers ``int8[out, reduction]`` (-127..127), to be multiplied by ``scale``."""

    @abstractmethod
    def validate(self, layer: EncodedLayer) -> None:
        """Raise ``CodecError`` unless the layer's arrays have the shapes, types and ranges this codec promises."""

    @property
    def bits_per_weight(self) -> float:
        """Stored bits per weight, codebook and scale apart (design table: log2 k / d, +1 with signs)."""
        return self.code_bits / self.vector_length + (1 if self.has_signs else 0)

    @property
    def codebook_bytes(self) -> int:
        """Bytes of one layer's codebook as the decoder holds it (one int8 per element)."""
        return self.codebook_entries * self.vector_length
