"""What every codec is: a frozen object with the numbers hardware needs and the NumPy encode/decode, the oracle.

A layer is seen as the matrix ``W[out, reduction]``. Vectors of ``vector_length`` weights run along ``vector_axis``:
``out`` (d adjacent output channels at one reduction index) or ``in`` (d adjacent reduction indices of one channel).
A *code* is what is stored per vector: an index into the codebook, or for integer codecs (vector length 1) the
two's-complement integer itself.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from accel.codecs.bits import packed_bytes
from accel.codecs.masks import Mask
from accel.codecs.projection import Projection
from accel.codecs.records import RecordLayout, SideBits, side_bits
from accel.errors import CodecError, listed

VectorAxis = Literal["out", "in"]
VECTOR_AXES: tuple[VectorAxis, ...] = ("out", "in")

Codes = npt.NDArray[np.uint16]
Codebook = npt.NDArray[np.int8]

_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class EncodedLayer:
    """One weight matrix in compressed form, before any packing into bits.

    ``shape`` is ``(out, reduction)`` of the real matrix; ``codes`` cover the axis padded to a multiple of the vector
    length: ``[ceil(out/d), reduction]`` for axis ``out``, ``[out, ceil(reduction/d)]`` for ``in``, with a trailing axis
    of ``codes_per_vector`` if that is more than 1. ``side`` (bool, same layout with a trailing axis of ``side_bits``)
    is what each vector stores beside its code: signs (1 = negative) or mask indices (``accel.codecs.masks``); ``None``
    for codecs without. ``codebook`` is ``int8[k, d]`` (of several stages all, ``int8[stages*k, d]``), or ``None`` for
    integer codecs; with a ``projection`` it is ``int8[k, r]`` and folded to ``[k, d]`` before use. ``scale`` is float32
    ``[1]`` (per tensor) or ``[out]`` (per channel).
    """

    codec: Codec
    shape: tuple[int, int]
    vector_axis: VectorAxis
    codes: Codes
    side: SideBits | None
    codebook: Codebook | None
    scale: npt.NDArray[np.float32]
    projection: Projection | None = None

    def __post_init__(self) -> None:
        self.codec.validate(self)


@dataclass(frozen=True, slots=True)
class Codec(ABC):
    """Parameters of one codec. ``family`` is its row in ``CODECS``; ``str(codec)`` its spelling (``ssvq:k=16,d=8``)."""

    family: ClassVar[str]

    def __str__(self) -> str:
        """The spelling ``parse_codec`` reads back."""
        values = ",".join(f"{row.name}={getattr(self, row.name)}" for row in fields(self))
        return f"{self.family}:{values}" if values else self.family

    @property
    @abstractmethod
    def vector_length(self) -> int:
        """Weights per vector (d)."""

    @property
    def codes_per_vector(self) -> int:
        """Codes whose codewords add up to a vector: the stages of residual codecs, else 1."""
        return 1

    @property
    @abstractmethod
    def code_bits(self) -> int:
        """Bits of one stored code: log2 k, or the integer's width."""

    @property
    @abstractmethod
    def codebook_entries(self) -> int:
        """Codewords per layer (k, of several stages all); 0 for integer codecs."""

    @property
    def codebook_shape(self) -> tuple[int, int] | None:
        """Shape of the codebook as stored; ``None`` for integer codecs."""
        return (self.codebook_entries, self.vector_length) if self.codebook_entries else None

    @property
    def projection_shape(self) -> tuple[int, int] | None:
        """Shape ``(r, m)`` of the projection stored with the codebook, if it is folded from two factors."""
        return None

    @property
    def has_signs(self) -> bool:
        """Whether one sign bit a weight (1 = negative) is stored beside the code."""
        return False

    @property
    def mask(self) -> Mask | None:
        """Shape of the masks whose indices are stored beside the code, if any."""
        return None

    @property
    def layout(self) -> RecordLayout:
        """The records of its weight streams."""
        beside = side_bits(self.vector_length, self.has_signs, self.mask)
        return RecordLayout(self.code_bits, self.vector_length, beside, self.codes_per_vector)

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
        """Stored bits per weight, codebook and scale apart: log2 k / d, times the stages, +1 with signs, + the bits of
        a mask index over the weights it stands for."""
        return (self.code_bits * self.codes_per_vector + self.layout.side_bits) / self.vector_length

    @property
    def codebook_bytes(self) -> int:
        """Bytes of one layer's codebook as the decoder holds it (one int8 per element)."""
        return self.codebook_entries * self.vector_length

    @property
    def stored_codebook_bytes(self) -> int:
        """Bytes of one layer's codebook in files and DRAM: its factors, if it is folded from two."""
        return sum(math.prod(shape) for shape in (self.codebook_shape, self.projection_shape) if shape)


