"""What a model computes after a few of its tensors changed: only what depends on them is evaluated again."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from accel.graph import Graph
from compiler.quantise.floating import Tensors, evaluate
from compiler.quantise.operators import FLOATING, Array


def recorded(graph: Graph, values: Tensors, inputs: Tensors) -> dict[str, Array]:
    """Every tensor of the float model: parameters, inputs, and what each operator gives."""
    tensors: dict[str, Array] = {}
    evaluate(graph, values, inputs, tensors.__setitem__)
    return {**values, **inputs, **tensors}


def revised(graph: Graph, tensors: Tensors, changed: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs by name as ``evaluate`` would give them if ``changed`` were among the values; ``tensors`` as recorded."""
    found = dict(changed)
    with np.errstate(all="ignore"):
        for op in graph.ops:
            if any(name in found for name in op.inputs):
                operands = (found.get(name, tensors[name]) for name in op.inputs)
                found[op.output] = np.asarray(FLOATING[op.kind](op.attributes, *operands), np.float32)
    return {name: found.get(name, tensors[name]) for name in graph.outputs}
