"""Choosing between ways to calibrate, what each of them minimises, and what none of them may clip."""

from __future__ import annotations

import numpy as np
import pytest
from test_quantise_floating import random_tensors

from accel.codecs import parse_codec
from accel.errors import ConfigError
from accel.graph import Graph, GraphBuilder
from accel.metrics import cosine
from accel.quantisation import dequantise, quantise
from compiler.compress import compress
from compiler.interpreter import interpret
from compiler.quantise import calibrate, candidate_methods, evaluate
from compiler.quantise.observe import histogram, statistics


def outlier_network() -> tuple[Graph, dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    """One input of two million far beyond the rest: a code that covers it is coarser than the mean error likes."""
    b = GraphBuilder("outliers")
    graph = b.build(b.op("gemm", b.input("x", (8192, 256)), b.parameter("w", (4, 256))))
    values, _ = random_tensors(graph, 0)
    sample = np.random.default_rng(1).normal(size=(8192, 256)).astype(np.float32)
    sample[0, 0] = 100.0
    return graph, values, [{"x": sample}]


def test_best_is_the_better_of_its_candidates_on_the_samples() -> None:
    graph, values, samples = outlier_network()

    def closeness(method: str) -> float:
        packed = compress(graph, values, parse_codec("int8"), calibration=samples, method=method).packed
        codes, name = packed.quantisation.tensors, graph.outputs[0]
        return float(np.mean([
            cosine(dequantise(interpret(packed, s)[name], codes[name]), evaluate(graph, values, s)[name])
            for s in samples
        ]))  # fmt: skip

    found = {method: closeness(method) for method in ("minmax", "mse", "best")}
    assert found["minmax"] != found["mse"]
    assert found["best"] == pytest.approx(max(found["minmax"], found["mse"]), abs=1e-4)


def test_arguments_of_a_softmax_are_not_clipped() -> None:
    b = GraphBuilder("softmax")
    q, k = b.input("q", (1, 32, 8)), b.input("k", (1, 32, 8))
    scores = b.op("matmul", q, k, transpose_b=True, output="scores")
    graph = b.build(b.op("softmax", scores, axis=-1))
    rng = np.random.default_rng(0)
    sample = {name: rng.normal(size=(1, 32, 8)).astype(np.float32) for name in ("q", "k")}
    sample["q"][0, 0] = sample["k"][0, 0] = 5.0  # one score of 200 among values of a few
    by_method = {method: calibrate(graph, {}, [sample], method, {}).tensors for method in ("minmax", "mse")}
    assert by_method["mse"]["scores"].scale == by_method["minmax"]["scores"].scale == pytest.approx(200 / 127)


def channels_with_tails() -> tuple[Graph, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A stream of sums: channels with tails that the least error clips, and one with a value far beyond all others."""
    b = GraphBuilder("tails")
    x = b.op("gemm", b.input("x", (4000, 16)), b.parameter("w", (16, 16)), output="sums")
    graph = b.build(b.op("layernorm", x, b.parameter("gamma", (16,)), b.parameter("beta", (16,)), epsilon=1e-5))
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4000, 16)) ** 3
    peaks = np.abs(rows).max(0)
    peaks[3] = np.inf
    rows[7, 3] = 0.998 * 2**6 * np.median(peaks)  # just within what an exponent of 6 makes the reach of its codes
    values = {"w": np.eye(16), "gamma": np.ones(16), "beta": np.zeros(16)}
    return graph, values, {"x": rows.astype(np.float32)}


def test_a_channels_errors_weigh_what_its_exponent_makes_of_them() -> None:
    """The least squared error is that of real values: at least as small as that of the whole range."""
    graph, values, sample = channels_with_tails()
    errors = {}
    for method in ("minmax", "mse"):
        code = calibrate(graph, values, [sample], method).tensors["sums"]
        assert code.exponents[3] == 6 and sorted(code.exponents)[-2] <= 2
        errors[method] = float(np.square(dequantise(quantise(sample["x"], code), code) - sample["x"]).sum())
    assert errors["mse"] <= 1.01 * errors["minmax"]


def test_histograms_count_values_once_or_by_the_square_of_their_unit() -> None:
    values, unit = np.array([[1.0, 8.0], [-1.0, np.nan]]), np.array([1.0, 4.0])
    plain, squared = (statistics(values, 1, unit, squares).histogram for squares in (False, True))
    repeated = histogram(np.array([1.0, -1.0] + [2.0] * 16))
    assert plain.counts.sum() == 3 and squared.exponent == repeated.exponent
    assert (squared.counts == repeated.counts).all() and (plain.counts[plain.counts > 0] == 1).all()


def test_percentiles_count_every_value_once() -> None:
    """However large its channel: a share of values is clipped, not of their squares."""
    graph, values, sample = channels_with_tails()
    code = calibrate(graph, values, [sample], "percentile:90").tensors["sums"]
    evened = np.abs(sample["x"] / 2.0 ** np.array(code.exponents))
    assert 0.1 < float(np.mean(evened > 127 * code.scale)) < 0.22  # both ends lose up to a tenth, the code is symmetric


def test_methods_are_named() -> None:
    assert candidate_methods("best") == ("minmax", "mse") and candidate_methods("percentile:99") == ("percentile:99",)
    with pytest.raises(ConfigError, match=r"calibration method 'median'; allowed: minmax, .* mse, best"):
        candidate_methods("median")
