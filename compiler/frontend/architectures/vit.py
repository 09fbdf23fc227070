"""Vision transformers: DeiT (timm names) and ViT-S/14 in the DINOv2 layout (Hugging Face names).

Sources: Touvron et al., "Training data-efficient image transformers", ICML 2021 (timm 1.0.31 ``deit_*``); Oquab et
al., "DINOv2", 2023 (transformers ``Dinov2Model``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from accel.errors import ModelError
from accel.graph import Shape
from compiler.frontend.architectures.base import Array, Blueprint, Convolution, ModelBuilder, Tensors
from compiler.frontend.interpolation import axis_matrix

NORM_EPSILON = 1e-6


@dataclass(frozen=True, slots=True)
class ViT:
    """Size of a vision transformer; ``grid`` is the patch grid its position embedding was trained on."""

    width: int
    heads: int
    depth: int = 12
    patch: int = 16
    mlp_ratio: int = 4
    classes: int = 1000
    grid: int = 14


def deit(size: ViT, name: str, shape: Shape) -> Blueprint:
    """timm's ``deit_*_patch16_224``: fused qkv, class token, linear head on the class token."""
    builder = ModelBuilder(name)
    cls = builder.weight("cls_token", (1, 1, size.width))
    position = builder.weight("pos_embed", (1, _patches(size, shape) + 1, size.width))
    patches = _embed_patches(builder, "patch_embed.proj", size, shape)
    x = builder.op("add", _prepend(builder, cls, patches), position, name="pos_embed.add")
    for index in range(size.depth):
        x = _deit_block(builder, x, f"blocks.{index}", size)
    x = builder.layernorm(x, "norm", NORM_EPSILON)
    return builder.finish(builder.linear(builder.pick(x, 1, 0), "head", size.classes))


def _deit_block(builder: ModelBuilder, x: str, name: str, size: ViT) -> str:
    normed = builder.layernorm(x, f"{name}.norm1", NORM_EPSILON)
    attended = builder.fused_attention(normed, f"{name}.attn", size.heads)
    x = builder.op("add", x, attended, name=f"{name}.add1")
    normed = builder.layernorm(x, f"{name}.norm2", NORM_EPSILON)
    mixed = builder.mlp(normed, f"{name}.mlp.fc1", f"{name}.mlp.fc2", size.mlp_ratio * size.width)
    return builder.op("add", x, mixed, name=f"{name}.add2")


def dinov2(size: ViT, name: str, shape: Shape) -> Blueprint:
    """transformers' ``Dinov2Model``: separate q, k, v, LayerScale after each branch; gives the final norm's tokens."""
    builder = ModelBuilder(name, ignored=("embeddings.mask_token",))
    cls = builder.weight("embeddings.cls_token", (1, 1, size.width))
    position = _resized_position(builder, "embeddings.position_embeddings", size, shape)
    patches = _embed_patches(builder, "embeddings.patch_embeddings.projection", size, shape)
    x = builder.op("add", _prepend(builder, cls, patches), position, name="embeddings.position_embeddings.add")
    for index in range(size.depth):
        x = _dinov2_layer(builder, x, f"encoder.layer.{index}", size)
    return builder.finish(builder.layernorm(x, "layernorm", NORM_EPSILON))


def _dinov2_layer(builder: ModelBuilder, x: str, name: str, size: ViT) -> str:
    normed = builder.layernorm(x, f"{name}.norm1", NORM_EPSILON)
    query, key, value = (
        builder.split_heads(builder.linear(normed, f"{name}.attention.attention.{part}", size.width), size.heads)
        for part in ("query", "key", "value")
    )
    mixed = builder.attend(query, key, value, f"{name}.attention")
    attended = builder.linear(mixed, f"{name}.attention.output.dense", size.width)
    x = _add_scaled(builder, x, attended, f"{name}.layer_scale1")
    normed = builder.layernorm(x, f"{name}.norm2", NORM_EPSILON)
    widened = builder.mlp(normed, f"{name}.mlp.fc1", f"{name}.mlp.fc2", size.mlp_ratio * size.width)
    return _add_scaled(builder, x, widened, f"{name}.layer_scale2")


def _add_scaled(builder: ModelBuilder, x: str, branch: str, name: str) -> str:
    gain = builder.weight(f"{name}.lambda1", builder.shapes[x][-1:])
    return builder.op("add", x, builder.op("mul", branch, gain, name=name), name=f"{name}.add")


def _patches(size: ViT, shape: Shape) -> int:
    height, width = shape[2:]
    if height % size.patch or width % size.patch:
        raise ModelError(f"input {list(shape)}: height and width must be multiples of the patch size {size.patch}")
    return (height // size.patch) * (width // size.patch)


def _embed_patches(builder: ModelBuilder, name: str, size: ViT, shape: Shape) -> str:
    image = builder.input("input", shape)
    patch = Convolution(size.width, size.patch, stride=size.patch, padding=0)
    return builder.tokens(builder.conv(image, name, patch))


def _prepend(builder: ModelBuilder, cls: str, patches: str) -> str:
    batch, _, width = builder.shapes[patches]
    if batch > 1:
        cls = builder.op("expand", cls, name="cls_token.expand", shape=(batch, 1, width))
    return builder.op("concat", cls, patches, name="cls_token.concat", axis=1)


def _resized_position(builder: ModelBuilder, name: str, size: ViT, shape: Shape) -> str:
    count = _patches(size, shape) + 1
    builder.tensors[name] = (1, size.grid**2 + 1, size.width)
    target = shape[2] // size.patch, shape[3] // size.patch
    rule = partial(resize_position, name=name, grid=size.grid, target=target)
    return builder.derive(name, (1, count, size.width), rule)


def resize_position(tensors: Tensors, name: str, grid: int, target: tuple[int, int]) -> Array:
    """Position embedding [1, 1+grid*grid, D] bicubically resampled to ``target`` (rows, columns); class token kept."""
    table = tensors[name]
    image = table[0, 1:].reshape(grid, grid, -1)
    rows, columns = (axis_matrix(grid, size, "cubic") for size in target)
    patches = np.einsum("yi,xj,ijd->yxd", rows, columns, image, optimize=True).reshape(1, target[0] * target[1], -1)
    return np.concatenate([table[:, :1], patches.astype(np.float32)], axis=1)
