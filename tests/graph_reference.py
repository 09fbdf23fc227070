"""A graph on the operators that training runs on, one after the other: the twin front ends are tested against."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from accel.graph import Graph
from compiler.training.operators import TORCH


def evaluate(graph: Graph, params: Mapping[str, np.ndarray], inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of ``graph``; checks on the way that every tensor has the shape the graph says."""
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in {**params, **inputs}.items()}
    for op in graph.ops:
        result = TORCH[op.kind](op.attributes, *(tensors[name] for name in op.inputs))
        assert tuple(result.shape) == graph.shapes[op.output], op
        tensors[op.output] = result
    return [tensors[name].numpy() for name in graph.outputs]
