"""Lowering of ATen operators that only move data: views, slices, joins, padding, resizing, selection."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from compiler.frontend import draft_ops as emit
from compiler.frontend.interpolation import axis_matrix
from compiler.frontend.torch_node import Activation, TorchNode, as_array


def same(node: TorchNode) -> str:
    """clone, contiguous and the like; dropout as evaluated."""
    if node.get("train") or node.get("training"):
        raise node.error("training mode; call eval() on the module before exporting it")
    return Activation(node.tensor())


def cast(node: TorchNode) -> str:
    """Change of type: between float types, or of integers, nothing here; truncation of a float is refused."""
    before, after = (node.fx.args[0].meta["val"].dtype, node.fx.meta["val"].dtype)
    if before.is_floating_point and not after.is_floating_point:
        raise node.error(f"cast of a floating-point activation to {after} cannot be lowered")
    return Activation(node.tensor())


def reshape(node: TorchNode) -> str:
    """Every operator that keeps the elements and their order: the shape torch found is the shape."""
    return Activation(emit.reshape(node.draft, node.tensor(), tuple(node.fx.meta["val"].shape), node.name))


def permute(node: TorchNode) -> str:
    """permute."""
    return Activation(emit.transpose(node.draft, node.tensor(), node["dims"], node.name))


def transpose(node: TorchNode) -> str:
    """transpose of two axes; t."""
    x = node.tensor()
    rank = len(node.shape(x))
    a, b = (0, rank - 1) if node.kind == "t" else (int(node["dim0"]) % rank, int(node["dim1"]) % rank)
    perm = list(range(rank))
    perm[a], perm[b] = b, a
    return Activation(emit.transpose(node.draft, x, perm, node.name))


def slice_(node: TorchNode) -> str:
    """slice with a positive step."""
    stop = node["end"]
    start = 0 if node["start"] is None else int(node["start"])
    stop = 2**62 if stop is None else int(stop)
    return Activation(
        emit.narrow(node.draft, node.tensor(), int(node["dim"]), start, stop, int(node["step"]), node.name)
    )


def narrow(node: TorchNode) -> str:
    """narrow."""
    start = int(node["start"])
    stop = start + int(node["length"])
    return Activation(emit.narrow(node.draft, node.tensor(), int(node["dim"]), start, stop, 1, node.name))


def select(node: TorchNode) -> str:
    """select of one index."""
    return Activation(emit.pick(node.draft, node.tensor(), int(node["dim"]), int(node["index"]), node.name))


def split(node: TorchNode) -> list[Activation]:
    """split, split_with_sizes, chunk: the sizes torch found are the sizes."""
    axis = int(node["dim"])
    sizes = [int(part.shape[axis]) for part in node.fx.meta["val"]]
    return [Activation(part) for part in emit.split(node.draft, node.tensor(), axis, sizes, node.name)]


def unbind(node: TorchNode) -> list[Activation]:
    """unbind: every index of one axis."""
    x, axis = node.tensor(), int(node["dim"])
    count = node.shape(x)[axis]
    return [Activation(emit.pick(node.draft, x, axis, i, f"{node.name}/{i}")) for i in range(count)]


def concat(node: TorchNode) -> str:
    """cat; constants among the parts become parameters."""
    parts = [node.as_tensor(part, f"part{i}") for i, part in enumerate(node["tensors"])]
    return node.op("concat", *parts, axis=int(node["dim"]) % len(node.shape(parts[0])))


def stack(node: TorchNode) -> str:
    """stack, as concat along a new axis."""
    parts = [node.as_tensor(part, f"part{i}") for i, part in enumerate(node["tensors"])]
    shape = node.shape(parts[0])
    axis = int(node["dim"]) % (len(shape) + 1)
    new = (*shape[:axis], 1, *shape[axis:])
    return node.op("concat", *(emit.reshape(node.draft, part, new, node.name) for part in parts), axis=axis)


def expand(node: TorchNode) -> str:
    """expand."""
    return Activation(emit.expand(node.draft, node.tensor(), tuple(node.fx.meta["val"].shape), node.name))


def pad(node: TorchNode) -> str:
    """pad and constant_pad_nd with zeros."""
    mode, value = node.get("mode", "constant"), node.get("value") or 0
    if mode != "constant" or value != 0:
        raise node.error(f"padding mode '{mode}' with value {value}; only zeros can be lowered")
    x = node.tensor()
    counts = [int(n) for n in node["pad"]]
    missing = [0] * (len(node.shape(x)) - len(counts) // 2)
    before, after = missing + counts[-2::-2], missing + counts[::-2]
    return Activation(emit.pad(node.draft, x, before, after, node.name))


def roll(node: TorchNode) -> str:
    """roll, one axis after another; without axes the flattened tensor rolls."""
    x = node.tensor()
    shape, axes = node.shape(x), [int(axis) for axis in node["dims"]]
    if not axes:
        x, axes = emit.reshape(node.draft, x, (math.prod(shape),), node.name), [0]
    for axis, shift in zip(axes, node["shifts"], strict=True):
        rolled = axis % len(node.shape(x))
        x = node.op("roll", x, axis=rolled, shift=int(shift) % node.shape(x)[rolled])
    return Activation(emit.reshape(node.draft, x, shape, node.name))


def resize(node: TorchNode) -> str:
    """upsample_nearest2d and upsample_bilinear2d, when they are what our operator means."""
    x = node.tensor()
    before, after = node.shape(x)[2:], tuple(node.fx.meta["val"].shape[2:])
    mode = "nearest" if "nearest" in node.kind else "bilinear"
    factors: Any = node.get("scale_factors") or (node.get("scales_h"), node.get("scales_w"))
    coordinates = "align_corners" if node.get("align_corners") else None
    matrices = [
        axis_matrix(old, new, mode, coordinates, scale=scale)
        for old, new, scale in zip(before, after, factors, strict=True)
    ]
    return Activation(emit.resize(node.draft, x, after, mode, node.name, matrices))


def compare(node: TorchNode) -> Any:
    """``scores == -inf``, from torch's decomposed softmax: never, since all our values are finite."""
    import torch

    if node["other"] != -math.inf:
        raise node.error("a comparison of activations cannot be lowered")
    return torch.zeros(node.shape(node.tensor()), dtype=torch.bool)


