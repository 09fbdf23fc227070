"""Compressed weights in training: they compute what their export decodes to, and their gradients are the papers'."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from training_cases import BUSY, compressed, computes_what_it_stores, decoded, exported, net, one_thread, trained

from accel.codecs import EncodedLayer, parse_codec
from accel.codecs.base import from_vectors as array_from_vectors
from accel.codecs.base import to_vectors as array_to_vectors
from accel.codecs.masks import kept_weights
from accel.errors import CodecError, ModelError
from compiler.compress import compress
from compiler.quantise.floating import evaluate
from compiler.training import (
    WeightOptions,
    coded_weights,
    compress_modules,
    encoded_layers,
    export_module,
)
from compiler.training.vectors import from_vectors, to_vectors

__all__ = ["one_thread"]  # a fixture

CODECS = (
    *("int8", "int4", "vq:k=16,d=4", "ssvq:k=8,d=4", "mvq:k=8,d=4,nm=2:4", "lr2vq:k=16,m=4,r=2"),
    *("vq:k=8,d=5", "ssvq:k=4,d=3"),  # lengths that divide no layer here: padding on either axis
)


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
    units = np.sqrt(np.square(codebook).mean(0)), np.sqrt(np.square(matrix).mean(1, keepdims=True))  # a dimension's own
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


@pytest.mark.parametrize("codec", CODECS)
def test_in_bfloat16_layers_compute_with_what_they_store_too(codec: str) -> None:
    model = trained(compressed(codec), precision="bfloat16")
    with torch.autocast("cpu", torch.bfloat16):
        computes_what_it_stores(model)


def test_what_would_change_the_model_beyond_its_weights_is_refused() -> None:
    with pytest.raises(ModelError, match=r"weight 'conv\.weight' is torch\.float16; allowed: torch\.float32"):
        compressed("int8", None, net().half())
    tied = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    tied[2].weight = tied[0].weight
    embedded = nn.Sequential(nn.Embedding(16, 8), nn.Linear(8, 16, bias=False))
    embedded[1].weight = embedded[0].weight
    for model, name in ((tied, "0.weight"), (embedded, "1.weight")):
        with pytest.raises(ModelError, match=f"weight '{name}' is that of another layer, too"):
            compressed("int8", None, model)
        assert not compress_modules(model, lambda *_: None)
    twice = nn.Linear(8, 8)  # a layer used twice is one layer
    assert compress_modules(nn.Sequential(twice, nn.ReLU(), twice), lambda *_: parse_codec("int8")) == ("0.weight",)
    mixed = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8).double())
    assert compress_modules(mixed, lambda name, _: parse_codec("int8") if name[0] == "0" else None) == ("0.weight",)


@pytest.mark.parametrize("own_widths", [False, True])
def test_attention_has_all_its_matrices_compressed_and_exports(own_widths: bool) -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            widths = {"kdim": 8, "vdim": 8} if own_widths else {}
            self.attention = nn.MultiheadAttention(16, 2, batch_first=True, **widths)
            self.narrow = nn.Linear(16, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.narrow(x) if own_widths else x
            return self.attention(x, y, y, need_weights=False)[0]

    torch.manual_seed(0)
    model, x = Attends().eval(), torch.randn(1, 3, 16)
    matrices = {name for name, each in model.named_parameters() if each.ndim > 1}
    compressed("vq:k=16,d=4", None, model)
    assert encoded_layers(model).keys() == matrices
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05  # as training moves them
        wanted = model(x)
    packed = export_module(model, (x,)).packed
    values = {name: decoded(layer) for name, layer in packed.layers.items()} | dict(packed.parameters)
    found = evaluate(packed.graph, values, {name: x.numpy() for name in packed.graph.inputs})
    np.testing.assert_allclose(found[packed.graph.outputs[0]], wanted.numpy(), rtol=1e-4, atol=1e-5)
