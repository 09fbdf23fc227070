"""Rewrite rules for normalisations: batch normalisation folds into weights, layer normalisation is put together."""

from __future__ import annotations

import numpy as np

from compiler.frontend.draft import Draft, Node, Values


def batchnorm_affine(
    gamma: Values, beta: Values, mean: Values, variance: Values, epsilon: float
) -> tuple[Values, Values]:
    """Scale and shift, one per channel, of an evaluated batch normalisation: ``x*scale + shift`` (in float64)."""
    scale = gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
    shift = beta - mean * scale
    return scale.astype(np.float32), shift.astype(np.float32)


def fold_batchnorm(draft: Draft, node: Node) -> bool:
    """Into the convolution or linear layer just before, else ``mul`` and ``add`` by channel (axis 1)."""
    gamma, beta, mean, variance = (draft.values[name] for name in node.inputs[1:])
    scale, shift = batchnorm_affine(gamma, beta, mean, variance, node.attributes["epsilon"])
    rank = len(draft.shapes[node.output])
    source = draft.made_by(node.inputs[0], "conv", *(("gemm",) if rank == 2 else ()))
    if source is not None and draft.only_reader(source.output):
        _scale_weight(draft, node, source, scale, shift)
        return True
    stem = node.inputs[1].removesuffix(".weight")
    channels = (len(scale), *(1,) * (rank - 2))
    factor = draft.parameter(f"{stem}.scale", scale.reshape(channels))
    offset = draft.parameter(f"{stem}.shift", shift.reshape(channels))
    draft.replace(node, "add", draft.op("mul", node.inputs[0], factor, name=f"{node.name}/scale"), offset)
    return True


def _scale_weight(draft: Draft, node: Node, source: Node, scale: Values, shift: Values) -> None:
    x, weight, *bias = source.inputs
    value = draft.values[weight]
    offset = shift + (draft.values[bias[0]] * scale if bias else 0)
    folded = draft.revalue(weight, value * scale.reshape(-1, *(1,) * (value.ndim - 1)))
    stem = folded.removesuffix(".weight")
    name = draft.revalue(bias[0], offset) if bias else draft.parameter(f"{stem}.bias", offset)
    draft.replace(node, source.kind, x, folded, name, name=source.name, **source.attributes)


def fuse_layernorm(draft: Draft, node: Node) -> bool:
    """``(x - mean) / sqrt(mean((x - mean)^2) + epsilon)`` over the last axis, also with ``rsqrt`` and ``mul``."""
    pairs = (node.inputs, node.inputs[::-1]) if node.kind == "mul" else (node.inputs,)
    for deviation, root in pairs:
        x = _centred(draft, deviation)
        epsilon = _deviation_epsilon(draft, root, deviation, "rsqrt" if node.kind == "mul" else "sqrt")
        if x is None or epsilon is None:
            continue
        width = draft.shapes[x][-1]
        gamma = draft.parameter(f"{node.name}.ones", np.ones(width), guessed=True)
        beta = draft.parameter(f"{node.name}.zeros", np.zeros(width), guessed=True)
        draft.replace(node, "layernorm", x, gamma, beta, epsilon=epsilon)
        return True
    return False


def _centred(draft: Draft, tensor: str) -> str | None:
    """``x`` when ``tensor`` is x minus its mean over the last axis."""
    node = draft.made_by(tensor, "sub")
    if node is None or _mean_of(draft, node.inputs[1]) != node.inputs[0]:
        return None
    return node.inputs[0]


def _mean_of(draft: Draft, tensor: str) -> str | None:
    node = draft.made_by(tensor, "mean")
    if node is None or not node.attributes["keepdims"]:
        return None
    rank = len(draft.shapes[node.inputs[0]])
    return node.inputs[0] if tuple(axis % rank for axis in node.attributes["axes"]) == (rank - 1,) else None


def _deviation_epsilon(draft: Draft, root: str, deviation: str, kind: str) -> float | None:
    """``epsilon`` when ``root`` is (the reciprocal of) the square root of ``deviation``'s variance plus epsilon."""
    outer = draft.made_by(root, kind)
    total = draft.made_by(outer.inputs[0], "add") if outer is not None else None
    if total is None:
        return None
    for variance, epsilon in (total.inputs, total.inputs[::-1]):
        squared = _mean_of(draft, variance)
        square = draft.made_by(squared, "mul") if squared is not None else None
        if square is not None and square.inputs == (deviation, deviation):
            return draft.scalar(epsilon)
    return None


def absorb_gamma(draft: Draft, node: Node) -> bool:
    """``mul`` by a vector after a layer normalisation that has no gain of its own."""
    return _absorb(draft, node, position=1, neutral=1.0)


def absorb_beta(draft: Draft, node: Node) -> bool:
    """``add`` of a vector after a layer normalisation that has no offset of its own."""
    return _absorb(draft, node, position=2, neutral=0.0)


def _absorb(draft: Draft, node: Node, position: int, neutral: float) -> bool:
    for x, vector in (node.inputs, node.inputs[::-1]):
        source = draft.made_by(x, "layernorm")
        if source is None or vector not in draft.values or not draft.only_reader(x):
            continue
        width = draft.shapes[x][-1]
        old = draft.values[source.inputs[position]]
        fits = draft.values[vector].shape[-1:] == (width,) and draft.values[vector].size == width
        if not fits or draft.shapes[node.output] != draft.shapes[x] or np.any(old != neutral):
            continue
        flat = draft.parameter(vector, draft.values[vector].reshape(width))
        inputs = [flat if i == position else t for i, t in enumerate(source.inputs)]
        if position == 1 and np.any(draft.values[source.inputs[2]] != 0):
            continue
        draft.replace(node, "layernorm", *inputs, **source.attributes)
        return True
    return False
