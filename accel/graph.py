"""The graph that front ends produce and the compiler lowers: named tensors, operators in execution order.

Shapes follow the source frameworks (NCHW images, ``[out, in]`` linear weights). Physical layout is the
compiler's business. A constructed ``Graph`` is legal: every operator is in ``OPERATORS``, reads only what exists
before it, and each tensor's shape is what ``accel.shapes`` infers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from accel.errors import ModelError, listed, nearest

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class OperatorSpec:
    """One row of ``OPERATORS``: what an operator takes and which attributes it must carry.

    ``parameters`` names the inputs (by position) that must be graph parameters, i.e. known at compile time.
    """

    kind: str
    inputs: tuple[int, int]
    attributes: tuple[str, ...]
    doc: str
    weight_input: int | None = None


def _unary(kind: str, doc: str) -> OperatorSpec:
    return OperatorSpec(kind, (1, 1), (), doc)


OPERATORS: Mapping[str, OperatorSpec] = MappingProxyType(
    {
        row.kind: row
        for row in (
            OperatorSpec(
                "conv",
                (2, 3),
                ("kernel", "stride", "padding", "dilation", "groups"),
                "x[N,C,H,W] * w[O,C/groups,kh,kw] (+ b[O]); padding is top, left, bottom, right",
                weight_input=1,
            ),
            OperatorSpec("gemm", (2, 3), (), "x[..., K] @ w[N,K].T (+ b[N])", weight_input=1),
            OperatorSpec("matmul", (2, 2), ("transpose_b",), "a[..., M, K] @ b[..., K, N], both activations"),
            OperatorSpec("embedding", (2, 2), (), "rows of table[V,D] picked by ids[...]"),
            OperatorSpec("add", (2, 2), (), "a + b, broadcasting"),
            OperatorSpec("sub", (2, 2), (), "a - b, broadcasting"),
            OperatorSpec("mul", (2, 2), (), "a * b, broadcasting"),
            OperatorSpec("div", (2, 2), (), "a / b, broadcasting"),
            _unary("relu", "max(x, 0)"),
            _unary("relu6", "min(max(x, 0), 6)"),
            _unary("gelu", "x * Phi(x)"),
            _unary("silu", "x * sigmoid(x)"),
            _unary("sigmoid", "1 / (1 + exp(-x))"),
            _unary("tanh", "hyperbolic tangent"),
            _unary("hardswish", "x * relu6(x + 3) / 6"),
            _unary("hardsigmoid", "relu6(x + 3) / 6"),
            OperatorSpec("clip", (1, 1), ("low", "high"), "min(max(x, low), high)"),
            OperatorSpec("softmax", (1, 1), ("axis",), "softmax over one axis"),
            OperatorSpec("layernorm", (3, 3), ("epsilon",), "layer normalisation over the last axis; gamma, beta"),
            OperatorSpec("maxpool", (1, 1), ("kernel", "stride", "padding"), "NCHW windows; padding as for conv"),
            OperatorSpec("avgpool", (1, 1), ("kernel", "stride", "padding"), "NCHW windows; padding as for conv"),
            OperatorSpec("mean", (1, 1), ("axes", "keepdims"), "mean over axes"),
            OperatorSpec("resize", (1, 1), ("size", "mode"), "NCHW to size (height, width); nearest or bilinear"),
            OperatorSpec("pad", (1, 1), ("before", "after"), "zeros around each axis"),
            OperatorSpec("reshape", (1, 1), ("shape",), "same elements, row-major, another shape"),
            OperatorSpec("transpose", (1, 1), ("perm",), "permute axes"),
            OperatorSpec("slice", (1, 1), ("axis", "start", "stop"), "a contiguous range of one axis"),
            OperatorSpec("concat", (1, 64), ("axis",), "join along one axis"),
            OperatorSpec("roll", (1, 1), ("axis", "shift"), "cyclic shift along one axis"),
            OperatorSpec("expand", (1, 1), ("shape",), "broadcast to a shape"),
        )
    }
)


ACTIVATION_FUNCTIONS: tuple[str, ...] = (
    "relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "hardswish", "hardsigmoid", "clip",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Op:
    """One operator: ``name`` is the source node's, ``inputs``/``output`` name tensors."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        spec = OPERATORS.get(self.kind)
        if spec is None:
            raise ModelError(
                f"node '{self.name}': operator '{self.kind}' cannot be lowered; "
                f"supported: {listed(OPERATORS)}{nearest(self.kind, OPERATORS)}"
            )
        low, high = spec.inputs
        if not low <= len(self.inputs) <= high:
            raise ModelError(f"node '{self.name}' ({self.kind}): {len(self.inputs)} inputs; allowed: {low} to {high}")
        if set(self.attributes) != set(spec.attributes):
            raise ModelError(
                f"node '{self.name}' ({self.kind}): attributes {sorted(self.attributes)}; "
                f"expected {sorted(spec.attributes)}"
            )


