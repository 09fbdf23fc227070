"""Scales of a layer: what weights are divided by before they are coded, per output channel or per tensor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from compiler.compress.blocks import row_blocks, scale_of

ScaleMode = Literal["channel", "tensor"]
SCALE_MODES: tuple[ScaleMode, ...] = ("channel", "tensor")

Matrix = npt.NDArray[np.float32]
Scales = npt.NDArray[np.float32]

# Below 8 bits the largest weight is worth clipping (for Gaussian weights in 4 bits at 0.7 to 0.8 of the maximum); the
# least error on this grid is taken.
CLIP_RATIOS = np.linspace(0.5, 1.0, 11)
_CLIPPING_PAYS_BELOW = 127


def integer_scale(weights: Matrix, limit: int, mode: ScaleMode, importance: Matrix | None = None) -> Scales:
    """Step of integers ``-limit..limit`` for ``weights[out, reduction]``: max-abs, or the clip with the least error,
    each weight's square counting as much as its ``importance`` (broadcast)."""
    peaks = np.concatenate([np.abs(weights[rows]).max(axis=1) for rows in row_blocks(weights.shape)])
    largest = positive((peaks if mode == "channel" else peaks.max(keepdims=True)) / limit)
    if limit >= _CLIPPING_PAYS_BELOW:
        return largest
    exponents = np.frexp(largest)[1]  # taken out, which rounds nothing: squares of what is left neither vanish nor end
    near, unit = np.ldexp(weights, -exponents[:, None]), np.ldexp(largest, -exponents)
    errors = [_rounding_error(near, positive(unit * ratio), limit, mode, importance) for ratio in CLIP_RATIOS]
    return positive(largest * CLIP_RATIOS[np.stack(errors).argmin(axis=0)])


def root_mean_square(weights: Matrix, mode: ScaleMode) -> Scales:
    """RMS of each output channel, or of the tensor; 1 where all weights are zero."""
    sums = _summed((np.square(weights[rows], dtype=np.float64) for rows in row_blocks(weights.shape)), mode)
    squares = sums / (weights.size // len(sums))
    return positive(np.where(squares > 0, np.sqrt(squares), 1.0))


def refitted(weights: Matrix, decoded: npt.NDArray[np.int8], scale: Scales, importance: Matrix | None = None) -> Scales:
    """The scale with the least squared error for these decoded integers, ``<w, q> / <q, q>``; with ``importance``
    (broadcast) the products count as much as that says.

    It may be zero (a channel of zeros); where the fit says nothing or turns the sign, ``scale`` stays.
    """
    mode: ScaleMode = "tensor" if scale.shape == (1,) else "channel"

    def counted(rows: slice) -> Matrix:
        codes = decoded[rows].astype(np.float32)
        return codes if importance is None else codes * _rows_of(importance, rows)

    match = _summed((weights[rows] * counted(rows) for rows in row_blocks(weights.shape)), mode)
    power = _summed((decoded[rows] * counted(rows) for rows in row_blocks(weights.shape)), mode)
    fit = np.divide(match, power, out=scale.astype(np.float64), where=power > 0)
    return np.where(fit >= 0, fit, scale).astype(np.float32)


def positive(scale: npt.NDArray[np.floating[Any]]) -> Scales:
    """``scale`` in float32, kept off zero so that it can divide."""
    kept: Scales = np.maximum(scale, np.finfo(np.float32).tiny).astype(np.float32)
    return kept


def _summed(blocks: Iterable[npt.NDArray[np.floating[Any]]], mode: ScaleMode) -> npt.NDArray[np.float64]:
    """The sum of each row of all blocks, ``[out]``, or of everything, ``[1]``."""
    sums = np.concatenate([block.sum(axis=1, dtype=np.float64) for block in blocks])
    return sums if mode == "channel" else sums.sum(keepdims=True)


def _rows_of(importance: Matrix, rows: slice) -> Matrix:
    return importance if len(importance) == 1 else importance[rows]


def _rounding_error(
    weights: Matrix, step: Scales, limit: int, mode: ScaleMode, importance: Matrix | None
) -> npt.NDArray[np.float64]:
    def squares(rows: slice) -> Matrix:
        steps = scale_of(step, rows)[:, None]
        rounded = np.clip(np.rint(weights[rows] / steps), -limit, limit) * steps
        found: Matrix = np.square(weights[rows] - rounded)
        return found if importance is None else found * _rows_of(importance, rows)

    return _summed((squares(rows) for rows in row_blocks(weights.shape)), mode)
