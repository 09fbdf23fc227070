"""What quality is measured on: pictures and texts with labels, others for calibration, as arrays a model takes.

Calibration never sees what is scored: its photographs and texts come from other sources. Pictures need ``pillow``,
texts need ``tokenizers`` (``pip install 'accel-codesign[quality]'``). Everything is downloaded once, on first use.
"""

from __future__ import annotations

import importlib
import io
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import ConfigError, ModelError
from compiler.frontend.datasets import fetch_dataset
from compiler.frontend.fashion_mnist import fashion_mnist

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
TokenIds = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Pictures float32 [N,C,H,W], as the model takes them, and the class of each, int64 [N]."""

    pictures: FloatArray
    labels: IntArray


@dataclass(frozen=True, slots=True)
class Normalisation:
    """What a model expects of pixels between 0 and 255: (pixel - mean) / deviation, for red, green and blue."""

    mean: tuple[float, float, float]
    deviation: tuple[float, float, float]


EFFICIENTNET_LITE = Normalisation((127.0,) * 3, (128.0,) * 3)  # as it was trained: tensorflow/tpu, efficientnet/lite
TORCHVISION = Normalisation((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # 255 times its usual figures

# --- pictures --------------------------------------------------------------------------------------------------------

SIDE = 224
RESIZED_SIDE = 256  # before the centre is cut out
VIEW_SIDES = (1.0, 0.75, 0.5, 0.875)  # of a calibration photograph's shorter side, one view after the other
CORNER_SHARE = 0.6  # of a picture's side
SMALLEST_AREA, LARGEST_ASPECT = 0.1, 4 / 3  # of a random view


def imagenet_images(normalisation: Normalisation) -> Labelled:
    """Twenty ImageNet pictures [20,3,224,224]: resized to 256x256 bicubically, centre cut out. Source: foolbox.

    Raises ``ModelError`` when they or ``pillow`` cannot be had.
    """
    border = (RESIZED_SIDE - SIDE) // 2
    centre = (border, border, border + SIDE, border + SIDE)
    pictures, labels = zip(*_imagenet_pictures(), strict=True)
    return Labelled(np.stack([_planes(each.crop(centre), normalisation) for each in pictures]), np.array(labels))


def _imagenet_pictures() -> Iterator[tuple[Any, int]]:
    """Each of the twenty, as a pillow picture of 256x256, with its class."""
    for name, data in _in_foolbox("imagenet"):
        picture = _picture(data).resize((RESIZED_SIDE, RESIZED_SIDE), _bicubic())
        yield picture, int(Path(name).stem.rpartition("_")[2])  # imagenet_NN_LABEL.jpg


def _in_foolbox(start: str) -> Iterator[tuple[str, bytes]]:
    """Files of foolbox's data whose names begin like this, in the order of their names."""
    (wheel,) = fetch_dataset("foolbox", tell).values()
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(name for name in archive.namelist() if name.startswith(f"foolbox/data/{start}")):
            yield name, archive.read(name)


