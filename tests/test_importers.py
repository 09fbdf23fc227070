"""Importers decode what other tools stored, exactly, and lose nothing but the rounding of codewords."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from foreign_files import VPTQ_CASES, VPTQ_INEXACT, VPTQLayer, aqlm_tensors, resnet_state, write_aqlm
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from accel.codecs import parse_codec
from accel.errors import AccelError, CodecError, ConfigError, ModelError
from accel.packed import read_packed, write_packed
from compiler.frontend.architectures import Blueprint, build_architecture
from compiler.frontend.architectures.base import Convolution, ModelBuilder
from compiler.frontend.weights import assign
from compiler.importers import FORMATS, Coding, ForeignLayer, read_foreign
from compiler.importers.assemble import Imported, Options, import_bare, import_onto_architecture
from compiler.importers.encode import encode, rounded
from compiler.importers.fields import unpack_fields
from compiler.importers.palette import palette_layer

ONE = np.ones(1, np.float32)


@pytest.mark.parametrize(
    "shape", [(1, 8, 1, 8), (2, 8, 1, 8), (1, 12, 1, 4), (2, 4, 4, 1), (3, 3, 1, 8)], ids=str
)  # fmt: skip
def test_aqlm_decodes_as_its_formula(shape: tuple[int, ...], tmp_path: Path) -> None:
    path, weights = write_aqlm(tmp_path, np.random.default_rng(0), *shape)
    row, checkpoint = read_foreign(path)
    layer = checkpoint.layers["m.q.weight"]
    assert row.name == "aqlm" and layer.coding is not None
    assert layer.coding.vector_axis == ("out" if shape[2] > 1 else "in")
    np.testing.assert_array_equal(layer.values(), weights)
    np.testing.assert_array_equal(checkpoint.tensors["m.q.bias"].shape, (24,))


def test_aqlm_as_training_leaves_it(tmp_path: Path) -> None:
    tensors = aqlm_tensors(np.random.default_rng(0), 2, 8, 1, 8)
    save_file({k.replace("m.q.", "m.q.quantized_weight."): v for k, v in tensors.items()}, tmp_path / "m.safetensors")
    assert list(read_foreign(tmp_path / "m.safetensors")[1].layers) == ["m.q.weight"]


def test_blocks_of_two_dimensions_need_leave(tmp_path: Path) -> None:
    path, weights = write_aqlm(tmp_path, np.random.default_rng(0), 1, 8, 2, 4)
    layer = read_foreign(path)[1].layers["m.q.weight"]
    np.testing.assert_array_equal(layer.values(), weights)
    with pytest.raises(CodecError, match=r"layer 'w' \(1x8 g4 o2\): codewords are blocks of 2x4 weights"):
        encode("w", layer, ONE, None)
    _, row = encode("w", layer, ONE, parse_codec("int8"))
    assert row.note.startswith("coded anew: codewords are blocks") and 0 < row.relative_error < 1e-3


@pytest.mark.parametrize("name", [*VPTQ_CASES, *VPTQ_INEXACT])
def test_vptq_decodes_as_its_formula(name: str, tmp_path: Path) -> None:
    exact = name in VPTQ_CASES
    stored = VPTQLayer(np.random.default_rng(1), {**VPTQ_CASES, **VPTQ_INEXACT}[name])
    row, checkpoint = read_foreign(stored.write(tmp_path))
    layer = checkpoint.layers["l.q.weight"]
    assert row.name == "vptq" and not checkpoint.tensors and (layer.coding is not None) == exact
    np.testing.assert_array_equal(layer.values(), stored.weights())
    if exact:
        encoded, report = encode("l.q.weight", layer, ONE, None)
        assert encoded.vector_axis == "out" and report.relative_error < 1e-3
    else:
        with pytest.raises(CodecError, match=r"layer 'l\.q\.weight'.*; refused, unless --inexact CODEC"):
            encode("l.q.weight", layer, ONE, None)


def test_vptq_settings_shared_by_name(tmp_path: Path) -> None:
    stored = VPTQLayer(np.random.default_rng(1), {})
    config = json.loads((stored.write(tmp_path) / "config.json").read_text())["quantization_config"]
    shared = {"shared_layer_config": {"q": config.pop("config_for_layers")["l.q"]}}
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": config | shared}))
    np.testing.assert_array_equal(read_foreign(tmp_path)[1].layers["l.q.weight"].values(), stored.weights())


@given(st.integers(1, 31), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_fields_of_any_width(bits: int, count: int, seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 1 << bits, (2, count))
    streams = [sum(int(v) << at * bits for at, v in enumerate(row)) for row in values]
    size = -(-bits * count // 32) * 4
    words = np.stack([np.frombuffer(stream.to_bytes(size, "little"), "<i4") for stream in streams])
    np.testing.assert_array_equal(unpack_fields(words, bits, count), values)


def tiny_resnet() -> Blueprint:
    """A stem, a 3x3, a 1x1 and a classifier, with ResNet's names."""
    b = ModelBuilder("tiny")
    x = b.conv_norm(b.input("input", (1, 3, 8, 8)), "conv1", "bn1", Convolution(8, 7, stride=2), 1e-5, "relu")
    x = b.conv_norm(x, "layer1.0.conv1", "layer1.0.bn1", Convolution(16, 3), 1e-5, "relu")
    x = b.conv_norm(x, "layer1.0.conv2", "layer1.0.bn2", Convolution(8), 1e-5)
    return b.finish(b.linear(b.op("mean", x, axes=(2, 3), keepdims=False), "fc", 12))


