"""Training: coded weights compute what their export decodes to, gradients are the papers', runs resume bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from strategies import graphs
from test_quantise_floating import random_tensors
from torch import nn

from accel.codecs import EncodedLayer, parse_codec
from accel.codecs.base import from_vectors as array_from_vectors
from accel.codecs.base import to_vectors as array_to_vectors
from accel.codecs.masks import kept_weights
from accel.errors import AccelError, CodecError, ConfigError, FormatError, ModelError
from accel.graph import GraphBuilder
from accel.packed import read_packed, write_packed
from compiler.compress import compress
from compiler.frontend import LoadedModel, from_torch
from compiler.quantise.floating import evaluate
from compiler.quantise.fold import packed_values
from compiler.training import (
    LOSSES,
    Checkpointing,
    CsvLog,
    Freezing,
    GraphModule,
    TrainingData,
    TrainingOptions,
    WeightOptions,
    accuracy,
    coded_weights,
    compress_modules,
    encoded_layers,
    export_graph,
    export_module,
    find_loss,
    frozen_share,
    mean_loss,
    outputs_of,
    train,
)
from compiler.training.checkpoint import FILE_NAME
from compiler.training.signs import FrozenSigns
from compiler.training.vectors import from_vectors, to_vectors

CODECS = (
    *("int8", "int4", "vq:k=16,d=4", "ssvq:k=8,d=4", "mvq:k=8,d=4,nm=2:4", "lr2vq:k=16,m=4,r=2"),
    *("vq:k=8,d=5", "ssvq:k=4,d=3"),  # lengths that divide no layer here: padding on either axis
)
BUSY = Freezing(interval_steps=2, momentum=0.5, threshold=0.2, final_threshold=0.1)
relaxed = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))


class Net(nn.Module):
    """Pictures [B,1,6,6] to class scores [B,2]; a convolution with a norm, and two linear layers."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.fc, self.head = nn.Linear(72, 16), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.fc(torch.relu(self.norm(self.conv(x))).flatten(1))))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Layers this small are slower with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def exported(norm: bool = False) -> LoadedModel:
    """Its graph; tracing takes seconds."""
    return from_torch(net(norm), (torch.zeros(1, 1, 6, 6),))


