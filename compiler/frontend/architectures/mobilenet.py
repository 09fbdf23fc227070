"""MobileNet V1 and V2 with timm's names, and the two blocks that EfficientNet-Lite shares with them.

Sources: Howard et al., "MobileNets", 2017; Sandler et al., "MobileNetV2", CVPR 2018; timm 1.0.31
``mobilenetv1_100`` and ``mobilenetv2_100``.
"""

from __future__ import annotations

from dataclasses import dataclass

from accel.graph import Shape
from compiler.frontend.architectures.base import Blueprint, Convolution, ModelBuilder

EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Stage:
    """Equal blocks: ``stride`` holds for the first; ``expansion`` None means depthwise-separable blocks."""

    repeats: int
    channels: int
    stride: int = 1
    kernel: int = 3
    expansion: int | None = 6


@dataclass(frozen=True, slots=True)
class MobileNet:
    """A stack of stages. ``same``: TensorFlow's SAME padding; ``last_activation``: ReLU6 after separable blocks too."""

    stages: tuple[Stage, ...]
    head: int | None
    epsilon: float = EPSILON
    same: bool = False
    last_activation: bool = False


V1 = MobileNet(
    (
        Stage(1, 64, expansion=None),
        Stage(2, 128, 2, expansion=None),
        Stage(2, 256, 2, expansion=None),
        Stage(6, 512, 2, expansion=None),
        Stage(2, 1024, 2, expansion=None),
    ),
    head=None,
    last_activation=True,
)
V2 = MobileNet(
    (
        Stage(1, 16, expansion=None),
        Stage(2, 24, 2),
        Stage(3, 32, 2),
        Stage(4, 64, 2),
        Stage(3, 96),
        Stage(3, 160, 2),
        Stage(1, 320),
    ),
    head=1280,
)


def mobilenet(net: MobileNet, name: str, shape: Shape) -> Blueprint:
    """The network for ``shape`` [B,3,H,W]: 32-channel stem, stages, optional 1x1 head, 1000 class scores."""
    builder = ModelBuilder(name)
    stem = Convolution(32, 3, stride=2, same=net.same)
    x = builder.conv_norm(builder.input("input", shape), "conv_stem", "bn1", stem, net.epsilon, "relu6")
    for number, stage in enumerate(net.stages):
        for index in range(stage.repeats):
            block = _separable if stage.expansion is None else _inverted
            x = block(builder, x, f"blocks.{number}.{index}", net, stage, stage.stride if index == 0 else 1)
    if net.head is not None:
        x = builder.conv_norm(x, "conv_head", "bn2", Convolution(net.head), net.epsilon, "relu6")
    x = builder.op("mean", x, name="global_pool", axes=(2, 3), keepdims=False)
    return builder.finish(builder.linear(x, "classifier", 1000))


def _depthwise(builder: ModelBuilder, x: str, name: str, norm: str, net: MobileNet, stage: Stage, stride: int) -> str:
    channels = builder.shapes[x][1]
    shape = Convolution(channels, stage.kernel, stride=stride, groups=channels, same=net.same)
    return builder.conv_norm(x, f"{name}.conv_dw", f"{name}.{norm}", shape, net.epsilon, "relu6")


def _separable(builder: ModelBuilder, x: str, name: str, net: MobileNet, stage: Stage, stride: int) -> str:
    """Depthwise then pointwise; timm adds the input back where shapes allow, except when an activation ends it."""
    hidden = _depthwise(builder, x, name, "bn1", net, stage, stride)
    activation = "relu6" if net.last_activation else None
    pointwise = Convolution(stage.channels)
    out = builder.conv_norm(hidden, f"{name}.conv_pw", f"{name}.bn2", pointwise, net.epsilon, activation)
    return out if net.last_activation else _residual(builder, x, out, name)


def _inverted(builder: ModelBuilder, x: str, name: str, net: MobileNet, stage: Stage, stride: int) -> str:
    """Expand 1x1, depthwise, project 1x1 without activation, add the input where shapes allow."""
    wide = Convolution(builder.shapes[x][1] * (stage.expansion or 1))
    hidden = builder.conv_norm(x, f"{name}.conv_pw", f"{name}.bn1", wide, net.epsilon, "relu6")
    hidden = _depthwise(builder, hidden, name, "bn2", net, stage, stride)
    out = builder.conv_norm(hidden, f"{name}.conv_pwl", f"{name}.bn3", Convolution(stage.channels), net.epsilon)
    return _residual(builder, x, out, name)


def _residual(builder: ModelBuilder, x: str, out: str, name: str) -> str:
    same_shape = builder.shapes[x] == builder.shapes[out]
    return builder.op("add", out, x, name=f"{name}.add") if same_shape else out
