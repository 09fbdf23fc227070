"""Built-in architectures against tables, keys and outputs recorded from timm and torchvision, and against torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graph_reference import evaluate
from torch.nn import functional
from upstream_models import invented_checkpoint, invented_image, keys_digest

from accel.errors import ModelError
from accel.graph import Op, weight_name
from compiler.frontend.architectures import ARCHITECTURES, Blueprint, build_architecture, find_architecture
from compiler.frontend.architectures.base import Convolution, ModelBuilder
from compiler.frontend.architectures.bert import Bert, bert
from compiler.frontend.architectures.deeplab import divisible_by_8
from compiler.frontend.architectures.swin import Swin, swin
from compiler.frontend.architectures.vit import ViT, deit, dinov2, resize_position
from compiler.frontend.weights import assign

DATA = Path(__file__).parent / "data" / "shapes"
UPSTREAM = {name: row.upstream.split()[1] for name, row in ARCHITECTURES.items()}
TABLED = [name for name in ARCHITECTURES if (DATA / f"{UPSTREAM[name]}.json").exists()]
RECORDED: Mapping[str, Any] = json.loads((DATA / "upstream.json").read_text())


def run(blueprint: Blueprint, checkpoint: Mapping[str, np.ndarray], **inputs: np.ndarray) -> np.ndarray:
    (output,) = evaluate(blueprint.graph, assign(blueprint, checkpoint, "test"), inputs)
    return output


def described(blueprint: Blueprint, op: Op) -> dict[str, Any]:
    """The row of the reference table that describes one conv or gemm."""
    graph = blueprint.graph
    weight, given, made = (graph.shapes[name] for name in (weight_name(op), op.inputs[0], op.output))
    row = {
        "name": op.name,
        "op": op.kind,
        "weights": math.prod(weight),
        "macs": math.prod(made) * math.prod(weight[1:]),
    }
    if op.kind == "gemm":
        return {**row, "M": math.prod(made[:-1]), "K": weight[1], "N": weight[0]}
    a = op.attributes
    row |= {"cin": given[1], "cout": weight[0], "kh": weight[2], "kw": weight[3], "groups": a["groups"]}
    row |= {"stride": a["stride"][0], "pad": a["padding"][0], "dil": a["dilation"][0]}
    return {**row, "ih": given[2], "iw": given[3], "oh": made[2], "ow": made[3]}


@pytest.mark.parametrize("name", TABLED)
def test_every_conv_and_gemm_is_the_tables(name: str) -> None:
    blueprint = build_architecture(name)
    mine = [described(blueprint, op) for op in blueprint.graph.weight_ops()]
    table = json.loads((DATA / f"{UPSTREAM[name]}.json").read_text())
    for row, reference in zip(mine, table, strict=True):
        if name == "efficientnet_lite0" and row.get("stride") == 2:  # timm pads outside these convolutions
            row["pad"] = reference["pad"]
        assert row == reference


def test_no_table_is_left_unused() -> None:
    assert {path.stem for path in DATA.glob("*.json")} - {"upstream"} == {UPSTREAM[name] for name in TABLED}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_parameter_counts(name: str) -> None:
    assert build_architecture(name).parameter_count == ARCHITECTURES[name].parameter_count


@pytest.mark.parametrize("name", TABLED)
def test_keys_shapes_and_their_order_are_upstreams(name: str) -> None:
    assert keys_digest(build_architecture(name).tensors) == RECORDED[UPSTREAM[name]]["keys_sha256"]


@pytest.mark.parametrize("name", TABLED)
def test_outputs_are_upstreams(name: str) -> None:
    blueprint = build_architecture(name)
    image = invented_image(blueprint.graph.inputs["input"])
    output = run(blueprint, invented_checkpoint(blueprint.tensors), input=image).ravel()
    expected = np.array(RECORDED[UPSTREAM[name]]["outputs"], dtype=np.float32)
    np.testing.assert_allclose(output[:: len(output) // 16][:16], expected, atol=2e-4 * np.abs(output).max())


def test_deit_tiny_has_the_published_work() -> None:
    graph = build_architecture("deit_tiny").graph
    matmuls = [op for op in graph.ops if op.kind == "matmul"]
    products = sum(math.prod(graph.shapes[op.output]) * graph.shapes[op.inputs[0]][-1] for op in matmuls)
    rows = json.loads((DATA / f"{UPSTREAM['deit_tiny']}.json").read_text())
    assert products + sum(row["macs"] for row in rows) == 1_253_683_200
    assert sum(math.prod(graph.shapes[weight_name(op)]) for op in graph.weight_ops()) == 5_647_872


def test_vit_s14_is_one_convolution_and_72_gemms() -> None:
    kinds = [op.kind for op in build_architecture("vit_s14").graph.weight_ops()]
    assert kinds == ["conv"] + ["gemm"] * 72


@pytest.mark.parametrize("name", ["deit_tiny", "swin_tiny", "efficientnet_lite0"])
def test_a_batch_is_its_images_one_by_one(name: str) -> None:
    single, double = build_architecture(name), build_architecture(name, {"input": (2, 3, 224, 224)})
    checkpoint = invented_checkpoint(single.tensors)
    images = invented_image((2, 3, 224, 224))
    both = run(double, checkpoint, input=images)
    apart = [run(single, checkpoint, input=images[i : i + 1]) for i in range(2)]
    np.testing.assert_allclose(both, np.concatenate(apart), atol=1e-4 * np.abs(both).max())


# --- blocks against torch's own -----------------------------------------------------------------------------------


def encoder_layer(checkpoint: Mapping[str, np.ndarray], names: Mapping[str, str], **options: Any) -> torch.nn.Module:
    """torch's transformer layer filled from ``checkpoint``: its own parameter name -> the checkpoint's prefix."""
    layer = torch.nn.TransformerEncoderLayer(dropout=0.0, activation="gelu", batch_first=True, **options).eval()
    state = {}
    for own, prefix in names.items():
        for part in ("weight", "bias"):
            values = [torch.from_numpy(checkpoint[f"{one}.{part}"]) for one in prefix.split("+")]
            joiner = "_" if own == "self_attn.in_proj" else "."
            state[f"{own}{joiner}{part}"] = torch.cat(values)
    layer.load_state_dict(state)
    return layer


def test_deit_blocks_are_torchs_transformer_layers() -> None:
    size = ViT(16, heads=2, depth=2, patch=4, classes=5)
    blueprint = deit(size, "small", (1, 3, 8, 12))
    checkpoint = invented_checkpoint(blueprint.tensors)
    image = invented_image((1, 3, 8, 12))
    t = {name: torch.from_numpy(value) for name, value in checkpoint.items()}
    x = (
        functional.conv2d(torch.from_numpy(image), t["patch_embed.proj.weight"], t["patch_embed.proj.bias"], 4)
        .flatten(2)
        .mT
    )
    x = torch.cat([t["cls_token"], x], 1) + t["pos_embed"]
    for i in range(2):
        b = f"blocks.{i}"
        names = {"self_attn.in_proj": f"{b}.attn.qkv", "self_attn.out_proj": f"{b}.attn.proj"}
        names |= {"linear1": f"{b}.mlp.fc1", "linear2": f"{b}.mlp.fc2", "norm1": f"{b}.norm1", "norm2": f"{b}.norm2"}
        options = {"d_model": 16, "nhead": 2, "dim_feedforward": 64, "norm_first": True, "layer_norm_eps": 1e-6}
        with torch.no_grad():
            x = encoder_layer(checkpoint, names, **options)(x)
    x = functional.layer_norm(x, (16,), t["norm.weight"], t["norm.bias"], 1e-6)[:, 0]
    expected = functional.linear(x, t["head.weight"], t["head.bias"])
    np.testing.assert_allclose(run(blueprint, checkpoint, input=image), expected, atol=1e-5)


def test_bert_layers_are_torchs_transformer_layers() -> None:
    size = Bert(layers=2, width=16, heads=2, hidden=32, vocabulary=11, positions=9)
    blueprint = bert(size, "small", (2, 5))
    checkpoint = invented_checkpoint(blueprint.tensors)
    ids = np.array([[1, 2, 10, 0, 3], [4, 4, 5, 9, 8]])
    t = {name: torch.from_numpy(value) for name, value in checkpoint.items()}
    e = "embeddings"
    x = t[f"{e}.word_embeddings.weight"][ids] + t[f"{e}.position_embeddings.weight"][:5]
    x = x + t[f"{e}.token_type_embeddings.weight"][0]
    x = functional.layer_norm(x, (16,), t[f"{e}.LayerNorm.weight"], t[f"{e}.LayerNorm.bias"], 1e-12)
    for i in range(2):
        n = f"encoder.layer.{i}"
        names = {"self_attn.in_proj": "+".join(f"{n}.attention.self.{p}" for p in ("query", "key", "value"))}
        names |= {"self_attn.out_proj": f"{n}.attention.output.dense", "linear1": f"{n}.intermediate.dense"}
        names |= {"linear2": f"{n}.output.dense", "norm1": f"{n}.attention.output.LayerNorm"}
        names["norm2"] = f"{n}.output.LayerNorm"
        options = {"d_model": 16, "nhead": 2, "dim_feedforward": 32, "layer_norm_eps": 1e-12}
        with torch.no_grad():
            x = encoder_layer(checkpoint, names, **options)(x)
    np.testing.assert_allclose(run(blueprint, checkpoint, input_ids=ids), x.mean(1), atol=1e-5)


def test_layerscale_of_zero_leaves_the_embeddings() -> None:
    size = ViT(8, heads=2, depth=1, patch=2, grid=3)
    blueprint = dinov2(size, "small", (1, 3, 4, 8))
    checkpoint = invented_checkpoint(blueprint.tensors)
    for gain in ("layer_scale1.lambda1", "layer_scale2.lambda1"):
        checkpoint[f"encoder.layer.0.{gain}"] = np.zeros(8, dtype=np.float32)
    image = invented_image((1, 3, 4, 8))
    t = {name: torch.from_numpy(value) for name, value in checkpoint.items()}
    prefix = "embeddings.patch_embeddings.projection"
    x = functional.conv2d(torch.from_numpy(image), t[f"{prefix}.weight"], t[f"{prefix}.bias"], 2).flatten(2).mT
    position = resize_position(checkpoint, "embeddings.position_embeddings", 3, (2, 4))
    x = torch.cat([t["embeddings.cls_token"], x], 1) + torch.from_numpy(position)
    expected = functional.layer_norm(x, (8,), t["layernorm.weight"], t["layernorm.bias"], 1e-6)
    np.testing.assert_allclose(run(blueprint, checkpoint, input=image), expected, atol=1e-5)


def test_position_embeddings_are_resized_like_torch() -> None:
    table = invented_image((1, 1 + 37 * 37, 6))
    mine = resize_position({"p": table}, "p", 37, (16, 20))
    grid = torch.from_numpy(table[:, 1:].reshape(1, 37, 37, 6)).double().permute(0, 3, 1, 2)
    expected = functional.interpolate(grid, size=(16, 20), mode="bicubic", align_corners=False).permute(0, 2, 3, 1)
    np.testing.assert_allclose(mine[:, 1:].reshape(expected.shape), expected, atol=2e-6)
    np.testing.assert_array_equal(mine[:, :1], table[:, :1])


def swin_attention_twin(x: np.ndarray, t: Mapping[str, np.ndarray], name: str, heads: int, shift: int) -> np.ndarray:
    """Pixel by pixel: who shares a (shifted) window without wrapping around the image. ``x`` is [H,W,C]."""
    height, width, channels = x.shape
    window, depth = 4, channels // heads
    pixels = [(row, column) for row in range(height) for column in range(width)]
    qkv = x.reshape(-1, channels) @ t[f"{name}.qkv.weight"].T + t[f"{name}.qkv.bias"]
    query, key, value = np.split(qkv.reshape(len(pixels), 3 * heads, depth), 3, axis=1)
    mixed = np.zeros((len(pixels), heads, depth), dtype=np.float32)
    for i, (r, c) in enumerate(pixels):
        near = [
            j
            for j, (s, d) in enumerate(pixels)
            if ((r - shift) % height // window, (c - shift) % width // window)
            == ((s - shift) % height // window, (d - shift) % width // window)
            and max(abs(r - s), abs(c - d)) < window
        ]
        offsets = [(r - pixels[j][0] + 3) * 7 + c - pixels[j][1] + 3 for j in near]
        scores = np.einsum("hd,jhd->jh", query[i], key[near]) * depth**-0.5
        weights = np.exp(scores + t[f"{name}.relative_position_bias_table"][offsets])
        mixed[i] = np.einsum("jh,jhd->hd", weights / weights.sum(0), value[near])
    return (mixed.reshape(-1, channels) @ t[f"{name}.proj.weight"].T + t[f"{name}.proj.bias"]).reshape(x.shape)


def test_swin_windows_are_pixels_that_share_a_window() -> None:
    size = Swin(width=8, depths=(2,), heads=(2,), window=4, patch=2, classes=3)
    blueprint = swin(size, "small", (1, 3, 16, 16))
    checkpoint = invented_checkpoint(blueprint.tensors)
    image = invented_image((1, 3, 16, 16))
    t = {name: torch.from_numpy(value) for name, value in checkpoint.items()}

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return functional.layer_norm(x, x.shape[-1:], t[f"{name}.weight"], t[f"{name}.bias"], 1e-5)

    x = functional.conv2d(torch.from_numpy(image), t["patch_embed.proj.weight"], t["patch_embed.proj.bias"], 2)
    x = norm(x[0].permute(1, 2, 0), "patch_embed.norm")
    for index, shift in enumerate((0, 2)):
        b = f"layers.0.blocks.{index}"
        attended = swin_attention_twin(norm(x, f"{b}.norm1").numpy(), checkpoint, f"{b}.attn", 2, shift)
        x = x + torch.from_numpy(attended)
        hidden = functional.gelu(
            functional.linear(norm(x, f"{b}.norm2"), t[f"{b}.mlp.fc1.weight"], t[f"{b}.mlp.fc1.bias"])
        )
        x = x + functional.linear(hidden, t[f"{b}.mlp.fc2.weight"], t[f"{b}.mlp.fc2.bias"])
    expected = functional.linear(norm(x, "norm").mean((0, 1)), t["head.fc.weight"], t["head.fc.bias"])
    np.testing.assert_allclose(run(blueprint, checkpoint, input=image)[0], expected, atol=1e-5)


def test_batch_normalisation_is_folded() -> None:
    builder = ModelBuilder("one")
    shape = Convolution(6, 3, groups=2)
    builder.conv_norm(builder.input("input", (1, 4, 5, 5)), "conv", "bn", shape, 1e-3, "relu")
    blueprint = builder.finish(builder.ops[-1].output)
    checkpoint = invented_checkpoint(blueprint.tensors)
    image = invented_image((1, 4, 5, 5))
    t = {name: torch.from_numpy(value) for name, value in checkpoint.items()}
    x = functional.conv2d(torch.from_numpy(image), t["conv.weight"], None, 1, 1, 1, 2)
    norm = (t["bn.running_mean"], t["bn.running_var"], t["bn.weight"], t["bn.bias"])
    expected = functional.relu(functional.batch_norm(x, *norm, eps=1e-3))
    np.testing.assert_allclose(run(blueprint, checkpoint, input=image), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [(224, 3, 2, (0, 1)), (56, 5, 2, (1, 2)), (7, 3, 2, (1, 1)), (9, 5, 1, (2, 2))],
)
def test_same_padding_is_tensorflows(size: int, kernel: int, stride: int, padding: tuple[int, int]) -> None:
    top, left, bottom, right = Convolution(1, kernel, stride=stride, same=True).attributes(size, size)["padding"]
    assert (top, bottom) == (left, right) == padding
    assert (size + sum(padding) - kernel) // stride + 1 == math.ceil(size / stride)


@pytest.mark.parametrize(("channels", "rounded"), [(18, 24), (30, 32), (4, 8), (168, 168), (11, 16)])
def test_channels_are_rounded_to_eight(channels: float, rounded: int) -> None:
    assert divisible_by_8(channels) == rounded


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        ("deit_tiny", {"input": (1, 3, 225, 224)}),
        ("deit_tiny", {"image": (1, 3, 224, 224)}),
        ("deit_tiny", {"input": (1, 1, 224, 224)}),
        ("swin_tiny", {"input": (1, 3, 256, 256)}),
        ("minilm", {"input_ids": (1, 513)}),
        ("minilm", {"input_ids": (128,)}),
    ],
)
def test_impossible_inputs_are_refused(name: str, shapes: dict[str, tuple[int, ...]]) -> None:
    with pytest.raises(ModelError):
        build_architecture(name, shapes)


def test_upstream_names_are_known_too() -> None:
    assert find_architecture("deit_tiny_patch16_224") is ARCHITECTURES["deit_tiny"]