def imported_resnet(folder: Path, tool: str, **options: object) -> tuple[Imported, dict[str, np.ndarray]]:
    blueprint = tiny_resnet()
    state, weights = resnet_state(dict(blueprint.tensors), np.random.default_rng(2), tool)
    torch.save(state, folder / "r.pth")
    row, checkpoint = read_foreign(folder / "r.pth")
    assert row.name == tool
    return import_onto_architecture(checkpoint, blueprint, Options(**options), "r.pth", {}), weights


@pytest.mark.parametrize("tool", ["bgd", "pqf"])
def test_resnets_fold_as_the_architecture_folds(tool: str, tmp_path: Path) -> None:
    """Decoded layers are the tool's weights times the gains of normalisations, some of them negative."""
    result, weights = imported_resnet(tmp_path, tool)
    statistics = {
        n: np.full(s, float("var" in n), np.float32) for n, s in tiny_resnet().tensors.items() if "running" in n
    }
    folded = assign(tiny_resnet(), weights | statistics, "twin")
    assert [row.form for row in result.reports] == ["uncompressed", "k=16 d=9", "k=16 d=4", "k=16 d=4"]
    for name, layer in result.packed.layers.items():
        exact = folded[name].reshape(layer.shape)
        decoded = layer.codec.decode(layer) * layer.scale[:, None]
        assert (layer.scale < 0).any() == (name not in ("fc.weight", "conv1.weight"))
        assert np.abs(decoded - exact).max(axis=1).max() <= np.abs(layer.scale).max() * 0.5001
    for name, values in result.packed.parameters.items():
        np.testing.assert_array_equal(values, folded[name])
    write_packed(result.packed, tmp_path / "r.vq.safetensors")
    assert read_packed(tmp_path / "r.vq.safetensors").layers.keys() == result.packed.layers.keys()


def test_statistics_in_the_file_are_used(tmp_path: Path) -> None:
    """``quantize.py`` of BGD stores whole normalisations; only files without statistics have them folded in."""
    blueprint = tiny_resnet()
    state, _ = resnet_state(dict(blueprint.tensors), np.random.default_rng(2), "bgd")
    state["bn1"] |= {
        "running_mean": torch.ones(8),
        "running_var": torch.full((8,), 4.0),
        "num_batches_tracked": torch.tensor(1),
    }
    torch.save(state, tmp_path / "r.pth")
    plain = imported_resnet(tmp_path, "bgd")[0].packed.parameters["conv1.bias"]
    torch.save(state, tmp_path / "r.pth")
    whole = import_onto_architecture(read_foreign(tmp_path / "r.pth")[1], blueprint, Options(), "r", {})
    gain, bias = (np.float32(state["bn1"][part].numpy()) for part in ("weight", "bias"))
    np.testing.assert_allclose(whole.packed.parameters["conv1.bias"], bias - gain / np.sqrt(4 + 1e-5), rtol=1e-5)
    np.testing.assert_allclose(plain, bias, rtol=1e-5)


