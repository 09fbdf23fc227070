"""What every row of ``accel.graph.OPERATORS`` computes, in torch, through which gradients flow.

The twin of ``compiler.quantise.operators``. No operator looks at an axis of samples: ``GraphModule`` maps them all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Attributes = Mapping[str, Any]
Operator = Callable[..., Tensor]


def conv(a: Attributes, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    """``x[N,C,H,W] * w[O,C/groups,kh,kw] (+ b[O])``; padding equal on both sides is left to torch."""
    top, left, *ends = a["padding"]
    inside = (top, left) if ends == [top, left] else (0, 0)
    x = x if any(inside) else padded(x, a["padding"])
    return functional.conv2d(x, w, b, a["stride"], inside, a["dilation"], a["groups"])


def maxpool(a: Attributes, x: Tensor) -> Tensor:
    """Largest element of each window; padding never wins."""
    return functional.max_pool2d(padded(x, a["padding"], -torch.inf), a["kernel"], a["stride"])


def avgpool(a: Attributes, x: Tensor) -> Tensor:
    """Mean of each window, padding included."""
    return functional.avg_pool2d(padded(x, a["padding"]), a["kernel"], a["stride"])


def pad(a: Attributes, x: Tensor) -> Tensor:
    """Zeros around each axis; torch wants the last axis first."""
    pairs = reversed(list(zip(a["before"], a["after"], strict=True)))
    return functional.pad(x, [count for pair in pairs for count in pair])


def padded(x: Tensor, padding: tuple[int, int, int, int], value: float = 0.0) -> Tensor:
    """An image with ``value`` around it; padding is top, left, bottom, right."""
    top, left, bottom, right = padding
    return functional.pad(x, (left, right, top, bottom), value=value) if any(padding) else x


TORCH: Mapping[str, Operator] = MappingProxyType(
    {
        "conv": conv,
        "gemm": lambda a, x, w, b=None: functional.linear(x, w, b),
        "matmul": lambda a, x, y: x @ (y.transpose(-1, -2) if a["transpose_b"] else y),
        "embedding": lambda a, table, ids: functional.embedding(ids.long(), table),
        "add": lambda a, x, y: x + y,
        "sub": lambda a, x, y: x - y,
        "mul": lambda a, x, y: x * y,
        "div": lambda a, x, y: x / y,
        "relu": lambda a, x: functional.relu(x),
        "relu6": lambda a, x: functional.relu6(x),
        "gelu": lambda a, x: functional.gelu(x),
        "silu": lambda a, x: functional.silu(x),
        "sigmoid": lambda a, x: torch.sigmoid(x),
        "tanh": lambda a, x: torch.tanh(x),
        "hardswish": lambda a, x: functional.hardswish(x),
        "hardsigmoid": lambda a, x: functional.hardsigmoid(x),
        "clip": lambda a, x: torch.clamp(x, a["low"], a["high"]),
        "softmax": lambda a, x: torch.softmax(x, a["axis"]),
        "layernorm": lambda a, x, g, b: functional.layer_norm(x, x.shape[-1:], g, b, a["epsilon"]),
        "maxpool": maxpool,
        "avgpool": avgpool,
        "mean": lambda a, x: x.mean(tuple(a["axes"]), a["keepdims"]),
        "resize": lambda a, x: functional.interpolate(x, size=tuple(a["size"]), mode=a["mode"]),
        "pad": pad,
        "reshape": lambda a, x: x.reshape(a["shape"]),
        "transpose": lambda a, x: x.permute(a["perm"]),
        "slice": lambda a, x: x.narrow(a["axis"], a["start"], a["stop"] - a["start"]),
        "concat": lambda a, *x: torch.cat(x, a["axis"]),
        "roll": lambda a, x: torch.roll(x, a["shift"], a["axis"]),
        "expand": lambda a, x: x.expand(a["shape"]),
    }
)
