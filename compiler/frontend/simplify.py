"""Rewrites shared by the front ends: exporters' many spellings become our few operators, values unchanged.

``RULES`` is the table: each rule looks at one node and either rewrites the draft (and says so) or leaves it.
They run until none applies. Everything is exact up to float32 rounding, with one exception: the tanh approximation of
GELU becomes GELU, from which it differs by less than 5e-4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from compiler.frontend.draft import Draft, Node
from compiler.frontend.elementwise import fuse_activation
from compiler.frontend.normalisation import absorb_beta, absorb_gamma, fold_batchnorm, fuse_layernorm

Rule = Callable[[Draft, Node], bool]


def simplify(draft: Draft) -> None:
    """Apply ``RULES`` to ``draft`` (whose ``outputs`` must be set) until none applies."""
    changed = True
    while changed:
        draft.prune()
        changed = _merge_equal(draft)
        for output in list(draft.nodes):
            node = draft.nodes.get(output)
            if node is not None:
                changed |= any(rule(draft, node) for rule in RULES.get(node.kind, ()))


def merge_bias(draft: Draft, node: Node) -> bool:
    """``gemm``/``conv`` without bias, then ``add`` of a constant vector over output channels: that is its bias."""
    for x, bias in (node.inputs, node.inputs[::-1]):
        source = draft.made_by(x, "gemm", "conv")
        if source is None or len(source.inputs) != 2 or bias not in draft.values or not draft.only_reader(x):
            continue
        if draft.shapes[node.output] != draft.shapes[x]:
            continue
        trailing = 2 if source.kind == "conv" else 0
        rank, channels = len(draft.shapes[x]), draft.shapes[source.inputs[1]][0]
        shape = (1,) * (rank - draft.values[bias].ndim) + draft.shapes[bias]
        if shape != (1,) * (rank - trailing - 1) + (channels,) + (1,) * trailing:
            continue
        vector = bias
        if draft.shapes[bias] != (channels,):
            vector = draft.parameter(bias, draft.values[bias].reshape(channels), guessed=bias in draft.guessed)
        draft.replace(node, source.kind, *source.inputs, vector, name=source.name, **source.attributes)
        return True
    return False


def merge_pad(draft: Draft, node: Node) -> bool:
    """``pad`` of height and width before ``conv`` joins the convolution's own padding."""
    source = draft.made_by(node.inputs[0], "pad")
    if source is None or any(source.attributes["before"][:2]) or any(source.attributes["after"][:2]):
        return False
    extra = (*source.attributes["before"][2:], *source.attributes["after"][2:])
    padding = tuple(a + b for a, b in zip(node.attributes["padding"], extra, strict=True))
    draft.replace(node, "conv", source.inputs[0], *node.inputs[1:], **{**node.attributes, "padding": padding})
    return True


def merge_reshapes(draft: Draft, node: Node) -> bool:
    """Of two reshapes in a row only the second counts; one that changes nothing goes."""
    if draft.shapes[node.inputs[0]] == draft.shapes[node.output]:
        draft.forward(node, node.inputs[0])
        return True
    source = draft.made_by(node.inputs[0], "reshape")
    if source is not None:
        draft.replace(node, "reshape", source.inputs[0], **node.attributes)
    return source is not None


def merge_transposes(draft: Draft, node: Node) -> bool:
    """Two transposes in a row are one; the identity goes."""
    perm = node.attributes["perm"]
    if perm == tuple(range(len(perm))):
        draft.forward(node, node.inputs[0])
        return True
    source = draft.made_by(node.inputs[0], "transpose")
    if source is not None:
        first = source.attributes["perm"]
        draft.replace(node, "transpose", source.inputs[0], perm=tuple(first[axis] for axis in perm))
    return source is not None


