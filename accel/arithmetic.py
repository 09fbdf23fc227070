"""The integer arithmetic of the accelerator: every rounding, shift and saturation has its one definition here.

The functional simulator, the reference interpreter of quantised graphs and the RTL share these definitions. Arrays are
int64 in and out unless said otherwise; all intermediate values fit 64 bits for the operand widths stated.

Rounding is to nearest, ties towards plus infinity: ``rounding_shift(v, s) = floor(v / 2**s + 1/2)``, one adder and one
arithmetic shift. Divisions of positive constants round down (``//``). Exponentials use base 2 and a table of 256
mantissas. DECISIONS.md 25 gives the reasons.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

MANTISSA_BITS = 24  # of a multiplier, two's complement
LARGEST_FACTOR = (1 << (MANTISSA_BITS - 1)) - 1  # of all multipliers
SHIFT_BITS = 6
LARGEST_SHIFT = (1 << SHIFT_BITS) - 1
PROBABILITY_BITS = 16  # fraction bits of a row divided by its sum
RECIPROCAL_BITS = 40  # reciprocal of a row's sum
SHARE_BITS = RECIPROCAL_BITS - PROBABILITY_BITS  # fraction bits of softmax's shares
EXPONENT_LIMIT = 7  # channel exponents are 0..7
EXPONENT_BIAS = EXPONENT_LIMIT + 1  # left shift that makes differences of exponents positive
LARGEST_NORM_ROW = 32767  # elements of a row that a layer normalisation takes
NORM_FRACTION_BITS = 12  # of a normalised element
NORM_RECIPROCAL_BITS = 38  # reciprocal of a standard deviation
RESIZE_BITS = 11  # of an interpolation weight

EXP2_TABLE: Integers = np.array([round(2.0 ** (15 - i / 256)) for i in range(256)], np.int64)


@dataclass(frozen=True, slots=True)
class Multiplier:
    """The real number ``mantissa * 2**-shift``."""

    mantissa: int
    shift: int

    def __post_init__(self) -> None:
        half = 1 << (MANTISSA_BITS - 1)
        assert -half <= self.mantissa < half and 0 <= self.shift <= LARGEST_SHIFT, self

    @property
    def word(self) -> int:
        """The 32 bits in memory: mantissa in bits 0-23, shift in bits 24-29."""
        return (self.mantissa & ((1 << MANTISSA_BITS) - 1)) | self.shift << MANTISSA_BITS


def multiplier(value: float) -> Multiplier:
    """The nearest multiplier to ``value``: 23 significant bits, at most ``LARGEST_FACTOR``."""
    return shared_multipliers(value)[1][0]


def shared_multipliers(*values: float) -> tuple[int, tuple[Multiplier, ...]]:
    """``(shift, multipliers)`` of one common shift: the largest value keeps 23 significant bits. Those beyond
    ``LARGEST_FACTOR`` become it: every integer but 0 saturates times either."""
    values = tuple(min(max(value, -LARGEST_FACTOR), LARGEST_FACTOR) for value in values)
    largest = max(abs(value) for value in values)
    shift = LARGEST_SHIFT if not largest else MANTISSA_BITS - 1 - math.frexp(largest)[1]
    if round(math.ldexp(largest, shift)) >= 1 << (MANTISSA_BITS - 1):
        shift -= 1
    shift = min(shift, LARGEST_SHIFT)
    return shift, tuple(Multiplier(round(math.ldexp(value, shift)), shift) for value in values)


def unpack_words(words: npt.NDArray[np.uint32]) -> tuple[Integers, Integers]:
    """Mantissas and shifts of packed multipliers."""
    wide = words.astype(np.int64)
    spare = 64 - MANTISSA_BITS
    return (wide << spare) >> spare, wide >> MANTISSA_BITS & LARGEST_SHIFT


def rounding_shift(values: Integers, shift: Any) -> Integers:
    """``floor(values / 2**shift + 1/2)`` for values below 2**62 in magnitude and any shift from 0 on."""
    places = np.minimum(np.asarray(shift, np.int64), 63)  # all behind round to 0; int64 shifts no further
    half = np.where(places > 0, np.int64(1) << np.maximum(places - 1, 0), 0)
    rounded: Integers = (values + half) >> places
    return rounded


def requantise(sums: Integers, mantissa: Any, shift: Any) -> Integers:
    """Sums (up to 38 bits) times ``mantissa * 2**-shift``, rounded; not yet saturated."""
    return rounding_shift(sums * mantissa, shift)


def saturate(values: Integers, unsigned: bool) -> Integers:
    """To 0..255 or -128..127."""
    return np.clip(values, 0, 255) if unsigned else np.clip(values, -128, 127)


def to_bytes(codes: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Codes of either signedness as they lie in memory."""
    return (codes.astype(np.int64) & 0xFF).astype(np.uint8)


def from_bytes(data: npt.NDArray[np.uint8], unsigned: bool) -> Integers:
    """Inverse of ``to_bytes``."""
    return data.astype(np.int64) if unsigned else data.view(np.int8).astype(np.int64)