def net(norm: bool = False, seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net(norm).eval()


def stripes(count: int = 64, seed: int = 0) -> TrainingData:
    """Horizontal and vertical stripes under noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    lines = np.where(np.arange(6) % 2, 1.0, -1.0)
    pictures = np.where(labels[:, None, None] == 0, lines[:, None], lines[None, :])[:, None]
    return TrainingData({"x": (pictures + random.normal(0, 1, pictures.shape)).astype(np.float32)}, labels)


def compressed(codec: str, options: WeightOptions | None = None, module: nn.Module | None = None, **more: str) -> Net:
    model = module or net()
    compress_modules(model, lambda name, shape: parse_codec(codec), options, **more)  # type: ignore[arg-type]
    return model  # type: ignore[return-value]


def trained(model: nn.Module, steps: int = 5, **options: object) -> nn.Module:
    chosen = {"epochs": 2, "batch": 16, "rate": 0.02, **options}
    train(model, stripes(), LOSSES["cross_entropy"], TrainingOptions(**chosen), stop_after=steps)  # type: ignore[arg-type]
    return model


def decoded(layer: EncodedLayer) -> np.ndarray:
    return layer.codec.decode(layer).astype(np.float32) * layer.scale[:, None]


def computes_what_it_stores(model: nn.Module) -> None:
    for name, layer in encoded_layers(model).items():
        weight = model.get_submodule(name.removesuffix(".weight")).weight.detach().numpy()
        np.testing.assert_array_equal(weight.reshape(layer.shape), decoded(layer), err_msg=name)


# --- weights ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", ["out", "in"])
@pytest.mark.parametrize("shape", [(8, 6), (7, 5), (1, 1)])
@pytest.mark.parametrize("length", [1, 4, 3])
def test_vectors_are_those_of_the_codecs(axis: str, shape: tuple[int, int], length: int) -> None:
    matrix = np.random.default_rng(0).integers(-127, 128, shape).astype(np.int8)
    found = to_vectors(torch.from_numpy(matrix.astype(np.float32)), length, axis)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.numpy(), array_to_vectors(matrix, length, axis))  # type: ignore[arg-type]
    back = from_vectors(found, shape, axis).numpy()  # type: ignore[arg-type]
    np.testing.assert_array_equal(back, array_from_vectors(found.numpy().astype(np.int8), shape, axis))  # type: ignore[arg-type]
    np.testing.assert_array_equal(back, matrix)


@pytest.mark.parametrize("scale", ["channel", "tensor"])
@pytest.mark.parametrize("axis", ["out", "in"])
@pytest.mark.parametrize("codec", CODECS)
def test_weights_start_as_compression_codes_them_and_stay_what_they_store(codec: str, axis: str, scale: str) -> None:
    plain = exported()
    wanted = compress(plain.graph, plain.weights, parse_codec(codec), [("*", parse_codec(codec))], scale, axis, seed=3)  # type: ignore[arg-type]
    model = net()
    names = compress_modules(
        model,
        lambda *_: parse_codec(codec),
        WeightOptions(freezing=BUSY),
        scale=scale,
        vector_axis=axis,
        seed=3,  # type: ignore[arg-type]
    )
    assert set(names) == set(wanted.packed.layers)
    for name, layer in encoded_layers(model).items():
        for part in ("codes", "side", "codebook", "scale"):
            found, expected = getattr(layer, part), getattr(wanted.packed.layers[name], part)
            np.testing.assert_array_equal(found, expected, err_msg=f"{name} {part}")
    computes_what_it_stores(model)
    before = encoded_layers(model)
    trained(model)
    computes_what_it_stores(model)
    after = encoded_layers(model)
    assert all((decoded(before[name]) != decoded(after[name])).any() for name in names)


def gradients(codec: str, **options: str) -> tuple[EncodedLayer, np.ndarray, dict[str, np.ndarray]]:
    """Layer, gradient of its integers' vectors [n,d], gradients of what is trained, for one random linear layer."""
    model = compressed(codec, WeightOptions(freezing=None, **options), nn.Sequential(nn.Linear(6, 8)))  # type: ignore[arg-type]
    (coded,) = coded_weights(model).values()
    layer = coded.encoded()
    towards = torch.from_numpy(np.random.default_rng(1).normal(size=(8, 6)).astype(np.float32))
    (coded() * towards).sum().backward()
    along = array_to_vectors(towards.numpy() * layer.scale[:, None], codec_length(layer), "out")
    return layer, along, {name: each.grad.numpy() for name, each in coded.named_parameters()}  # type: ignore[union-attr]


def codec_length(layer: EncodedLayer) -> int:
    return layer.codec.vector_length


def summed(layer: EncodedLayer, along: np.ndarray, mean: bool, kept: np.ndarray | None = None) -> np.ndarray:
    """Codeword by codeword, vector by vector."""
    total = np.zeros((layer.codec.codebook_entries, layer.codec.vector_length))
    members = np.zeros_like(total)
    for vector, code in enumerate(layer.codes.reshape(-1)):
        flags = np.ones(total.shape[1]) if kept is None else kept[vector]
        total[code] += along[vector] * flags
        members[code] += flags
    return total / np.maximum(members, 1) if mean else total


@pytest.mark.parametrize("variant", ["sum", "mean"])
def test_codewords_learn_by_the_sum_or_the_mean_of_their_vectors(variant: str) -> None:
    layer, along, found = gradients("vq:k=4,d=4", codebook_gradient=variant)
    unit = np.sqrt(np.square(layer.codebook.astype(float)).mean())  # type: ignore[union-attr]
    np.testing.assert_allclose(found["codebook.latent"], summed(layer, along, variant == "mean") * unit, rtol=1e-4)


@pytest.mark.parametrize("variant", ["sum", "mean"])
def test_pruned_weights_teach_a_codeword_nothing(variant: str) -> None:
    layer, along, found = gradients("mvq:k=4,d=4,nm=1:4", codebook_gradient=variant)
    kept = kept_weights(layer.side.reshape(-1, layer.side.shape[-1]), layer.codec.mask)  # type: ignore[union-attr,arg-type]
    unit = np.sqrt(np.square(layer.codebook.astype(float)).mean())  # type: ignore[union-attr]
    expected = summed(layer, along, variant == "mean", kept) * unit
    np.testing.assert_allclose(found["codebook.latent"], expected, rtol=1e-4, atol=1e-6)


def test_signs_learn_through_the_magnitude_of_their_codeword() -> None:
    layer, along, found = gradients("ssvq:k=4,d=4")
    magnitudes = layer.codebook[layer.codes.reshape(-1)].astype(float)  # type: ignore[index]
    signs = np.where(layer.side.reshape(-1, 4), -1, 1)  # type: ignore[union-attr]
    unit = np.sqrt(np.square(layer.codebook.astype(float)).mean())  # type: ignore[union-attr]
    np.testing.assert_allclose(found["latent_signs"], along * magnitudes, rtol=1e-4)
    np.testing.assert_allclose(found["codebook.latent"], summed(layer, along * signs, False) * unit, rtol=1e-4)


def test_both_factors_of_a_projected_codebook_learn() -> None:
    layer, along, found = gradients("lr2vq:k=4,m=4,r=2")
    assert layer.projection is not None and layer.codebook is not None
    codebook, matrix = layer.codebook.astype(float), layer.projection.matrix.astype(float)
    inside = np.abs(codebook @ matrix / 2.0**layer.projection.shift) < 127.5
    folded = summed(layer, along, False) * inside / 2.0**layer.projection.shift
    units = [np.sqrt(np.square(each).mean()) for each in (codebook, matrix)]
    np.testing.assert_allclose(found["codebook.latent"], folded @ matrix.T * units[0], rtol=1e-4)
    np.testing.assert_allclose(found["projection.latent"], codebook.T @ folded * units[1], rtol=1e-4)


def test_only_weights_that_have_a_codec_change_and_none_twice() -> None:
    model = net()
    names = compress_modules(model, lambda name, shape: parse_codec("int4") if shape == (16, 72) else None)
    assert names == ("fc.weight",) == tuple(encoded_layers(model))
    assert type(model.conv) is nn.Conv2d
    with pytest.raises(ModelError, match=r"'fc\.weight' is parametrised already"):
        compress_modules(model, lambda *_: parse_codec("int8"))


def test_weights_that_cannot_be_coded_leave_the_model_alone() -> None:
    model = net()
    with torch.no_grad():
        model.head.weight[0, 0] = torch.nan
    with pytest.raises(CodecError, match=r"weight 'head\.weight': 1 of 32 weights are NaN"):
        compressed("vq:k=4,d=4", None, model)
    assert not encoded_layers(model)


# --- signs -----------------------------------------------------------------------------------------------------------


def naive_freezing(history: list[list[int]], rules: Freezing) -> list[list[int]]:
    """The signs in force after each step, one weight at a time."""
    steps, columns = len(history) - 1, []
    for weight in range(len(history[0])):
        rate, votes, frozen, last, column = 0.0, 0, 0, history[0][weight], []
        for step in range(1, steps + 1):
            sign = history[step][weight]
            rate = rate * (1 - rules.momentum) + (rules.momentum if sign != last else 0)
            votes, last = votes + sign, sign
            if step % rules.interval(steps) == 0:
                if not frozen and rate > rules.threshold_at(step, steps):
                    frozen = last if votes == 0 else 1 if votes > 0 else -1
                votes = 0
            column.append(frozen or sign)
        columns.append(column)
    return [list(row) for row in zip(*columns, strict=True)]


@relaxed
@given(st.lists(st.lists(st.sampled_from((-1, 1)), min_size=6, max_size=6), min_size=3, max_size=25), st.integers(1, 6))
def test_freezing_is_what_the_paper_says_and_frozen_signs_never_move(history: list[list[int]], interval: int) -> None:
    rules = Freezing(interval_steps=interval, momentum=0.25, threshold=0.3, final_threshold=0.05)
    signs = torch.tensor(history, dtype=torch.int8)
    state, found, frozen = FrozenSigns(signs[0].float(), rules), [], torch.zeros(6, dtype=torch.int8)
    for step in range(1, len(history)):
        state.observe(signs[step], step, len(history) - 1)
        assert bool((state.sign == frozen)[frozen != 0].all())
        frozen = state.sign.clone()
        found.append(state.applied(signs[step]).tolist())
    assert found == naive_freezing(history, rules)


def test_frozen_signs_stay_in_training_whatever_the_gradient_says() -> None:
    model = compressed("ssvq:k=8,d=4", WeightOptions(freezing=BUSY))
    seen: dict[str, torch.Tensor] = {}

    class Watch:
        def add(self, row: object) -> None:
            for name, coded in coded_weights(model).items():
                held = coded.frozen.sign.clone()  # type: ignore[union-attr]
                before = seen.get(name, torch.zeros_like(held))
                assert bool((held == before)[before != 0].all())
                assert bool((coded.signs() == before)[before != 0].all())  # type: ignore[operator]
                seen[name] = held

    options = TrainingOptions(epochs=8, batch=16, rate=0.05)
    train(model, stripes(), LOSSES["cross_entropy"], options, open_logs=lambda _: [Watch()])
    assert 0 < frozen_share(model) < 1


def test_fixed_signs_never_move_and_without_freezing_none_is_frozen() -> None:
    for options, moved in ((WeightOptions(signs="fixed"), False), (WeightOptions(freezing=None), True)):
        model = compressed("ssvq:k=8,d=4", options)
        before = {name: layer.side for name, layer in encoded_layers(model).items()}
        trained(model, 8, rate=0.05)
        after = encoded_layers(model)
        assert any((before[name] != after[name].side).any() for name in before) == moved
        assert frozen_share(model) == 0


def test_schedules_end_where_they_should() -> None:
    assert Freezing().threshold_at(0, 100) == pytest.approx(0.1)
    assert Freezing().threshold_at(100, 100) == pytest.approx(0.01)
    assert [Freezing().interval(steps) for steps in (1, 300, 9_999, 50_000)] == [10, 15, 499, 500]
    rates = [TrainingOptions(warm_up=0.2).rate_share(step, 50) for step in range(50)]
    assert max(rates) == rates[10] == 1 and rates[:10] == sorted(rates[:10]) and rates[-1] < 0.01


# --- graphs ----------------------------------------------------------------------------------------------------------


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


# --- the loop --------------------------------------------------------------------------------------------------------


def shaken(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """An augmentation."""
    return tuple(each + torch.randn_like(each) for each in inputs)


def tuned(folder: Path | None, stop_after: int | None = None, resume: bool = False, **options: object) -> nn.Module:
    """A run of 12 steps, with augmentation and a checkpoint every 3."""
    model = compressed("ssvq:k=8,d=4", WeightOptions(freezing=BUSY), net(norm=True))
    checkpoints = folder and Checkpointing(folder, {"model": "net"}, every_steps=3, resume=resume)
    train(
        model,
        stripes(),
        LOSSES["cross_entropy"],
        TrainingOptions(**{"epochs": 3, "batch": 16, "rate": 0.02, "decay": 0.01, **options}),  # type: ignore[arg-type]
        augment=shaken,
        checkpoints=checkpoints or None,
        open_logs=lambda step: [CsvLog(folder / "log.csv", step)] if folder else [],
        stop_after=stop_after,
    )
    return model


def same(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][key], states[1][key]) for key in states[0]
    )


