"""Channel exponents go into the weights that read such channels, and out again to see what a packed model computes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from accel.graph import Graph, weight_name
from accel.packed import Packed
from accel.quantisation import Quantisation
from compiler.quantise.exponents import ChannelExponents, Exponents
from compiler.quantise.operators import Array


def exponents_of(quantisation: Quantisation) -> dict[str, ChannelExponents]:
    """The channel exponents among scales."""
    return {
        name: ChannelExponents(code.axis, code.exponents)
        for name, code in quantisation.tensors.items()
        if code.exponents
    }


def fold_exponents(graph: Graph, weights: Mapping[str, Array], exponents: Exponents) -> dict[str, Array]:
    """``weights`` with column c of every gemm weight that reads a tensor with exponents multiplied by its factor."""
    return {**weights, **{name: weights[name] * factors for name, factors in folded_factors(graph, exponents)}}


def unfold_exponents(graph: Graph, weights: Mapping[str, Array], exponents: Exponents) -> dict[str, Array]:
    """Inverse of ``fold_exponents``, without any rounding."""
    return {**weights, **{name: weights[name] / factors for name, factors in folded_factors(graph, exponents)}}


def folded_factors(graph: Graph, exponents: Exponents) -> Iterator[tuple[str, Array]]:
    """Gemm weights that channel exponents go into, and what each column is multiplied by."""
    for op in graph.ops:
        if op.kind == "gemm" and op.inputs[0] in exponents:
            yield weight_name(op), exponents[op.inputs[0]].factors.astype(np.float32)


def packed_values(packed: Packed) -> dict[str, Array]:
    """Real values of all parameters of a packed model, float32 (indices stay integers), in the graph's shapes.

    A parameter that is both weight and table (a tied embedding) is stored twice; this gives the uncompressed one.
    """
    decoded = {
        name: (layer.codec.decode(layer) * layer.scale[:, None]).reshape(packed.graph.parameters[name])
        for name, layer in packed.layers.items()
    }
    if packed.quantisation is not None:
        decoded = unfold_exponents(packed.graph, decoded, exponents_of(packed.quantisation))
    plain = {n: a if a.dtype.kind in "iu" else a.astype(np.float32) for n, a in packed.parameters.items()}
    return {**decoded, **plain}
