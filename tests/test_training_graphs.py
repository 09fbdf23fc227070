"""Graphs as torch modules: they compute what the float twin does, and are packed as they were trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from strategies import graphs
from test_quantise_floating import random_tensors
from training_cases import BUSY, compressed, decoded, exported, net, one_thread, relaxed, stripes, trained

from accel.codecs import parse_codec
from accel.errors import ModelError
from accel.graph import GraphBuilder
from accel.packed import read_packed, write_packed
from compiler.quantise.floating import evaluate
from compiler.quantise.fold import packed_values
from compiler.training import (
    LOSSES,
    GraphModule,
    TrainingData,
    TrainingOptions,
    WeightOptions,
    accuracy,
    compress_modules,
    encoded_layers,
    export_graph,
    export_module,
    mean_loss,
    outputs_of,
    train,
)

__all__ = ["one_thread"]  # a fixture


@relaxed
@given(graphs(), st.integers(0, 99))
def test_any_graph_is_a_module_that_computes_what_the_float_twin_does(graph, seed: int) -> None:  # type: ignore[no-untyped-def]
    values, first = random_tensors(graph, seed)
    second = random_tensors(graph, seed + 1)[1]
    stacked = [torch.from_numpy(np.stack([first[name], second[name]])) for name in graph.inputs]
    with torch.no_grad():
        found = GraphModule(graph, values)(*stacked)
    found = found if isinstance(found, tuple) else (found,)
    for number, inputs in enumerate((first, second)):
        expected = evaluate(graph, values, inputs)
        for name, each in zip(graph.outputs, found, strict=True):
            right = expected[name]
            if np.isfinite(right).all() and np.abs(right).max() < 1e3:
                slack = 2e-3 * max(1.0, float(np.abs(right).max()))
                np.testing.assert_allclose(each[number].numpy(), right, rtol=2e-3, atol=slack)


def test_a_tuned_graph_is_packed_and_means_the_same(tmp_path: Path) -> None:
    loaded = exported(norm=True)
    model = GraphModule(loaded.graph, loaded.weights)
    compress_modules(model, lambda *_: parse_codec("ssvq:k=8,d=4"), WeightOptions(freezing=BUSY))
    assert set(encoded_layers(model)) == {"conv.weight", "fc.weight", "head.weight"}
    data = stripes()
    samples = TrainingData({"x": data.inputs["x"][:, None]}, data.targets)
    before = mean_loss(model, samples, LOSSES["cross_entropy"])
    train(model, samples, LOSSES["cross_entropy"], TrainingOptions(epochs=4, batch=16, rate=0.02))
    assert mean_loss(model, samples, LOSSES["cross_entropy"]) < before
    assert accuracy(model, samples) > 0.8
    (name,) = loaded.graph.inputs
    calibration = [{name: sample} for sample in samples.inputs["x"][:4]]
    result = export_graph(model, loaded.weights, {"weights": "tuned"}, calibration)
    write_packed(result.packed, tmp_path / "net.vq.safetensors")
    packed = read_packed(tmp_path / "net.vq.safetensors")
    assert packed.quantisation is not None and packed.quantisation.samples == 4
    expected = [evaluate(packed.graph, packed_values(packed), each)[packed.graph.outputs[0]] for each in calibration]
    np.testing.assert_allclose(outputs_of(model, {"x": samples.inputs["x"][:4]}), expected, rtol=1e-4, atol=1e-5)
    bias = next(name for name in packed.parameters if name == "fc.bias")
    assert (packed.parameters[bias] != loaded.weights[bias]).any()  # learned too


def test_tied_weights_stay_two_tensors() -> None:
    builder = GraphBuilder("tied")
    table = builder.parameter("table", (5, 4))
    rows = builder.op("embedding", table, builder.input("ids", (1, 3)))
    graph = builder.build(builder.op("gemm", rows, table, output="y"))
    values = {"table": np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)}
    model = GraphModule(graph, values)
    compress_modules(model, lambda *_: parse_codec("int4"))
    packed = export_graph(model, values).packed
    np.testing.assert_array_equal(packed.parameters["table"], values["table"])
    assert not np.array_equal(decoded(packed.layers["table"]), values["table"])


def test_a_live_module_is_packed_with_its_norm_in_the_scales() -> None:
    model = compressed("vq:k=8,d=4", None, net(norm=True))
    with torch.no_grad():
        model.norm.weight.uniform_(0.5, 2)
    trained(model)
    packed = export_module(model, (torch.zeros(1, 1, 6, 6),)).packed
    sample = stripes().inputs["x"][:1]
    expected = outputs_of(model, {"x": sample})
    (found,) = evaluate(packed.graph, packed_values(packed), {next(iter(packed.graph.inputs)): sample}).values()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        model.norm.weight[2] *= -1
    with pytest.raises(ModelError, match="a norm with a negative gain"):
        export_module(model, (torch.zeros(1, 1, 6, 6),))


def test_a_packed_model_needs_a_codec_for_every_weight() -> None:
    loaded = exported()
    model = GraphModule(loaded.graph, loaded.weights)
    compress_modules(model, lambda name, shape: None if name == "fc.weight" else parse_codec("int8"))
    with pytest.raises(ModelError, match=r"weights without a codec: fc\.weight"):
        export_graph(model, loaded.weights)