def test_missing_parameters_are_named_or_drawn(tmp_path: Path) -> None:
    blueprint = tiny_resnet()
    state, _ = resnet_state(dict(blueprint.tensors), np.random.default_rng(2), "pqf")
    del state["fc.bias"], state["fc.codebook"], state["fc.codes_matrix"]
    torch.save(state, tmp_path / "r.pth")
    checkpoint = read_foreign(tmp_path / "r.pth")[1]
    with pytest.raises(ModelError, match=r"needs tensors that are missing \(2\): fc\.weight, fc\.bias"):
        import_onto_architecture(checkpoint, blueprint, Options(), "r.pth", {})
    with pytest.raises(ConfigError, match="an architecture without weights; allowed: random"):
        import_onto_architecture(checkpoint, blueprint, Options(missing="model"), "r.pth", {})
    drawn = [
        import_onto_architecture(checkpoint, blueprint, Options(missing="random", seed=s), "r", {}) for s in (1, 1, 2)
    ]
    assert drawn[0].notes == (
        "2 parameters are not in the checkpoint, but drawn at random (seed 1): fc.weight, fc.bias",
    )
    codes = [each.packed.layers["fc.weight"].codes for each in drawn]
    assert np.array_equal(codes[0], codes[1]) and not np.array_equal(codes[0], codes[2])


def test_wrong_architecture_is_refused(tmp_path: Path) -> None:
    state, _ = resnet_state(dict(tiny_resnet().tensors), np.random.default_rng(2), "bgd")
    torch.save(state, tmp_path / "r.pth")
    with pytest.raises(ModelError, match=r"r: 'resnet18' needs tensors that are missing"):
        import_onto_architecture(
            read_foreign(tmp_path / "r.pth")[1], build_architecture("resnet18"), Options(), "r", {}
        )


def test_layers_alone_take_their_biases(tmp_path: Path) -> None:
    path, weights = write_aqlm(tmp_path, np.random.default_rng(0), 1, 8, 1, 8)
    packed = import_bare(read_foreign(path)[1], Options(), {}).packed
    assert dict(packed.graph.inputs) == {"m.q.weight:in": (1, 32)} and packed.parameters["m.q.weight:bias"].shape == (
        12 * 2,
    )
    layer = packed.layers["m.q.weight"]
    np.testing.assert_allclose(
        layer.codec.decode(layer) * layer.scale[:, None], weights, atol=np.abs(layer.scale).max()
    )


CODE_CASES = st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 5), st.sampled_from(["in", "out"]))


