"""From what was observed of tensors to the range their codes must cover, and from that to a code."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from accel.errors import ConfigError
from accel.quantisation import LARGEST_SCALE, SMALLEST_SCALE, TensorScale
from compiler.quantise.groups import Range
from compiler.quantise.observe import Floats, Histogram

_SIGNED, _UNSIGNED = TensorScale(1.0), TensorScale(1.0, unsigned=True)


class Kind(Enum):
    """How the codes of a group spread: about zero, from zero, or from a zero point."""

    SIGNED = "signed"
    UNSIGNED = "unsigned"
    OFFSET = "offset"


RangeRule = Callable[[Histogram, Range, Kind], Range]


BEST = "best"  # whichever of minmax and mse brings outputs closer to the float model's


@dataclass(frozen=True, slots=True)
class Method:
    """``name`` as spelled; ``narrow`` shrinks the range between the extremes, None keeps it. ``squares``: it compares
    squared errors, so that a channel's values count the more the coarser its exponent makes their steps."""

    name: str
    narrow: RangeRule | None
    squares: bool = False


def candidate_methods(text: str) -> tuple[str, ...]:
    """The methods ``text`` asks to try: itself, or those of ``best``. Raises ``ConfigError`` as ``parse_method``."""
    return ("minmax", "mse") if text == BEST else (parse_method(text).name,)


def parse_method(text: str) -> Method:
    """``minmax``, ``percentile:P`` or ``mse``; raises ``ConfigError``."""
    if text == "minmax":
        return Method(text, None)
    if text == "mse":
        return Method(text, least_squares, squares=True)
    name, _, number = text.partition(":")
    try:
        percent = float(number)
    except ValueError:
        percent = 0.0
    if name != "percentile" or not 50 < percent <= 100:
        raise ConfigError(f"calibration method '{text}'; allowed: minmax, percentile:P with 50 < P <= 100, mse, {BEST}")
    return Method(text, lambda counts, extremes, kind: _percentiles(counts, extremes, percent))


def _percentiles(counts: Histogram, extremes: Range, percent: float) -> Range:
    """Between the ``100 - percent`` and the ``percent`` percentile."""
    low, high = counts.percentile(100 - percent), counts.percentile(percent)
    return max(low, extremes[0]), min(high, extremes[1])


def least_squares(counts: Histogram, extremes: Range, kind: Kind) -> Range:
    """The range with the least squared error of rounding and saturation together. A zero point's lower end is kept:
    activation functions end there."""
    used = np.flatnonzero(counts.counts)
    values, weights = counts.centres[used].clip(*extremes), counts.counts[used]
    candidates = [_shrunk(extremes, share, kind) for share in np.geomspace(1, 1 / 20, 40)]
    errors = [float(weights @ np.square(_rounded(values, each, kind) - values)) for each in candidates]
    return candidates[int(np.argmin(errors))]


def _shrunk(extremes: Range, share: float, kind: Kind) -> Range:
    low, high = extremes
    return (low if kind is Kind.OFFSET else low * share), high * share


def _rounded(values: Floats, extremes: Range, kind: Kind) -> Floats:
    code = code_of(extremes, kind)
    lowest, highest = code.limits
    steps = np.rint(values / code.scale).clip(lowest - code.zero_point, highest - code.zero_point)
    return np.asarray(steps * code.scale)


def kind_of(extremes: Range, *, signed: bool, zero_point: bool) -> Kind:
    """How to spread codes over a range, as far as the group's rules allow."""
    if signed:
        return Kind.SIGNED
    if extremes[0] >= 0:
        return Kind.UNSIGNED
    return Kind.OFFSET if zero_point else Kind.SIGNED


def code_of(extremes: Range, kind: Kind) -> TensorScale:
    """The code that just covers a range and the number 0. A range of nothing gets scale 1."""
    low, high = min(extremes[0], 0.0), max(extremes[1], 0.0)
    if low == high:
        return TensorScale(1.0, unsigned=kind is not Kind.SIGNED)
    if kind is Kind.SIGNED:
        return TensorScale(_possible(max(-low, high) / _SIGNED.limits[1]))
    scale = _possible((high - low) / _UNSIGNED.limits[1])
    return TensorScale(scale, min(round(-low / scale), _UNSIGNED.limits[1]), unsigned=True)


def _possible(scale: float) -> float:
    """The nearest scale a code may have: masks hold numbers as large as float32 goes."""
    return min(max(scale, SMALLEST_SCALE), LARGEST_SCALE)
