"""Graphs: shapes are inferred, and what is not a legal graph cannot be built."""

from __future__ import annotations

import json
from typing import Any

import pytest

from accel.errors import ModelError
from accel.graph import (
    OPERATORS,
    Graph,
    GraphBuilder,
    Op,
    Shape,
    gemm_shape,
    graph_from_json,
    graph_to_json,
    weight_name,
)
from accel.shapes import infer_shape

WINDOW = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)}
CONV = {**WINDOW, "dilation": (1, 1), "groups": 1}

INFERRED: list[tuple[str, list[Shape], dict[str, Any], Shape]] = [
    ("conv", [(1, 3, 224, 224), (8, 3, 3, 3), (8,)], CONV, (1, 8, 112, 112)),
    ("conv", [(2, 8, 9, 10), (8, 1, 3, 3)], {**CONV, "groups": 8, "padding": (0, 1, 2, 0)}, (2, 8, 5, 5)),
    ("conv", [(1, 4, 9, 9), (2, 4, 3, 3)], {**CONV, "stride": (1, 1), "dilation": (2, 4)}, (1, 2, 7, 3)),
    ("gemm", [(1, 197, 192), (576, 192), (576,)], {}, (1, 197, 576)),
    ("gemm", [(192,), (10, 192)], {}, (10,)),
    ("matmul", [(2, 3, 197, 64), (2, 3, 197, 64)], {"transpose_b": True}, (2, 3, 197, 197)),
    ("matmul", [(5, 7), (7, 4)], {"transpose_b": False}, (5, 4)),
    ("embedding", [(100, 16), (2, 9)], {}, (2, 9, 16)),
    ("add", [(1, 197, 192), (192,)], {}, (1, 197, 192)),
    ("mul", [(4, 1), (1, 5)], {}, (4, 5)),
    ("relu", [(3, 4)], {}, (3, 4)),
    ("clip", [(3,)], {"low": 0.0, "high": 1.0}, (3,)),
    ("softmax", [(2, 3)], {"axis": -1}, (2, 3)),
    ("layernorm", [(2, 3, 4), (4,), (4,)], {"epsilon": 1e-6}, (2, 3, 4)),
    ("maxpool", [(1, 8, 112, 112)], WINDOW, (1, 8, 56, 56)),
    ("mean", [(1, 8, 7, 7)], {"axes": (2, -1), "keepdims": False}, (1, 8)),
    ("mean", [(1, 8, 7, 7)], {"axes": (2, 3), "keepdims": True}, (1, 8, 1, 1)),
    ("resize", [(1, 8, 7, 9)], {"size": (14, 20), "mode": "bilinear"}, (1, 8, 14, 20)),
    ("pad", [(3, 4)], {"before": (0, 1), "after": (2, 0)}, (5, 5)),
    ("reshape", [(2, 6)], {"shape": (3, 4)}, (3, 4)),
    ("transpose", [(2, 3, 4)], {"perm": (2, 0, 1)}, (4, 2, 3)),
    ("slice", [(2, 9)], {"axis": 1, "start": 3, "stop": 5}, (2, 2)),
    ("concat", [(2, 3), (2, 1), (2, 5)], {"axis": -1}, (2, 9)),
    ("roll", [(2, 3)], {"axis": 0, "shift": 1}, (2, 3)),
    ("expand", [(1, 3)], {"shape": (4, 3)}, (4, 3)),
]


@pytest.mark.parametrize(("kind", "shapes", "attributes", "expected"), INFERRED)
def test_shape_inference(kind: str, shapes: list[Shape], attributes: dict[str, Any], expected: Shape) -> None:
    op = Op("n", kind, tuple(f"t{i}" for i in range(len(shapes))), "out", attributes)
    assert infer_shape(op, shapes) == expected


MISFITS: list[tuple[str, list[Shape], dict[str, Any], str]] = [
    ("conv", [(1, 4, 9, 9), (8, 3, 3, 3)], CONV, r"does not match kernel \[3, 3\] and groups 1"),
    ("conv", [(1, 3, 9, 9), (8, 3, 3, 3), (7,)], CONV, r"bias must have shape \[8\]"),
    ("conv", [(1, 3, 9, 9), (8, 3, 3, 3)], {**CONV, "stride": (0, 1)}, "impossible window"),
    ("conv", [(1, 3, 1, 1), (8, 3, 3, 3)], {**CONV, "padding": (0, 0, 0, 0)}, r"gives shape \[1, 8, "),
    ("gemm", [(2, 3), (4, 5)], {}, r"needs x\[..., K\] and w\[N, K\]"),
    ("matmul", [(2, 3), (4, 5)], {"transpose_b": False}, "contraction lengths differ"),
    ("matmul", [(3,), (3,)], {"transpose_b": False}, "at least two axes"),
    ("add", [(2, 3), (4, 3)], {}, "do not broadcast"),
    ("softmax", [(2, 3)], {"axis": 2}, r"axis 2 is outside -2..1"),
    ("layernorm", [(2, 3), (2,), (3,)], {"epsilon": 0.0}, "gamma and beta must match"),
    ("maxpool", [(8, 9, 9)], WINDOW, "pooling needs NCHW"),
    ("resize", [(1, 8, 7, 9)], {"size": (14, 20), "mode": "cubic"}, "mode nearest or bilinear, got 'cubic'"),
    ("pad", [(3, 4)], {"before": (0,), "after": (2, 0)}, "does not fit"),
    ("reshape", [(2, 6)], {"shape": (5, 2)}, r"cannot become \[5, 2\]"),
    ("transpose", [(2, 3)], {"perm": (0, 0)}, "is no permutation"),
    ("slice", [(2, 9)], {"axis": 1, "start": 5, "stop": 5}, "range 5:5 is outside axis 1"),
    ("concat", [(2, 3), (3, 3)], {"axis": 1}, "differ outside axis 1"),
    ("expand", [(2, 3)], {"shape": (1, 3)}, r"cannot expand to \[1, 3\]"),
    ("embedding", [(10,), (3,)], {}, r"table must have shape \[V, D\]"),
]


