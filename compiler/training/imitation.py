"""Imitation from the inside: beside the outputs, a compressed graph learns what its float model computes on the way.

Outputs alone teach a deep network of few bits too little. Every layer is wrong at once, and what lowers the loss first
is what all answers have in common, whatever the input: docs/accuracy.md has figures. Inner tensors tell each layer what
it misses, as hints do (FitNets, arXiv 1412.6550).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from accel.graph import OPERATORS, Graph
from compiler.training.graph_module import GraphModule
from compiler.training.losses import Loss

CONSTANT = 1e-6  # of a tensor's power that differs between samples: below it, all samples are the same


@dataclass(frozen=True, slots=True)
class Imitation:
    """``teacher`` is the float model, ``tensors`` of its graph are imitated."""

    teacher: GraphModule
    tensors: tuple[str, ...]

    def loss(self, of_outputs: Loss, model: GraphModule, inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """``of_outputs`` and, with equal weight, the mean of ``distance`` over all tensors, for a batch of ``inputs``
        to ``model``, which has the teacher's graph."""
        (outputs, *found) = model.tensors((*model.graph.outputs, *self.tensors), *inputs)
        value = of_outputs(outputs, targets)
        if not found:
            return value
        with torch.no_grad():
            wanted = self.teacher.tensors(self.tensors, *inputs)
        return value + torch.stack([distance(*pair) for pair in zip(found, wanted, strict=True)]).mean()


def inner_tensors(graph: Graph) -> tuple[str, ...]:
    """What is imitated of ``graph`` beside its outputs: its residual sums, or what its layers with weights read if it
    has none; but not what it is given."""
    known = {*graph.inputs, *graph.outputs}
    return tuple(name for name in _residual_sums(graph) or _layer_inputs(graph) if name not in known)


def _residual_sums(graph: Graph) -> tuple[str, ...]:
    """Results of additions whose operands are both computed."""
    constant = {*graph.parameters, *graph.inputs}
    return tuple(op.output for op in graph.ops if op.kind == "add" and constant.isdisjoint(op.inputs))


def _layer_inputs(graph: Graph) -> tuple[str, ...]:
    read = (name for op in graph.weight_ops() for name in op.inputs[: OPERATORS[op.kind].weight_input])
    return tuple(dict.fromkeys(read))


def distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Squared error of ``found[B, ...]`` over the power of what in ``wanted`` differs between samples.

    What all samples share is not counted there: in embeddings it is most of their power, and an answer of it alone
    would be a good one. The power is counted whole where samples do not differ (a batch of one).
    """
    real = wanted.float()
    power = (real - real.mean(0)).square().mean()
    whole = real.square().mean().clamp(min=1e-30)
    return (found.float() - real).square().mean() / torch.where(power > CONSTANT * whole, power, whole)
