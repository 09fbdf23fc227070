"""Residual networks with timm's (and torchvision's) names: ``conv1``, ``layer1.0.conv1``, ``fc``.

Source: He et al., "Deep residual learning for image recognition", CVPR 2016; timm 1.0.31 ``resnet18``, ``resnet50``
(stride of a bottleneck on its 3x3 convolution).
"""

from __future__ import annotations

from accel.graph import Shape
from compiler.frontend.architectures.base import Blueprint, Convolution, ModelBuilder

EPSILON = 1e-5
STAGE_WIDTHS = (64, 128, 256, 512)
BOTTLENECK_EXPANSION = 4


def resnet(depths: tuple[int, ...], bottleneck: bool, name: str, shape: Shape) -> Blueprint:
    """A ResNet for ``shape`` [B,3,H,W] with ``depths`` blocks a stage; gives 1000 class scores."""
    builder = ModelBuilder(name)
    x = builder.input("input", shape)
    x = builder.conv_norm(x, "conv1", "bn1", Convolution(64, 7, stride=2), EPSILON, "relu")
    x = builder.op("maxpool", x, name="maxpool", kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1))
    for stage, (depth, width) in enumerate(zip(depths, STAGE_WIDTHS, strict=True), 1):
        for index in range(depth):
            stride = 2 if stage > 1 and index == 0 else 1
            x = _block(builder, x, f"layer{stage}.{index}", width, stride, bottleneck)
    x = builder.op("mean", x, name="global_pool", axes=(2, 3), keepdims=False)
    return builder.finish(builder.linear(x, "fc", 1000))


def _block(builder: ModelBuilder, x: str, name: str, width: int, stride: int, bottleneck: bool) -> str:
    layers = _bottleneck(width, stride) if bottleneck else _basic(width, stride)
    branch = x
    for index, layer in enumerate(layers, 1):
        activation = "relu" if index < len(layers) else None
        branch = builder.conv_norm(branch, f"{name}.conv{index}", f"{name}.bn{index}", layer, EPSILON, activation)
    channels = layers[-1].channels
    if stride > 1 or builder.shapes[x][1] != channels:
        shortcut = Convolution(channels, stride=stride)
        x = builder.conv_norm(x, f"{name}.downsample.0", f"{name}.downsample.1", shortcut, EPSILON)
    return builder.op("relu", builder.op("add", branch, x, name=f"{name}.add"), name=f"{name}.relu")


def _basic(width: int, stride: int) -> tuple[Convolution, ...]:
    return Convolution(width, 3, stride=stride), Convolution(width, 3)


def _bottleneck(width: int, stride: int) -> tuple[Convolution, ...]:
    return Convolution(width), Convolution(width, 3, stride=stride), Convolution(BOTTLENECK_EXPANSION * width)