@pytest.mark.parametrize(("kind", "shapes", "attributes", "message"), MISFITS)
def test_misfits_name_the_node(kind: str, shapes: list[Shape], attributes: dict[str, Any], message: str) -> None:
    op = Op("the_node", kind, tuple(f"t{i}" for i in range(len(shapes))), "out", attributes)
    with pytest.raises(ModelError, match=rf"node 'the_node' \({kind}\): inputs .*{message}"):
        infer_shape(op, shapes)


def small() -> GraphBuilder:
    builder = GraphBuilder("net")
    x = builder.input("x", (1, 3, 8, 8))
    w = builder.parameter("w", (4, 3, 3, 3))
    builder.parameter("nobody reads this", (9,))
    y = builder.op("conv", x, w, name="stem", **CONV)
    builder.op("relu", y, name="act", output="y")
    return builder


def test_builder_infers_checks_and_drops_what_nobody_reads() -> None:
    graph = small().build("y")
    assert graph.shapes == {"x": (1, 3, 8, 8), "w": (4, 3, 3, 3), "stem:out": (1, 4, 4, 4), "y": (1, 4, 4, 4)}
    assert list(graph.parameters) == ["w"]
    assert [weight_name(op) for op in graph.weight_ops()] == ["w"]
    assert gemm_shape(graph.parameters["w"]) == (4, 27)
    assert [op.name for op in graph.consumers()["stem:out"]] == ["act"]


def test_graphs_round_trip_as_json() -> None:
    graph = small().build("y")
    again = graph_from_json(json.loads(json.dumps(graph_to_json(graph))))
    assert again == graph and again.shapes == graph.shapes


def test_every_operator_has_a_rule_or_keeps_its_shape() -> None:
    shaped = {row[0] for row in INFERRED}
    same = {kind for kind, spec in OPERATORS.items() if spec.inputs == (1, 1) and not spec.attributes}
    assert set(OPERATORS) - shaped - same == {"sub", "div", "avgpool"}  # like add and maxpool


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (("n", "convolution", ("x",), "y"), "operator 'convolution' cannot be lowered; supported: conv"),
        (("n", "reLu", ("x",), "y"), "did you mean 'relu'"),
        (("n", "relu", ("x", "x"), "y"), r"node 'n' \(relu\): 2 inputs; allowed: 1 to 1"),
        (("n", "softmax", ("x",), "y"), r"attributes \[\]; expected \['axis'\]"),
    ],
)
def test_illegal_operators(op: tuple[str, str, tuple[str, ...], str], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Op(*op)


def graph_of(*ops: Op, outputs: tuple[str, ...] = ()) -> Graph:
    return Graph("net", {"x": (2, 3)}, {"w": (4, 3)}, ops, outputs)


@pytest.mark.parametrize(
    ("ops", "outputs", "message"),
    [
        ((Op("n", "relu", ("z",), "y"),), (), "node 'n' .* reads tensor 'z' before it exists"),
        ((Op("n", "relu", ("x",), "x"),), (), "node 'n': tensor 'x' is defined twice"),
        ((Op("n", "gemm", ("x", "x"), "y"),), (), "input 1 .'x'. must be a parameter"),
        ((Op("n", "embedding", ("x", "w"), "y"),), (), "input 0 .'x'. must be a parameter"),
        ((), ("y",), "output 'y' is produced by no node"),
    ],
)
def test_illegal_graphs(ops: tuple[Op, ...], outputs: tuple[str, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        graph_of(*ops, outputs=outputs)


def test_sizes_must_be_positive() -> None:
    with pytest.raises(ModelError, match=r"tensor 'x' has shape \[0, 3\]; every size must be a positive integer"):
        Graph("net", {"x": (0, 3)}, {}, (), ())


def test_builder_refuses_unknown_tensors() -> None:
    with pytest.raises(ModelError, match="reads tensor 'ghost' before it exists"):
        GraphBuilder("net").op("relu", "ghost")


@pytest.mark.parametrize("document", [{}, {"name": "x"}, {"ops": [{}]}, {"ops": 3}])
def test_malformed_documents(document: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="graph document: "):
        graph_from_json(document)
