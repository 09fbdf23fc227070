"""Checks, without any timing, that a program's instructions bring back exactly the weights that were compressed.

The blocks of LDW fill the weight ring in order, DEC cuts them into strips and tiles and looks codes up in the codebook
its token vouches for; each matrix put together again must have the digest its codec's reference decoder gave.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel.codecs.records import RecordLayout, unpack_records
from accel.codecs.ssvq import apply_signs
from accel.codecs.vq import look_up
from accel.errors import CodecError, SimError
from accel.isa import BLOCK_BYTES, QUEUES, Instruction, decode
from accel.program import Program, WeightStream
from accel.tiles import Region, ceil_div, region_of, tile_codes
from sim.columns import pair_tokens
from sim.decode import Decoded, Rows, decode_words
from sim.ring import Bytes, weight_ring

Weights = npt.NDArray[np.int8]


def check_weights(program: Program) -> None:
    """Decode every weight stream the way the instructions do and compare digests; raises ``SimError`` if one differs.

    What is decoded repeatedly (passes, rewinds, reloads) is checked once.
    """
    decoded = decode_words(program.words)
    ring = weight_ring(decoded["LDW"])
    codebooks = _codebook_sources(decoded)
    matrices = {stream.address: _Matrix.empty(stream) for stream in program.streams}
    seen: set[tuple[object, ...]] = set()
    base = 0
    for i in decoded["DEC"].index.tolist():
        dec = decode(program.words[i].tobytes(), f"instruction {i}")
        where, region = f"instruction {i} DEC", _region(dec, i)
        stream = _stream_at(program, ring.address_of(base, where), where)
        address = ring.address_of(base, where)
        key = (address, codebooks.get(i), *(value for name, value in dec.values.items() if name not in _IRRELEVANT))
        if key not in seen:
            seen.add(key)
            codebook = _codebook(program.image, decoded["LDC"], codebooks.get(i), dec, where)
            data = ring.read(program.image, base, region.stored_bytes // BLOCK_BYTES, where)
            _place(matrices[stream.address], address, _decode_region(data, dec, region, codebook, where), dec, where)
        base += region.stored_bytes // BLOCK_BYTES if region.releases else 0
    for matrix in matrices.values():
        matrix.check()


_IRRELEVANT = ("passes", "release", "bank")


@dataclass(frozen=True, slots=True)
class _Matrix:
    """A weight matrix being put together: ``weights`` is ``int8[out, reduction]``, ``done`` flags its channels."""

    stream: WeightStream
    weights: Weights
    done: npt.NDArray[np.bool_]

    @staticmethod
    def empty(stream: WeightStream) -> _Matrix:
        weights = np.zeros((stream.columns, stream.rows), np.int8)
        return _Matrix(stream, weights, np.zeros(stream.columns, np.bool_))

    def check(self) -> None:
        """All channels decoded, and their digest the recorded one."""
        missing = int(self.done.size - self.done.sum())
        if missing:
            raise SimError(f"weights '{self.stream.weight}': {missing} of {self.done.size} channels are never decoded")
        digest = hashlib.sha256(self.weights.data).hexdigest()
        if digest != self.stream.digest:
            raise SimError(
                f"weights '{self.stream.weight}': the program decodes SHA-256 {digest[:16]}..., "
                f"the {self.stream.codec} reference is {self.stream.digest[:16]}..."
            )


def _region(dec: Instruction, i: int) -> Region:
    try:
        return region_of(dec)
    except (CodecError, ZeroDivisionError) as error:
        raise SimError(f"instruction {i} DEC: {error}") from error


def _stream_at(program: Program, address: int, where: str) -> WeightStream:
    for stream in program.streams:
        if stream.address <= address < stream.address + stream.blocks * BLOCK_BYTES:
            return stream
    raise SimError(f"{where}: its weights come from address {address:#x}, which no weight stream covers")


def _codebook_sources(decoded: Decoded) -> dict[int, int]:
    """DEC -> place among the LDCs of the codebook it finds in its bank: the last loaded before its token was pushed."""
    ldc, dec = decoded["LDC"], decoded["DEC"]
    released = np.maximum.accumulate(pair_tokens(decoded)[dec.index, QUEUES.index("load")])
    sources: dict[int, int] = {}
    for i, bank, token in zip(dec.index.tolist(), dec["bank"].tolist(), released.tolist(), strict=True):
        loaded = np.flatnonzero((ldc["bank"] == bank) & (ldc.index <= token))
        if len(loaded):
            sources[i] = int(loaded[-1])
    return sources


def _codebook(image: Bytes, ldc: Rows, source: int | None, dec: Instruction, where: str) -> Weights | None:
    """``int8[2**code_bits, d]`` as loaded, or ``None`` for integers."""
    if not dec["codebook"]:
        return None
    if source is None:
        raise SimError(f"{where}: no token tells that a codebook is in bank {dec['bank']}")
    size = dec["vector_length"] << dec["code_bits"]
    start, loaded = int(ldc["address"][source]), int(ldc["bytes"][source])
    data = image[start : start + loaded]
    if data.size < size:
        raise SimError(
            f"{where}: needs a codebook of {size} bytes, LDC (instruction {ldc.index[source]}) loads {loaded}"
        )
    return data[:size].view(np.int8).reshape(-1, dec["vector_length"])


def _decode_region(data: Bytes, dec: Instruction, region: Region, codebook: Weights | None, where: str) -> Weights:
    """``int8[columns, rows]`` of one DEC."""
    out = np.empty((dec["columns"], dec["rows"]), np.int8)
    offset = 0
    for index in range(region.strips):
        first = index * dec["tile_columns"]
        width = min(dec["tile_columns"], dec["columns"] - first)
        size = region.strip(index).stored_bytes
        out[first : first + width] = _decode_strip(data[offset : offset + size], dec, region.layout, width, codebook)
        offset += size
    return out


def _decode_strip(data: Bytes, dec: Instruction, layout: RecordLayout, width: int, codebook: Weights | None) -> Weights:
    """``int8[width, rows]``: axis ``out`` codes lie row by row; axis ``in`` codes d rows at a time, tile by tile."""
    rows, tile_rows, length = dec["rows"], dec["tile_rows"], dec["vector_length"]
    count = sum(
        tile_codes(min(tile_rows, rows - first), width, length, bool(dec["axis_in"]))
        for first in range(0, rows, tile_rows)
    )
    vectors = _vectors(data, count, layout, codebook)
    if not dec["axis_in"]:
        return vectors.reshape(rows, -1)[:, :width].T
    blocks = vectors.reshape(-1, width, length).transpose(1, 0, 2)  # width, groups of d rows, d
    if tile_rows % length == 0:
        return blocks.reshape(width, -1)[:, :rows]
    padded = ceil_div(tile_rows, length) * length
    kept = np.arange(blocks.shape[1] * length) % padded < tile_rows
    return blocks.reshape(width, -1)[:, kept][:, :rows]


def _vectors(data: Bytes, count: int, layout: RecordLayout, codebook: Weights | None) -> Weights:
    """``int8[count, d]``: codes looked up, or integers sign-extended; negated by their sign bits."""
    codes, negative = unpack_records(data, count, layout)
    if codebook is None:
        unused = 16 - layout.code_bits
        vectors = ((codes << np.uint16(unused)).view(np.int16) >> np.int16(unused)).astype(np.int8).reshape(-1, 1)
    else:
        vectors = look_up(codebook, codes)
    return vectors if negative is None else apply_signs(vectors, negative)


def _place(matrix: _Matrix, address: int, part: Weights, dec: Instruction, where: str) -> None:
    """Put the channels a DEC decodes where its stream's strips stand."""
    stream, region = matrix.stream, region_of(dec)
    strip, rest = divmod(address - stream.address, region.full.stored_bytes)
    first = strip * stream.tile_columns
    cut = (dec["rows"], dec["tile_rows"], dec["tile_columns"])
    if rest or cut != (stream.rows, stream.tile_rows, stream.tile_columns) or first + len(part) > stream.columns:
        raise SimError(f"{where}: does not cut '{stream.weight}' into the strips and tiles it is stored in")
    known = matrix.done[first : first + len(part)]
    if (matrix.weights[first : first + len(part)][known] != part[known]).any():
        raise SimError(f"{where}: decodes other weights of '{stream.weight}' than an earlier DEC")
    matrix.weights[first : first + len(part)] = part
    known[:] = True
