"""Activation functions on real numbers: what tables are filled from (``accel.graph.OPERATORS`` defines them)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from accel.graph import ACTIVATION_FUNCTIONS

Reals = npt.NDArray[np.float64]


def _erf(x: Reals) -> Reals:
    return np.array([math.erf(value) for value in x.reshape(-1).tolist()]).reshape(x.shape)


def _sigmoid(x: Reals) -> Reals:
    return 1 / (1 + np.exp(-np.clip(x, -700, 700)))


def _relu6(x: Reals) -> Reals:
    return np.clip(x, 0, 6)


FUNCTIONS: Mapping[str, Callable[[Reals, float, float], Reals]] = MappingProxyType(
    {
        "relu": lambda x, low, high: np.maximum(x, 0),
        "relu6": lambda x, low, high: _relu6(x),
        "gelu": lambda x, low, high: x * (1 + _erf(x / math.sqrt(2))) / 2,
        "silu": lambda x, low, high: x * _sigmoid(x),
        "sigmoid": lambda x, low, high: _sigmoid(x),
        "tanh": lambda x, low, high: np.tanh(x),
        "hardswish": lambda x, low, high: x * _relu6(x + 3) / 6,
        "hardsigmoid": lambda x, low, high: _relu6(x + 3) / 6,
        "clip": lambda x, low, high: np.clip(x, low, high),
    }
)

assert set(FUNCTIONS) == set(ACTIVATION_FUNCTIONS), "every activation function has its values"