def test_a_run_repeats_itself_and_another_seed_is_another_run() -> None:
    torch.manual_seed(5)
    first = tuned(None)
    torch.manual_seed(6)
    assert same(first, tuned(None))
    assert not same(first, tuned(None, seed=1))
    assert not first.training


def test_training_leaves_the_random_numbers_of_others_alone() -> None:
    model = net()
    before = torch.get_rng_state()
    train(model, stripes(), LOSSES["cross_entropy"], TrainingOptions(batch=16), augment=shaken)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("killed_after", [3, 7, 11])
def test_a_killed_run_goes_on_to_the_same_result(killed_after: int, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    uninterrupted = tuned(whole)
    tuned(parts, stop_after=killed_after)
    with (parts / "log.csv").open("a") as file:
        file.write("12,0.3")  # cut off in the middle of a row
    assert same(uninterrupted, tuned(parts, resume=True))
    assert (whole / "log.csv").read_text() == (parts / "log.csv").read_text()
    assert (whole / FILE_NAME).read_bytes() == (parts / FILE_NAME).read_bytes()
    assert len((whole / "log.csv").read_text().splitlines()) == 1 + 12


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    tuned(tmp_path, stop_after=3)
    with pytest.raises(ConfigError, match=r"is of a run with rate = 0\.02; this one has 0\.01"):
        tuned(tmp_path, resume=True, rate=0.01)
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:-5])
    for resume in (True, False):
        with pytest.raises(FormatError, match=FILE_NAME):
            tuned(tmp_path, resume=resume)


