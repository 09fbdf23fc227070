"""The parts of ``python -m benchmarks accuracy``: a trained network, what it is fine-tuned on, and how it is scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from accel.graph import Graph
from accel.packed import weight_parameters
from benchmarks.quality_models import Measure
from compiler.training import LOSSES, GraphModule, TrainingData, TrainingOptions, accuracy, mean_loss
from compiler.training.imitation import Imitation
from compiler.training.loop import Augment

Array = npt.NDArray[Any]
Scores = dict[str, float]


@dataclass(frozen=True, slots=True)
class Part:
    """A network and its task. ``compressed`` weights get the codec of a method, all others stay float32.

    ``training(seed, samples)`` are those of a run, ``samples`` unless it only decides rates; ``validate`` (more is
    better) decides between rates and sees nothing that is scored, ``score`` does.
    """

    name: str
    graph: Graph
    weights: Mapping[str, Array]
    compressed: tuple[str, ...]
    training: Callable[[int, int], TrainingData]
    samples: int
    validate: Callable[[GraphModule], float]
    score: Callable[[GraphModule], Scores]
    loss: str
    options: TrainingOptions
    augment: Augment | None
    imitation: Imitation | None = None

    @property
    def compressed_weights(self) -> dict[str, Array]:
        """Values of what methods compress."""
        return {name: self.weights[name] for name in self.compressed}


@dataclass(frozen=True, slots=True)
class Profile:
    """What is said of a part; the first measure is the one told of untrained models."""

    title: str
    measures: tuple[Measure, ...]
    facts: str


WARM_UP = 0.1  # without it AdamW's first steps undo some of what the float model knows
SPLIT_SEED = 1  # of what is trained on and what decides rates

# --- Fashion-MNIST ---------------------------------------------------------------------------------------------------

FASHION_SAMPLES, FASHION_BATCH = 6_400, 64  # 100 steps
FASHION_LONG_SAMPLES = 57_600  # 900 steps
FASHION_VALIDATION = 2_000  # of the 60000 training pictures, never fine-tuned on; the float model has seen all
EVALUATION_BATCH = 500

FASHION = Profile(
    "Fashion-MNIST ViT, fine-tuned with labels",
    (Measure("accuracy", "accuracy", "percent"),),
    f"The conv-stem ViT of `python -m benchmarks fashion` (d = 192, 4 blocks, 1.9 M parameters), trained here from "
    f"scratch. Its 24 matrices in blocks are compressed, stem and head stay float32. {FASHION_SAMPLES:,} of 58,000 "
    f"training pictures, drawn anew for every seed and each seen once, in batches of {FASHION_BATCH}, mirrored and "
    f"rolled. Rates are decided by the loss on {FASHION_VALIDATION:,} other training pictures (the float model has "
    "seen all of both). Scored on all 10,000 test pictures in float32: the standard error of one accuracy is 0.32 "
    "points.",
)


FASHION_LONG = Profile(
    "Fashion-MNIST ViT, fine-tuned nine times as long",
    FASHION.measures,
    f"The same network, scored alike, after nearly an epoch: {FASHION_LONG_SAMPLES:,} of the 58,000 training pictures, "
    f"{FASHION_LONG_SAMPLES // FASHION_BATCH} steps. Rates are those found best for the shorter training.",
)


@cache
def fashion(name: str, samples: int) -> Part:
    """The vision transformer of ``benchmarks.fashion``, fine-tuned with labels on so many pictures."""
    from benchmarks.fashion import load_fashion
    from benchmarks.quality_data import fashion_images

    graph, weights = load_fashion()
    (picture,) = graph.inputs
    train, test = fashion_images("train"), fashion_images("test")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(train.labels))
    held_back, pool = order[:FASHION_VALIDATION], order[FASHION_VALIDATION:]

    def labelled(chosen: Array) -> TrainingData:
        return TrainingData({picture: train.pictures[chosen][:, None]}, train.labels[chosen])

    validation, scored = labelled(held_back), TrainingData({picture: test.pictures[:, None]}, test.labels)
    return Part(
        name=name,
        graph=graph,
        weights=weights,
        compressed=tuple(weight for weight in weight_parameters(graph) if weight.startswith("blocks.")),
        training=lambda seed, count: labelled(np.random.default_rng([seed, 2]).permutation(pool)[:count]),
        samples=samples,
        validate=lambda model: -mean_loss(model, validation, LOSSES["cross_entropy"], EVALUATION_BATCH),
        score=lambda model: {"accuracy": accuracy(model, scored, EVALUATION_BATCH)},
        loss="cross_entropy",
        options=TrainingOptions(epochs=1, batch=FASHION_BATCH, warm_up=WARM_UP, precision="bfloat16"),
        augment=lambda inputs: (_augmented(inputs[0]),),
    )


def _augmented(pictures: torch.Tensor) -> torch.Tensor:
    from benchmarks.fashion import RECIPE, augmented

    return augmented(pictures[:, 0], RECIPE.roll)[:, None]


# --- MiniLM ----------------------------------------------------------------------------------------------------------

MINILM_TOKENS = 16  # of a training sample, both marks included
MINILM_SAMPLES, MINILM_BATCH = 1_280, 64  # 20 steps
MINILM_POOL = 4_832  # pieces runs draw from: all but those that decide rates
MINILM_VALIDATION = 256

MINILM = Profile(
    "MiniLM-L6, self-distilled",
    (
        Measure("cosine", "cosine to float"),
        Measure("lee", "Lee-50 r"),
        Measure("simlex999", "SimLex-999 ρ"),
        Measure("wordsim353", "WordSim-353 ρ"),
    ),
    "The sentence encoder of `zoo:minilm` (d = 384, 6 layers; all 10.6 M weights in its 36 matrices are compressed) "
    f"learns to give the embeddings it gives in float32 (loss: 1 less their cosine, nothing inside the model: `accel "
    f"finetune --loss cosine --imitate outputs`). No labels: {MINILM_SAMPLES:,} "
    f"pieces of {MINILM_TOKENS} tokens of 300 news texts, drawn anew for every seed from {MINILM_POOL:,}, "
    f"each seen once, in batches of {MINILM_BATCH}. Rates are decided by the cosine on {MINILM_VALIDATION} "
    "other pieces. Scored in float32 on the 50 texts of Lee et al., none of the 300, each at its own length (cosine "
    "to float, Pearson's r with people's judgement of 1,225 pairs) and on single words (Spearman's ρ).",
)


def _minilm() -> Part:
    from benchmarks.accuracy_texts import minilm

    return minilm()


# --- ViT-S/14 --------------------------------------------------------------------------------------------------------

VIT_SIDE = 112  # 64 patches instead of 256: a fourth of the cost
VIT_SAMPLES = 384
VIT_BATCH = 12  # 32 steps
VIT_POOL = 1_120  # views runs draw from: 40 of each photograph, 14 of each CIFAR picture
VIT_HELD_BACK, VIT_VIEWS = 20, 5  # pictures never trained on, views of each
VIT_VALIDATION = 4  # of those held back
_VIT_SCORED = VIT_HELD_BACK - VIT_VALIDATION

_VIT_MEASURES = (
    Measure("cosine", "cosine to float"),
    Measure("class_token", "class token: cosine to float"),
    Measure("relations", "pairs of pictures: r with float"),
)
VIT = Profile(
    "ViT-S/14, self-distilled by its outputs alone",
    _VIT_MEASURES,
    f"The vision transformer of `zoo:vit_s14` (DINOv2's layout, d = 384, 12 blocks; all 21.2 M weights in the 72 "
    f"matrices of its blocks are compressed, patch embedding stays float32) learns to give the tokens it gives in "
    f"float32 (loss: 1 less their cosine, mean over {(VIT_SIDE // 14) ** 2 + 1} tokens: `accel finetune --loss cosine "
    f"--imitate outputs`), at {VIT_SIDE}x{VIT_SIDE} with the position embedding resampled. No labels, and few "
    f"pictures: {VIT_SAMPLES} random crops, drawn anew for every seed from {VIT_POOL:,}, half of 14 photographs of "
    f"scikit-image, half of 40 CIFAR pictures, enlarged; each seen once, in batches of {VIT_BATCH}. {VIT_HELD_BACK} "
    f"ImageNet pictures of foolbox are held back whole: rates are decided by the cosine on {VIT_VALIDATION} of them, "
    f"the other {_VIT_SCORED} are scored in float32, {VIT_VIEWS} views of each (all of it, its corners), "
    f"{_VIT_SCORED * VIT_VIEWS} in all: cosine over all tokens, cosine of class tokens, and Pearson's r between the "
    "cosines of two pictures' class tokens and what they are in float32, over all pairs of views of different "
    "pictures. The last tells whether pictures are still told apart: features of all pictures have much in common, so "
    "that one answer to everything would have a high cosine to float, but no r.",
)
VIT_INSIDE = Profile(
    "ViT-S/14, self-distilled from the inside",
    _VIT_MEASURES,
    "The same model, pictures, steps and scores. It learns to compute the same on the way, too, which is what `accel "
    "finetune` does unless told otherwise: to the loss above is added, with equal weight, the mean squared error of "
    "the 24 residual sums inside, each over the power of what differs between pictures there "
    "(`compiler.training.imitation`).",
)


def _vit_s14(inside: bool) -> Part:
    from benchmarks.accuracy_pictures import vit_s14

    return vit_s14(inside)


PARTS: Mapping[str, Callable[[], Part]] = MappingProxyType(
    {
        "fashion": partial(fashion, "fashion", FASHION_SAMPLES),
        "fashion_long": partial(fashion, "fashion_long", FASHION_LONG_SAMPLES),
        "minilm": _minilm,
        "vit_s14": partial(_vit_s14, inside=False),
        "vit_s14_inside": partial(_vit_s14, inside=True),
    }
)
PROFILES: Mapping[str, Profile] = MappingProxyType(
    {"fashion": FASHION, "fashion_long": FASHION_LONG, "minilm": MINILM, "vit_s14": VIT, "vit_s14_inside": VIT_INSIDE}
)
