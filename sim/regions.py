"""Decodes what one DEC walks: strips of record streams, cut out of the weight ring, become rows of int8 weights."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from accel.codecs.mvq import apply_masks
from accel.codecs.records import unpack_records
from accel.codecs.rvq import summed_codewords
from accel.codecs.ssvq import apply_signs
from accel.codecs.vq import look_up
from accel.errors import CodecError, SimError
from accel.isa import Instruction
from accel.tiles import Region, ceil_div, layout_of, mask_of, region_of, tile_codes
from sim.ring import Bytes

Weights = npt.NDArray[np.int8]


def region_at(dec: Instruction, where: str) -> Region:
    """The region of a DEC; raises ``SimError`` naming ``where`` if its sizes are impossible."""
    try:
        return region_of(dec)
    except (CodecError, ZeroDivisionError) as error:
        raise SimError(f"{where}: {error}") from error


def decode_region(data: Bytes, dec: Instruction, region: Region, codebook: Weights | None, where: str) -> Weights:
    """``int8[columns, rows]`` of one DEC from the ``region.stored_bytes`` bytes it walks.

    ``codebook`` is ``int8[2**code_bits, d]``, of all stages, or ``None`` for integers. Raises ``SimError`` naming
    ``where`` for mask indices that no mask has.
    """
    try:
        return _decode_strips(data, dec, region, codebook)
    except CodecError as error:
        raise SimError(f"{where}: {error}") from error


def _decode_strips(data: Bytes, dec: Instruction, region: Region, codebook: Weights | None) -> Weights:
    out = np.empty((dec["columns"], dec["rows"]), np.int8)
    offset = 0
    for index in range(region.strips):
        first = index * dec["tile_columns"]
        width = min(dec["tile_columns"], dec["columns"] - first)
        size = region.strip(index).stored_bytes
        out[first : first + width] = _decode_strip(data[offset : offset + size], dec, width, codebook)
        offset += size
    return out


def _decode_strip(data: Bytes, dec: Instruction, width: int, codebook: Weights | None) -> Weights:
    """``int8[width, rows]``: axis ``out`` codes lie row by row; axis ``in`` codes d rows at a time, tile by tile."""
    rows, tile_rows, length = dec["rows"], dec["tile_rows"], dec["vector_length"]
    count = sum(
        tile_codes(min(tile_rows, rows - first), width, length, bool(dec["axis_in"]))
        for first in range(0, rows, tile_rows)
    )
    vectors = _vectors(data, count, dec, codebook)
    if not dec["axis_in"]:
        return vectors.reshape(rows, -1)[:, :width].T
    blocks = vectors.reshape(-1, width, length).transpose(1, 0, 2)  # width, groups of d rows, d
    if tile_rows % length == 0:
        return blocks.reshape(width, -1)[:, :rows]
    padded = ceil_div(tile_rows, length) * length
    kept = np.arange(blocks.shape[1] * length) % padded < tile_rows
    return blocks.reshape(width, -1)[:, kept][:, :rows]


def _vectors(data: Bytes, count: int, dec: Instruction, codebook: Weights | None) -> Weights:
    """``int8[count, d]``: codes looked up and added up, or integers sign-extended; negated by sign bits or masked."""
    layout, mask = layout_of(dec), mask_of(dec)
    codes, side = unpack_records(data, count * layout.codes_per_vector, layout)
    if codebook is None:
        unused = 16 - layout.code_bits
        vectors = ((codes << np.uint16(unused)).view(np.int16) >> np.int16(unused)).astype(np.int8).reshape(-1, 1)
    elif layout.codes_per_vector > 1:
        vectors = summed_codewords(codebook, codes.reshape(count, -1))
    else:
        vectors = look_up(codebook, codes)
    if side is None:
        return vectors
    return apply_signs(vectors, side) if mask is None else apply_masks(vectors, side, mask)