def calibration_images(count: int, normalisation: Normalisation) -> FloatArray:
    """``count`` views [count,3,224,224] of five photographs that are in no scored set, every other one mirrored.

    View n+1 does not depend on ``count``. Photographs of scikit-image, rather than CIFAR pictures enlarged: twenty
    views reach at least 0.79 (EfficientNet-Lite0) and 0.89 (ViT-S/14) of the scored pictures' range on 95 % of all
    activations, twenty CIFAR-10 pictures 0.6 and 0.83.
    """
    if count < 1:
        raise ConfigError(f"{count} calibration images; at least 1 is needed")
    photos = _photographs("photos")
    random = np.random.default_rng(0)
    views = [_view(photos[index % len(photos)], index // len(photos), random) for index in range(count)]
    return np.stack([_planes(view, normalisation) for view in views])


def _photographs(name: str) -> list[Any]:
    """Pictures of a data set, in the order of their names."""
    return [_picture(path.read_bytes()) for _, path in sorted(fetch_dataset(name, tell).items())]


def _view(photo: Any, number: int, random: np.random.Generator) -> Any:
    """A square out of a photograph, somewhere in it; its size and mirroring follow from the view's ``number``."""
    side = int(min(photo.size) * VIEW_SIDES[number % len(VIEW_SIDES)])
    left, top = (int(random.integers(0, length - side + 1)) for length in photo.size)
    view = photo.crop((left, top, left + side, top + side)).resize((SIDE, SIDE), _bicubic())
    return _mirrored(view) if number % 2 else view


def imagenet_views(side: int, normalisation: Normalisation) -> FloatArray:
    """Five views of each of the twenty ImageNet pictures, float32 [20,5,3,side,side]: all of it, and its corners."""
    size, part = RESIZED_SIDE, round(CORNER_SHARE * RESIZED_SIDE)
    corners = [(x, y, x + part, y + part) for y in (0, size - part) for x in (0, size - part)]
    boxes = [(0, 0, size, size), *corners]
    pictures = [[_resized(picture, side, box) for box in boxes] for picture, _ in _imagenet_pictures()]
    return np.stack([[_planes(view, normalisation) for view in views] for views in pictures])


def distillation_views(count: int, side: int, normalisation: Normalisation) -> FloatArray:
    """``count`` random views [count,3,side,side] of ``distillation_pictures``, of each kind in turn.

    Resized crops and mirroring, as features are learned from few pictures (Asano and Saeed, "The augmented image
    dataset", ICLR 2023). View n+1 does not depend on ``count``.
    """
    kinds, random = distillation_pictures(), np.random.default_rng(0)
    views = []
    for index in range(count):
        turn, kind = divmod(index, len(kinds))
        views.append(_random_view(kinds[kind][turn % len(kinds[kind])], side, random))
    return np.stack([_planes(view, normalisation) for view in views])


def distillation_pictures() -> tuple[list[Any], list[Any]]:
    """Pillow pictures without labels, none of them ImageNet's: 14 photographs of scikit-image; and 40 of CIFAR, small
    but of more things."""
    cifar = [_picture(data) for _, data in _in_foolbox("cifar10")]  # 20, and the 20 of cifar100
    return _photographs("pictures"), cifar


def _random_view(photo: Any, side: int, random: np.random.Generator) -> Any:
    """A rectangle of random area, shape and place, made square; every other one mirrored, on average."""
    area = random.uniform(SMALLEST_AREA, 1) * photo.width * photo.height
    shape = np.exp(random.uniform(-1, 1) * np.log(LARGEST_ASPECT))
    width, height = min(photo.width, (area * shape) ** 0.5), min(photo.height, (area / shape) ** 0.5)
    left, top = random.uniform(0, photo.width - width), random.uniform(0, photo.height - height)
    view = _resized(photo, side, (left, top, left + width, top + height))
    return _mirrored(view) if random.random() < 0.5 else view


def _resized(picture: Any, side: int, box: tuple[float, float, float, float]) -> Any:
    return picture.resize((side, side), _bicubic(), box)


def _mirrored(picture: Any) -> Any:
    return picture.transpose(_optional("PIL.Image").Transpose.FLIP_LEFT_RIGHT)


def _picture(data: bytes) -> Any:
    return _optional("PIL.Image").open(io.BytesIO(data)).convert("RGB")


def _bicubic() -> Any:
    return _optional("PIL.Image").Resampling.BICUBIC


def _planes(picture: Any, normalisation: Normalisation) -> FloatArray:
    """A pillow picture as float32 [3,H,W]."""
    pixels = (np.asarray(picture, np.float32) - np.float32(normalisation.mean)) / np.float32(normalisation.deviation)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


# --- Fashion-MNIST ---------------------------------------------------------------------------------------------------


def fashion_images(split: str) -> Labelled:
    """Fashion-MNIST, float32 [N,1,28,28] of mean 0 and deviation 1; ``split``: train (60000) or test (10000).

    Raises ``ConfigError`` for another split, ``ModelError`` when the files cannot be had.
    """
    return Labelled(*fashion_mnist(split, tell))


# --- texts -----------------------------------------------------------------------------------------------------------

TOKEN_LIMIT = 256  # of the sentence encoder, by its authors


def lee_sentences(limit: int = TOKEN_LIMIT) -> tuple[TokenIds, ...]:
    """Token ids [T] of 50 news texts, T at most ``limit`` with both marks. Source: Lee et al., CogSci 2005."""
    return tokenised(_lines("lee.cor"), limit)


def calibration_sentences(count: int, limit: int = TOKEN_LIMIT) -> tuple[TokenIds, ...]:
    """Token ids of the first ``count`` of 300 other news texts. Raises ``ConfigError`` if there are fewer."""
    texts = _lines("lee_background.cor")
    if not 1 <= count <= len(texts):
        raise ConfigError(f"{count} calibration texts; there are 1 to {len(texts)}")
    return tokenised(texts[:count], limit)


def all_calibration_tokens() -> tuple[TokenIds, ...]:
    """Token ids of all 300 other news texts, none cut off."""
    return tokenised(_lines("lee_background.cor"), None)


WordPair = tuple[str, str, float]
WORD_FILES = {"simlex999": "simlex999.txt", "wordsim353": "wordsim353.tsv"}


def word_pairs(name: str) -> tuple[WordPair, ...]:
    """Two words and how alike people found them, for each pair of SimLex-999 (Hill et al., 2015) or WordSim-353
    (Finkelstein et al., 2002)."""
    rows = [line.split("\t") for line in _lines(WORD_FILES[name]) if not line.startswith("#")]
    return tuple((one, other, float(human)) for one, other, human in rows)


def word_correlation(vectors: Mapping[str, npt.NDArray[Any]], pairs: Sequence[WordPair]) -> float:
    """Spearman's rank correlation of the cosines between words with what people said, over ``pairs``."""
    unit = {word: vector / np.linalg.norm(vector) for word, vector in vectors.items()}
    found = [float(unit[one] @ unit[other]) for one, other, _ in pairs]
    return float(_optional("scipy.stats").spearmanr(found, [human for *_, human in pairs]).statistic)


def human_similarities() -> npt.NDArray[np.float64]:
    """How alike people found each pair of ``lee_sentences``, 0 to 1: symmetric [50,50], ones on the diagonal."""
    rows = np.array([line.split() for line in _lines("similarities0-1.txt")], np.float64)
    return np.triu(rows) + np.triu(rows, 1).T


def lee_correlation(vectors: npt.NDArray[np.floating[Any]]) -> float:
    """Pearson correlation of the cosines between 50 vectors [50,D] with ``human_similarities``, over 1225 pairs."""
    human = human_similarities()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    pairs = np.triu_indices(len(human), 1)
    return float(np.corrcoef((unit @ unit.T)[pairs], human[pairs])[0, 1])


def _lines(name: str) -> list[str]:
    text = fetch_dataset("lee", tell)[name].read_text("latin-1")
    return [line.strip() for line in text.split("\n") if line.strip()]


def tokenised(texts: Sequence[str], limit: int | None = TOKEN_LIMIT) -> tuple[TokenIds, ...]:
    """Ids of each text, without padding, cut off at ``limit`` (None: never) so that the end mark stays."""
    (path,) = fetch_dataset("minilm_tokenizer", tell).values()
    tokenizer = _optional("tokenizers").Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    if limit is None:
        tokenizer.no_truncation()
    else:
        tokenizer.enable_truncation(limit)
    return tuple(np.array(encoding.ids, np.int32) for encoding in tokenizer.encode_batch(list(texts)))


# --- shared ----------------------------------------------------------------------------------------------------------


_PICTURES, _TEXTS = ("PIL.Image",), ("tokenizers", "scipy.stats")
NEEDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "minilm": _TEXTS,
        "vit_s14": _PICTURES,
        "vit_s14_inside": _PICTURES,
        "efficientnet_lite0": _PICTURES,
        "resnet50_thin": _PICTURES,
    }
)
"""Modules of the extra ``quality`` that the data of a model, or of a part of ``accuracy``, are read with."""


def require_extra(names: Iterable[str]) -> None:
    """Raises ``ModelError`` if what these models need is missing: before long work, not in its middle."""
    for name in names:
        for module in NEEDS.get(name, ()):
            _optional(module)


def _optional(module: str) -> Any:
    """A module of the extra ``quality``."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModelError(f"quality data need {module}: pip install 'accel-codesign[quality]'") from error


def tell(message: str) -> None:
    """A line on stderr about something slow."""
    print(message, file=sys.stderr, flush=True)
