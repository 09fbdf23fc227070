"""Imitation from the inside: beside the outputs, a compressed graph learns what its float model computes on the way.

Outputs alone teach a deep network of few bits too little. Every layer is wrong at once, and what lowers the loss first
is what all answers have in common, whatever the input: docs/accuracy.md has figures. Inner tensors tell each layer what
it misses, as hints do (FitNets, arXiv 1412.6550).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from accel.errors import ModelError, nearest
from accel.graph import OPERATORS, Graph, Op
from compiler.training.graph_module import GraphModule
from compiler.training.losses import Loss

CONSTANT = 1e-6  # of a tensor's power that differs between samples: below it, all samples are the same


@dataclass(frozen=True, slots=True)
class Imitation:
    """``teacher`` is the float model, ``tensors`` of its graph are imitated. Raises ``ModelError`` for tensors it does
    not have, and for a graph of several outputs."""

    teacher: GraphModule
    tensors: tuple[str, ...]

    def __post_init__(self) -> None:
        graph = self.teacher.graph
        if len(graph.outputs) != 1:
            raise ModelError(f"the model has outputs {', '.join(graph.outputs)}; allowed: one to imitate")
        for name in self.tensors:
            if name not in graph.shapes:
                raise ModelError(f"graph '{graph.name}': no tensor '{name}' to imitate{nearest(name, graph.shapes)}")

    def loss(self, of_outputs: Loss, model: GraphModule, inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """``of_outputs`` and, with equal weight, the mean of ``distance`` over all tensors, for a batch of ``inputs``
        to ``model``, which has the teacher's graph."""
        outputs, *found = model.tensors((*model.graph.outputs, *self.tensors), *inputs)
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
    """Results of additions of two tensors of one shape, no parameters, that weights have a part in.

    What is broadcast is no stream of activations but a mask of attention scores, whose -1e4 or less would be all of the
    power the error is measured by; what no weight has a part in is the teacher's own already.
    """
    learned = _behind_weights(graph)
    return tuple(op.output for op in graph.ops if op.output in learned and _adds_alike(graph, op))


def _adds_alike(graph: Graph, op: Op) -> bool:
    shapes = {graph.shapes[name] for name in op.inputs}
    return op.kind == "add" and len(shapes) == 1 and graph.parameters.keys().isdisjoint(op.inputs)


def _behind_weights(graph: Graph) -> frozenset[str]:
    """Tensors that follow from the result of a layer with weights."""
    found: set[str] = set()
    for op in graph.ops:
        if OPERATORS[op.kind].weight_input is not None or not found.isdisjoint(op.inputs):
            found.add(op.output)
    return frozenset(found)


def _layer_inputs(graph: Graph) -> tuple[str, ...]:
    read = (name for op in graph.weight_ops() for name in op.inputs[: OPERATORS[op.kind].weight_input])
    return tuple(dict.fromkeys(read))


def distance(found: Tensor, wanted: Tensor) -> Tensor:
    """Squared error of ``found[B, ...]`` over the power of what in ``wanted`` differs between samples.

    What all samples share is not counted there: in embeddings it is most of their power, and an answer of it alone
    would be a good one. The power is that of all samples as far as a batch can tell (B - 1), so that small batches
    weigh the inside as large ones do; it is counted whole where samples do not differ (a batch of one).
    """
    real = wanted.float()
    batch = len(real)
    power = (real - real.mean(0)).square().mean() * (batch / max(batch - 1, 1))
    whole = real.square().mean().clamp(min=1e-30)
    return (found.float() - real).square().mean() / torch.where(power > CONSTANT * whole, power, whole)
