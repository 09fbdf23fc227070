"""The record format of weight streams in DRAM, shared by compiler, simulator and hardware.

- No signs: the plain bit stream of codes (LSB first). A record is the smallest group of codes that fills whole bytes.
- Signs, and ``code_bits + d`` is 8, 16, 32 or 64: a record is one vector: code in the low bits, above it d sign bits
  (``ssvq:k=256,d=8``: aligned 16-bit records).
- Signs otherwise: a record is a superblock of G vectors, G the smallest count for which both all codes and all signs
  fill whole 64-bit beats: the G codes packed LSB first, then G*d sign bits LSB first (``ssvq:k=16,d=8``: 16 vectors in
  three beats).

A stream of n vectors takes ``ceil(n/G)`` records; the last is padded with code 0 and positive signs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from accel.codecs.bits import MAX_BITS, Bytes, pack_bits, unpack_bits
from accel.errors import CodecError

BEAT_BITS = 64
ALIGNED_RECORD_BITS = (8, 16, 32, 64)
MAX_VECTOR_LENGTH = 64

Negative = npt.NDArray[np.bool_]
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class RecordLayout:
    """Shape of one record; raises ``CodecError`` unless 1 <= code_bits <= 16 and 1 <= vector_length <= 64."""

    code_bits: int
    vector_length: int
    has_signs: bool

    def __post_init__(self) -> None:
        if not (1 <= self.code_bits <= MAX_BITS and 1 <= self.vector_length <= MAX_VECTOR_LENGTH):
            raise CodecError(
                f"record of {self.code_bits}-bit codes, {self.vector_length} weights each; "
                f"allowed: 1 to {MAX_BITS} bits, 1 to {MAX_VECTOR_LENGTH} weights"
            )

    @property
    def sign_bits(self) -> int:
        """Sign bits of one vector."""
        return self.vector_length if self.has_signs else 0

    @property
    def is_aligned(self) -> bool:
        """Whether one vector with its signs is one naturally aligned word."""
        return self.has_signs and self.code_bits + self.sign_bits in ALIGNED_RECORD_BITS

    @property
    def vectors_per_record(self) -> int:
        """G: vectors in one record."""
        if self.is_aligned:
            return 1
        if not self.has_signs:
            return 8 // math.gcd(8, self.code_bits)
        return math.lcm(*(BEAT_BITS // math.gcd(BEAT_BITS, bits) for bits in (self.code_bits, self.sign_bits)))

    @property
    def record_bytes(self) -> int:
        """Bytes of one record."""
        return self.vectors_per_record * (self.code_bits + self.sign_bits) // 8

    def stream_bytes(self, vectors: int) -> int:
        """Bytes of a continuous stream of ``vectors`` vectors, its last record padded."""
        return -(-vectors // self.vectors_per_record) * self.record_bytes


def pack_records(codes: npt.NDArray[np.uint16], negative: Negative | None, layout: RecordLayout) -> Bytes:
    """Records of ``codes[n]`` and ``negative[n, d]`` as ``uint8[layout.stream_bytes(n)]``.

    Raises ``CodecError`` if signs are missing, unexpected or of another shape, or a code needs more bits.
    """
    _check_signs(codes, negative, layout)
    vectors = -(-codes.size // layout.vectors_per_record) * layout.vectors_per_record
    padded = _padded(codes, vectors)
    if negative is None:
        return pack_bits(padded, layout.code_bits)
    signs = _padded(negative, vectors)
    if layout.is_aligned:
        return _pack_aligned(padded, signs, layout)
    records = vectors // layout.vectors_per_record
    code_bytes = layout.vectors_per_record * layout.code_bits // 8
    packed = np.empty((records, layout.record_bytes), np.uint8)
    _copy_columns(pack_bits(padded, layout.code_bits), packed, slice(0, code_bytes))
    _copy_columns(np.packbits(signs.reshape(-1), bitorder="little"), packed, slice(code_bytes, None))
    return packed.reshape(-1)


def unpack_records(data: Bytes, count: int, layout: RecordLayout) -> tuple[npt.NDArray[np.uint16], Negative | None]:
    """The first ``count`` vectors of a record stream: ``codes[count]`` and ``negative[count, d]`` (``None`` without
    signs). Raises ``CodecError`` if ``data`` is shorter than the stream."""
    need = layout.stream_bytes(count)
    if count < 0 or data.size < need:
        raise CodecError(f"{count} vectors take {need} bytes of records, {data.size} given")
    stream = np.ascontiguousarray(data, np.uint8).reshape(-1)[:need]
    if not layout.has_signs:
        return unpack_bits(stream, layout.code_bits, count), None
    records = stream.reshape(-1, layout.record_bytes)
    if layout.is_aligned:
        return _unpack_aligned(records, layout)
    code_bytes = layout.vectors_per_record * layout.code_bits // 8
    codes = unpack_bits(_columns(records, slice(0, code_bytes)), layout.code_bits, count)
    return codes, unpack_signs(_columns(records, slice(code_bytes, None)), count, layout.vector_length)


def unpack_signs(data: Bytes, vectors: int, vector_length: int) -> Negative:
    """``bool[vectors, d]`` from a dense LSB-first bit stream (expanded once: the bytes are the bools)."""
    bits = np.unpackbits(data.reshape(-1), count=vectors * vector_length, bitorder="little")
    return bits.view(np.bool_).reshape(vectors, vector_length)


def _check_signs(codes: npt.NDArray[np.uint16], negative: Negative | None, layout: RecordLayout) -> None:
    expected = (codes.size, layout.vector_length) if layout.has_signs else None
    given = None if negative is None else negative.shape
    if codes.ndim != 1 or given != expected:
        raise CodecError(f"codes {codes.shape} with signs {given}; this record needs codes [n] with signs {expected}")


def _padded(array: npt.NDArray[_Scalar], rows: int) -> npt.NDArray[_Scalar]:
    if len(array) == rows:
        return np.ascontiguousarray(array)
    padded = np.zeros((rows, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    return padded


def _pack_aligned(codes: npt.NDArray[np.uint16], signs: Negative, layout: RecordLayout) -> Bytes:
    if int(codes.max(initial=0)) >> layout.code_bits:
        raise CodecError(f"code {int(codes.max())} does not fit into {layout.code_bits} bits")
    words = codes.astype(f"<u{layout.record_bytes}")
    words |= _sign_words(signs, layout.record_bytes) << words.dtype.type(layout.code_bits)
    return words.view(np.uint8)


def _sign_words(signs: Negative, word_bytes: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """The sign bits of each vector as one unsigned word, first weight in bit 0."""
    sign_bytes = -(-signs.shape[1] // 8)
    if signs.shape[1] % 8:
        signs = np.pad(signs, ((0, 0), (0, -signs.shape[1] % 8)))
    bits = np.packbits(signs.reshape(-1), bitorder="little").reshape(-1, sign_bytes)
    if sign_bytes == 1:
        return bits[:, 0].astype(f"<u{word_bytes}")
    wide = np.zeros((len(bits), word_bytes), np.uint8)
    wide[:, :sign_bytes] = bits
    return wide.view(f"<u{word_bytes}")[:, 0]


def _unpack_aligned(records: Bytes, layout: RecordLayout) -> tuple[npt.NDArray[np.uint16], Negative]:
    words = records.view(f"<u{layout.record_bytes}")[:, 0]
    kind = words.dtype.type
    codes = (words & kind((1 << layout.code_bits) - 1)).astype(np.uint16)
    signs = words >> kind(layout.code_bits)
    used = signs.view(np.uint8).reshape(len(records), layout.record_bytes)[:, : -(-layout.sign_bits // 8)]
    wide = unpack_signs(np.ascontiguousarray(used), len(records), used.shape[1] * 8)
    return codes, np.ascontiguousarray(wide[:, : layout.sign_bits])


def _copy_columns(data: Bytes, packed: Bytes, columns: slice) -> None:
    """Put dense beats beside others; superblocks hold whole beats, so whole 64-bit words are moved."""
    target = packed.view("<u8")[:, _beats(columns)]
    target[...] = data.view("<u8").reshape(target.shape)


def _columns(records: Bytes, columns: slice) -> Bytes:
    return np.ascontiguousarray(records.view("<u8")[:, _beats(columns)]).view(np.uint8).reshape(-1)


def _beats(columns: slice) -> slice:
    beat = BEAT_BITS // 8
    return slice(columns.start // beat, None if columns.stop is None else columns.stop // beat)
