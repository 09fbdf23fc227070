"""Built-in architectures: the one table of names, builders and sizes that every consumer reads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from accel.errors import ModelError, listed, nearest
from accel.graph import Shape
from compiler.frontend.architectures.base import Blueprint
from compiler.frontend.architectures.bert import MINILM_L6, bert
from compiler.frontend.architectures.deeplab import deeplabv3_mobilenet
from compiler.frontend.architectures.efficientnet import LITE0
from compiler.frontend.architectures.mobilenet import V1, V2, mobilenet
from compiler.frontend.architectures.resnet import resnet
from compiler.frontend.architectures.swin import SWIN_TINY, swin
from compiler.frontend.architectures.vit import ViT, deit, dinov2

__all__ = ["ARCHITECTURES", "Architecture", "Blueprint", "build_architecture", "find_architecture", "is_architecture"]

Build = Callable[[str, Shape], Blueprint]
IMAGE_224 = (1, 3, 224, 224)


@dataclass(frozen=True, slots=True)
class Architecture:
    """One row: ``upstream`` is the name in the framework whose checkpoint keys we use; ``licence`` is that code's."""

    name: str
    build: Build
    input_name: str
    input_shape: Shape
    parameter_count: int
    description: str
    upstream: str
    licence: str


def _image(
    name: str, build: Build, parameter_count: int, description: str, upstream: str, licence: str = "Apache-2.0"
) -> Architecture:
    return Architecture(name, build, "input", IMAGE_224, parameter_count, description, upstream, licence)


_ROWS = (
    _image(
        "deit_tiny",
        partial(deit, ViT(192, heads=3)),
        5_717_416,
        "vision transformer, 12 blocks, width 192",
        "timm deit_tiny_patch16_224",
    ),
    _image(
        "deit_small",
        partial(deit, ViT(384, heads=6)),
        22_050_664,
        "vision transformer, 12 blocks, width 384",
        "timm deit_small_patch16_224",
    ),
    _image(
        "vit_s14",
        partial(dinov2, ViT(384, heads=6, patch=14, grid=37)),
        22_056_192,
        "ViT-S/14 in the DINOv2 layout, LayerScale, no head",
        "transformers dinov2-small",
    ),
    _image(
        "resnet18", partial(resnet, (2, 2, 2, 2), False), 11_689_512, "residual network, basic blocks", "timm resnet18"
    ),
    _image(
        "resnet50", partial(resnet, (3, 4, 6, 3), True), 25_557_032, "residual network, bottlenecks", "timm resnet50"
    ),
    _image("mobilenet_v1", partial(mobilenet, V1), 4_231_976, "depthwise-separable CNN", "timm mobilenetv1_100"),
    _image("mobilenet_v2", partial(mobilenet, V2), 3_504_872, "inverted-residual CNN", "timm mobilenetv2_100"),
    _image(
        "efficientnet_lite0",
        partial(mobilenet, LITE0),
        4_652_008,
        "inverted-residual CNN, SAME padding",
        "timm tf_efficientnet_lite0",
    ),
    _image(
        "swin_tiny",
        partial(swin, SWIN_TINY),
        28_288_354,
        "shifted-window transformer",
        "timm swin_tiny_patch4_window7_224",
    ),
    Architecture(
        "deeplabv3_mobilenet",
        partial(deeplabv3_mobilenet, 21),
        "input",
        (1, 3, 512, 512),
        11_025_477,
        "semantic segmentation, dilated MobileNetV3-Large",
        "torchvision deeplabv3_mobilenet_v3_large",
        "BSD-3-Clause",
    ),
    Architecture(
        "minilm",
        partial(bert, MINILM_L6),
        "input_ids",
        (1, 128),
        22_565_376,
        "BERT encoder, 6 layers, width 384, mean of tokens",
        "transformers all-MiniLM-L6-v2",
        "Apache-2.0",
    ),
)

ARCHITECTURES: Mapping[str, Architecture] = MappingProxyType({row.name: row for row in _ROWS})


def is_architecture(name: str) -> bool:
    """Whether some row is called ``name``, by us or upstream."""
    return any(name in (row.name, row.upstream.split()[1]) for row in _ROWS)


def find_architecture(name: str) -> Architecture:
    """The row called ``name``, ours or the upstream's (``deit_tiny_patch16_224``); raises ``ModelError``."""
    for row in _ROWS:
        if name in (row.name, row.upstream.split()[1]):
            return row
    raise ModelError(f"unknown architecture '{name}'; built in: {listed(ARCHITECTURES)}{nearest(name, ARCHITECTURES)}")


def build_architecture(name: str, input_shapes: Mapping[str, Shape] | None = None) -> Blueprint:
    """The blueprint of a built-in architecture, at ``input_shapes`` or the shape it is usually quoted for.

    Raises ``ModelError`` for an unknown name, an unknown input or a shape the architecture cannot take.
    """
    row = find_architecture(name)
    shape = row.input_shape
    for key, wanted in (input_shapes or {}).items():
        if key != row.input_name:
            raise ModelError(f"architecture '{row.name}' has no input '{key}'; it has: {row.input_name}")
        shape = tuple(wanted)
    _check_shape(row, shape)
    return row.build(row.name, shape)


def _check_shape(row: Architecture, shape: Shape) -> None:
    usual = row.input_shape
    if len(shape) != len(usual) or min(shape) < 1 or (len(usual) == 4 and shape[1] != usual[1]):
        raise ModelError(
            f"architecture '{row.name}': input '{row.input_name}' cannot have shape {list(shape)}; "
            f"usual: {list(usual)}, the first axis being the batch"
        )
