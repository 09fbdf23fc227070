"""Evaluates a graph in float32: what calibration measures ranges on, and what quantised results are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from accel.graph import Graph
from accel.quantisation import stored_tensors
from compiler.quantise.operators import FLOATING, Array

Tensors = Mapping[str, Array]
Observer = Callable[[str, Array], None]


def evaluate(graph: Graph, values: Tensors, inputs: Tensors, observe: Observer | None = None) -> dict[str, Array]:
    """Outputs of ``graph`` by name; ``values`` holds its parameters, ``inputs`` its inputs, all of the graph's shapes.

    ``observe(name, array)`` is called for every input, stored constant and result as it comes to be. Results live until
    their last reader has run. Overflow and division by zero give infinities, not errors.
    """
    tensors = {name: _floats(array) for name, array in {**values, **inputs}.items()}
    if observe is not None:
        stored = set(stored_tensors(graph))
        for name in (*graph.inputs, *(each for each in graph.parameters if each in stored)):
            observe(name, tensors[name])
    leaving = last_uses(graph)
    with np.errstate(all="ignore"):
        for position, op in enumerate(graph.ops):
            result = FLOATING[op.kind](op.attributes, *(tensors[name] for name in op.inputs))
            tensors[op.output] = _floats(result)
            if observe is not None:
                observe(op.output, tensors[op.output])
            for name in leaving.get(position, ()):
                del tensors[name]
    return {name: tensors[name] for name in graph.outputs}


def _floats(array: Array) -> Array:
    """Integers stay what they are: they may be indices, and NumPy promotes them where they are operands."""
    return array if array.dtype.kind in "iu" else np.asarray(array, np.float32)


def last_uses(graph: Graph) -> dict[int, list[str]]:
    """Tensors nobody needs after the operator at a position."""
    last = {name: position for position, op in enumerate(graph.ops) for name in (*op.inputs, op.output)}
    leaving: dict[int, list[str]] = {}
    for name, position in last.items():
        if name not in graph.outputs:
            leaving.setdefault(position, []).append(name)
    return leaving
