"""Calibrated and nominal scales: legal on every network, and what the rules say on small ones."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import graphs
from test_quantise_floating import random_tensors

from accel.graph import Graph, GraphBuilder
from accel.quantisation import TensorScale, check_quantisation, deferred_softmax
from compiler.quantise import calibrate, calibrate_model, check_codes, choose_exponents, nominal
from compiler.quantise.observe import BINS, histogram, merged_histograms
from compiler.quantise.ranges import Kind, least_squares

relaxed = settings(deadline=None, max_examples=80, suppress_health_check=list(HealthCheck))
METHODS = ("minmax", "percentile:99.9", "mse")


def checked(graph: Graph, method: str = "minmax", seed: int = 0, count: int = 2, **options):
    values, _ = random_tensors(graph, seed)
    samples = [random_tensors(graph, seed + n)[1] for n in range(count)]
    found = calibrate(graph, values, samples, method, **options)
    check_quantisation(graph, found, values)
    check_codes(graph, values, found)
    return found.tensors


@relaxed
@given(graphs(), st.sampled_from(METHODS), st.integers(0, 9))
def test_calibrated_scales_are_legal_on_every_network(graph: Graph, method: str, seed: int) -> None:
    scales = checked(graph, method, seed)
    softmaxes, products = deferred_softmax(graph)
    for op in graph.ops:
        if op.name in softmaxes:
            assert scales[op.output] == TensorScale(1 / 255, unsigned=True)
        if op.name in products:
            assert not scales[op.output].unsigned
        if op.kind == "matmul":
            assert not scales[op.inputs[1]].unsigned
        if op.kind in ("add", "sub", "mul", "matmul", "mean", "layernorm", "avgpool", "maxpool", "resize", "pad"):
            assert scales[op.inputs[0]].zero_point == 0 == scales[op.output].zero_point
        if op.kind == "conv" and any(op.attributes["padding"]):
            assert scales[op.inputs[0]].zero_point == 0


@relaxed
@given(graphs())
def test_nominal_scales_are_legal_on_every_network(graph: Graph) -> None:
    values, _ = random_tensors(graph, 0)
    found = nominal(graph, values)
    assert not found.calibrated and not any(code.exponents for code in found.tensors.values())
    check_quantisation(graph, found, values)


def network(*kinds: str, width: int = 8, **attributes) -> tuple[GraphBuilder, str]:
    builder = GraphBuilder("net")
    x = builder.input("x", (1, 4, width))
    for kind in kinds:
        if kind == "gemm":
            x = builder.op("gemm", x, builder.parameter(f"w{len(builder.ops)}", (width, width)), output=f"t{x}")
        elif kind == "layernorm":
            norm = [builder.parameter(f"{n}{len(builder.ops)}", (width,)) for n in ("gamma", "beta")]
            x = builder.op("layernorm", x, *norm, epsilon=1e-5, output=f"t{x}")
        else:
            x = builder.op(kind, x, output=f"t{x}", **attributes)
    return builder, x


def test_a_layer_before_a_function_has_a_zero_point_and_ends_where_the_function_does() -> None:
    builder, y = network("gemm", "gelu", "gemm", "relu", "gemm")
    scales = checked(builder.build(y))
    assert scales["tx"].unsigned and -4.03 <= -scales["tx"].zero_point * scales["tx"].scale < -1
    assert scales["ttx"].unsigned and scales["ttx"].zero_point > 0  # gelu goes down to -0.17
    assert scales["tttx"].zero_point == 0 and scales["tttx"].unsigned  # relu needs no negative argument
    assert scales["ttttx"].zero_point == 0 and scales["ttttx"].unsigned


def test_a_tensor_that_two_operators_read_keeps_its_range() -> None:
    builder, y = network("gemm")
    values, inputs = random_tensors(builder.build(y), 0)
    low = float((inputs["x"] @ values["w0"].T).min())
    relu, tanh = builder.op("relu", y), builder.op("tanh", y)
    code = calibrate(builder.build(relu, tanh), values, [inputs]).tensors[y]
    assert -code.zero_point * code.scale == pytest.approx(low, abs=code.scale)


@pytest.mark.parametrize(("kind", "options"), [
    ("mean", {"axes": (1,), "keepdims": True}), ("layernorm", {}), ("pad", {"before": (0, 1, 0), "after": (0, 0, 0)}),
    ("softmax", {"axis": -1}),
])  # fmt: skip
def test_no_zero_point_before_other_operators(kind: str, options: dict) -> None:
    builder, y = network("gemm", kind, **options)
    scales = checked(builder.build(y))
    assert scales["tx"].zero_point == 0 and not scales["tx"].unsigned


def test_ranges_of_minmax_just_fit() -> None:
    builder, y = network("gemm", "layernorm")
    graph = builder.build(y)
    values, inputs = random_tensors(graph, 3)
    scales = calibrate(graph, values, [inputs], exponents={}).tensors
    assert scales["tx"].scale == pytest.approx(np.abs(inputs["x"] @ values["w0"].T).max() / 127, rel=1e-5)
    assert not any(code.exponents for code in scales.values())


def test_exponents_of_a_residual_stream() -> None:
    builder, y = network("gemm")
    tail = builder.op("gemm", builder.op("add", y, y, output="s"), builder.parameter("v", (3, 8)), output="out")
    graph = builder.build(builder.op("tanh", tail))
    values, _ = random_tensors(graph, 0)
    values["w0"] = np.eye(8, dtype=np.float32) * 2.0 ** np.arange(8, dtype=np.float32)[:, None]
    inputs = {"x": np.ones((1, 4, 8), np.float32)}
    found = calibrate_model(graph, values, [inputs])
    median = np.median(2.0 ** np.arange(8))
    plain, expected = (
        tuple(int(n) for n in np.clip(np.ceil(np.arange(8) - np.log2(median * by)), 0, 7)) for by in (1, 2)
    )
    assert found.exponents["tx"].values == plain and found.exponents["s"].values == expected  # weights read s
    code = found.quantisation.tensors["s"]
    assert code.axis == 2 and code.exponents == expected and code.zero_point == 0
    assert code.scale == pytest.approx(max(2.0 ** (n + 1 - k) for n, k in enumerate(expected)) / 255)
    assert found.quantisation.tensors["out"].exponents == ()


@pytest.mark.parametrize("method", ["minmax", "percentile:100", "mse"])
def test_exponents_shrink_the_range(method: str) -> None:
    builder, y = network("gemm", "layernorm")
    graph = builder.build(y)
    values, inputs = random_tensors(graph, 0)
    values["w0"][0] *= -1000
    scales = [calibrate(graph, values, [inputs], method, each).tensors["tx"].scale for each in (None, {})]
    exponent = choose_exponents(graph, values, [inputs])["tx"].values[0]
    assert exponent == 7 and scales[0] == pytest.approx(scales[1] / 2**exponent, rel=0.05)


def test_sums_that_broadcast_over_channels_take_no_exponents() -> None:
    for shape, kept in (((8,), True), ((1, 4, 8), True), ((1,), False), ((4, 1), False)):
        builder, y = network("gemm")
        graph = builder.build(builder.op("add", y, builder.parameter("c", shape)))
        assert (y in outliers(graph)) == kept, shape


def outliers(graph: Graph) -> dict:
    """Exponents when one channel of everything is large."""
    values, inputs = random_tensors(graph, 0)
    for name in values:
        values[name][:1] *= 100
    return dict(choose_exponents(graph, values, [inputs]))


def test_who_may_carry_exponents() -> None:
    assert "tx" in outliers(network("gemm", "layernorm")[0].build("ttx"))
    for kind, options in (("gelu", {}), ("softmax", {"axis": -1}), ("mean", {"axes": (2,), "keepdims": False})):
        assert "tx" not in outliers(network("gemm", kind, **options)[0].build("ttx")), kind
    assert "tx" in outliers(network("gemm", "mean", axes=(1,), keepdims=False)[0].build("ttx"))
    assert "x" not in outliers(network("layernorm")[0].build("tx"))


def test_scores_that_leave_the_network_take_no_exponents() -> None:
    assert "tx" not in outliers(network("gemm")[0].build("tx"))
    assert not outliers(network("gemm", "reshape", shape=(4, 8))[0].build("ttx"))
    assert "tx" in outliers(network("layernorm")[0].build("tx"))


@pytest.mark.parametrize(("attributes", "kept"), [
    ({"kind": "reshape", "shape": (4, 8)}, True), ({"kind": "reshape", "shape": (1, 4, 2, 4)}, False),
    ({"kind": "slice", "axis": 1, "start": 0, "stop": 2}, True),
    ({"kind": "slice", "axis": 2, "start": 0, "stop": 2}, False),
    ({"kind": "roll", "axis": 1, "shift": 1}, True), ({"kind": "roll", "axis": -1, "shift": 1}, False),
    ({"kind": "transpose", "perm": (1, 0, 2)}, True), ({"kind": "expand", "shape": (3, 4, 8)}, True),
    ({"kind": "pad", "before": (0, 1, 0), "after": (0, 0, 0)}, True),
    ({"kind": "pad", "before": (0, 0, 1), "after": (0, 0, 0)}, False),
])  # fmt: skip
def test_exponents_pass_views_that_keep_channels(attributes: dict, kept: bool) -> None:
    kind = attributes["kind"]
    options = {key: value for key, value in attributes.items() if key != "kind"}
    builder, _ = network("layernorm", kind, **options)
    found = outliers(builder.build("ttx"))
    assert ("tx" in found) == ("ttx" in found) == kept
    if kept:
        assert found["ttx"].axis == len(builder.shapes["ttx"]) - 1


def test_transposed_channels_are_followed() -> None:
    builder, y = network("layernorm", "transpose", perm=(2, 0, 1))
    assert outliers(builder.build(y))[y].axis == 0


def test_a_weight_of_two_layers_takes_no_exponents() -> None:
    builder, y = network("gemm")
    shared = builder.parameter("v", (8, 8))
    once = builder.op("gemm", y, shared)
    assert y in outliers(builder.build(once))
    assert y not in outliers(builder.build(once, builder.op("gemm", once, shared)))


def test_scaled_scores_and_a_scaling_that_cannot_be_free() -> None:
    builder, y = network("gemm")
    half = builder.op("mul", y, builder.parameter("half", (1,)), output="half_y")
    graph = builder.build(builder.op("concat", y, half, axis=1, output="both"))
    values, inputs = random_tensors(graph, 0)
    values["half"] = np.array([0.5], np.float32)
    found = calibrate(graph, values, [inputs])
    check_quantisation(graph, found, values)
    assert found.tensors["half_y"].scale == found.tensors[y].scale
    builder, y = network("gemm")
    alone = builder.build(builder.op("mul", y, builder.parameter("half", (1,)), output="half_y"))
    found = calibrate(alone, values, [inputs])
    assert found.tensors["half_y"].scale == found.tensors[y].scale / 2
    assert found.tensors["half"] == TensorScale(0.5 / 255, unsigned=True)


def test_one_outlier_in_a_hundred_does_not_set_the_range() -> None:
    builder, y = network("layernorm", width=64)
    graph = builder.build(y)
    values, inputs = random_tensors(graph, 0)
    inputs["x"].reshape(-1)[77] = 100
    samples = [random_tensors(graph, 1)[1], inputs, random_tensors(graph, 2)[1]]
    everything = np.concatenate([each["x"].reshape(-1) for each in samples])
    largest = np.abs(np.percentile(everything, (0.5, 99.5))).max()
    scale = calibrate(graph, values, samples, "percentile:99.5").tensors["x"].scale
    assert scale == pytest.approx(largest / 127, rel=0.1)


def test_least_squared_error_of_normal_numbers() -> None:
    """8 bits cover a normal distribution best up to 3.9 standard deviations (Max, IRE Trans. Inf. Theory 1960)."""
    draws = np.random.default_rng(0).normal(size=500_000)
    low, high = least_squares(histogram(draws), (float(draws.min()), float(draws.max())), Kind.SIGNED)
    assert 3.6 < max(-low, high) < 4.3


@given(st.lists(st.tuples(st.integers(0, 99), st.floats(1e-30, 1e30)), min_size=1, max_size=4))
def test_histograms_of_growing_ranges_add_up(parts: list[tuple[int, float]]) -> None:
    arrays = [np.random.default_rng(seed).normal(size=50) * scale for seed, scale in parts]
    total = functools.reduce(merged_histograms, map(histogram, arrays))
    at_once = histogram(np.concatenate(arrays))
    assert total.exponent == at_once.exponent and (total.counts == at_once.counts).all()
    assert total.counts.sum() == 50 * len(parts) and len(total.counts) == BINS


def test_percentile_100_is_minmax() -> None:
    builder, y = network("gemm", "gelu")
    graph = builder.build(y)
    narrow, full = (checked(graph, method) for method in ("percentile:100", "minmax"))
    assert {n: c.scale for n, c in narrow.items()} == pytest.approx({n: c.scale for n, c in full.items()}, rel=2e-3)


def test_a_model_of_zeros_gets_scale_one() -> None:
    builder, y = network("gemm", "layernorm")
    graph = builder.build(y)
    values, inputs = ({n: a * 0 for n, a in group.items()} for group in random_tensors(graph, 0))
    for method in METHODS:
        found = calibrate_model(graph, values, [inputs], method)
        assert {code.scale for code in found.quantisation.tensors.values()} == {1.0}
    assert found.warnings == (
        "calibrated on 1 sample; ranges of others may differ",
        "input 'x' is 0 throughout all samples",
    )


def test_infinite_results_are_ignored_and_named() -> None:
    builder = GraphBuilder("net")
    x = builder.input("x", (1, 4))
    graph = builder.build(builder.op("div", x, x, output="y"))
    samples = [{"x": np.array([[0, 1, 2, 4]], np.float32)}] * 2
    for method in METHODS:
        found = calibrate_model(graph, {}, samples, method)
        assert found.warnings == ("tensor 'y': 2 values were NaN or infinite and are ignored",)
        assert found.quantisation.tensors["y"].scale <= 1 / 255 * 1.01