def test_a_run_without_a_checkpoint_yet_starts_and_one_with_is_not_overwritten(tmp_path: Path) -> None:
    assert same(tuned(None), tuned(tmp_path, resume=True))
    with pytest.raises(ConfigError, match=r"holds a checkpoint of an earlier run \(step 12, epochs 3\)"):
        tuned(tmp_path)


def test_a_gradient_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    model = compressed("vq:k=8,d=4")
    calls = 0

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        good = LOSSES["cross_entropy"](outputs, labels)
        return good if calls < 5 else good + 0 * torch.sqrt(outputs.sum() * 0)  # finite, with a gradient of 0 * inf

    kept = {}

    class Keep:
        def add(self, row: object) -> None:
            kept.update({name: tensor.clone() for name, tensor in model.state_dict().items()})

    options = TrainingOptions(epochs=3, batch=16)
    with pytest.raises(ConfigError, match=r"step 5 of 12: the gradient of '.*' has NaN.*last good checkpoint is in"):
        checkpoints = Checkpointing(tmp_path, {}, every_steps=2)
        train(model, stripes(), loss, options, checkpoints=checkpoints, open_logs=lambda _: [Keep()])
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())
    assert (tmp_path / FILE_NAME).exists()


def test_a_loss_that_is_not_finite_is_named() -> None:
    with pytest.raises(ConfigError, match="step 1 of 4: the loss is nan, training stopped; try a lower"):
        train(net(), stripes(), lambda outputs, _: outputs.sum() * torch.nan, TrainingOptions(batch=16))


