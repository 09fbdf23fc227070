"""The interpreter of quantised graphs itself: against torch in double precision, its sums and roundings exactly."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch
from closeness import check_close
from differential import random_inputs, scales_of
from hypothesis import given
from hypothesis import strategies as st
from strategies import Coding, codings
from test_values import convolution, examples, wide_convolutions
from value_models import Numbers, models, packed_model

from accel import arithmetic
from accel.errors import CompileError
from accel.packed import Packed
from accel.quantisation import quantise
from compiler.interpreter import interpret
from compiler.output_stage import words

wide = st.integers(-(2**62) + 1, 2**62 - 1)
factors = st.one_of(st.floats(-(2.0**22), 2.0**22), st.floats(-(2.0**-20), 2.0**-20), st.sampled_from((0.0, 1.0, 0.5)))


def one_item(packed: Packed, seed: int) -> dict[str, np.ndarray]:
    inputs = random_inputs(packed, np.random.default_rng(seed))
    return {name: array[0] for name, array in inputs.items()}


# Of networks drawn at random: no numbers for a machine, and a layer normalisation of one channel, whatever its gain.
DEGENERATE = ("divides by the constant 0", "gamma or beta far exceed the range of its result")


@examples(250)
@given(models(), st.integers(0, 9))
def test_every_operator_is_close_to_what_torch_computes(packed: Packed, seed: int) -> None:
    try:
        check_close(packed, one_item(packed, seed))
    except CompileError as error:
        assert any(reason in str(error) for reason in DEGENERATE), error


def rounded(value: Fraction) -> int:
    """To nearest, ties up."""
    return math.floor(value + Fraction(1, 2))


@examples(40)
@given(wide_convolutions(), codings(), st.integers(0, 9))
def test_convolutions_have_torchs_sums_and_exact_roundings(graph, coding: Coding, seed: int) -> None:
    packed = packed_model(graph, coding, Numbers("calibrated", "plain", seed))
    op, layer, found = graph.ops[0], packed.layers["w"], {}
    inputs = one_item(packed, seed)
    interpret(packed, inputs, found.__setitem__)
    code, target = (scales_of(packed).tensors[name] for name in ("x", op.output))
    x = torch.from_numpy((quantise(inputs["x"], code) - code.zero_point).astype(np.float64))
    w = torch.from_numpy(layer.codec.decode(layer).reshape(graph.parameters["w"]).astype(np.float64))
    a = op.attributes
    sums = torch.conv2d(x, w, None, a["stride"], a["padding"][:2], a["dilation"], a["groups"]).long().numpy()
    units = np.broadcast_to(layer.scale.astype(np.float64) * code.scale, len(w))
    for channel, unit in enumerate(units.tolist()):
        bias = rounded(Fraction(float(packed.parameters["b"][channel]) / unit))
        one = arithmetic.multiplier(unit / target.scale)
        exact = [rounded(Fraction((int(s) + bias) * one.mantissa, 1 << one.shift)) for s in sums[:, channel].ravel()]
        assert found[op.output][:, channel].ravel().tolist() == np.clip(exact, *target.limits).tolist()


@given(wide, st.integers(0, 200))
def test_shifts_round_to_nearest_ties_up(value: int, shift: int) -> None:
    assert arithmetic.rounding_shift(np.array([value]), shift).tolist() == [rounded(Fraction(value, 1 << shift))]


@given(factors)
def test_multipliers_are_the_nearest(factor: float) -> None:
    one = arithmetic.multiplier(factor)
    error = abs(Fraction(factor) - Fraction(one.mantissa, 1 << one.shift))
    assert error <= max(abs(Fraction(factor)) / 2**23, Fraction(1, 1 << 64))
    mantissa, shift = arithmetic.unpack_words(words(np.array([factor])))
    assert Fraction(int(mantissa[0]), 1 << int(shift[0])) == Fraction(one.mantissa, 1 << one.shift)


@given(st.floats(2.0**23, 1e300), st.sampled_from((-1, 1)))
def test_factors_beyond_the_largest_saturate_as_it_does(factor: float, sign: int) -> None:
    one = arithmetic.multiplier(sign * factor)
    codes = arithmetic.saturate(arithmetic.requantise(np.array([-1, 0, 1]), one.mantissa, one.shift), False)
    assert codes.tolist() == ([-128, 0, 127] if sign > 0 else [127, 0, -128])


@given(st.integers(-(2**40), 2**40), st.integers(-255, 255))
def test_quotients_round_to_nearest_ties_up(numerator: int, denominator: int) -> None:
    exact = rounded(Fraction(numerator, denominator)) if denominator else np.sign(numerator) * 2**31
    assert arithmetic.divide(np.array([numerator]), np.array([denominator])).tolist() == [exact]


@given(st.integers(0, 2**31), st.sampled_from((-1, 0, 1)))
def test_square_roots_are_exact_around_squares(root: int, off: int) -> None:
    value = max(0, root * root + off)
    assert arithmetic.integer_sqrt(np.array([value])).tolist() == [math.isqrt(value)]


def test_large_biases_set_the_unit_of_their_own_column_only() -> None:
    graph = convolution((1, 4, 3, 3), (3, 4, 1, 1), (0, 0, 0, 0))
    packed = packed_model(graph, Coding("int8", "out", False), Numbers("calibrated", "huge biases", 1))
    packed.parameters["b"][1:] = 0
    check_close(packed, one_item(packed, 0))
