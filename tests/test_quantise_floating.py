"""The float evaluator against torch, operator by operator and on random networks."""

from __future__ import annotations

import numpy as np
import pytest
from graph_reference import evaluate as reference
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import graphs

from accel.graph import OPERATORS, Graph, GraphBuilder
from compiler.quantise.floating import evaluate
from compiler.quantise.operators import FLOATING

relaxed = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))


def random_tensors(graph: Graph, seed: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Parameters and inputs of normal numbers; indices where an embedding wants them."""
    rng = np.random.default_rng(seed)
    rows = {op.inputs[1]: graph.shapes[op.inputs[0]][0] for op in graph.ops if op.kind == "embedding"}

    def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
        if name in rows:
            return rng.integers(0, rows[name], shape)
        return rng.normal(size=shape).astype(np.float32)

    return tuple({n: draw(n, s) for n, s in group.items()} for group in (graph.parameters, graph.inputs))  # type: ignore[return-value]


def agree(graph: Graph, values: dict[str, np.ndarray], inputs: dict[str, np.ndarray]) -> None:
    found, expected = evaluate(graph, values, inputs), reference(graph, values, inputs)
    for name, right in zip(graph.outputs, expected, strict=True):
        assert found[name].dtype == np.float32 and found[name].shape == right.shape
        if np.isfinite(right).all() and np.abs(right).max() < 1e3:  # quotients of noise amplify rounding
            slack = 2e-3 * max(1.0, float(np.abs(right).max()))  # sums of large terms cancel
            np.testing.assert_allclose(found[name], right, rtol=2e-3, atol=slack)


@relaxed
@given(graphs(), st.integers(0, 99))
def test_random_networks_give_what_torch_gives(graph: Graph, seed: int) -> None:
    agree(graph, *random_tensors(graph, seed))


def test_every_operator_is_there() -> None:
    assert FLOATING.keys() == OPERATORS.keys()


@pytest.mark.parametrize("kind", ["relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "hardswish", "hardsigmoid"])
def test_functions_far_from_zero(kind: str) -> None:
    builder = GraphBuilder("net")
    graph = builder.build(builder.op(kind, builder.input("x", (2, 4001))))
    agree(graph, {}, {"x": np.linspace(-100, 100, 8002, dtype=np.float32).reshape(2, 4001)})


@pytest.mark.parametrize("mode", ["nearest", "bilinear"])
@pytest.mark.parametrize("size", [(1, 1), (7, 3), (14, 20), (5, 31)])
def test_resize(mode: str, size: tuple[int, int]) -> None:
    builder = GraphBuilder("net")
    graph = builder.build(builder.op("resize", builder.input("x", (1, 2, 7, 10)), size=size, mode=mode))
    agree(graph, {}, {"x": np.random.default_rng(1).normal(size=(1, 2, 7, 10)).astype(np.float32)})


def test_observer_sees_inputs_constants_and_results_but_no_weights() -> None:
    builder = GraphBuilder("net")
    x, w, c = builder.input("x", (1, 4)), builder.parameter("w", (3, 4)), builder.parameter("c", (3,))
    y = builder.op("add", builder.op("gemm", x, w, output="g"), c, output="y")
    graph = builder.build(y)
    seen: list[str] = []
    evaluate(graph, *random_tensors(graph, 0), observe=lambda name, array: seen.append(name))
    assert seen == ["x", "c", "g", "y"]