@pytest.mark.parametrize("loss", ["mse", "cosine", "kl"])
def test_distillation_brings_a_model_closer_to_the_float_one(loss: str) -> None:
    inputs = stripes(128).inputs
    data = TrainingData(inputs, outputs_of(net(), inputs))
    model = compressed("ssvq:k=4,d=8")
    assert mean_loss(net(), data, LOSSES[loss]) == pytest.approx(0, abs=1e-6)
    before = mean_loss(model, data, LOSSES[loss])
    train(model, data, LOSSES[loss], TrainingOptions(epochs=4, batch=16, rate=5e-3))
    assert mean_loss(model, data, LOSSES[loss]) < before / 2


MISTAKES = {
    "epochs": lambda: TrainingOptions(epochs=0),
    "rate": lambda: TrainingOptions(rate=float("nan")),
    "decay": lambda: TrainingOptions(decay=-1),
    "warm-up": lambda: TrainingOptions(warm_up=1),
    "clip": lambda: TrainingOptions(clip=0),
    "precision": lambda: TrainingOptions(precision="half"),  # type: ignore[arg-type]
    "alpha": lambda: WeightOptions(alpha=0),
    "codebook gradient": lambda: WeightOptions(codebook_gradient="max"),  # type: ignore[arg-type]
    "signs": lambda: WeightOptions(signs="none"),  # type: ignore[arg-type]
    "freezing every": lambda: Freezing(interval_steps=0),
    "momentum": lambda: Freezing(momentum=0),
    "falling": lambda: Freezing(threshold=0.1, final_threshold=0.2),
    "samples": lambda: replace(stripes(), targets=np.zeros(3)),
    "checkpoint every": lambda: Checkpointing(Path(), {}, every_steps=0),
    "without labels": lambda: find_loss("cross_entropy", False),
    "did you mean 'cosine'": lambda: find_loss("cosin", False),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_settings_that_make_no_sense_are_refused(what: str) -> None:
    with pytest.raises(AccelError, match=what):
        MISTAKES[what]()