@given(CODE_CASES, st.integers(0, 2**32 - 1))
def test_rounding_is_half_a_step_a_codeword(case: tuple[int, int, int, str], seed: int) -> None:
    """Whatever k: codes stay, codebooks are filled up with zeros, sums stay within int8."""
    (stages, k, d, axis), rng = case, np.random.default_rng(seed)
    shape, grid = (6, 10), {"in": (6, -(-10 // d)), "out": (-(-6 // d), 10)}[axis]
    books = tuple(rng.normal(size=(k, d)).astype(np.float32) for _ in range(stages))
    coding = Coding(rng.integers(0, k, (stages, *grid)), books, axis, rng.normal(size=6).astype(np.float32))
    encoded = rounded(coding, shape, ONE)
    decoded = encoded.codec.decode(encoded) * encoded.scale[:, None]
    unit = np.abs(encoded.scale[:, None])
    assert (np.abs(decoded - coding.decode(shape)) <= unit * (0.5 * stages + 0.51)).all()
    codes = encoded.codes if stages > 1 else encoded.codes[..., None]
    np.testing.assert_array_equal(codes, np.moveaxis(coding.codes, 0, -1))


def test_integers_stay_as_they_are() -> None:
    words = np.array([[-127, 3], [5, 100]], np.float32)
    coding = Coding(np.array([[[0, 1, 1]]]), (words,), "out", np.full(1, 0.37, np.float32))
    encoded = rounded(coding, (2, 3), ONE)
    assert encoded.codebook is not None and np.array_equal(encoded.codebook, words)
    np.testing.assert_array_equal(encoded.codec.decode(encoded) * encoded.scale[:, None], coding.decode((2, 3)))


@pytest.mark.parametrize(("entries", "family"), [(16, "int4"), (256, "int8")])
def test_scalar_tables_of_all_integers_need_no_codebook(entries: int, family: str) -> None:
    limit = entries // 2
    words = np.arange(-limit, limit, dtype=np.float32)[:, None].clip(-limit + 1)
    coding = Coding(np.arange(entries).reshape(1, 4, -1), (words,), "out", np.full(1, 0.5, np.float32))
    encoded = rounded(coding, (4, entries // 4), ONE)
    assert str(encoded.codec) == family
    np.testing.assert_array_equal(encoded.codec.decode(encoded) * 0.5, coding.decode((4, entries // 4)))


def lut_formula(indices: np.ndarray, lut: np.ndarray, axis: int) -> np.ndarray:
    """``out[..., i*d + j, ...] = lut[block, indices[..., i, ...], j]``."""
    d, groups = lut.shape[-1], lut.shape[:-2]
    out = np.zeros([n * d if at == axis else n for at, n in enumerate(indices.shape)], np.float32)
    for place in np.ndindex(*indices.shape):
        block = tuple(i // (n // g) for i, n, g in zip(place, indices.shape, groups, strict=True))
        for j in range(d):
            at = list(place)
            at[axis] = place[axis] * d + j
            out[tuple(at)] = lut[(*block, indices[place], j)]
    return out


@pytest.mark.parametrize(
    ("shape", "groups", "d", "axis"),
    [((4, 6), (1, 1), 1, 0), ((4, 6), (2, 1), 2, 0), ((4, 6), (1, 3), 2, 0), ((4, 6), (2, 3), 2, 1),
     ((4, 2, 3, 3), (2, 1, 1, 1), 1, 0), ((4, 2, 1, 1), (1, 2, 1, 1), 4, 1), ((4, 2, 3, 3), (1, 1, 1, 1), 4, 1)],
)  # fmt: skip
def test_tables_decode_as_core_ml_documents(shape: tuple[int, ...], groups: tuple[int, ...], d: int, axis: int) -> None:
    rng = np.random.default_rng(3)
    indices, lut = rng.integers(0, 8, shape), rng.normal(size=(*groups, 8, d)).astype(np.float32)
    layer = palette_layer(indices, lut, axis, ONE)
    np.testing.assert_array_equal(layer.values(), lut_formula(indices, lut, axis).reshape(layer.matrix_shape))
    assert bool(layer.obstacle) == (shape[2:] == (3, 3) and axis == 1)


def test_tables_of_channels_keep_a_step_each() -> None:
    """Two tables of very different size lose no more than each would alone."""
    rng = np.random.default_rng(3)
    lut = rng.normal(size=(2, 1, 8, 2)).astype(np.float32) * np.array([1, 1e-4], np.float32)[:, None, None, None]
    layer = palette_layer(rng.integers(0, 8, (4, 6)), lut, 0, ONE)
    encoded, row = encode("w", layer, ONE, None)
    wrong = np.abs(encoded.codec.decode(encoded) * encoded.scale[:, None] - layer.values()).max(axis=1)
    assert (wrong <= np.abs(lut).reshape(2, -1).max(axis=1).repeat(4) / 127 * 0.501).all()
    assert str(encoded.codec) == "vq:k=16,d=2" and "2 tables in one codebook" in row.note


@pytest.mark.parametrize(
    ("codes", "books", "message"),
    [
        (np.full((1, 2, 2), 4), (np.zeros((4, 1)),), "code 4 is out of range; allowed: 0 to 3"),
        (np.full((1, 2, 2), -1), (np.zeros((4, 1)),), "code -1 is out of range"),
        (np.zeros((2, 2, 2), int), (np.zeros((4, 1)),), "for 1 codebooks"),
        (np.zeros((1, 2, 2), int), (np.full((4, 1), np.nan),), "NaN or infinite"),
    ],
)
def test_impossible_codings_are_refused(codes: np.ndarray, books: tuple[np.ndarray, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Coding(codes, tuple(book.astype(np.float32) for book in books), "out", ONE)


def test_layers_whose_parts_do_not_fit_are_refused() -> None:
    coding = Coding(np.zeros((1, 2, 2), np.int64), (np.zeros((4, 1), np.float32),), "out", ONE)
    with pytest.raises(ModelError, match=r"\[3, 2\] needs \[3, 2\]"):
        ForeignLayer("", (3, 2), coding)


def test_formats_are_told_apart(tmp_path: Path) -> None:
    path, _ = write_aqlm(tmp_path, np.random.default_rng(0), 1, 8, 1, 8)
    assert read_foreign(path)[0] is read_foreign(path, "aqlm")[0] is FORMATS["aqlm"]
    with pytest.raises(ModelError, match="does not look like vptq"):
        read_foreign(path, "vptq")
    with pytest.raises(ModelError, match=r"unknown format 'aqml'.*did you mean 'aqlm'"):
        read_foreign(path, "aqml")
    save_file({"w": np.zeros(2, np.float32)}, tmp_path / "other.safetensors")
    with pytest.raises(AccelError, match="is of no format we know; --format takes coreml-torch, coreml, aqlm"):
        read_foreign(tmp_path / "other.safetensors")
