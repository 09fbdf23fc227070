"""Loading models: checkpoints that fit and those that do not, random weights, and how MODEL is spelled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import save_file as save_torch_file
from upstream_models import invented_checkpoint

from accel.errors import ModelError
from compiler.frontend import from_torch, list_models, load_model
from compiler.frontend.architectures import ARCHITECTURES, Blueprint, build_architecture
from compiler.frontend.architectures.vit import ViT, deit
from compiler.frontend.weights import assign, load_weights, random_weights, read_safetensors, weights_digest


@pytest.fixture(scope="module")
def small() -> Blueprint:
    return deit(ViT(8, heads=2, depth=1, patch=2, classes=3), "small", (1, 3, 4, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_weights_load_from_every_float_type(small: Blueprint, tmp_path: Path, dtype: torch.dtype, prefix: str) -> None:
    stored = {k: torch.from_numpy(v).to(dtype) for k, v in invented_checkpoint(small.tensors).items()}
    save_torch_file({prefix + k: v for k, v in stored.items()}, tmp_path / "w.safetensors")
    loaded = load_weights(small, tmp_path / "w.safetensors")
    assert loaded.keys() == small.graph.parameters.keys()
    for name, value in stored.items():
        assert loaded[name].dtype == np.float32
        np.testing.assert_array_equal(loaded[name], value.float().numpy())


def changed(checkpoint: dict[str, np.ndarray], **changes: Any) -> dict[str, np.ndarray]:
    merged = {**checkpoint, **{name.replace("__", "."): value for name, value in changes.items()}}
    return {name: value for name, value in merged.items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm__weight": None, "norm__bias": None}, r"missing \(2\): norm.weight, norm.bias$"),
        ({"fc__weight": np.zeros(3, np.float32)}, r"unexpected tensors, not part of 'small' \(1\): fc.weight"),
        ({"head__weight": np.zeros((10, 8), np.float32)}, r"head.weight \[10, 8\] instead of \[3, 8\]"),
        ({"norm__weight": np.ones(8, np.int32)}, r"not floating point .*norm.weight \(int32\)"),
        ({"norm__bias": np.array([1, 2, 3, 4, np.nan, np.inf, 0, 0], np.float32)}, "'norm.bias' holds 2 NaN"),
        (dict.fromkeys([f"x{i}" for i in range(9)], np.zeros(1, np.float32)), r"\(9\): x0, x1, x2 and 6 more$"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_refused(
    small: Blueprint, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    save_file(changed(invented_checkpoint(small.tensors), **changes), tmp_path / "w.safetensors")
    with pytest.raises(ModelError, match=message):
        load_weights(small, tmp_path / "w.safetensors")


def test_weights_that_overflow_when_folded_are_refused() -> None:
    blueprint = build_architecture("resnet18")
    checkpoint = invented_checkpoint(blueprint.tensors)
    checkpoint["bn1.running_var"][3] = -1.0
    with pytest.raises(ModelError, match=r"'conv1.weight' after batch-normalisation folding holds 147 NaN"):
        assign(blueprint, checkpoint, "test")


def test_unreadable_weight_files_are_one_clear_error(small: Blueprint, tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    with pytest.raises(ModelError, match="No such file"):
        load_weights(small, path)
    path.write_bytes(b"\xff" * 100)
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        load_weights(small, path)
    header = json.dumps({"x": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + b"\0")
    with pytest.raises(ModelError, match="'x' has type F8_E4M3; readable: F16"):
        read_safetensors(path)


def test_random_weights_are_reproducible_and_scaled() -> None:
    blueprint = build_architecture("swin_tiny")
    first, again, other = (random_weights(blueprint.graph, seed, blueprint.constants) for seed in (1, 1, 2))
    assert weights_digest(first) == weights_digest(again) != weights_digest(other)
    assert {name: value.shape for name, value in first.items()} == dict(blueprint.graph.parameters)
    assert np.std(first["layers.3.blocks.0.mlp.fc1.weight"]) == pytest.approx(768**-0.5, rel=0.01)
    assert np.all(first["norm.weight"] == 1)
    assert np.all(first["head.fc.bias"] == 0)
    assert np.min(first["layers.0.blocks.1.attn_mask"]) == -100


def test_an_architecture_without_weights_says_so() -> None:
    model = load_model("mobilenet_v1", seed=3)
    assert (model.source["trained"], model.source["weights"]) == (False, "random")
    assert "no trained weights, seed 3" in model.source["description"]
    assert model.source["sha256"] == weights_digest(model.weights)


def test_an_architecture_with_weights(tmp_path: Path) -> None:
    blueprint = build_architecture("mobilenet_v1")
    file = tmp_path / "w.safetensors"
    save_file(invented_checkpoint(blueprint.tensors), file)
    model = load_model(f"mobilenetv1_100:{file}")
    assert model.source["weights"] == "from w.safetensors"
    assert "trained" not in model.source  # the file does not say
    assert model.graph == blueprint.graph
    assert model.source["sha256"] == weights_digest(load_weights(blueprint, file))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("deit_tyni", "unknown model 'deit_tyni'.*did you mean 'deit_tiny'"),
        ("zoo:minilmm", "unknown zoo model 'minilmm'.*did you mean 'minilm'"),
        ("nothing.onnx", "nothing.onnx: no such file"),
        ("resnet18:", "weight file is missing"),
        ("resnet18:nothing.safetensors", "No such file"),
    ],
)
def test_what_cannot_be_loaded_is_named(spec: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(spec)


def test_list_models_names_what_load_model_takes() -> None:
    rows = {row.spec: row for row in list_models()}
    assert ARCHITECTURES.keys() <= rows.keys()
    assert rows["zoo:minilm"].trained
    assert not rows["deit_tiny"].trained


def test_a_live_module_becomes_a_model() -> None:
    model = from_torch(torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU()).eval(), (torch.zeros(2, 4),))
    assert [op.kind for op in model.graph.ops] == ["gemm", "relu"]
    assert "trained" not in model.source
    assert model.source["weights"] == "from a live torch module"
