"""Look-up tables as Core ML has them (``constexpr_lut_to_dense``, iOS 18): both its importers end here.

``indices`` have the weight's shape, its ``axis`` divided by d; ``lut[g_0, g_1, ..., K, d]`` holds one table for every
block of equal size along each axis: ``out[..., i*d + j, ...] = lut[block of i, indices[i], j]``.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from accel.codecs import VectorAxis
from accel.errors import ModelError
from accel.graph import Shape
from compiler.importers.foreign import Coding, ForeignLayer, Indices, Matrix, refuse_strays


def palette_layer(indices: Indices, lut: Matrix, axis: int, scale: Matrix) -> ForeignLayer:
    """The layer of a table; ``scale`` is float32 ``[1]`` or ``[out]``. Raises ``ModelError`` for what does not fit.

    Tables of several blocks become one codebook, one after another: the codes grow by the bits that tell blocks apart.
    """
    groups, (entries, d) = lut.shape[:-2], lut.shape[-2:]
    shape = tuple(size * d if at == axis else size for at, size in enumerate(indices.shape))
    refuse_strays(indices, entries)
    form = f"{math.prod(groups)}x" * (math.prod(groups) > 1) + f"{entries}" + f" d={d}" * (d > 1)
    codes = indices + entries * block_numbers(indices.shape, groups)
    words = np.ascontiguousarray(lut.reshape(-1, d), np.float32)
    vector_axis: VectorAxis = "out" if axis == 0 else "in"
    if axis and d > 1 and math.prod(shape[axis + 1 :]) > 1:
        reason = f"vectors along axis {axis} of {list(shape)} are not adjacent in the reduction"
        return ForeignLayer(form, shape, dense=_dense(codes, words, axis, shape, scale), obstacle=reason)
    row_groups = groups[0] if math.prod(groups[1:]) == 1 else 1
    grid = codes.reshape(1, len(codes), -1)
    return ForeignLayer(form, shape, Coding(grid, (words,), vector_axis, scale, row_groups, math.prod(groups)))


def wrapped_axis(axis: int, rank: int) -> int:
    """``axis`` counted from the front; negative ones count from the end. Raises ``ModelError``."""
    if not -rank <= axis < rank:
        raise ModelError(f"vector axis {axis}; allowed: {-rank} to {rank - 1}")
    return axis % rank


def block_numbers(shape: Shape, groups: Shape) -> Indices:
    """Which table serves each index: ``int64`` of ``shape``."""
    if len(shape) != len(groups) or any(n % g for n, g in zip(shape, groups, strict=True)):
        raise ModelError(f"tables {list(groups)} for indices {list(shape)}; expected a divisor along every axis")
    places = np.ix_(*(np.arange(n) // (n // g) for n, g in zip(shape, groups, strict=True)))
    return np.asarray(np.broadcast_to(np.ravel_multi_index(places, groups), shape), np.int64)


def _dense(codes: Indices, words: Matrix, axis: int, shape: Shape, scale: Matrix) -> Matrix:
    """``float32[out, reduction]``."""
    gathered = np.moveaxis(words[codes], -1, axis + 1).reshape(shape[0], -1)
    return np.asarray(gathered * scale[:, None], np.float32)


def channel_scale(scale: npt.NDArray[np.floating], out: int) -> Matrix:
    """``[1]`` or ``[out]`` of a scale with one axis for each of the weight's; raises ``ModelError`` for others."""
    if scale.size not in (1, scale.shape[0]) or (scale.size > 1 and out % scale.size):
        raise ModelError(f"scales of shape {list(scale.shape)}; allowed: one, or one for each run of output channels")
    flat = scale.reshape(-1).astype(np.float32)
    return flat if flat.size == 1 else np.repeat(flat, out // flat.size)
