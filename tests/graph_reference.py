"""What every row of ``accel.graph.OPERATORS`` computes, in torch: the obvious twin front ends are tested against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from accel.graph import Graph

Tensor = torch.Tensor


def conv(a: Mapping[str, Any], x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    return functional.conv2d(_padded(x, a["padding"]), w, b, a["stride"], 0, a["dilation"], a["groups"])


def maxpool(a: Mapping[str, Any], x: Tensor) -> Tensor:
    return functional.max_pool2d(_padded(x, a["padding"], -torch.inf), a["kernel"], a["stride"])


def avgpool(a: Mapping[str, Any], x: Tensor) -> Tensor:
    return functional.avg_pool2d(_padded(x, a["padding"]), a["kernel"], a["stride"])


def resize(a: Mapping[str, Any], x: Tensor) -> Tensor:
    return functional.interpolate(x, size=a["size"], mode=a["mode"])


def pad(a: Mapping[str, Any], x: Tensor) -> Tensor:
    return functional.pad(x, [n for pair in reversed(list(zip(a["before"], a["after"], strict=True))) for n in pair])


def matmul(a: Mapping[str, Any], x: Tensor, y: Tensor) -> Tensor:
    return x @ (y.transpose(-1, -2) if a["transpose_b"] else y)


def _padded(x: Tensor, padding: tuple[int, ...], value: float = 0.0) -> Tensor:
    top, left, bottom, right = padding
    return functional.pad(x, (left, right, top, bottom), value=value)


REFERENCE: Mapping[str, Callable[..., Tensor]] = {
    "conv": conv,
    "gemm": lambda a, x, w, b=None: functional.linear(x, w, b),
    "matmul": matmul,
    "embedding": lambda a, table, ids: table[ids.long()],
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
    "mean": lambda a, x: x.mean(a["axes"], a["keepdims"]),
    "resize": resize,
    "pad": pad,
    "reshape": lambda a, x: x.reshape(a["shape"]),
    "transpose": lambda a, x: x.permute(a["perm"]),
    "slice": lambda a, x: x.narrow(a["axis"], a["start"], a["stop"] - a["start"]),
    "concat": lambda a, *x: torch.cat(x, a["axis"]),
    "roll": lambda a, x: torch.roll(x, a["shift"], a["axis"]),
    "expand": lambda a, x: x.expand(a["shape"]),
}


def evaluate(graph: Graph, params: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of ``graph``; checks on the way that every tensor has the shape the graph says."""
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in {**params, **inputs}.items()}
    for op in graph.ops:
        result = REFERENCE[op.kind](op.attributes, *(tensors[name] for name in op.inputs))
        assert tuple(result.shape) == graph.shapes[op.output], op
        tensors[op.output] = result
    return [tensors[name].numpy() for name in graph.outputs]