def where(node: TorchNode) -> str:
    """where, when its condition is known and the same for every element."""
    condition = node["condition"]
    chosen = [] if isinstance(condition, Activation) else np.unique(as_array(condition)).tolist()
    if len(chosen) != 1:
        raise node.error("the condition is computed at run time or differs between elements; neither can be lowered")
    value = node.as_tensor(node["self"] if chosen[0] else node["other"], "constant")
    return Activation(emit.expand(node.draft, value, tuple(node.fx.meta["val"].shape), node.name))


def filled(node: TorchNode) -> Any:
    """full_like, zeros_like, ones_like: only the shape is taken from the activation."""
    import torch

    value = {"zeros_like": 0, "ones_like": 1}.get(node.kind, node.get("fill_value"))
    if isinstance(value, Activation):
        raise node.error("the value is computed at run time")
    return torch.full(node.shape(node.tensor()), value, dtype=node.fx.meta["val"].dtype)


LAYOUT: Mapping[str, Callable[[TorchNode], Any]] = MappingProxyType(
    {
        **dict.fromkeys(("clone", "contiguous", "dropout", "alias", "detach", "lift_fresh_copy"), same),
        **dict.fromkeys(("to", "_to_copy", "type_as"), cast),
        **dict.fromkeys(
            ("view", "_unsafe_view", "reshape", "flatten", "unflatten", "unsqueeze", "squeeze", "view_as"), reshape
        ),
        "permute": permute,
        **dict.fromkeys(("transpose", "t"), transpose),
        "slice": slice_,
        "narrow": narrow,
        "select": select,
        **dict.fromkeys(("split", "split_with_sizes", "chunk"), split),
        "unbind": unbind,
        "cat": concat,
        "stack": stack,
        "expand": expand,
        **dict.fromkeys(("pad", "constant_pad_nd"), pad),
        "roll": roll,
        "eq": compare,
        "where": where,
        **dict.fromkeys(("full_like", "zeros_like", "ones_like"), filled),
        **dict.fromkeys(("upsample_nearest2d", "upsample_bilinear2d"), resize),
    }
)
