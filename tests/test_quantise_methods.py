"""Choosing between ways to calibrate, and what none of them may clip."""

from __future__ import annotations

import numpy as np
import pytest
from test_quantise_floating import random_tensors

from accel.codecs import parse_codec
from accel.errors import ConfigError
from accel.graph import Graph, GraphBuilder
from accel.metrics import cosine
from accel.quantisation import dequantise
from compiler.compress import compress
from compiler.interpreter import interpret
from compiler.quantise import calibrate, candidate_methods, evaluate


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


def test_methods_are_named() -> None:
    assert candidate_methods("best") == ("minmax", "mse") and candidate_methods("percentile:99") == ("percentile:99",)
    with pytest.raises(ConfigError, match=r"calibration method 'median'; allowed: minmax, .* mse, best"):
        candidate_methods("median")
