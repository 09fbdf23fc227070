"""Any graph a front end reads, as a torch module that can be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from accel.errors import ModelError, nearest
from accel.graph import OPERATORS, Graph
from accel.packed import plain_parameters, weight_parameters
from compiler.quantise.floating import last_uses
from compiler.training.modules import PlainWeight
from compiler.training.operators import TORCH

Array = npt.NDArray[Any]


class GraphModule(nn.Module):
    """``graph`` with the values of its parameters: ``module(*inputs)`` takes the graph's inputs in their order, each
    with one more axis in front, samples, and returns its outputs so (one alone not as a tuple).

    Weights of convolutions and linear layers can be compressed (``compress_modules`` knows them by the graph's names).
    They, biases and the gains and offsets of norms are trained; other constants (tables, scalars, masks) are not.
    Raises ``ModelError`` for values that are missing or of another shape.
    """

    def __init__(self, graph: Graph, values: Mapping[str, Array]) -> None:
        super().__init__()
        self.graph = graph
        self.weights = nn.ModuleList(
            PlainWeight(_tensor(graph, values, name), name) for name in weight_parameters(graph)
        )
        trained = trained_parameters(graph)
        self.plain_names = plain_parameters(graph)
        for name in self.plain_names:
            tensor = _tensor(graph, values, name)
            if name in trained:
                self.register_parameter(_attribute(name), nn.Parameter(tensor))
            else:
                self.register_buffer(_attribute(name), tensor)
        self._leaving = last_uses(graph)

    def plain(self) -> dict[str, Tensor]:
        """Parameters no codec touches, by their names in the graph."""
        return {name: getattr(self, _attribute(name)) for name in self.plain_names}

    def forward(self, *inputs: Tensor) -> Any:
        outputs = self.tensors(self.graph.outputs, *inputs)
        return outputs if len(outputs) > 1 else outputs[0]

    def tensors(self, names: Sequence[str], *inputs: Tensor) -> tuple[Tensor, ...]:
        """What the tensors ``names`` of the graph are for ``inputs``, each with samples in front."""
        plain, weights = self.plain(), {each.name: each.weight for each in self.weights}

        def one(*sample: Tensor) -> tuple[Tensor, ...]:
            return self._run(dict(zip(self.graph.inputs, sample, strict=True)) | plain, weights, names)

        found: tuple[Tensor, ...] = torch.func.vmap(one)(*inputs)
        return found

    def _run(
        self, tensors: dict[str, Tensor], weights: Mapping[str, Tensor], names: Sequence[str]
    ) -> tuple[Tensor, ...]:
        """For one sample. A tied parameter is one tensor to a product and another to whoever else reads it."""
        wanted = frozenset(names)
        for position, op in enumerate(self.graph.ops):
            at = OPERATORS[op.kind].weight_input
            operands = [weights[name] if index == at else tensors[name] for index, name in enumerate(op.inputs)]
            tensors[op.output] = TORCH[op.kind](op.attributes, *operands)
            for name in self._leaving.get(position, ()):
                if name not in wanted:
                    tensors.pop(name, None)
        return tuple(tensors[name] for name in names)


def trained_parameters(graph: Graph) -> frozenset[str]:
    """Biases, and gains and offsets of norms, that nothing else reads."""
    roles: dict[str, set[bool]] = {}
    for op in graph.ops:
        first = {"conv": 2, "gemm": 2, "layernorm": 1}.get(op.kind, len(op.inputs))
        for position, name in enumerate(op.inputs):
            if name in graph.parameters:
                roles.setdefault(name, set()).add(position >= first)
    return frozenset(name for name, found in roles.items() if found == {True})


def _tensor(graph: Graph, values: Mapping[str, Array], name: str) -> Tensor:
    if name not in values:
        raise ModelError(f"parameter '{name}' has no values{nearest(name, values)}")
    array = np.asarray(values[name])
    if array.shape != tuple(graph.parameters[name]):
        raise ModelError(f"parameter '{name}': values of shape {array.shape}; the graph has {graph.parameters[name]}")
    return torch.from_numpy(array.astype(np.int64 if array.dtype.kind in "iu" else np.float32))


def _attribute(name: str) -> str:
    """torch allows no dot in a parameter's name."""
    return "plain " + name.replace("%", "%25").replace(".", "%2E")
