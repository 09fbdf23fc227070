"""Cutting weight matrices into array tiles, and the DRAM streams that deliver them tile by tile.

A stream is a sequence of strips (``tile_columns`` output channels wide, the whole reduction deep), each one continuous
record stream that starts on a 64-byte block. Within a strip codes follow the array row by row, so tiles are consecutive
stretches of it whatever their height.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel.codecs.base import EncodedLayer, codes_shape
from accel.codecs.records import RecordLayout, SideBits, pack_records
from accel.errors import CompileError
from accel.isa import BLOCK_BYTES, BY_MNEMONIC
from accel.machine import Machine
from accel.tiles import ceil_div, strip_of, tile_codes

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Tiling:
    """How one weight matrix meets the array. ``gemms`` separate matrices (convolution groups too large to share a tile)
    of ``rows`` x ``columns`` each; otherwise ``groups_per_tile`` groups lie side by side in a tile."""

    layout: RecordLayout
    vector_axis: str
    rows: int
    columns: int
    gemms: int
    groups_per_tile: int
    tile_rows: int
    tile_columns: int

    @property
    def strips(self) -> int:
        """Strips of one matrix."""
        return -(-self.columns // self.tile_columns)

    def strip_columns(self, strip: int) -> int:
        """Columns of one strip; the last may be narrower."""
        return min(self.tile_columns, self.columns - strip * self.tile_columns)

    def strip_codes(self, strip: int) -> int:
        """Codes that make up one strip."""
        layout, axis_in = self.layout, self.vector_axis == "in"
        columns = self.strip_columns(strip)
        return tile_codes(self.rows, columns, layout.vector_length, axis_in, layout.codes_per_vector)

    def strip_blocks(self, strip: int) -> int:
        """64-byte blocks of one strip."""
        return -(-self.layout.stream_bytes(self.strip_codes(strip)) // BLOCK_BYTES)

    def tile_cycles(self, lookups_per_cycle: int) -> int:
        """Cycles a full tile takes to decode and load: a chunk of fewer rows makes the array wait."""
        weights = min(self.tile_rows, self.rows) * min(self.tile_columns, self.columns)
        load = min(self.tile_rows, self.rows) * self.groups_per_tile
        codes, length = self.layout.codes_per_vector, self.layout.vector_length
        return max(load, ceil_div(weights * codes, length * lookups_per_cycle) if max(length, codes) > 1 else 0)

    @property
    def gemm_blocks(self) -> int:
        """64-byte blocks of one of the ``gemms`` matrices."""
        return (self.strips - 1) * self.strip_blocks(0) + self.strip_blocks(self.strips - 1)


def tile_layer(layer: EncodedLayer, groups: int, machine: Machine, name: str) -> Tiling:
    """Choose tiles for one layer; raises ``CompileError`` when its vectors do not fit the array, or a tile the ring."""
    tiling = _fitting_array(layer, groups, machine, name)
    need = BLOCK_BYTES * _tile_blocks(tiling)
    if need > machine.sram.weight_bytes:
        raise CompileError(
            f"weight '{name}': one tile of {tiling.tile_rows}x{tiling.tile_columns} takes {need} bytes of the weight "
            f"ring; allowed on machine '{machine.name}': sram.weight_bytes = {machine.sram.weight_bytes}"
        )
    return tiling


def _tile_blocks(tiling: Tiling) -> int:
    """Blocks the ring must hold at once for the tile that spans most of them."""
    axis_in = tiling.vector_axis == "in"
    needed = strip_of(tiling.layout, axis_in, tiling.rows, tiling.strip_columns(0), tiling.tile_rows).needed
    return max(ceil_div(end, BLOCK_BYTES) - start // BLOCK_BYTES for start, end in itertools.pairwise((0, *needed)))


def _fitting_array(layer: EncodedLayer, groups: int, machine: Machine, name: str) -> Tiling:
    codec = layer.codec
    layout = codec.layout
    out, reduction = layer.shape
    if codec.codebook_bytes > machine.decoder.codebook_bytes:
        raise CompileError(
            f"weight '{name}': codebook of {codec} takes {codec.codebook_bytes} bytes; allowed on machine "
            f"'{machine.name}': decoder.codebook_bytes = {machine.decoder.codebook_bytes} "
            f"(--set decoder.codebook_bytes={codec.codebook_bytes})"
        )
    rows_step = codec.vector_length if layer.vector_axis == "in" else 1
    columns_step = codec.vector_length if layer.vector_axis == "out" else 1
    if rows_step > machine.array.rows or columns_step > machine.array.columns:
        raise CompileError(
            f"weight '{name}': vectors of {codec.vector_length} along '{layer.vector_axis}' exceed the array of "
            f"{machine.array.rows}x{machine.array.columns}; allowed: shorter vectors or a larger array"
        )
    shared = _side_by_side(reduction, out // groups, groups, rows_step, columns_step, machine) if groups > 1 else None
    if shared is not None:
        side, tile_rows = shared
        return Tiling(layout, layer.vector_axis, reduction, out, 1, side, tile_rows, side * (out // groups))
    columns = out // groups
    if groups > 1 and columns % columns_step:
        raise CompileError(
            f"weight '{name}': {groups} groups of {columns} channels; allowed with {codec} along 'out': groups of a "
            f"multiple of {columns_step} channels"
        )
    tile_rows = machine.array.rows // rows_step * rows_step
    tile_columns = machine.array.columns // columns_step * columns_step
    return Tiling(layout, layer.vector_axis, reduction, columns, groups, 1, tile_rows, tile_columns)


def _side_by_side(
    reduction: int, columns: int, groups: int, rows_step: int, columns_step: int, machine: Machine
) -> tuple[int, int] | None:
    """``(groups_per_tile, tile_rows)`` that covers all groups in the fewest tiles, or ``None`` if no two fit together.

    Groups come in multiples that fill whole vectors. More groups beside one another mean fewer taps of each: a tile's
    array rows are ``groups_per_tile * tile_rows``.
    """
    unit = columns_step // math.gcd(columns_step, columns)
    most = min(machine.array.columns // columns, machine.array.rows // rows_step, _limit("GEM", "groups_per_tile"))
    sides = [side for side in range(unit, min(most, ceil_div(groups, unit) * unit) + 1, unit) if side >= 2]
    cuts = [(side, min(reduction, machine.array.rows // side // rows_step * rows_step)) for side in sides]
    if not cuts:
        return None
    return min(cuts, key=lambda cut: (ceil_div(groups, cut[0]) * ceil_div(reduction, cut[1]), -cut[1]))


def _limit(mnemonic: str, field: str) -> int:
    return BY_MNEMONIC[mnemonic].field(field).limit - 1


def reduction_order(weight_shape: tuple[int, ...], vector_axis: str) -> npt.NDArray[np.intp]:
    """Source reduction index of every streamed row: tap row, tap column, channel (NHWC order) for axis ``out``.

    Vectors along ``in`` tie neighbours in source order together, so there the array walks channels outermost instead.
    """
    reduction = math.prod(weight_shape[1:])
    index = np.arange(reduction)
    if len(weight_shape) == 4 and vector_axis == "out":
        return index.reshape(weight_shape[1:]).transpose(1, 2, 0).reshape(-1)
    return index


def pack_stream(layer: EncodedLayer, tiling: Tiling, order: npt.NDArray[np.intp]) -> Bytes:
    """The layer's blocks as they lie in DRAM: gemm after gemm, strip after strip."""
    d = tiling.layout.vector_length
    codes, side = layer.codes.reshape(codes_shape(layer.codec, layer.shape, layer.vector_axis)), layer.side
    if layer.vector_axis == "out":
        codes = codes[:, order]
        side = None if side is None else side[:, order]
    step = d if layer.vector_axis == "out" else 1
    parts = []
    for gemm in range(tiling.gemms):
        for strip in range(tiling.strips):
            start = gemm * tiling.columns + strip * tiling.tile_columns
            stop = start + tiling.strip_columns(strip)
            lines = slice(start // step, -(-stop // step))
            parts.append(_pack_strip(codes[lines], None if side is None else side[lines], tiling, strip))
    return np.concatenate(parts)


def _pack_strip(codes: npt.NDArray[np.uint16], side: SideBits | None, tiling: Tiling, strip: int) -> Bytes:
    """One strip, array row by array row, padded to whole blocks; the codes of a vector stay together."""
    if side is not None:
        side = np.ascontiguousarray(side.transpose(1, 0, 2)).reshape(-1, tiling.layout.side_bits)
    data = pack_records(np.ascontiguousarray(codes.swapaxes(0, 1)).reshape(-1), side, tiling.layout)
    padded = np.zeros(tiling.strip_blocks(strip) * BLOCK_BYTES, np.uint8)
    padded[: data.size] = data
    return padded


def stream_digests(layer: EncodedLayer, tiling: Tiling, order: npt.NDArray[np.intp]) -> tuple[str, ...]:
    """SHA-256 of each gemm's decoded ``int8[columns, rows]``, rows in streamed order, by the codec's reference."""
    decoded = layer.codec.decode(layer)[:, order]
    blocks = (decoded[g * tiling.columns : (g + 1) * tiling.columns] for g in range(tiling.gemms))
    return tuple(hashlib.sha256(np.ascontiguousarray(block).data).hexdigest() for block in blocks)
