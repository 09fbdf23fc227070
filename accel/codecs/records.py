"""The record format of weight streams in DRAM, shared by compiler, simulator and hardware.

Beside its code a vector may have ``side_bits``: its d signs (``ssvq``) or its mask indices (``mvq``).

- No side bits: the plain bit stream of codes (LSB first). A record is the smallest group of codes that fills whole
  bytes. A vector may have several codes (``rvq``): they follow one another, and everything here that counts vectors
  counts codes.
- ``code_bits + side_bits`` is 8, 16, 32 or 64: a record is one vector: code in the low bits, above it the side bits
  (``ssvq:k=256,d=8``: aligned 16-bit records).
- Otherwise a record is a superblock of G vectors, G the smallest count for which both all codes and all side bits fill
  whole 64-bit words: the G codes packed LSB first, then G*side_bits bits LSB first (``ssvq:k=16,d=8``: 16 vectors in
  three words; ``mvq:k=512,d=16,nm=4:16``: 64 vectors in nine words of codes and eleven of masks).

A stream of n vectors takes ``ceil(n/G)`` records; the last is padded with code 0 and side bits 0: positive signs, masks
of index 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from accel.codecs.bits import MAX_BITS, Bytes, pack_bits, unpack_bits
from accel.codecs.masks import Mask
from accel.errors import CodecError

WORD_BITS = 64
ALIGNED_RECORD_BITS = (8, 16, 32, 64)
MAX_VECTOR_LENGTH = 64
MAX_STAGES = 8  # of 8 codebooks: no published format has more

SideBits = npt.NDArray[np.bool_]
_Scalar = TypeVar("_Scalar", bound=np.generic)


@dataclass(frozen=True, slots=True)
class RecordLayout:
    """Shape of one record; raises ``CodecError`` unless 1 <= code_bits <= 16, 1 <= vector_length <= 64, no weight
    has more than one of the ``side_bits`` of its vector, and vectors of 2 to 8 codes have none."""

    code_bits: int
    vector_length: int
    side_bits: int
    codes_per_vector: int = 1

    def __post_init__(self) -> None:
        if not (1 <= self.code_bits <= MAX_BITS and 1 <= self.vector_length <= MAX_VECTOR_LENGTH):
            raise CodecError(
                f"record of {self.code_bits}-bit codes, {self.vector_length} weights each; "
                f"allowed: 1 to {MAX_BITS} bits, 1 to {MAX_VECTOR_LENGTH} weights"
            )
        if not 0 <= self.side_bits <= self.vector_length:
            raise CodecError(
                f"record of {self.side_bits} side bits for {self.vector_length} weights; "
                f"allowed: 0 to {self.vector_length}"
            )
        most = 1 if self.side_bits else MAX_STAGES
        if not 1 <= self.codes_per_vector <= most:
            raise CodecError(
                f"record of {self.codes_per_vector} codes a vector with {self.side_bits} side bits; allowed: "
                + (f"1 to {most}" if most > 1 else "1 beside side bits")
            )

    @property
    def is_aligned(self) -> bool:
        """Whether one vector with its side bits is one naturally aligned word."""
        return self.side_bits > 0 and self.code_bits + self.side_bits in ALIGNED_RECORD_BITS

    @property
    def vectors_per_record(self) -> int:
        """G: vectors in one record."""
        if self.is_aligned:
            return 1
        if not self.side_bits:
            return 8 // math.gcd(8, self.code_bits)
        return math.lcm(*(WORD_BITS // math.gcd(WORD_BITS, bits) for bits in (self.code_bits, self.side_bits)))

    @property
    def record_bytes(self) -> int:
        """Bytes of one record."""
        return self.vectors_per_record * (self.code_bits + self.side_bits) // 8

    def stream_bytes(self, vectors: int) -> int:
        """Bytes of a continuous stream of ``vectors`` vectors, its last record padded."""
        return -(-vectors // self.vectors_per_record) * self.record_bytes


def side_bits(vector_length: int, signed: bool, mask: Mask | None) -> int:
    """Bits a vector stores beside its code: a sign for each weight, or the indices of its masks. Raises ``CodecError``
    for both, and for masks that do not fill the vector."""
    if mask is None:
        return vector_length if signed else 0
    if signed:
        raise CodecError(f"signs beside masks of {mask}; allowed: one of the two")
    return mask.vector_bits(vector_length)


def pack_records(codes: npt.NDArray[np.uint16], side: SideBits | None, layout: RecordLayout) -> Bytes:
    """Records of ``codes[n]`` and ``side[n, side_bits]`` as ``uint8[layout.stream_bytes(n)]``.

    Raises ``CodecError`` if side bits are missing, unexpected or of another shape, or a code needs more bits.
    """
    _check_side(codes, side, layout)
    vectors = -(-codes.size // layout.vectors_per_record) * layout.vectors_per_record
    padded = _padded(codes, vectors)
    if side is None:
        return pack_bits(padded, layout.code_bits)
    fields = _padded(side, vectors)
    if layout.is_aligned:
        return _pack_aligned(padded, fields, layout)
    records = vectors // layout.vectors_per_record
    code_bytes = layout.vectors_per_record * layout.code_bits // 8
    packed = np.empty((records, layout.record_bytes), np.uint8)
    _copy_columns(pack_bits(padded, layout.code_bits), packed, slice(0, code_bytes))
    _copy_columns(np.packbits(fields.reshape(-1), bitorder="little"), packed, slice(code_bytes, None))
    return packed.reshape(-1)


def unpack_records(data: Bytes, count: int, layout: RecordLayout) -> tuple[npt.NDArray[np.uint16], SideBits | None]:
    """The first ``count`` vectors of a record stream: ``codes[count]`` and ``side[count, side_bits]`` (``None``
    without side bits). Raises ``CodecError`` if ``data`` is shorter than the stream."""
    need = layout.stream_bytes(count)
    if count < 0 or data.size < need:
        raise CodecError(f"{count} vectors take {need} bytes of records, {data.size} given")
    stream = np.ascontiguousarray(data, np.uint8).reshape(-1)[:need]
    if not layout.side_bits:
        return unpack_bits(stream, layout.code_bits, count), None
    records = stream.reshape(-1, layout.record_bytes)
    if layout.is_aligned:
        return _unpack_aligned(records, layout)
    code_bytes = layout.vectors_per_record * layout.code_bits // 8
    codes = unpack_bits(_columns(records, slice(0, code_bytes)), layout.code_bits, count)
    return codes, unpack_side(_columns(records, slice(code_bytes, None)), count, layout.side_bits)


def unpack_side(data: Bytes, vectors: int, side_bits: int) -> SideBits:
    """``bool[vectors, side_bits]`` from a dense LSB-first bit stream (expanded once: the bytes are the bools)."""
    bits = np.unpackbits(data.reshape(-1), count=vectors * side_bits, bitorder="little")
    return bits.view(np.bool_).reshape(vectors, side_bits)


def _check_side(codes: npt.NDArray[np.uint16], side: SideBits | None, layout: RecordLayout) -> None:
    expected = (codes.size, layout.side_bits) if layout.side_bits else None
    given = None if side is None else side.shape
    if codes.ndim != 1 or given != expected:
        raise CodecError(
            f"codes {codes.shape} with side bits {given}; this record needs codes [n] with side bits {expected}"
        )


def _padded(array: npt.NDArray[_Scalar], rows: int) -> npt.NDArray[_Scalar]:
    if len(array) == rows:
        return np.ascontiguousarray(array)
    padded = np.zeros((rows, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    return padded


def _pack_aligned(codes: npt.NDArray[np.uint16], side: SideBits, layout: RecordLayout) -> Bytes:
    if int(codes.max(initial=0)) >> layout.code_bits:
        raise CodecError(f"code {int(codes.max())} does not fit into {layout.code_bits} bits")
    words = codes.astype(f"<u{layout.record_bytes}")
    words |= _side_words(side, layout.record_bytes) << words.dtype.type(layout.code_bits)
    return words.view(np.uint8)


def _side_words(side: SideBits, word_bytes: int) -> npt.NDArray[np.unsignedinteger[Any]]:
    """The side bits of each vector as one unsigned word."""
    side_bytes = -(-side.shape[1] // 8)
    if side.shape[1] % 8:
        side = np.pad(side, ((0, 0), (0, -side.shape[1] % 8)))
    bits = np.packbits(side.reshape(-1), bitorder="little").reshape(-1, side_bytes)
    if side_bytes == 1:
        return bits[:, 0].astype(f"<u{word_bytes}")
    wide = np.zeros((len(bits), word_bytes), np.uint8)
    wide[:, :side_bytes] = bits
    return wide.view(f"<u{word_bytes}")[:, 0]


def _unpack_aligned(records: Bytes, layout: RecordLayout) -> tuple[npt.NDArray[np.uint16], SideBits]:
    words = records.view(f"<u{layout.record_bytes}")[:, 0]
    kind = words.dtype.type
    codes = (words & kind((1 << layout.code_bits) - 1)).astype(np.uint16)
    side = words >> kind(layout.code_bits)
    used = side.view(np.uint8).reshape(len(records), layout.record_bytes)[:, : -(-layout.side_bits // 8)]
    wide = unpack_side(np.ascontiguousarray(used), len(records), used.shape[1] * 8)
    return codes, np.ascontiguousarray(wide[:, : layout.side_bits])


def _copy_columns(data: Bytes, packed: Bytes, columns: slice) -> None:
    """Put dense words beside others: superblocks hold whole 64-bit words."""
    target = packed.view("<u8")[:, _words(columns)]
    target[...] = data.view("<u8").reshape(target.shape)


def _columns(records: Bytes, columns: slice) -> Bytes:
    return np.ascontiguousarray(records.view("<u8")[:, _words(columns)]).view(np.uint8).reshape(-1)


def _words(columns: slice) -> slice:
    word = WORD_BITS // 8
    return slice(columns.start // word, None if columns.stop is None else columns.stop // word)
