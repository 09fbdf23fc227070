"""How far one tensor of a program is from the float model's, and how much of that its own 8-bit code explains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from accel.quantisation import dequantise, quantise

if TYPE_CHECKING:
    from accel.quantisation import TensorScale

Array = npt.NDArray[Any]
Reals = npt.NDArray[np.float64]

MOST_DB = 150.0  # what float32 itself resolves; equal tensors are given this
OUTLIER = 8.0  # times the median channel


@dataclass(frozen=True, slots=True)
class Difference:
    """One tensor against float. ``snr``: signal over error in dB; ``rounding_snr``: what rounding the float tensor to
    its code would leave. ``steps``: largest error in code steps. ``saturated``: share of codes at an end of their
    range, mostly at code ``end``; ``beyond``: share of float values outside that range, to which ``cut_share`` of the
    rounding's squared error belongs. ``outlier``: the widest channel and how many times it exceeds the median one.

    Tensors of undivided exponentials are compared after their rows are divided by their sums: they have no
    ``rounding_snr`` and no ``steps``.
    """

    snr: float
    cosine: float
    saturated: float
    end: int
    steps: float | None = None
    rounding_snr: float | None = None
    beyond: float = 0.0
    cut_share: float = 0.0
    outlier: tuple[int, float] | None = None


def difference(codes: Array, code: TensorScale, expected: Array, saturated: float) -> Difference:
    """Of stored ``codes`` from the float tensor ``expected``; what is not finite there is left out."""
    wanted, found = _finite(expected), dequantise(codes, code).astype(np.float64)
    finite, units = np.isfinite(expected), code.units(codes.ndim)
    exact = wanted / units + code.zero_point
    rounded = dequantise(quantise(wanted, code), code).astype(np.float64)
    beyond = finite & ((exact < code.limits[0] - 0.5) | (exact > code.limits[1] + 0.5))
    error = np.square(rounded - wanted)
    return Difference(
        snr=_snr(wanted[finite], found[finite]),
        cosine=_cosine(wanted[finite], found[finite]),
        saturated=saturated,
        end=_end(codes, code),
        steps=float(np.max(np.abs((found - wanted) / units)[finite], initial=0.0)),
        rounding_snr=_snr(wanted[finite], rounded[finite]),
        beyond=float(beyond.mean()),
        cut_share=float(error[beyond].sum() / max(error.sum(), 1e-300)),
        outlier=_outlier(wanted),
    )


def row_difference(codes: Array, code: TensorScale, expected: Array, saturated: float) -> Difference:
    """Of rows divided by their sums: what a softmax stores whose division is left to the product that reads it."""
    rows = codes.astype(np.float64)
    found = rows / np.maximum(rows.sum(-1, keepdims=True), 1)
    wanted = _finite(expected)
    return Difference(_snr(wanted, found), _cosine(wanted, found), saturated, _end(codes, code))


def _finite(values: Array) -> Reals:
    return np.where(np.isfinite(values), values, 0).astype(np.float64)


def _snr(wanted: Reals, found: Reals) -> float:
    """In dB, between -``MOST_DB`` and ``MOST_DB``."""
    signal, noise = float(np.square(wanted).sum()), float(np.square(found - wanted).sum())
    if not noise:
        return MOST_DB
    return float(np.clip(10 * np.log10(max(signal, 1e-300) / noise), -MOST_DB, MOST_DB))


def _cosine(wanted: Reals, found: Reals) -> float:
    """1 for two tensors of zeros, 0 if only one is."""
    one, other = float(np.linalg.norm(wanted)), float(np.linalg.norm(found))
    if not (one and other):
        return float(one == other)
    return float(np.vdot(wanted, found)) / (one * other)


def _end(codes: Array, code: TensorScale) -> int:
    """The end of the range most saturated codes are at."""
    low, high = code.limits
    return low if np.count_nonzero(codes == low) > np.count_nonzero(codes == high) and _cuts_low(code) else high


def _cuts_low(code: TensorScale) -> bool:
    return bool(code.zero_point) or not code.unsigned


def _outlier(values: Reals) -> tuple[int, float] | None:
    """The widest channel (images: axis 1, else the last) if it exceeds the median one by ``OUTLIER``."""
    if values.ndim < 2:
        return None
    axis = 1 if values.ndim == 4 else values.ndim - 1
    widths = np.abs(values).max(tuple(i for i in range(values.ndim) if i != axis))
    middle = float(np.median(widths))
    times = float(widths.max()) / middle if middle else 0.0
    return (int(widths.argmax()), times) if times > OUTLIER else None
