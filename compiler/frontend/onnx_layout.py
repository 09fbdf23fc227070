"""Lowering of ONNX operators that only move data: shapes, slices, joins, lookups, padding, resizing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import onnx

from compiler.frontend import draft_ops as emit
from compiler.frontend.onnx_fold import resize_matrices
from compiler.frontend.onnx_math import Lowering
from compiler.frontend.onnx_node import OnnxNode


def same(node: OnnxNode) -> str:
    """Identity, and Dropout as evaluated."""
    return node.tensor(0)


def cast(node: OnnxNode) -> str:
    """Cast between float types, or from integers, changes nothing here; truncation of a float is refused."""
    target = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(int(node.attribute("to"))))
    if target.kind not in "fV" and node.source(0) not in node.walk.integer:
        raise node.error(f"cast of a floating-point activation to {target} cannot be lowered")
    return node.tensor(0)


def reshape(node: OnnxNode) -> str:
    """Reshape; 0 copies a size (unless allowzero), -1 is inferred."""
    x, wanted = node.tensor(0), node.integers(1, "shape") or []
    shape = node.draft.shapes[x]
    if not node.attribute("allowzero", 0):
        if any(size == 0 and i >= len(shape) for i, size in enumerate(wanted)):
            raise node.error(f"shape {wanted} copies an axis that {list(shape)} does not have")
        wanted = [shape[i] if size == 0 else size for i, size in enumerate(wanted)]
    if wanted.count(-1) == 1:
        rest = -math.prod(wanted)
        if rest < 1 or math.prod(shape) % rest:
            raise node.error(f"{list(shape)} cannot become {wanted}")
        wanted[wanted.index(-1)] = math.prod(shape) // rest
    return emit.reshape(node.draft, x, wanted, node.name)


def flatten(node: OnnxNode) -> str:
    """Flatten to two axes."""
    x = node.tensor(0)
    shape, axis = node.draft.shapes[x], int(node.attribute("axis", 1))
    axis = axis % len(shape) if axis < 0 else axis
    return emit.reshape(node.draft, x, (math.prod(shape[:axis]), math.prod(shape[axis:])), node.name)


def squeeze(node: OnnxNode) -> str:
    """Squeeze: drop axes of size 1."""
    x = node.tensor(0)
    shape = node.draft.shapes[x]
    given = node.integers(1, "axes")
    axes = [i for i, n in enumerate(shape) if n == 1] if given is None else [axis % len(shape) for axis in given]
    return emit.reshape(node.draft, x, [n for i, n in enumerate(shape) if i not in axes], node.name)


def unsqueeze(node: OnnxNode) -> str:
    """Unsqueeze: insert axes of size 1."""
    x = node.tensor(0)
    shape = list(node.draft.shapes[x])
    axes = node.integers(1, "axes") or []
    rank = len(shape) + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        shape.insert(axis, 1)
    return emit.reshape(node.draft, x, shape, node.name)


def transpose(node: OnnxNode) -> str:
    """Transpose; without ``perm`` the axes are reversed."""
    x = node.tensor(0)
    perm = node.attribute("perm", tuple(reversed(range(len(node.draft.shapes[x])))))
    return emit.transpose(node.draft, x, perm, node.name)


def slice_(node: OnnxNode) -> str:
    """Slice with constant ends, one axis after another."""
    x = node.tensor(0)
    starts, stops = node.integers(1, "starts") or [], node.integers(2, "ends") or []
    axes = node.integers(3, "axes") or list(range(len(starts)))
    steps = node.integers(4) or [1] * len(starts)
    for axis, start, stop, step in zip(axes, starts, stops, steps, strict=True):
        x = emit.narrow(node.draft, x, axis, start, stop, step, node.name)
    return x


def split(node: OnnxNode) -> list[str]:
    """Split into given sizes, or evenly into as many parts as there are outputs."""
    x, axis = node.tensor(0), int(node.attribute("axis", 0))
    size, parts = node.draft.shapes[x][axis], len(node.proto.output)
    each = math.ceil(size / parts)
    even = [min(each, size - i * each) for i in range(parts)]
    return emit.split(node.draft, x, axis, node.integers(1, "split") or even, node.name)


def concat(node: OnnxNode) -> str:
    """Concat; constants among the inputs become parameters."""
    inputs = [node.tensor(i, f"part{i}") for i in range(len(node.proto.input))]
    axis = int(node.attribute("axis")) % len(node.draft.shapes[inputs[0]])
    return inputs[0] if len(inputs) == 1 else node.draft.op("concat", *inputs, name=node.name, axis=axis)


def gather(node: OnnxNode) -> str:
    """Rows of a constant table by run-time ids, or a constant index (or contiguous range) of an activation."""
    axis = int(node.attribute("axis", 0))
    if node.is_constant(0):
        if axis % node.constant(0).ndim or node.constant(0).ndim != 2:
            raise node.error(
                f"lookup along axis {axis} of a table of shape {list(node.shape(0))}; needs rows of [V, D]"
            )
        return node.draft.op("embedding", node.parameter(0, "weight"), node.tensor(1), name=node.name)
    x, index = node.tensor(0), node.constant(1)
    if index.ndim == 0:
        return emit.pick(node.draft, x, axis, int(index), node.name)
    size = node.draft.shapes[x][axis]
    places = [int(i) % size for i in index.flat]
    if index.ndim != 1 or places != list(range(places[0], places[0] + len(places))):
        raise node.error(f"indices {index.tolist()}; an activation can be gathered by one index or a contiguous range")
    return emit.narrow(node.draft, x, axis, places[0], places[-1] + 1, 1, node.name)


def expand(node: OnnxNode) -> str:
    """Expand to a constant shape."""
    return emit.expand(node.draft, node.tensor(0), node.integers(1) or [], node.name)


def pad(node: OnnxNode) -> str:
    """Pad with zeros."""
    x, mode = node.tensor(0), node.attribute("mode", "constant")
    value = float(node.constant(2).flat[0]) if node.has(2) else node.attribute("value", 0.0)
    if mode != "constant" or value != 0:
        raise node.error(f"padding mode '{mode}' with value {value:g}; only zeros can be lowered")
    rank = len(node.draft.shapes[x])
    counts = node.integers(1, "pads") or []
    axes = [axis % rank for axis in node.integers(3) or range(rank)]
    before, after = [0] * rank, [0] * rank
    for i, axis in enumerate(axes):
        before[axis], after[axis] = counts[i], counts[len(axes) + i]
    return emit.pad(node.draft, x, before, after, node.name)


def resize(node: OnnxNode) -> str:
    """Resize (or Upsample) of height and width, when it is one of the two our operator means."""
    shape = node.shape(0)
    inputs = [node.constant(i) if node.has(i) and i else None for i in range(len(node.proto.input))]
    attributes = dict(node.attributes)
    if node.kind == "Upsample" or node.opset < 11:
        attributes |= {"coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}
        if "scales" in attributes:
            inputs = [None, np.asarray(attributes["scales"])]
    matrices = resize_matrices(attributes, inputs, shape)
    if len(shape) != 4 or any(not np.array_equal(m, np.eye(n)) for m, n in zip(matrices[:2], shape, strict=False)):
        raise node.error(f"resize of {list(shape)}; only height and width of NCHW can be resized")
    size = [matrix.shape[0] for matrix in matrices[2:]]
    mode = {"linear": "bilinear"}.get(node.attribute("mode", "nearest"), node.attribute("mode", "nearest"))
    return emit.resize(node.draft, node.tensor(0), size, mode, node.name, matrices[2:])


LAYOUT: Mapping[str, Lowering] = MappingProxyType(
    {
        "Identity": same,
        "Dropout": same,
        "Cast": cast,
        "Reshape": reshape,
        "Flatten": flatten,
        "Squeeze": squeeze,
        "Unsqueeze": unsqueeze,
        "Transpose": transpose,
        "Slice": slice_,
        "Split": split,
        "Concat": concat,
        "Gather": gather,
        "Expand": expand,
        "Pad": pad,
        "Resize": resize,
        "Upsample": resize,
    }
)