def exponentials(codes: Integers, factor: int) -> Integers:
    """``2**15 * exp(s * (x - max x))`` along the last axis, ``factor = s * log2(e) * 2**16``; 0..32768."""
    distance = codes.max(-1, keepdims=True) - codes
    power = (distance * factor + 128) >> 8
    powers: Integers = EXP2_TABLE[power & 0xFF] >> np.minimum(power >> 8, 63)
    return powers


def row_exponentials(codes: Integers, factor: int) -> Integers:
    """``255 * exp(s * (x - max x))`` along the last axis, 0..255: softmax without its division."""
    return rounding_shift(exponentials(codes, factor) * 255, 15)


def reciprocal(sums: Integers) -> Integers:
    """``2**40 // sum``, 0 for sums that are not positive."""
    return np.where(sums > 0, (1 << RECIPROCAL_BITS) // np.maximum(sums, 1), 0)


def normalise_rows(sums: Integers, row_sums: Integers) -> Integers:
    """``sums[r, c] / row_sums[r]`` with 16 fraction bits; |sums| is at most 128 times the row's sum."""
    return rounding_shift(sums * reciprocal(row_sums)[..., None], SHARE_BITS)


def softmax(codes: Integers, factor: int, mantissa: int, shift: int) -> Integers:
    """Probabilities along the last axis with 24 fraction bits, requantised; not yet saturated."""
    powers = exponentials(codes, factor)
    shares = (powers * reciprocal(powers.sum(-1))[..., None]) >> PROBABILITY_BITS
    return requantise(shares, mantissa, shift)


def integer_sqrt(values: Integers) -> Integers:
    """``floor(sqrt(values))`` for values below 2**62.5: the squares of their roots must fit 64 bits."""
    root = np.sqrt(values.astype(np.float64)).astype(np.int64)
    root -= (root * root > values).astype(np.int64)
    return root + ((root + 1) * (root + 1) <= values).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Norm:
    """Constants of a layer normalisation: ``epsilon`` in squared units of the input with 16 fraction bits, ``gains``
    and ``offsets`` int16 of the output's unit with ``shift - 12`` and ``shift - offset_shift`` fraction bits."""

    epsilon: int
    gains: Integers
    offsets: Integers
    shift: int
    offset_shift: int


def layernorm(values: Integers, norm: Norm) -> Integers:
    """Along the last axis, in units of the output; not saturated. A row has at most ``LARGEST_NORM_ROW`` elements
    below 2**15 in magnitude."""
    count = values.shape[-1]
    doubled = 2 * 256 * values.sum(-1, keepdims=True)
    centred = values * 256 - (doubled + count) // (2 * count)
    variance = (centred * centred).sum(-1, keepdims=True) // count
    deviation = np.maximum(integer_sqrt(variance + norm.epsilon), 1)
    inverse = np.int64(1 << NORM_RECIPROCAL_BITS) // deviation
    normalised = rounding_shift(centred * inverse, NORM_RECIPROCAL_BITS - NORM_FRACTION_BITS)
    return rounding_shift(normalised * norm.gains + (norm.offsets << norm.offset_shift), norm.shift)


def divide(numerators: Integers, denominators: Integers) -> Integers:
    """``floor(n / d + 1/2)``; by zero: 2**31 times the numerator's sign."""
    n, d = np.where(denominators < 0, -numerators, numerators), np.abs(denominators)
    quotient = (2 * n + d) // np.maximum(2 * d, 1)
    return np.where(d == 0, np.sign(numerators) * (1 << 31), quotient)


def nearest_source(out: Integers, in_size: int, out_size: int) -> Integers:
    """Input index of output index ``out``: ``floor(out * in_size / out_size)``."""
    return out * in_size // out_size


def linear_source(out: Integers, in_size: int, out_size: int) -> tuple[Integers, Integers, Integers]:
    """Lower and upper input index of output index ``out`` (half-pixel centres) and the upper one's weight, 11 bits."""
    position = np.maximum((2 * out + 1) * in_size - out_size, 0)
    lower = np.minimum(position // (2 * out_size), in_size - 1)
    weight = ((position - 2 * out_size * lower) * (1 << RESIZE_BITS) + out_size) // (2 * out_size)
    return lower, np.minimum(lower + 1, in_size - 1), weight


def source_rows(out_row: int, in_size: int, out_size: int) -> tuple[int, int]:
    """First and last input row that an output row of a resized image depends on, whatever the mode."""
    row = np.array([out_row], np.int64)
    lower, upper, _ = linear_source(row, in_size, out_size)
    nearest = nearest_source(row, in_size, out_size)
    return int(min(lower[0], nearest[0])), int(max(upper[0], nearest[0]))


def blend(taps: tuple[Integers, Integers, Integers, Integers], down: Integers, right: Integers) -> Integers:
    """Bilinear mean of top-left, top-right, bottom-left, bottom-right by 11-bit weights."""
    one = 1 << RESIZE_BITS
    upper: Integers = taps[0] * (one - right) + taps[1] * right
    lower: Integers = taps[2] * (one - right) + taps[3] * right
    return rounding_shift(upper * (one - down) + lower * down, 2 * RESIZE_BITS)
