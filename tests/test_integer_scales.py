"""Clipping of 4-bit integers is chosen by error, whatever the size of the weights."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from compiler.compress.scales import ScaleMode, integer_scale


@pytest.mark.parametrize("mode", ["channel", "tensor"])
@pytest.mark.parametrize("exponent", [-110, -70, 90, 120])
def test_a_scale_follows_its_weights(exponent: int, mode: ScaleMode) -> None:
    """By a power of two, exactly: squares of dead channels' weights vanish in float32, those of huge ones overflow."""
    weights = np.random.default_rng(0).standard_normal((8, 96)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = integer_scale(np.ldexp(weights, exponent), 7, mode)
    np.testing.assert_array_equal(found, np.ldexp(integer_scale(weights, 7, mode), exponent))
