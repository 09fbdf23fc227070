"""Swin transformer with timm's names: attention inside windows that shift by half a window in every other block.

Source: Liu et al., "Swin Transformer", ICCV 2021; timm 1.0.31 ``swin_tiny_patch4_window7_224``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from accel.errors import ModelError
from accel.graph import Shape
from compiler.frontend.architectures.base import Array, Blueprint, Convolution, ModelBuilder, Tensors

NORM_EPSILON = 1e-5
MASKED = -100.0  # added to the scores of pixels that only the cyclic shift made neighbours
IGNORED = ("*.relative_position_index", "*.attn_mask")


@dataclass(frozen=True, slots=True)
class Swin:
    """Size of a Swin transformer; the width doubles at every stage after the first."""

    width: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    heads: tuple[int, ...] = (3, 6, 12, 24)
    window: int = 7
    patch: int = 4
    mlp_ratio: int = 4
    classes: int = 1000


SWIN_TINY = Swin()


def swin(size: Swin, name: str, shape: Shape) -> Blueprint:
    """The network for ``shape`` [B,3,H,W] (H, W multiples of patch*window*8); gives class scores."""
    step = size.patch * size.window * 2 ** (len(size.depths) - 1)
    if shape[2] % step or shape[3] % step:
        raise ModelError(f"input {list(shape)}: height and width must be multiples of {step}")
    builder = ModelBuilder(name, ignored=IGNORED)
    x = _embed(builder, size, shape)
    for stage, (depth, heads) in enumerate(zip(size.depths, size.heads, strict=True)):
        if stage:
            x = _merge_patches(builder, x, f"layers.{stage}.downsample")
        for index in range(depth):
            x = _block(builder, x, f"layers.{stage}.blocks.{index}", size, heads, shifted=index % 2 == 1)
    x = builder.layernorm(x, "norm", NORM_EPSILON)
    x = builder.op("mean", x, name="global_pool", axes=(1, 2), keepdims=False)
    return builder.finish(builder.linear(x, "head.fc", size.classes))


def _embed(builder: ModelBuilder, size: Swin, shape: Shape) -> str:
    patch = Convolution(size.width, size.patch, stride=size.patch, padding=0)
    x = builder.conv(builder.input("input", shape), "patch_embed.proj", patch)
    return builder.layernorm(builder.transpose(x, 0, 2, 3, 1), "patch_embed.norm", NORM_EPSILON)


def _merge_patches(builder: ModelBuilder, x: str, name: str) -> str:
    """[B,H,W,C] to [B,H/2,W/2,2C]: the four pixels of a square side by side, normalised, mixed by a GEMM."""
    batch, height, width, channels = builder.shapes[x]
    squares = builder.reshape(x, batch, height // 2, 2, width // 2, 2, channels)
    corners = [builder.pick(builder.pick(squares, 4, column), 2, row) for column in (0, 1) for row in (0, 1)]
    joined = builder.op("concat", *corners, name=f"{name}.concat", axis=-1)
    return builder.linear(
        builder.layernorm(joined, f"{name}.norm", NORM_EPSILON), f"{name}.reduction", 2 * channels, bias=False
    )


def _block(builder: ModelBuilder, x: str, name: str, size: Swin, heads: int, shifted: bool) -> str:
    normed = builder.layernorm(x, f"{name}.norm1", NORM_EPSILON)
    attended = _windowed_attention(builder, normed, name, size.window, heads, shifted)
    x = builder.op("add", x, attended, name=f"{name}.add1")
    normed = builder.layernorm(x, f"{name}.norm2", NORM_EPSILON)
    width = builder.shapes[x][-1]
    mixed = builder.mlp(normed, f"{name}.mlp.fc1", f"{name}.mlp.fc2", size.mlp_ratio * width)
    return builder.op("add", x, mixed, name=f"{name}.add2")


def _windowed_attention(builder: ModelBuilder, x: str, name: str, window: int, heads: int, shifted: bool) -> str:
    batch, height, width, channels = builder.shapes[x]
    biases = [_position_bias(builder, f"{name}.attn", window, heads)]
    shift = window // 2 if shifted and min(height, width) > window else 0  # one window cannot shift
    if shift:
        mask = shift_mask(height, width, window, shift)
        biases.append(builder.constant(f"{name}.attn_mask", np.tile(mask, (batch, 1, 1, 1))))
        x = _roll(builder, x, -shift)
    rows, columns = height // window, width // window
    x = builder.transpose(builder.reshape(x, batch, rows, window, columns, window, channels), 0, 1, 3, 2, 4, 5)
    windows = builder.reshape(x, batch * rows * columns, window * window, channels)
    mixed = builder.fused_attention(windows, f"{name}.attn", heads, tuple(biases))
    mixed = builder.reshape(mixed, batch, rows, columns, window, window, channels)
    x = builder.reshape(builder.transpose(mixed, 0, 1, 3, 2, 4, 5), batch, height, width, channels)
    return _roll(builder, x, shift) if shift else x


def _roll(builder: ModelBuilder, x: str, shift: int) -> str:
    for axis in (1, 2):
        x = builder.op("roll", x, axis=axis, shift=shift)
    return x


def _position_bias(builder: ModelBuilder, name: str, window: int, heads: int) -> str:
    table = f"{name}.relative_position_bias_table"
    builder.tensors[table] = ((2 * window - 1) ** 2, heads)
    area = window * window
    rule = partial(expand_position_bias, table=table, window=window)
    return builder.derive(f"{name}.relative_position_bias", (heads, area, area), rule)


def expand_position_bias(tensors: Tensors, table: str, window: int) -> Array:
    """The table [(2w-1)^2, heads] looked up for every pair of pixels of a window: [heads, w*w, w*w]."""
    row, column = np.divmod(np.arange(window * window), window)
    index = (row[:, None] - row + window - 1) * (2 * window - 1) + column[:, None] - column + window - 1
    return np.ascontiguousarray(np.moveaxis(tensors[table][index], -1, 0))


def shift_mask(height: int, width: int, window: int, shift: int) -> Array:
    """[windows, 1, w*w, w*w]: 0 where two pixels of a shifted window are true neighbours, ``MASKED`` elsewhere."""
    regions = 3 * _bands(height, window, shift)[:, None] + _bands(width, window, shift)
    split = regions.reshape(height // window, window, width // window, window)
    tiles = split.transpose(0, 2, 1, 3).reshape(-1, window * window)
    return np.where(tiles[:, None, :, None] == tiles[:, None, None, :], 0.0, MASKED).astype(np.float32)


def _bands(size: int, window: int, shift: int) -> npt.NDArray[np.int64]:
    """Which of the three bands each coordinate of the rolled image belongs to."""
    place = np.arange(size)
    return (place >= size - window).astype(np.int64) + (place >= size - shift)
