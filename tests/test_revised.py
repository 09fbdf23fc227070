"""Changing a few weights of an evaluated model gives what evaluating the changed model would."""

from __future__ import annotations

import numpy as np
from test_budget import network

from accel.graph import GraphBuilder
from accel.packed import weight_parameters
from compiler.quantise import evaluate
from compiler.quantise.revised import recorded, revised


def test_revised_outputs_are_those_of_the_changed_model() -> None:
    graph, weights, (sample, *_) = network()
    tensors = recorded(graph, weights, sample)
    for name in weight_parameters(graph):
        values = {name: weights[name] * 1.5 + 1}
        expected = evaluate(graph, {**weights, **values}, sample)
        for output, array in revised(graph, tensors, values).items():
            np.testing.assert_array_equal(array, expected[output])


def test_the_table_of_a_tied_embedding_stays() -> None:
    """A packed model keeps it uncompressed: the error of the coded weight is that of the product alone."""
    builder = GraphBuilder("tied")
    table = builder.parameter("table", (5, 4))
    rows = builder.op("embedding", table, builder.input("ids", (1, 3)))
    graph = builder.build(builder.op("gemm", rows, table, output="y"))
    weight = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    ids = np.array([[0, 2, 4]])
    coded = np.rint(weight)
    found = revised(graph, recorded(graph, {"table": weight}, {"ids": ids}), {"table": coded})
    np.testing.assert_allclose(found["y"], weight[ids] @ coded.T, rtol=1e-6)
