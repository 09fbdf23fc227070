"""ViT-S/14 as a part of ``python -m benchmarks accuracy``: it learns from its own float features of plain pictures."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.packed import weight_parameters
from benchmarks.accuracy_parts import (
    SPLIT_SEED,
    VIT_BATCH,
    VIT_POOL,
    VIT_SAMPLES,
    VIT_SIDE,
    VIT_VALIDATION,
    WARM_UP,
    Part,
)
from benchmarks.quality_data import TORCHVISION, distillation_views, imagenet_views, tell
from benchmarks.quality_scores import cosines
from compiler.frontend import load_model
from compiler.training import GraphModule, Imitation, TrainingData, TrainingOptions, inner_tensors, outputs_of

Array = npt.NDArray[Any]


@cache
def vit_s14(inside: bool) -> Part:
    """The vision transformer, trained towards its float tokens of some pictures and scored on those of others; with
    ``inside`` also towards what its float self computes on the way."""
    model = load_model("zoo:vit_s14", input_shapes={"input": (1, 3, VIT_SIDE, VIT_SIDE)}, progress=tell)
    (name,) = model.graph.inputs
    reference = GraphModule(model.graph, model.weights)
    views = distillation_views(VIT_POOL, VIT_SIDE, TORCHVISION)[:, None]  # [N, 1, 3, H, W]
    wanted = outputs_of(reference, {name: views})  # [N, 1, T, D]
    pictures = imagenet_views(VIT_SIDE, TORCHVISION)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(pictures))
    held_back, scored = pictures[order[:VIT_VALIDATION]], pictures[order[VIT_VALIDATION:]]
    of_held_back, of_scored = tokens(reference, held_back), tokens(reference, scored)

    def training(seed: int, count: int) -> TrainingData:
        chosen = np.random.default_rng([seed, 2]).permutation(VIT_POOL)[:count]
        return TrainingData({name: views[chosen]}, wanted[chosen])

    return Part(
        name="vit_s14_inside" if inside else "vit_s14",
        graph=model.graph,
        weights=model.weights,
        compressed=tuple(weight for weight in weight_parameters(model.graph) if weight.startswith("encoder.layer.")),
        training=training,
        samples=VIT_SAMPLES,
        validate=lambda trained: token_cosine(tokens(trained, held_back), of_held_back),
        score=lambda trained: feature_scores(tokens(trained, scored), of_scored),
        loss="cosine",
        options=TrainingOptions(epochs=1, batch=VIT_BATCH, warm_up=WARM_UP, precision="bfloat16"),
        augment=None,
        imitation=Imitation(reference, inner_tensors(model.graph)) if inside else None,
    )


def tokens(model: GraphModule, pictures: Array) -> Array:
    """What ``model`` answers to ``pictures[P, V, 3, H, W]``, V views each: ``[P, V, T, D]``, the class token first."""
    count, views = pictures.shape[:2]
    (name,) = model.graph.inputs
    found = outputs_of(model, {name: pictures.reshape(-1, 1, *pictures.shape[2:])})
    return found.reshape(count, views, *found.shape[2:])


def token_cosine(found: Array, wanted: Array) -> float:
    """Mean cosine between equal tokens of ``[..., D]``."""
    width = found.shape[-1]
    return float(cosines(found.reshape(-1, width), wanted.reshape(-1, width)).mean())


def feature_scores(found: Array, wanted: Array) -> dict[str, float]:
    """Scores of tokens ``[P, V, T, D]`` against those of the float model."""
    of_found, of_wanted = found[:, :, 0], wanted[:, :, 0]
    return {
        "cosine": token_cosine(found, wanted),
        "class_token": token_cosine(of_found, of_wanted),
        "relations": float(np.corrcoef(similarities(of_found), similarities(of_wanted))[0, 1]),
    }


def similarities(features: Array) -> npt.NDArray[np.float64]:
    """Cosine of every two views ``[P, V, D]`` of different pictures."""
    count, views, width = features.shape
    rows = features.reshape(-1, width).astype(np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    picture = np.repeat(np.arange(count), views)
    one, other = np.nonzero(picture[:, None] < picture)
    return np.asarray((unit @ unit.T)[one, other])
