"""Recognises activation functions by value: whatever spelling an exporter chose, the function is the function.

A chain of element-wise nodes that depends on one tensor ``x`` and on numbers only is evaluated, in float64, at sample
points; when the result is a known activation's at every point, the chain is that activation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from compiler.frontend.draft import Draft, Node

Points = npt.NDArray[np.float64]
DEPTH = 10  # the longest spelling met, GELU by tanh and x*x*x, has nine steps

_erf = np.vectorize(math.erf, otypes=[np.float64])


def _sigmoid(x: Points) -> Points:
    return np.asarray(0.5 * (1 + np.tanh(x / 2)))


def _hard_sigmoid(x: Points) -> Points:
    return np.asarray(np.clip(x + 3, 0, 6) / 6)


ELEMENTWISE: Mapping[str, Callable[..., Points]] = MappingProxyType(
    {
        "add": np.add,
        "sub": np.subtract,
        "mul": np.multiply,
        "div": np.divide,
        "erf": _erf,
        "tanh": np.tanh,
        "sigmoid": _sigmoid,
        "relu": lambda x: np.maximum(x, 0),
        "relu6": lambda x: np.clip(x, 0, 6),
        "hardsigmoid": _hard_sigmoid,
        "clip": lambda x, low, high: np.clip(x, low, high),
    }
)

ACTIVATIONS: tuple[tuple[str, Callable[[Points], Points]], ...] = (
    ("gelu", lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2)))),
    ("gelu", lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))),
    ("silu", lambda x: x * _sigmoid(x)),
    ("hardswish", lambda x: x * _hard_sigmoid(x)),
    ("hardsigmoid", _hard_sigmoid),
)

# Irregular, dense where the functions bend, and far out so that a limit at, say, 50 is noticed.
SAMPLES: Points = np.concatenate([np.linspace(-6.13, 6.17, 97), [-3e3, -91.7, -13.1, 13.3, 88.9, 2.9e3]])
_KNOWN = tuple((kind, function(SAMPLES)) for kind, function in ACTIVATIONS)


def fuse_activation(draft: Draft, node: Node) -> bool:
    """Replace a chain that ends in ``node`` by the activation function it computes."""
    for x in dict.fromkeys(_sources(draft, node, DEPTH)):
        if draft.shapes[x] != draft.shapes[node.output]:
            continue
        values = _evaluate(draft, node.output, x, DEPTH)
        if values is None or values.shape != SAMPLES.shape:
            continue
        for kind, known in _KNOWN:
            if np.allclose(values, known, rtol=1e-6, atol=1e-6):
                draft.replace(node, kind, x)
                return True
    return False


def _sources(draft: Draft, node: Node, depth: int) -> Iterator[str]:
    """Tensors up to ``depth`` element-wise steps before ``node``, nearest first."""
    level = [node]
    for _ in range(depth):
        tensors = [t for n in level for t in n.inputs if t not in draft.values]
        yield from tensors
        level = [n for t in dict.fromkeys(tensors) if (n := draft.made_by(t, *ELEMENTWISE)) is not None]


def _evaluate(draft: Draft, tensor: str, x: str, depth: int) -> Points | None:
    """``tensor`` as a function of ``x`` at ``SAMPLES``; None when it depends on anything else."""
    if tensor == x:
        return SAMPLES
    number = draft.scalar(tensor)
    if number is not None:
        return np.asarray(number)
    node = draft.made_by(tensor, *ELEMENTWISE)
    if node is None or depth == 0:
        return None
    known = [value for t in node.inputs if (value := _evaluate(draft, t, x, depth - 1)) is not None]
    if len(known) != len(node.inputs):
        return None
    with np.errstate(all="ignore"):
        return ELEMENTWISE[node.kind](*known, **node.attributes)