def codes_shape(codec: Codec, shape: tuple[int, int], vector_axis: VectorAxis) -> tuple[int, ...]:
    """Shape of ``EncodedLayer.codes`` for a matrix of ``shape``: ``vector_grid``, and the codes of a vector if it has
    several."""
    grid = vector_grid(codec, shape, vector_axis)
    return grid if codec.codes_per_vector == 1 else (*grid, codec.codes_per_vector)


def vector_grid(codec: Codec, shape: tuple[int, int], vector_axis: VectorAxis) -> tuple[int, int]:
    """Vectors along both axes of a matrix of ``shape``; the vector axis is rounded up to whole vectors."""
    out, reduction = shape
    if vector_axis == "out":
        return -(-out // codec.vector_length), reduction
    return out, -(-reduction // codec.vector_length)


def padded_weights(codec: Codec, shape: tuple[int, int], vector_axis: VectorAxis) -> int:
    """Zeros appended because the vector length does not divide the vector axis; they are stored like real weights."""
    return math.prod(vector_grid(codec, shape, vector_axis)) * codec.vector_length - math.prod(shape)


def padded_bytes(codec: Codec, shape: tuple[int, int], vector_axis: VectorAxis) -> float:
    """Stored bytes spent on ``padded_weights``."""
    return padded_weights(codec, shape, vector_axis) * codec.bits_per_weight / 8


def stored_bytes(codec: Codec, shape: tuple[int, int], vector_axis: VectorAxis, scales: int) -> dict[str, int]:
    """Bytes one layer takes by kind (``weights`` for integer codecs or ``indices``, ``signs``, ``codebooks``,
    ``scales``), densely packed. ``scales`` is the number of float32 scales (1, or one an output channel)."""
    vectors = math.prod(vector_grid(codec, shape, vector_axis))
    code_bytes = packed_bytes(vectors * codec.codes_per_vector, codec.code_bits)
    side_bytes = packed_bytes(vectors * codec.layout.side_bits, 1)
    return {
        "weights": 0 if codec.codebook_entries else code_bytes,
        "indices": (code_bytes if codec.codebook_entries else 0) + (side_bytes if codec.mask else 0),
        "signs": side_bytes if codec.has_signs else 0,
        "codebooks": codec.stored_codebook_bytes,
        "scales": scales * np.dtype(np.float32).itemsize,
    }


def stored_codebook(layer: EncodedLayer) -> Codebook | None:
    """The ``stored_codebook_bytes`` of a layer as they lie in DRAM: codebook, then projection; ``None`` without."""
    if layer.codebook is None or layer.projection is None:
        return layer.codebook
    return np.concatenate([layer.codebook.reshape(-1), layer.projection.matrix.reshape(-1)])


def layer_bytes(layer: EncodedLayer) -> dict[str, int]:
    """``stored_bytes`` of an encoded layer."""
    return stored_bytes(layer.codec, layer.shape, layer.vector_axis, layer.scale.size)


def to_vectors(matrix: npt.NDArray[_Scalar], vector_length: int, vector_axis: VectorAxis) -> npt.NDArray[_Scalar]:
    """The vectors of ``matrix[out, reduction]`` as contiguous ``[n, d]``, in the row-major order of the codes."""
    out, reduction = matrix.shape
    if vector_axis == "in":
        padded = np.pad(matrix, ((0, 0), (0, -reduction % vector_length)))
        return np.ascontiguousarray(padded).reshape(-1, vector_length)
    padded = np.pad(matrix, ((0, -out % vector_length), (0, 0)))
    grouped = padded.reshape(-1, vector_length, reduction).transpose(0, 2, 1)
    return np.ascontiguousarray(grouped).reshape(-1, vector_length)


def from_vectors(
    vectors: npt.NDArray[np.int8], shape: tuple[int, int], vector_axis: VectorAxis
) -> npt.NDArray[np.int8]:
    """Inverse of ``to_vectors``: ``[out, reduction]`` with the padding dropped."""
    (out, reduction), length = shape, vectors.shape[1]
    if vector_axis == "in":
        return np.ascontiguousarray(vectors.reshape(out, -1)[:, :reduction])
    grouped = vectors.reshape(-1, reduction, length)
    matrix = np.empty((len(grouped), length, reduction), vectors.dtype)
    for lane in range(length):  # several times faster than one transposed copy: long inner loops
        matrix[:, lane] = grouped[:, :, lane]
    return matrix.reshape(-1, reduction)[:out]


def normalised(weights: npt.NDArray[np.floating[Any]], scale: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """``weights / scale`` in double precision; raises ``CodecError`` on values a codec cannot store."""
    if weights.ndim != 2 or not weights.size:
        raise CodecError(f"weights of shape {list(weights.shape)}; expected a matrix [out, reduction]")
    if not np.isfinite(weights).all():
        bad = int(weights.size - np.isfinite(weights).sum())
        raise CodecError(f"{bad} of {weights.size} weights are NaN or infinite")
    if scale.shape not in ((1,), (len(weights),)):
        raise CodecError(f"scale of shape {list(scale.shape)}; allowed: [1] or [{len(weights)}]")
    if not (np.isfinite(scale) & (scale > 0)).all():
        raise CodecError("scales must be positive and finite")
    return np.asarray(weights, np.float64) / scale.astype(np.float64)[:, None]


def check_layer(layer: EncodedLayer) -> None:
    """The checks every codec shares: axis, shapes, types, code range of ``code_bits`` and finite scales."""
    codec = layer.codec
    if layer.vector_axis not in VECTOR_AXES:
        raise CodecError(f"vector axis '{layer.vector_axis}'; allowed: {listed(VECTOR_AXES)}")
    if len(layer.shape) != 2 or min(layer.shape) < 1:
        raise CodecError(f"{codec}: weight shape {layer.shape}; expected two positive sizes (out, reduction)")
    _check_array(codec, "codes", layer.codes, codes_shape(codec, layer.shape, layer.vector_axis), np.uint16)
    grid = vector_grid(codec, layer.shape, layer.vector_axis)
    side = (*grid, codec.layout.side_bits) if codec.layout.side_bits else None
    _check_array(codec, "side bits", layer.side, side, np.bool_)
    _check_array(codec, "codebook", layer.codebook, codec.codebook_shape, np.int8)
    projection = None if layer.projection is None else layer.projection.matrix
    _check_array(codec, "projection", projection, codec.projection_shape, np.int8)
    _check_array(codec, "scale", layer.scale, (1,) if layer.scale.shape == (1,) else (layer.shape[0],), np.float32)
    if not np.isfinite(layer.scale).all():
        raise CodecError(f"{codec}: a scale is NaN or infinite")
    if int(layer.codes.max()) >> codec.code_bits:
        raise CodecError(
            f"{codec}: code {int(layer.codes.max())} is out of range; allowed: below {1 << codec.code_bits}"
        )


def _check_array(
    codec: Codec,
    what: str,
    array: npt.NDArray[np.generic] | None,
    shape: tuple[int, ...] | None,
    kind: type[np.generic],
) -> None:
    found = None if array is None else array.shape
    if found != shape:
        raise CodecError(f"{codec}: {what} of shape {found}; expected {shape}")
    if array is not None and array.dtype != kind:
        raise CodecError(f"{codec}: {what} of type {array.dtype}; expected {np.dtype(kind)}")