def absorb_transpose(draft: Draft, node: Node) -> bool:
    """``matmul`` reads its second operand the way its last axis lies in memory: ``transpose_b`` instead of a copy."""
    source = draft.made_by(node.inputs[1], "transpose")
    if source is None:
        return False
    perm = source.attributes["perm"]
    if perm[-2] != len(perm) - 1:
        return False
    swapped = (*perm[:-2], perm[-1], perm[-2])
    b = source.inputs[0]
    if swapped != tuple(range(len(perm))):
        b = draft.op("transpose", b, name=source.name, perm=swapped)
    draft.replace(node, "matmul", node.inputs[0], b, transpose_b=not node.attributes["transpose_b"])
    return True


def transpose_last(draft: Draft, node: Node) -> bool:
    """Scaling a transposed tensor by a number: scale first, so that ``absorb_transpose`` sees the transpose."""
    for x, factor in (node.inputs, node.inputs[::-1]):
        source = draft.made_by(x, "transpose")
        if source is None or draft.scalar(factor) is None or not _feeds_matmul(draft, node):
            continue
        if len(draft.shapes[factor]) > len(draft.shapes[x]):
            continue
        small = draft.parameter(factor, draft.values[factor].reshape(1), guessed=factor in draft.guessed)
        earlier = draft.op(node.kind, source.inputs[0], small, name=node.name)
        draft.replace(node, "transpose", earlier, **source.attributes)
        return True
    return False


def _feeds_matmul(draft: Draft, node: Node) -> bool:
    readers = [draft.nodes[reader] for reader in draft.readers.get(node.output, ())]
    return bool(readers) and all(r.kind == "matmul" and r.inputs[1] == node.output for r in readers)


def name_weight(draft: Draft, node: Node) -> bool:
    """A weight whose name we had to make up takes its bias's: exporters drop the one and keep the other."""
    if len(node.inputs) != 3 or node.inputs[1] not in draft.guessed or node.inputs[2] in draft.guessed:
        return False
    x, weight, bias = node.inputs
    stem, dot, last = bias.rpartition(".")
    wanted = f"{stem}.weight"
    if not dot or last != "bias" or wanted in draft.shapes or len(draft.readers[weight]) != 1:
        return False
    renamed = draft.parameter(wanted, draft.values[weight])
    draft.replace(node, node.kind, x, renamed, bias, **node.attributes)
    return True


def _merge_equal(draft: Draft) -> bool:
    """Nodes that compute the same from the same become one."""
    seen: dict[object, str] = {}
    changed = False
    for output in list(draft.nodes):
        node = draft.nodes.get(output)
        if node is None:
            continue
        key = (node.kind, node.inputs, tuple(sorted(node.attributes.items())))
        first = seen.setdefault(key, output)
        if first != output and not {first, output} & set(draft.outputs):
            draft.forward(node, first)
            changed = True
    return changed


def drop_neutral(draft: Draft, node: Node) -> bool:
    """Multiplying or dividing by one, adding or subtracting zero."""
    neutral = np.float32(1 if node.kind in ("mul", "div") else 0)
    for x, value in (node.inputs, node.inputs[::-1] if node.kind in ("mul", "add") else node.inputs):
        if draft.scalar(value) == neutral and draft.shapes[x] == draft.shapes[node.output] and x not in draft.inputs:
            draft.forward(node, x)
            return True
    return False


RULES: Mapping[str, tuple[Rule, ...]] = MappingProxyType(
    {
        "batchnorm": (fold_batchnorm,),
        "add": (drop_neutral, fuse_activation, absorb_beta, merge_bias),
        "sub": (drop_neutral,),
        "mul": (drop_neutral, fuse_activation, fuse_layernorm, absorb_gamma, transpose_last),
        "div": (drop_neutral, fuse_activation, fuse_layernorm, transpose_last),
        "clip": (fuse_activation,),
        "conv": (merge_pad, name_weight),
        "gemm": (name_weight,),
        "reshape": (merge_reshapes,),
        "transpose": (merge_transposes,),
        "matmul": (absorb_transpose,),
    }
)
