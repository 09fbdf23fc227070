"""The graph while a front end is still writing it: mutable, and allowed operators that must disappear.

A ``Draft`` holds values beside names, so that rewrite rules (``compiler.frontend.simplify``) can fold and match
them. Beside the kinds of ``accel.graph.OPERATORS`` it takes those of ``TRANSIENT``, which exporters emit and only a
rewrite rule can absorb; ``finish`` refuses a draft that still holds one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import ModelError, listed
from accel.graph import OPERATORS, Graph, Op, Shape
from accel.shapes import infer_shape

Values = npt.NDArray[np.float32]

TRANSIENT: Mapping[str, str] = MappingProxyType(
    {
        "batchnorm": "inputs x, gamma, beta, mean, variance; attribute epsilon; folded or split into mul and add",
        "erf": "only as part of an exact GELU",
        "sqrt": "only as part of a layer normalisation",
        "rsqrt": "only as part of a layer normalisation",
    }
)


@dataclass(frozen=True, slots=True)
class Node:
    """One operator of a draft; as ``accel.graph.Op``, but ``kind`` may be transient."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


class Draft:
    """Tensors by name: run-time ``inputs``, parameter ``values`` (float32), ``nodes`` by the tensor they produce."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: dict[str, Shape] = {}
        self.values: dict[str, Values] = {}
        self.nodes: dict[str, Node] = {}
        self.shapes: dict[str, Shape] = {}
        self.readers: dict[str, list[str]] = {}
        self.outputs: tuple[str, ...] = ()
        self.guessed: set[str] = set()

    def input(self, name: str, shape: Shape) -> str:
        """Declare a run-time input."""
        self.inputs[name] = self.shapes[name] = shape
        return name

    def parameter(self, name: str, value: npt.ArrayLike, guessed: bool = False) -> str:
        """Name under which ``value`` is kept as a parameter: ``name``, or with a number when that is another tensor.

        A scalar gets shape [1]. ``guessed`` marks a name the source did not give. NaN and infinity are refused.
        """
        with np.errstate(over="ignore"):
            array = np.ascontiguousarray(value, dtype=np.float32)
        check_finite(name, array)
        chosen = self._free(name, array)
        if chosen not in self.values:
            self.values[chosen] = array
            self.shapes[chosen] = array.shape
            if guessed:
                self.guessed.add(chosen)
        return chosen

    def op(self, kind: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Append an operator (its name made unique) and return its output tensor ``NAME:out``."""
        name = self._free_node(name)
        node = Node(name, kind, inputs, f"{name}:out", attributes)
        self.shapes[node.output] = self._shape(node)
        self._link(node)
        return node.output

    def replace(self, node: Node, kind: str, *inputs: str, name: str = "", **attributes: Any) -> None:
        """Let another operator (``name``, else the same) produce ``node``'s output; what only ``node`` needed goes."""
        changed = Node(name or node.name, kind, inputs, node.output, attributes)
        shape = self._shape(changed)
        assert shape == self.shapes[node.output], (node, changed)
        for tensor in inputs:
            self.readers.setdefault(tensor, []).append(node.output)
        self.nodes[node.output] = changed
        self._release(node)

    def forward(self, node: Node, tensor: str) -> None:
        """Let everyone who reads ``node``'s output read ``tensor`` instead, and drop ``node``."""
        for reader in self.readers.pop(node.output, []):
            old = self.nodes[reader]
            inputs = tuple(tensor if source == node.output else source for source in old.inputs)
            self.nodes[reader] = Node(old.name, old.kind, inputs, old.output, old.attributes)
            self.readers.setdefault(tensor, []).append(reader)
        self.outputs = tuple(tensor if output == node.output else output for output in self.outputs)
        del self.nodes[node.output]
        self._release(node)

    def revalue(self, parameter: str, value: Values) -> str:
        """``parameter`` with another value: in place when one operator reads it, else under a new name."""
        if len(self.readers[parameter]) > 1:
            return self.parameter(parameter, value)
        self.values[parameter] = np.ascontiguousarray(value, dtype=np.float32)
        self.shapes[parameter] = self.values[parameter].shape
        return parameter

    def only_reader(self, tensor: str) -> bool:
        """Whether one operator, and no graph output, reads ``tensor`` (so that it may be changed)."""
        return len(self.readers.get(tensor, ())) == 1 and tensor not in self.outputs

    def made_by(self, tensor: str, *kinds: str) -> Node | None:
        """The node that produces ``tensor``, when it is one of ``kinds``."""
        node = self.nodes.get(tensor)
        return node if node is not None and node.kind in kinds else None

    def scalar(self, tensor: str) -> float | None:
        """The value of a one-element parameter."""
        value = self.values.get(tensor)
        return float(value.flat[0]) if value is not None and value.size == 1 else None

    def prune(self) -> None:
        """Drop what no output needs."""
        for node in reversed(list(self.nodes.values())):
            if node.output in self.nodes and not self.readers.get(node.output) and node.output not in self.outputs:
                del self.nodes[node.output]
                self._release(node)

    def finish(self, public: Sequence[str]) -> tuple[Graph, dict[str, Values]]:
        """The legal graph and its parameters; ``public`` are the source's names for ``outputs``."""
        nodes = self._in_order()
        for node in nodes:
            if node.kind in TRANSIENT:
                raise unsupported(node.name, node.kind, OPERATORS, f" ({TRANSIENT[node.kind]})")
        read = {tensor for node in nodes for tensor in node.inputs}
        params = {name: value for name, value in self.values.items() if name in read}
        for name, value in params.items():
            check_finite(name, value)
        rename = {node.output: f"{node.name}:out" for node in nodes} | self._renaming(public)
        ops = tuple(
            Op(
                node.name,
                node.kind,
                tuple(rename.get(t, t) for t in node.inputs),
                rename.get(node.output, node.output),
                node.attributes,
            )
            for node in nodes
        )
        shapes = {name: value.shape for name, value in params.items()}
        return Graph(self.name, self.inputs, shapes, ops, tuple(rename.get(t, t) for t in self.outputs)), params

    def _renaming(self, public: Sequence[str]) -> dict[str, str]:
        rename: dict[str, str] = {}
        for tensor, name in zip(self.outputs, public, strict=True):
            if tensor in self.nodes and name not in self.shapes and name not in rename.values():
                rename.setdefault(tensor, name)
        return rename

    def _in_order(self) -> list[Node]:
        """Live nodes, each after what it reads, otherwise in the order the source has them."""
        ordered: dict[str, Node] = {}

        def place(tensor: str) -> None:
            node = self.nodes.get(tensor)
            if node is None or tensor in ordered:
                return
            for source in node.inputs:
                place(source)
            ordered[tensor] = node

        self.prune()
        for tensor in self.nodes:
            place(tensor)
        return list(ordered.values())

    def _link(self, node: Node) -> None:
        self.nodes[node.output] = node
        for tensor in node.inputs:
            self.readers.setdefault(tensor, []).append(node.output)

    def _release(self, node: Node) -> None:
        for tensor in node.inputs:
            self.readers[tensor].remove(node.output)
            source = self.nodes.get(tensor)
            if source is not None and not self.readers[tensor] and tensor not in self.outputs:
                del self.nodes[tensor]
                self._release(source)

    def _shape(self, node: Node) -> Shape:
        shapes = [self.shapes[tensor] for tensor in node.inputs]
        if node.kind in TRANSIENT:
            return shapes[0]
        return infer_shape(Op(node.name, node.kind, node.inputs, node.output, node.attributes), shapes)

    def _free(self, name: str, array: Values) -> str:
        chosen, number = name, 0
        while chosen in self.shapes:
            known = self.values.get(chosen)
            if known is not None and known.shape == array.shape and np.array_equal(known, array):
                break
            number += 1
            chosen = f"{name}.{number}"
        return chosen

    def _free_node(self, name: str) -> str:
        chosen, number = name, 0
        while f"{chosen}:out" in self.shapes:
            number += 1
            chosen = f"{name}_{number}"
        return chosen


def check_finite(name: str, array: npt.NDArray[Any]) -> None:
    """Raise ``ModelError`` naming the tensor when it holds NaN or infinity."""
    bad = int(array.size - np.isfinite(array).sum())
    if bad:
        raise ModelError(f"tensor '{name}': {bad} of {array.size} values are NaN or infinite; weights must be finite")


def unsupported(node: str, kind: str, supported: Mapping[str, Any], why: str = "") -> ModelError:
    """The error for an operator no rule lowers."""
    return ModelError(
        f"node '{node}': operator '{kind}' cannot be lowered{why}; supported: {listed(sorted(supported))}"
    )
