"""What every row of ``accel.graph.OPERATORS`` computes, in float32 NumPy: the model as its authors meant it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from accel.arithmetic import nearest_source

Array = npt.NDArray[Any]
Attributes = Mapping[str, Any]
Operator = Callable[..., Array]


def conv(a: Attributes, x: Array, w: Array, b: Array | None = None) -> Array:
    """``x[N,C,H,W] * w[O,C/groups,kh,kw] (+ b[O])``."""
    x = padded(x, a["padding"], 0.0)
    out = _dense_conv(a, x, w) if a["groups"] == 1 else _grouped_conv(a, x, w)
    return out if b is None else out + b[:, None, None]


def _dense_conv(a: Attributes, x: Array, w: Array) -> Array:
    views = windows(x, a["kernel"], a["stride"], a["dilation"])
    n, _, height, width = views.shape[:4]
    columns = views.transpose(0, 1, 4, 5, 2, 3).reshape(n, -1, height * width)
    return (w.reshape(len(w), -1) @ columns).reshape(n, -1, height, width)


def _grouped_conv(a: Attributes, x: Array, w: Array) -> Array:
    """One tap after the other: a depthwise convolution has too few channels for a matrix product."""
    views, groups = windows(x, a["kernel"], a["stride"], a["dilation"]), a["groups"]
    n, channels, height, width = views.shape[:4]
    weights = w.reshape(groups, len(w) // groups, *w.shape[1:])
    out = np.zeros((n, groups, weights.shape[1], height * width), np.float32)
    for i, j in np.ndindex(*w.shape[2:]):
        tap = views[..., i, j].reshape(n, groups, channels // groups, height * width)
        taken = weights[..., i, j]
        out += tap * taken if taken.shape[1:] == (1, 1) else taken @ tap
    return out.reshape(n, len(w), height, width)


def windows(x: Array, kernel: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> Array:
    """A view ``[N, C, out_height, out_width, kh, kw]``."""
    reach = tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))
    views = np.lib.stride_tricks.sliding_window_view(x, reach, (2, 3))
    return views[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]


def padded(x: Array, padding: tuple[int, int, int, int], value: float) -> Array:
    """An image with ``value`` around it; padding is top, left, bottom, right."""
    top, left, bottom, right = padding
    if not any(padding):
        return x
    n, c, height, width = x.shape
    out = np.full((n, c, height + top + bottom, width + left + right), value, np.float32)
    out[:, :, top : top + height, left : left + width] = x
    return out


def gemm(a: Attributes, x: Array, w: Array, b: Array | None = None) -> Array:
    """``x[..., K] @ w[N,K].T (+ b[N])``."""
    out = (x.reshape(-1, x.shape[-1]) @ w.T).reshape(*x.shape[:-1], len(w))
    return out if b is None else out + b


def matmul(a: Attributes, x: Array, y: Array) -> Array:
    """Batches of products of two activations."""
    return np.asarray(x @ (y.swapaxes(-1, -2) if a["transpose_b"] else y))


@functools.cache
def _erf() -> Operator:
    import numba  # takes its time to import, and NumPy has no erf

    return cast(Operator, numba.vectorize(["float32(float32)", "float64(float64)"])(_error_function))


def _error_function(x: float) -> float:
    return math.erf(x)


def gelu(a: Attributes, x: Array) -> Array:
    """``x * Phi(x)``, with the exact error function."""
    return np.asarray(x * (0.5 + 0.5 * _erf()(x * np.float32(math.sqrt(0.5)))))


def sigmoid(a: Attributes, x: Array) -> Array:
    """``1 / (1 + exp(-x))``."""
    return np.asarray(1 / (1 + np.exp(-x)))


def hardsigmoid(a: Attributes, x: Array) -> Array:
    """``relu6(x + 3) / 6``."""
    return np.asarray(np.clip(x + 3, 0, 6) / 6)


def softmax(a: Attributes, x: Array) -> Array:
    """Along one axis."""
    powers = np.exp(x - x.max(a["axis"], keepdims=True))
    return np.asarray(powers / powers.sum(a["axis"], keepdims=True))


def layernorm(a: Attributes, x: Array, gamma: Array, beta: Array) -> Array:
    """Along the last axis."""
    centred = x - x.mean(-1, keepdims=True)
    variance = np.square(centred).mean(-1, keepdims=True)
    return np.asarray(centred / np.sqrt(variance + np.float32(a["epsilon"])) * gamma + beta)


def maxpool(a: Attributes, x: Array) -> Array:
    """Largest element of each window; padding never wins."""
    return np.asarray(windows(padded(x, a["padding"], -np.inf), a["kernel"], a["stride"], (1, 1)).max((4, 5)))


def avgpool(a: Attributes, x: Array) -> Array:
    """Mean of each window, padding included."""
    return np.asarray(windows(padded(x, a["padding"], 0.0), a["kernel"], a["stride"], (1, 1)).mean((4, 5)))


def resize(a: Attributes, x: Array) -> Array:
    """NCHW to another height and width."""
    along = _nearest if a["mode"] == "nearest" else _linear
    return along(along(x, a["size"][0], 2), a["size"][1], 3)


def _nearest(x: Array, size: int, axis: int) -> Array:
    return x.take(nearest_source(np.arange(size), x.shape[axis], size), axis)


def _linear(x: Array, size: int, axis: int) -> Array:
    """Half-pixel centres, as ``torch.nn.functional.interpolate`` without ``align_corners``."""
    last = x.shape[axis] - 1
    position = np.maximum((np.arange(size) + 0.5) * x.shape[axis] / size - 0.5, 0)
    lower = np.minimum(position.astype(np.int64), last)
    weight = (position - lower).astype(np.float32).reshape((-1, *(1,) * (x.ndim - axis - 1)))
    upper = x.take(np.minimum(lower + 1, last), axis)
    return np.asarray(x.take(lower, axis) * (1 - weight) + upper * weight)


def pad(a: Attributes, x: Array) -> Array:
    """Zeros around each axis."""
    return np.pad(x, list(zip(a["before"], a["after"], strict=True)))


def cut(a: Attributes, x: Array) -> Array:
    """A range of one axis."""
    picked: list[slice] = [slice(None)] * x.ndim
    picked[a["axis"]] = slice(a["start"], a["stop"])
    return x[tuple(picked)]


FLOATING: Mapping[str, Operator] = {
    "conv": conv,
    "gemm": gemm,
    "matmul": matmul,
    "embedding": lambda a, table, ids: table[ids],
    "add": lambda a, x, y: x + y,
    "sub": lambda a, x, y: x - y,
    "mul": lambda a, x, y: x * y,
    "div": lambda a, x, y: x / y,
    "relu": lambda a, x: np.maximum(x, 0),
    "relu6": lambda a, x: np.clip(x, 0, 6),
    "gelu": gelu,
    "silu": lambda a, x: x * sigmoid(a, x),
    "sigmoid": sigmoid,
    "tanh": lambda a, x: np.tanh(x),
    "hardswish": lambda a, x: x * hardsigmoid(a, x),
    "hardsigmoid": hardsigmoid,
    "clip": lambda a, x: np.clip(x, a["low"], a["high"]),
    "softmax": softmax,
    "layernorm": layernorm,
    "maxpool": maxpool,
    "avgpool": avgpool,
    "mean": lambda a, x: x.mean(tuple(a["axes"]), keepdims=a["keepdims"]),
    "resize": resize,
    "pad": pad,
    "reshape": lambda a, x: x.reshape(a["shape"]),
    "transpose": lambda a, x: x.transpose(a["perm"]),
    "slice": cut,
    "concat": lambda a, *x: np.concatenate(x, a["axis"]),
    "roll": lambda a, x: np.roll(x, a["shift"], a["axis"]),
    "expand": lambda a, x: np.broadcast_to(x, a["shape"]),
}
