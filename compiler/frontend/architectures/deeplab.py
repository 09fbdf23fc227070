"""DeepLabV3 on a dilated MobileNetV3-Large, torchvision's names; inference only, so without the auxiliary head.

Sources: Chen et al., "Rethinking atrous convolution", 2017; Howard et al., "Searching for MobileNetV3", ICCV 2019
(Table 1); torchvision ``deeplabv3_mobilenet_v3_large``.
"""

from __future__ import annotations

from dataclasses import dataclass

from accel.graph import Shape
from compiler.frontend.architectures.base import Blueprint, Convolution, ModelBuilder

BACKBONE_EPSILON = 1e-3
HEAD_EPSILON = 1e-5
ATROUS_RATES = (12, 24, 36)
HEAD_CHANNELS = 256
LAST_CHANNELS = 960


@dataclass(frozen=True, slots=True)
class Bottleneck:
    """One row of MobileNetV3's Table 1."""

    kernel: int
    expanded: int
    channels: int
    squeeze: bool
    activation: str
    stride: int = 1
    dilation: int = 1


V3_LARGE = (
    Bottleneck(3, 16, 16, False, "relu"),
    Bottleneck(3, 64, 24, False, "relu", 2),
    Bottleneck(3, 72, 24, False, "relu"),
    Bottleneck(5, 72, 40, True, "relu", 2),
    Bottleneck(5, 120, 40, True, "relu"),
    Bottleneck(5, 120, 40, True, "relu"),
    Bottleneck(3, 240, 80, False, "hardswish", 2),
    Bottleneck(3, 200, 80, False, "hardswish"),
    Bottleneck(3, 184, 80, False, "hardswish"),
    Bottleneck(3, 184, 80, False, "hardswish"),
    Bottleneck(3, 480, 112, True, "hardswish"),
    Bottleneck(3, 672, 112, True, "hardswish"),
    # The last stage keeps its resolution: dilation 2 in place of stride 2.
    Bottleneck(5, 672, 160, True, "hardswish", dilation=2),
    Bottleneck(5, 960, 160, True, "hardswish", dilation=2),
    Bottleneck(5, 960, 160, True, "hardswish", dilation=2),
)


def deeplabv3_mobilenet(classes: int, name: str, shape: Shape) -> Blueprint:
    """Per-pixel class scores [B,classes,H,W] for ``shape`` [B,3,H,W]."""
    builder = ModelBuilder(name, ignored=("aux_classifier.*",))
    x = builder.input("input", shape)
    x = _layer(builder, x, "backbone.0", Convolution(16, 3, stride=2), "hardswish")
    for number, row in enumerate(V3_LARGE, 1):
        x = _bottleneck(builder, x, f"backbone.{number}.block", row)
    x = _layer(builder, x, f"backbone.{len(V3_LARGE) + 1}", Convolution(LAST_CHANNELS), "hardswish")
    x = _atrous_pyramid(builder, x, "classifier.0")
    x = builder.conv_norm(x, "classifier.1", "classifier.2", Convolution(HEAD_CHANNELS, 3), HEAD_EPSILON, "relu")
    scores = builder.conv(x, "classifier.4", Convolution(classes))
    return builder.finish(_resize(builder, scores, "upsample", shape[2:]))


def _layer(builder: ModelBuilder, x: str, name: str, shape: Convolution, activation: str | None) -> str:
    return builder.conv_norm(x, f"{name}.0", f"{name}.1", shape, BACKBONE_EPSILON, activation)


def _bottleneck(builder: ModelBuilder, x: str, name: str, row: Bottleneck) -> str:
    """Expand, depthwise, squeeze and excite, project; torchvision numbers only the parts that exist."""
    part, out = 0, x
    if row.expanded != builder.shapes[x][1]:
        out = _layer(builder, out, f"{name}.{part}", Convolution(row.expanded), row.activation)
        part += 1
    depthwise = Convolution(row.expanded, row.kernel, row.stride, row.dilation, groups=row.expanded)
    out = _layer(builder, out, f"{name}.{part}", depthwise, row.activation)
    if row.squeeze:
        part += 1
        out = _squeeze_excite(builder, out, f"{name}.{part}")
    out = _layer(builder, out, f"{name}.{part + 1}", Convolution(row.channels), None)
    same_shape = builder.shapes[out] == builder.shapes[x]
    return builder.op("add", out, x, name=f"{name}.add") if same_shape else out


def _squeeze_excite(builder: ModelBuilder, x: str, name: str) -> str:
    channels = builder.shapes[x][1]
    pooled = builder.op("mean", x, name=f"{name}.avgpool", axes=(2, 3), keepdims=True)
    hidden = builder.conv(pooled, f"{name}.fc1", Convolution(divisible_by_8(channels / 4)))
    hidden = builder.op("relu", hidden, name=f"{name}.relu")
    gate = builder.conv(hidden, f"{name}.fc2", Convolution(channels))
    gate = builder.op("hardsigmoid", gate, name=f"{name}.hardsigmoid")
    return builder.op("mul", x, gate, name=f"{name}.scale")


def divisible_by_8(channels: float) -> int:
    """MobileNet's rounding: to a multiple of 8, never losing more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def _atrous_pyramid(builder: ModelBuilder, x: str, name: str) -> str:
    """Atrous spatial pyramid pooling: 1x1, three dilated 3x3 and the image mean, joined and projected."""
    shapes = (Convolution(HEAD_CHANNELS), *(Convolution(HEAD_CHANNELS, 3, dilation=rate) for rate in ATROUS_RATES))
    branches = [
        builder.conv_norm(x, f"{name}.convs.{i}.0", f"{name}.convs.{i}.1", shape, HEAD_EPSILON, "relu")
        for i, shape in enumerate(shapes)
    ]
    branches.append(_image_pooling(builder, x, f"{name}.convs.{len(shapes)}"))
    joined = builder.op("concat", *branches, name=f"{name}.concat", axis=1)
    project = Convolution(HEAD_CHANNELS)
    return builder.conv_norm(joined, f"{name}.project.0", f"{name}.project.1", project, HEAD_EPSILON, "relu")


def _image_pooling(builder: ModelBuilder, x: str, name: str) -> str:
    pooled = builder.op("mean", x, name=f"{name}.0", axes=(2, 3), keepdims=True)
    pooled = builder.conv_norm(pooled, f"{name}.1", f"{name}.2", Convolution(HEAD_CHANNELS), HEAD_EPSILON, "relu")
    return _resize(builder, pooled, f"{name}.resize", builder.shapes[x][2:])


def _resize(builder: ModelBuilder, x: str, name: str, size: Shape) -> str:
    return builder.op("resize", x, name=name, size=tuple(size), mode="bilinear")
