"""What torch front-end tests share: a module around a function, and the comparison with torch."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from graph_reference import evaluate
from torch import Tensor, nn

from accel.graph import Graph


class Lambda(nn.Module):
    """A module around a function, with some weights to use."""

    def __init__(self, function: Callable[[Lambda, Tensor], object]) -> None:
        super().__init__()
        self.function = function
        self.weight = nn.Parameter(torch.randn(8, 8))
        self.bias = nn.Parameter(torch.randn(8))
        self.register_buffer("table", torch.randn(5, 8))

    def forward(self, x: Tensor) -> object:
        return self.function(self, x)


def agree(graph: Graph, params: dict[str, np.ndarray], module: nn.Module, x: Tensor) -> None:
    """The graph computes what the module does, and every weight the graph names exists with its shape."""
    with torch.no_grad():
        expected = module(x.clone())
    expected = expected if isinstance(expected, tuple | list) else (expected,)
    (name,) = graph.inputs
    for ours, theirs in zip(evaluate(graph, params, {name: x.numpy()}), expected, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-4, atol=1e-5)
    assert {key: value.shape for key, value in params.items()} == dict(graph.parameters)
