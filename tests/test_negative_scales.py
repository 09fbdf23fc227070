"""Weight scales below zero, as gains of batch normalisations leave them in imported layers: the compiler keeps them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from differential import check_values
from tiny_models import machine

from accel.codecs import parse_codec
from accel.graph import GraphBuilder
from accel.packed import Packed
from compiler import compile_model
from compiler.compress import compress
from compiler.interpreter import interpret

INT8 = parse_codec("int8")


def mirrored(function: str, biased: bool) -> tuple[Packed, dict[str, np.ndarray], np.ndarray]:
    """A layer half of whose channels are stored negated under negative scales; an input; its exact result."""
    rng, b = np.random.default_rng(0), GraphBuilder("net")
    names = [b.input("x", (5, 16)), b.parameter("w", (8, 16)), *([b.parameter("b", (8,))] if biased else [])]
    y = b.op("gemm", *names)
    graph = b.build(b.op(function, y) if function else y)
    values = {n: rng.standard_normal(s).astype(np.float32) for n, s in graph.parameters.items()}
    x = {"x": rng.standard_normal((5, 16)).astype(np.float32)}
    packed = compress(graph, values, INT8, calibration=[x]).packed
    sign = np.where(np.arange(8) % 2, -1, 1).astype(np.float32)
    layer = INT8.encode(values["w"] * sign[:, None], None, np.abs(packed.layers["w"].scale))
    exact = x["x"] @ values["w"].T + values.get("b", 0)
    return replace(packed, layers={"w": replace(layer, scale=layer.scale * sign)}), x, exact


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("function", ["", "relu"])
def test_results_are_those_of_the_float_model(function: str, biased: bool) -> None:
    packed, x, exact = mirrored(function, biased)
    (name,) = packed.graph.outputs
    assert packed.quantisation is not None
    code = packed.quantisation.tensors[name]
    found = (interpret(packed, x)[name].astype(float) - code.zero_point) * code.scale
    np.testing.assert_allclose(found, np.maximum(exact, 0) if function else exact, atol=4 * code.scale)


@pytest.mark.parametrize("biased", [True, False])
def test_programs_agree(biased: bool) -> None:
    packed, x, _ = mirrored("relu", biased)
    check_values(compile_model(packed, machine(8)), packed, {"x": x["x"][None]})
