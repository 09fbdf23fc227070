"""What calibration remembers of a tensor: its extremes, those of each channel, and a histogram if a method wants one.

Memory is bounded whatever the number of samples: a histogram that must grow doubles the width of its bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compiler.quantise.operators import Array

Floats = npt.NDArray[np.float64]

BINS = 4096  # half of them on either side of zero; the largest value lies in the outer half of its side
_SMALLEST_EXPONENT = -120  # of a bin's width, so that a tensor of (almost) zeros has one


@dataclass(frozen=True, slots=True)
class Histogram:
    """``counts[i]`` values lie in ``[(i - BINS / 2) * 2**exponent, (i + 1 - BINS / 2) * 2**exponent)``."""

    exponent: int
    counts: npt.NDArray[np.int64]

    @property
    def centres(self) -> Floats:
        """Middle of every bin."""
        return np.asarray((np.arange(BINS) - BINS / 2 + 0.5) * 2.0**self.exponent, np.float64)

    def percentile(self, percent: float) -> float:
        """Value below which ``percent`` of the values lie, interpolated within its bin."""
        below = np.concatenate(([0], np.cumsum(self.counts)))
        position = np.interp(percent / 100 * below[-1], below, np.arange(BINS + 1.0))
        return float((position - BINS / 2) * 2.0**self.exponent)


def histogram(values: Array, times: Array | None = None) -> Histogram:
    """Of finite values, with the narrowest bins (a power of two wide) that cover them; each counts once, or as many
    ``times`` as it says."""
    largest = float(np.abs(values).max(initial=0))
    exponent = max(math.frexp(largest)[1] - int(math.log2(BINS // 2)), _SMALLEST_EXPONENT)
    places = np.floor(values.reshape(-1) * np.float32(2.0**-exponent)).astype(np.int64) + BINS // 2
    counts = np.bincount(places.clip(0, BINS - 1), None if times is None else times.reshape(-1), BINS)
    return Histogram(exponent, counts.astype(np.int64))


def widened(one: Histogram, exponent: int) -> Histogram:
    """With bins ``2**exponent`` wide, at least as wide as before: neighbours merge, none is split."""
    steps = min(exponent - one.exponent, 63)
    target = ((np.arange(BINS) - BINS // 2) >> steps) + BINS // 2
    counts = np.bincount(target, weights=one.counts, minlength=BINS).astype(np.int64)
    return Histogram(exponent, counts)


def merged_histograms(one: Histogram, other: Histogram) -> Histogram:
    """Of the values of both."""
    exponent = max(one.exponent, other.exponent)
    return Histogram(exponent, widened(one, exponent).counts + widened(other, exponent).counts)


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of all finite values of a tensor. ``lows`` and ``highs`` hold an entry a channel, or one in all; inf and -inf
    where there was no value. ``ignored`` values were NaN or infinite."""

    lows: Floats
    highs: Floats
    histogram: Histogram | None
    ignored: int

    @property
    def maxima(self) -> Floats:
        """Largest magnitude of each channel, 0 where there was no value."""
        return np.maximum(np.maximum(self.highs, -self.lows), 0)


def statistics(
    values: Array, axis: int | None, unit: Array | float | None = None, squared_units: bool = False
) -> Statistics:
    """Of one array, with extremes for each index of ``axis`` if there is one, and with a histogram of its multiples of
    ``unit`` (whole numbers) if there is one. ``squared_units``: a multiple counts ``unit**2`` times, for that is what
    the square of its error is worth."""
    finite = np.isfinite(values)
    sound = bool(finite.all())
    rest = None if axis is None else tuple(i for i in range(values.ndim) if i != axis)
    low, high = values, values
    if not sound:
        low, high = np.where(finite, values, np.inf), np.where(finite, values, -np.inf)
    counted = None if unit is None else _multiples(values, unit, finite, squared_units)
    lows, highs = (np.atleast_1d(np.asarray(part, np.float64)) for part in (low.min(rest), high.max(rest)))
    return Statistics(lows, highs, counted, int(values.size - finite.sum()))


def _multiples(values: Array, unit: Array | float, finite: Array, squared_units: bool) -> Histogram:
    times = np.broadcast_to(np.square(unit), values.shape)[finite] if squared_units else None
    return histogram((values / unit)[finite], times)


def merged(one: Statistics, other: Statistics) -> Statistics:
    """Of the values of both."""
    both = None
    if one.histogram is not None and other.histogram is not None:
        both = merged_histograms(one.histogram, other.histogram)
    lows, highs = np.minimum(one.lows, other.lows), np.maximum(one.highs, other.highs)
    return Statistics(lows, highs, both, one.ignored + other.ignored)