@dataclass(frozen=True, slots=True)
class Graph:
    """A model: ``inputs`` and ``parameters`` map tensor names to shapes, ``ops`` run in order.

    Parameters are known at compile time (weights, biases, norms, embeddings); their values travel beside the graph.
    ``shapes`` holds every tensor's shape, inferred on construction. Raises ``ModelError`` if anything is amiss.
    """

    name: str
    inputs: Mapping[str, Shape]
    parameters: Mapping[str, Shape]
    ops: tuple[Op, ...]
    outputs: tuple[str, ...]
    shapes: Mapping[str, Shape] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        from accel.shapes import infer_shape

        shapes: dict[str, Shape] = {}
        for name, shape in (*self.inputs.items(), *self.parameters.items()):
            _declare(shapes, name, tuple(shape), f"graph '{self.name}'")
        for op in self.ops:
            for tensor in op.inputs:
                if tensor not in shapes:
                    raise ModelError(f"node '{op.name}' ({op.kind}): reads tensor '{tensor}' before it exists")
            _check_parameters(op, self.parameters)
            _declare(shapes, op.output, infer_shape(op, [shapes[t] for t in op.inputs]), f"node '{op.name}'")
        for tensor in self.outputs:
            if tensor not in shapes:
                raise ModelError(f"graph '{self.name}': output '{tensor}' is produced by no node")
        object.__setattr__(self, "shapes", MappingProxyType(shapes))

    def weight_ops(self) -> tuple[Op, ...]:
        """Operators with a weight matrix the array multiplies by: the ones codecs compress."""
        return tuple(op for op in self.ops if OPERATORS[op.kind].weight_input is not None)

    def consumers(self) -> dict[str, list[Op]]:
        """For each tensor, the operators that read it, in order."""
        readers: dict[str, list[Op]] = {name: [] for name in self.shapes}
        for op in self.ops:
            for tensor in op.inputs:
                readers[tensor].append(op)
        return readers


def weight_name(op: Op) -> str:
    """Name of the parameter a ``conv``/``gemm`` multiplies by."""
    position = OPERATORS[op.kind].weight_input
    assert position is not None, op
    return op.inputs[position]


def gemm_shape(weight_shape: Shape) -> tuple[int, int]:
    """``(out, reduction)``: the matrix view in which codecs see a conv or linear weight."""
    return weight_shape[0], math.prod(weight_shape[1:])


def _declare(shapes: dict[str, Shape], name: str, shape: Shape, where: str) -> None:
    if name in shapes:
        raise ModelError(f"{where}: tensor '{name}' is defined twice")
    if any(not isinstance(size, int) or size < 1 for size in shape):
        raise ModelError(f"{where}: tensor '{name}' has shape {list(shape)}; every size must be a positive integer")
    shapes[name] = shape


def _check_parameters(op: Op, parameters: Mapping[str, Shape]) -> None:
    spec = OPERATORS[op.kind]
    known: Iterable[int] = range(1, len(op.inputs)) if spec.weight_input is not None or op.kind == "layernorm" else ()
    if op.kind == "embedding":
        known = (0,)
    for position in known:
        if op.inputs[position] not in parameters:
            raise ModelError(
                f"node '{op.name}' ({op.kind}): input {position} ('{op.inputs[position]}') must be a parameter, "
                "not computed at run time"
            )


class GraphBuilder:
    """Collects operators and parameters while a front end walks its model; ``build`` checks and freezes them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: dict[str, Shape] = {}
        self.parameters: dict[str, Shape] = {}
        self.ops: list[Op] = []
        self.shapes: dict[str, Shape] = {}

    def input(self, name: str, shape: Shape) -> str:
        """Declare a run-time input."""
        self.inputs[name] = self.shapes[name] = tuple(shape)
        return name

    def parameter(self, name: str, shape: Shape) -> str:
        """Declare a compile-time tensor (idempotent)."""
        self.parameters[name] = self.shapes[name] = tuple(int(size) for size in shape)
        return name

    def op(self, kind: str, *inputs: str, name: str = "", output: str = "", **attributes: Any) -> str:
        """Append an operator and return its output tensor's name; the shape is inferred and kept in ``shapes``."""
        from accel.shapes import infer_shape

        name = name or f"{kind}_{len(self.ops)}"
        added = Op(name, kind, tuple(inputs), output or f"{name}:out", attributes)
        missing = [tensor for tensor in inputs if tensor not in self.shapes]
        if missing:
            raise ModelError(f"node '{name}' ({kind}): reads tensor '{missing[0]}' before it exists")
        self.shapes[added.output] = infer_shape(added, [self.shapes[t] for t in inputs])
        self.ops.append(added)
        return added.output

    def build(self, *outputs: str) -> Graph:
        """The finished graph; parameters nobody reads are dropped."""
        read = {tensor for op in self.ops for tensor in op.inputs}
        parameters = {name: shape for name, shape in self.parameters.items() if name in read}
        return Graph(self.name, dict(self.inputs), parameters, tuple(self.ops), tuple(outputs))


def graph_to_json(graph: Graph) -> dict[str, Any]:
    """The graph as plain JSON values (see FORMATS.md)."""
    return {
        "name": graph.name,
        "inputs": {name: list(shape) for name, shape in graph.inputs.items()},
        "parameters": {name: list(shape) for name, shape in graph.parameters.items()},
        "ops": [
            {
                "name": op.name,
                "kind": op.kind,
                "inputs": list(op.inputs),
                "output": op.output,
                "attributes": {key: _plain(value) for key, value in op.attributes.items()},
            }
            for op in graph.ops
        ],
        "outputs": list(graph.outputs),
    }


def graph_from_json(document: Mapping[str, Any]) -> Graph:
    """Inverse of ``graph_to_json``; raises ``ModelError`` on anything that is not a legal graph."""
    try:
        ops = tuple(
            Op(
                str(row["name"]),
                str(row["kind"]),
                tuple(map(str, row["inputs"])),
                str(row["output"]),
                {key: _frozen(value) for key, value in row["attributes"].items()},
            )
            for row in document["ops"]
        )
        return Graph(
            str(document["name"]),
            {str(k): tuple(v) for k, v in document["inputs"].items()},
            {str(k): tuple(v) for k, v in document["parameters"].items()},
            ops,
            tuple(map(str, document["outputs"])),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"graph document: {type(error).__name__}: {error}") from error


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
