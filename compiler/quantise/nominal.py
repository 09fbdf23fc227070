"""Scales without data, from what operators can give: good enough to compile and time a program, not to run it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from accel.graph import Graph, Op
from accel.quantisation import Quantisation
from compiler.quantise.assign import assign
from compiler.quantise.floating import Tensors
from compiler.quantise.groups import Range, group_rules, tie_groups
from compiler.quantise.operators import Array

_ANYTHING: Range = (-8.0, 8.0)
_RANGES: Mapping[str, Range] = {
    "relu": (0.0, 8.0),
    "relu6": (0.0, 6.0),
    "sigmoid": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
}


def nominal(graph: Graph, parameters: Tensors) -> Quantisation:
    """Scales of every stored tensor from its operator alone, constants from their values; evaluates nothing.

    ``parameters`` holds at least the constants that are no weights (``Packed.parameters``).
    """
    groups = tie_groups(graph, parameters)
    writers = {op.output: op for op in graph.ops}

    def known(name: str) -> Range:
        return _extremes(parameters[name]) if name in graph.parameters else _range(writers.get(name))

    evidence = {name: (known(name), None) for group in groups for name in group.sources}
    tensors = assign(zip(groups, group_rules(graph, groups), strict=True), evidence, {})
    return Quantisation(tensors, calibrated=False, method="nominal")


def _extremes(values: Array) -> Range:
    finite = values[np.isfinite(values)]
    return float(finite.min(initial=np.inf)), float(finite.max(initial=-np.inf))


def _range(op: Op | None) -> Range:
    if op is None:
        return _ANYTHING
    if op.kind == "clip":  # one of the bounds may be no bound at all
        low, high = float(op.attributes["low"]), float(op.attributes["high"])
        return max(low, min(_ANYTHING[0], high)), min(high, max(_ANYTHING[1], low))
    return _RANGES.get(op.kind, _ANYTHING)
