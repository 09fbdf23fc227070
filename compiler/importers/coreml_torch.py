"""Palettised torch models of coremltools 9 (``PostTrainingPalettizer``, ``SKMPalettizer``, ``DKMPalettizer``).

The weight is stored dense; buffers called ``_COREML_/weight/...`` beside it hold the table (``lut``), ``vector_axis``,
``palettization_scale`` (per output channel) and, for 8-bit tables, ``quantization_scale`` and ``zero_point``. No codes
are stored: they are found again, and every weight must be one of its table's.
"""

from __future__ import annotations

import numpy as np

from accel.errors import ModelError
from accel.graph import Shape
from compiler.importers.foreign import Checkpoint, ForeignLayer, Indices, Matrix, Tensors
from compiler.importers.palette import block_numbers, channel_scale, palette_layer, wrapped_axis
from compiler.importers.source import Source, taken

MARK = "_COREML_/"
LUT_SUFFIX = "/lut"
PALETTISED, QUANTISED = 2, 3  # values of ``compression_type``; 1 is pruning, which leaves its zeros in the weight
TOLERANCE = 4 * float(np.finfo(np.float32).eps)  # of the largest codeword: scale arithmetic, done and undone
_BLOCK_DISTANCES = 1 << 20


def is_coreml_torch(tensors: Tensors) -> bool:
    """Whether some tensor is a table of coremltools."""
    return any(MARK in name and name.endswith(LUT_SUFFIX) for name in tensors)


def read_coreml_torch(source: Source) -> Checkpoint:
    """All layers; raises ``ModelError`` naming the one at fault."""
    tensors = source.tensors
    layers = {}
    for name in tensors:
        if MARK in name and name.endswith(LUT_SUFFIX):
            weight = name.replace(MARK, "").removesuffix(LUT_SUFFIX)
            try:
                layers[weight] = _layer(weight, name.removesuffix("lut"), tensors)
            except ModelError as error:
                raise ModelError(f"{source.path}: layer '{weight}': {error}") from error
    return Checkpoint(
        layers, {name: array for name, array in tensors.items() if MARK not in name and name not in layers}
    )


def _layer(weight: str, prefix: str, tensors: Tensors) -> ForeignLayer:
    if weight not in tensors:
        raise ModelError("its dense weight is missing")
    dense = tensors[weight].astype(np.float32)
    if dense.ndim < 2 or 0 in dense.shape:
        raise ModelError(f"shape {list(dense.shape)}; expected [out, ...]")
    if not np.isfinite(dense).all():  # NaN is off by nothing that compares as more than is allowed
        raise ModelError("some weights are NaN or infinite")
    lut = taken(tensors, f"{prefix}lut", dense.ndim + 2, "f").astype(np.float32)
    stored_axis = int(taken(tensors, f"{prefix}vector_axis", 0, "iu")) if lut.shape[-1] > 1 else 0
    axis = wrapped_axis(stored_axis, dense.ndim)
    if dense.shape[axis] % lut.shape[-1]:
        raise ModelError(f"vectors of {lut.shape[-1]} along axis {axis} of {list(dense.shape)}")
    scale = np.ones(1, np.float32)
    if f"{prefix}palettization_scale" in tensors:
        scale = channel_scale(taken(tensors, f"{prefix}palettization_scale", dense.ndim, "f"), len(dense))
    return _coded(dense, *_integers(lut, prefix, tensors, scale), axis)


def _integers(lut: Matrix, prefix: str, tensors: Tensors, scale: Matrix) -> tuple[Matrix, Matrix]:
    """A table of integers and their step, if it was quantised; the table as it is otherwise."""
    if f"{prefix}quantization_scale" not in tensors or f"{prefix}zero_point" in tensors:
        return lut, scale
    step = tensors[f"{prefix}quantization_scale"].astype(np.float64)
    if step.size != 1:
        return lut, scale
    units = lut / step.reshape(())
    whole = np.rint(units)
    if np.abs(units - whole).max() > np.abs(whole).max() * TOLERANCE:
        return lut, scale
    return whole.astype(np.float32), (scale * step.reshape(())).astype(np.float32)


def _coded(dense: Matrix, lut: Matrix, scale: Matrix, axis: int) -> ForeignLayer:
    d = lut.shape[-1]
    grid = tuple(size // d if at == axis else size for at, size in enumerate(dense.shape))
    plain = dense.reshape(len(dense), -1) / np.where(scale, scale, np.float32(1))[:, None]
    split = plain.astype(np.float32).reshape(*dense.shape[:axis], grid[axis], d, *dense.shape[axis + 1 :])
    vectors = np.ascontiguousarray(np.moveaxis(split, axis + 1, -1)).reshape(-1, d)
    indices = _found(vectors, lut, grid)
    layer = palette_layer(indices, lut, axis, scale)
    off = np.abs(layer.values() - dense.reshape(len(dense), -1)).max(axis=1)
    allowed = TOLERANCE * np.abs(lut).max() * np.abs(scale)
    if (off > allowed).any():
        channel = int((off - allowed).argmax())
        raise ModelError(f"channel {channel} is not made of its table's codewords: off by {off[channel]:.3g}")
    return layer


def _found(vectors: Matrix, lut: Matrix, grid: Shape) -> Indices:
    """For every vector the nearest codeword of its block's table."""
    blocks = block_numbers(grid, lut.shape[:-2]).reshape(-1)
    tables = lut.reshape(-1, *lut.shape[-2:])
    indices = np.empty(len(vectors), np.int64)
    for number, table in enumerate(tables):
        members = np.flatnonzero(blocks == number)
        for start in range(0, len(members), rows := max(1, _BLOCK_DISTANCES // table.size)):
            part = members[start : start + rows]
            indices[part] = np.square(vectors[part, None] - table).sum(axis=2).argmin(axis=1)
    return indices.reshape(grid)
