"""What a model computes after a few of its weights changed: only what depends on them is evaluated again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from accel.graph import OPERATORS, Graph
from compiler.quantise.floating import Tensors, evaluate
from compiler.quantise.operators import FLOATING, Array


def recorded(graph: Graph, values: Tensors, inputs: Tensors) -> dict[str, Array]:
    """Every tensor of the float model: parameters, inputs, and what each operator gives."""
    tensors: dict[str, Array] = {}
    evaluate(graph, values, inputs, tensors.__setitem__)
    return {**values, **inputs, **tensors}


def revised(graph: Graph, tensors: Tensors, changed: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name as ``evaluate`` would give them if convolutions and gemms multiplied by the weights ``changed``;
    ``tensors`` as recorded. Whoever else reads such a tensor (the table of a tied embedding) has it unchanged."""
    found: dict[str, Array] = {}
    with np.errstate(all="ignore"):
        for op in graph.ops:
            at = OPERATORS[op.kind].weight_input
            new = [changed if index == at else found for index in range(len(op.inputs))]
            if any(name in source for name, source in zip(op.inputs, new, strict=True)):
                operands = (source.get(name, tensors[name]) for name, source in zip(op.inputs, new, strict=True))
                found[op.output] = np.asarray(FLOATING[op.kind](op.attributes, *operands), np.float32)
    return {name: found.get(name, tensors[name]) for name in graph.outputs}
