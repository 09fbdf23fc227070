"""What a model computes after a few of its weights changed: only what depends on them is evaluated again."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from accel.graph import OPERATORS, Graph
from compiler.quantise.floating import Tensors, evaluate
from compiler.quantise.operators import FLOATING, Array


def recorded(graph: Graph, values: Tensors, inputs: Tensors) -> dict[str, Array]:
    """Every tensor of the float model: parameters, inputs, and what each operator gives."""
    tensors: dict[str, Array] = {}
    evaluate(graph, values, inputs, tensors.__setitem__)
    return {**values, **inputs, **tensors}


def dependents(graph: Graph, weights: Collection[str]) -> frozenset[str]:
    """Results that change if convolutions and gemms multiply by other ``weights``."""
    found: set[str] = set()
    for op in graph.ops:
        at = OPERATORS[op.kind].weight_input
        if not found.isdisjoint(op.inputs) or (at is not None and op.inputs[at] in weights):
            found.add(op.output)
    return frozenset(found)


def revised(graph: Graph, tensors: Tensors, changed: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name as ``evaluate`` would give them if convolutions and gemms multiplied by the weights ``changed``;
    ``tensors`` as recorded, those not needed that depend on the weights. Whoever else reads such a weight (the table of
    a tied embedding) has it unchanged."""
    results: dict[str, Array] = {}
    again = dependents(graph, changed.keys())
    with np.errstate(all="ignore"):
        for op in graph.ops:
            if op.output in again:
                at = OPERATORS[op.kind].weight_input
                new = (changed if index == at else results for index in range(len(op.inputs)))
                pairs = zip(op.inputs, new, strict=True)
                operands = (each[name] if name in each else tensors[name] for name, each in pairs)
                results[op.output] = np.asarray(FLOATING[op.kind](op.attributes, *operands), np.float32)
    return {name: results[name] if name in again else tensors[name] for name in graph.outputs}
