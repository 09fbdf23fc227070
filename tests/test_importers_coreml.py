"""Files of the real coremltools: torch state_dicts and packages decode to the very weights the tool computes with."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from accel.errors import ModelError
from compiler.frontend import from_torch
from compiler.importers import read_foreign
from compiler.importers.assemble import Options, import_bare, import_onto_model
from compiler.importers.encode import encode

pytest.importorskip("coremltools")

CONFIGS = {
    "scalar": {"n_bits": 4},
    "vector": {"n_bits": 3, "cluster_dim": 4},
    "grouped": {"n_bits": 3, "granularity": "per_grouped_channel", "group_size": 16},
    "int8": {"n_bits": 4, "lut_dtype": "int8"},
    "channels": {"n_bits": 2, "enable_per_channel_scale": True},
}
# In a process of its own: coremltools patches torch, warns of its version and starts workers.
TOOL = """
import json, sys, torch
import coremltools as ct
from coremltools.optimize.torch.palettization import PostTrainingPalettizer, PostTrainingPalettizerConfig
sys.path.insert(0, sys.argv[1])
from coreml_network import Network
for name, config in json.loads(sys.argv[3]).items():
    torch.manual_seed(0)
    settings = PostTrainingPalettizerConfig.from_dict({"global_config": config})
    model = PostTrainingPalettizer(Network().eval(), settings).compress(num_kmeans_workers=1)
    torch.save(model.state_dict(), f"{sys.argv[2]}/{name}.pt")
    traced = torch.jit.trace(model, torch.zeros(1, 8, 6, 6))
    inputs = [ct.TensorType(name="x", shape=(1, 8, 6, 6))]
    target = ct.target.iOS18
    ct.convert(traced, inputs=inputs, minimum_deployment_target=target).save(f"{sys.argv[2]}/{name}.mlpackage")
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a state_dict and a package of every configuration."""
    folder = tmp_path_factory.mktemp("coreml")
    command = [sys.executable, "-c", TOOL, str(Path(__file__).parent), str(folder), json.dumps(CONFIGS)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, "TQDM_DISABLE": "1"})
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


def weights_of(files: Path, name: str) -> dict[str, np.ndarray]:
    """The dense weights that the palettised torch model computes with."""
    state = torch.load(files / f"{name}.pt", weights_only=True)
    return {k: v.numpy() for k, v in state.items() if k.endswith("weight") and "_COREML_" not in k}


@pytest.mark.parametrize("name", CONFIGS)
def test_state_dicts(name: str, files: Path) -> None:
    row, checkpoint = read_foreign(files / f"{name}.pt")
    assert row.name == "coreml-torch"
    exact = weights_of(files, name)
    assert checkpoint.layers.keys() == exact.keys()
    assert set(checkpoint.tensors) == {"conv.bias", "fc.bias", "head.bias"}
    for key, weight in exact.items():
        values = checkpoint.layers[key].values().reshape(weight.shape)
        np.testing.assert_array_less(np.abs(values - weight), np.spacing(np.abs(weight).max()) * 1.01)
        if name in ("scalar", "vector", "grouped"):  # no scale: the codewords themselves
            np.testing.assert_array_equal(values, weight)


@pytest.mark.parametrize("name", CONFIGS)
def test_packages(name: str, files: Path) -> None:
    """As the tool itself decodes: tables (and scales) in half precision."""
    from coremltools.converters.mil.mil.ops.defs.iOS18.compression import constexpr_lut_to_dense as tool

    row, checkpoint = read_foreign(files / f"{name}.mlpackage")
    assert row.name == "coreml"
    for (key, layer), weight in zip(checkpoint.layers.items(), weights_of(files, name).values(), strict=True):
        assert layer.coding is not None, key
        np.testing.assert_allclose(layer.values(), weight.reshape(layer.matrix_shape), atol=np.abs(weight).max() / 1000)
        if layer.shape[1:] == weight.shape[1:] and layer.coding.row_groups == 1 and layer.coding.scale.size == 1:
            d = layer.coding.vector_length
            words, scale = layer.coding.codebooks[0], layer.coding.scale
            rank = weight.ndim
            indices = layer.coding.codes[0].reshape(weight.shape[0] // d, *weight.shape[1:]).astype(np.uint8)
            dense = tool.decompress(indices, words.reshape(*(1,) * rank, *words.shape), 0 if d > 1 else None)
            np.testing.assert_array_equal(layer.values(), dense.reshape(layer.matrix_shape) * scale)


def test_an_8_bit_table_keeps_its_integers(files: Path) -> None:
    for suffix in ("pt", "mlpackage"):
        for name, layer in read_foreign(files / f"int8.{suffix}")[1].layers.items():
            encoded, row = encode(name, layer, np.ones(1, np.float32), None)
            assert row.relative_error < 1e-13, suffix
            assert encoded.codebook is not None and np.abs(encoded.codebook).max() == 127


def test_both_forms_land_on_the_same_graph(files: Path) -> None:
    """Names without dots, with what the exporter appends, find their parameters."""
    sys.path.insert(0, str(Path(__file__).parent))
    from coreml_network import Network

    torch.manual_seed(0)
    model = from_torch(Network().eval(), (torch.zeros(1, 8, 6, 6),))
    for name in CONFIGS:
        found = [
            import_onto_model(read_foreign(files / f"{name}.{suffix}")[1], model, Options(), "x", {}).packed
            for suffix in ("pt", "mlpackage")
        ]
        for key, layer in found[0].layers.items():
            decoded = [p.layers[key].codec.decode(p.layers[key]) * p.layers[key].scale[:, None] for p in found]
            np.testing.assert_allclose(*decoded, atol=np.abs(decoded[0]).max() / 50)
            assert layer.codec == found[1].layers[key].codec


def test_layers_without_a_graph_have_their_names_from_before_the_export_and_their_biases(files: Path) -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    from coreml_network import Network

    torch.manual_seed(0)
    model = Network().eval()
    _, checkpoint = read_foreign(files / "vector.mlpackage")
    found = import_bare(checkpoint, Options(), {})
    assert set(found.packed.layers) == {"conv_weight", "fc_weight", "head_weight"} and found.notes == ()
    for name, layer in (("conv", model.conv), ("fc", model.fc), ("head", model.head)):
        bias = found.packed.parameters[f"{name}_weight:bias"]
        np.testing.assert_allclose(bias, layer.bias.detach().numpy(), rtol=1e-3, atol=1e-4)


def test_weights_that_are_not_of_their_table(files: Path, tmp_path: Path) -> None:
    state = torch.load(files / "scalar.pt", weights_only=True)
    state["fc.weight"][3, 4] += 0.01
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(ModelError, match=r"layer 'fc\.weight': channel 3 is not made of its table's codewords: off by"):
        read_foreign(tmp_path / "w.pt")


def zipped(folder: Path, package: Path, change: dict[str, bytes | None] | None = None, root: str = "") -> Path:
    """The package as an archive, with some members replaced or left out."""
    path = folder / "m.mlpackage.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(package.rglob("*")):
            name = file.relative_to(package).as_posix()
            data = (change or {}).get(name, file.read_bytes() if file.is_file() else None)
            if data is not None:
                archive.writestr(root + name, data)
    return path


def test_zipped_packages(files: Path, tmp_path: Path) -> None:
    plain = read_foreign(files / "vector.mlpackage")[1]
    for root in ("", "vector.mlpackage/"):
        for name, layer in read_foreign(zipped(tmp_path, files / "vector.mlpackage", root=root))[1].layers.items():
            np.testing.assert_array_equal(layer.values(), plain.layers[name].values())


MODEL, WEIGHTS = "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin"


def manifest(path: str) -> bytes:
    return json.dumps({"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": path}}}).encode()


HOSTILE = {
    "no manifest": ({"Manifest.json": None}, "no Manifest.json"),
    "manifest is a list": ({"Manifest.json": b"[]"}, "not a readable Core ML package"),
    "manifest is torn": ({"Manifest.json": b"{"}, "not a readable Core ML package"),
    "deep manifest": ({"Manifest.json": b"[" * 100_000}, "not a readable Core ML package"),
    "model outside": ({"Manifest.json": manifest("../../../etc/passwd")}, "leads out of the package"),
    "absolute model": ({"Manifest.json": manifest("/etc/passwd")}, "leads out of the package"),
    "no model": ({MODEL: None}, "is missing"),
    "no weights": ({WEIGHTS: None}, "weight.bin' is missing"),
    "model of noise": ({MODEL: b"\xff" * 99}, "not a readable Core ML model"),
    "weights of noise": ({WEIGHTS: b"\xff" * 4096}, "begins with 0xffffffff"),
    "short weights": ({WEIGHTS: b"\0" * 80}, "a weight file of 80 bytes"),
    "bomb": ({WEIGHTS: bytes(110 << 20)}, "would unpack to 115343360 bytes; refused"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_packages(name: str, files: Path, tmp_path: Path) -> None:
    change, message = HOSTILE[name]
    with pytest.raises(ModelError, match=message) as caught:
        read_foreign(zipped(tmp_path, files / "vector.mlpackage", change))
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"@model_path/weights/weight.bin", b"@model_path/../../../../passwd", "leads out of the package"),
        (b"@model_path/weights/weight.bin", b"/tmp/precious/weights/file.bin", "expected @model_path/"),
        (b"constexpr_lut_to_dense", b"constexpr_lot_to_dense", "a weight made by 'constexpr_lot_to_dense'"),
    ],
)
def test_hostile_models(old: bytes, new: bytes, message: str, files: Path, tmp_path: Path) -> None:
    data = (files / "vector.mlpackage" / MODEL).read_bytes()
    assert old in data
    with pytest.raises(ModelError, match=message):
        read_foreign(zipped(tmp_path, files / "vector.mlpackage", {MODEL: data.replace(old, new)}))


def test_links_out_of_a_package_are_refused(files: Path, tmp_path: Path) -> None:
    shutil.copytree(files / "vector.mlpackage", tmp_path / "m.mlpackage")
    weights = tmp_path / "m.mlpackage" / WEIGHTS
    weights.rename(tmp_path / "outside.bin")
    weights.symlink_to(tmp_path / "outside.bin")
    with pytest.raises(ModelError, match="is a link that leads out of the package"):
        read_foreign(tmp_path / "m.mlpackage")


def test_damage_anywhere_is_one_error_or_none(files: Path, tmp_path: Path) -> None:
    """Models torn or with a byte changed never end in anything but a ``ModelError``."""
    logging.disable()
    data, rng = (files / "channels.mlpackage" / MODEL).read_bytes(), np.random.default_rng(0)
    shutil.copytree(files / "channels.mlpackage", tmp_path / "m.mlpackage")
    for at in rng.integers(0, len(data), 150):
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(8))
        for damaged in (bytes(changed), data[:at]):
            (tmp_path / "m.mlpackage" / MODEL).write_bytes(damaged)
            try:
                read_foreign(tmp_path / "m.mlpackage")
            except ModelError as error:
                assert "\n" not in str(error)
    logging.disable(logging.NOTSET)
