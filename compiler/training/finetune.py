"""All of it in one call: a graph and its weights are compressed, trained on samples, scored and packed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from accel.codecs import Codec, VectorAxis
from accel.errors import ConfigError, ModelError
from accel.graph import Graph
from compiler.compress import Compression, ScaleMode, codec_choices
from compiler.compress.choices import Choice
from compiler.training.data import Samples, TrainingData, outputs_of, share_right
from compiler.training.export import export_graph
from compiler.training.graph_module import GraphModule
from compiler.training.imitation import Imitation, inner_tensors
from compiler.training.log import StepRow
from compiler.training.loop import Checkpointing, Log, train
from compiler.training.losses import LABELLED, LOSSES, cosine
from compiler.training.modules import compress_modules, frozen_share
from compiler.training.options import IMITATED, Imitated, TrainingOptions, WeightOptions, check_choice

Array = npt.NDArray[Any]
Tensors = Mapping[str, Array]
Progress = Callable[[float, float, str], None]

RELATED = 512  # samples: 130,816 pairs
SAME = 1e-9  # cosines that differ by less are equal but for rounding


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is done to a model. ``codec``, ``keep``, ``scale`` and ``vector_axis`` as ``compiler.compress.compress``
    takes them; k-means and training share the seed of ``loop``. ``loss`` is a name in ``LOSSES``. With one that needs
    no labels, ``imitate`` says what of the float model is learned: ``outputs``, or also what its ``layers`` hold."""

    codec: Codec
    loss: str
    keep: Sequence[tuple[str, Codec]] = ()
    scale: ScaleMode = "channel"
    vector_axis: VectorAxis = "out"
    imitate: Imitated = "layers"
    weights: WeightOptions = field(default_factory=WeightOptions)
    loop: TrainingOptions = field(default_factory=TrainingOptions)

    def __post_init__(self) -> None:
        check_choice("imitate", self.imitate, IMITATED)

    @property
    def imitates(self) -> bool:
        """Whether the loss is towards the float model, so that ``imitate`` has a say."""
        return self.loss not in LABELLED

    def facts(self) -> dict[str, str]:
        """What tells one recipe from another, but for ``loop``."""
        return {
            "codec": str(self.codec),
            "keep": " ".join(f"{glob}={codec}" for glob, codec in self.keep),
            "scale": self.scale,
            "vector axis": self.vector_axis,
            "loss": self.loss,
            **({"imitate": self.imitate} if self.imitates else {}),
            "weights": str(self.weights),
        }


@dataclass(frozen=True, slots=True)
class Score:
    """How a model did on samples held back: mean ``loss``, mean cosine of its output rows with the float model's,
    ``relations`` (whether it still tells samples apart: see the function), and the share of right classes where these
    are known."""

    stage: str
    loss: float
    cosine: float
    relations: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True)
class FineTuning:
    """What came of it; ``scores`` of the float model, the compressed one, and that after training."""

    compression: Compression
    scores: tuple[Score, ...]
    steps: int
    final_loss: float | None
    frozen_share: float


def finetune(
    graph: Graph,
    weights: Tensors,
    recipe: Recipe,
    training: Samples,
    held_back: Samples,
    *,
    checkpoints: Checkpointing | None = None,
    open_logs: Callable[[int], Sequence[Log]] = lambda step: (),
    progress: Progress | None = None,
    description: Mapping[str, str] | None = None,
    calibration: Sequence[Tensors] = (),
    method: str = "minmax",
) -> FineTuning:
    """Fine-tune ``graph``, which has one output; samples are ``[N, *shape]`` by input. Without labels, or with a loss
    that needs none, the targets are the float model's outputs.

    Raises what ``compress_modules``, ``train`` and ``export_graph`` raise.
    """
    if len(graph.outputs) != 1:
        raise ModelError(f"the model has outputs {', '.join(graph.outputs)}; allowed: one to train on")
    float_model = GraphModule(graph, weights)
    scoring = _Scoring(recipe.loss, held_back, _outputs(float_model, held_back, "scoring: float model", progress))
    scores = [scoring.score(scoring.wanted, "float model")]
    data = _data(float_model, recipe.loss, training, progress)
    choices = codec_choices(graph, recipe.codec, recipe.keep, recipe.vector_axis)
    model = _compressed(graph, weights, recipe, choices, progress)
    scores.append(scoring.score(_outputs(model, held_back, "scoring: compressed", progress), "compressed"))
    last = _Last()
    steps = train(
        model,
        data,
        LOSSES[recipe.loss],
        recipe.loop,
        imitation=_imitation(float_model, recipe),
        checkpoints=checkpoints,
        open_logs=lambda step: (last, *open_logs(step)),
        progress=progress,
    )
    outputs = _outputs(model, held_back, "scoring: fine-tuned", progress)
    if not np.isfinite(outputs).all():
        raise ConfigError(
            f"after {steps} steps answers to held-back samples are NaN or infinite; try a lower learning rate"
        )
    scores.append(scoring.score(outputs, "fine-tuned"))
    reasons = {name: reason for name, (_, reason) in choices.items()}
    packed = export_graph(model, weights, description, calibration, method, reasons)
    return FineTuning(packed, tuple(scores), steps, last.loss, frozen_share(model))


def _compressed(
    graph: Graph, weights: Tensors, recipe: Recipe, choices: Mapping[str, Choice], progress: Progress | None
) -> GraphModule:
    """``graph`` in the codecs chosen, not trained yet."""
    model = GraphModule(graph, weights)
    compress_modules(
        model,
        lambda name, _: choices[name][0],
        recipe.weights,
        scale=recipe.scale,
        vector_axis=recipe.vector_axis,
        seed=recipe.loop.seed,
        progress=progress,
    )
    return model


def _outputs(model: nn.Module, samples: Samples, what: str, progress: Progress | None) -> Array:
    if progress is not None:
        progress(0, 1, what)
    return outputs_of(model, samples.inputs)


def _imitation(float_model: GraphModule, recipe: Recipe) -> Imitation | None:
    if not recipe.imitates or recipe.imitate == "outputs":
        return None
    return Imitation(float_model, inner_tensors(float_model.graph))


def _data(float_model: nn.Module, loss: str, samples: Samples, progress: Progress | None) -> TrainingData:
    """``samples`` with their labels or the float model's outputs."""
    if loss not in LABELLED:
        return TrainingData(samples.inputs, _outputs(float_model, samples, "outputs of the float model", progress))
    assert samples.labels is not None, "checked with the loss"
    return TrainingData(samples.inputs, samples.labels)


class _Last:
    """The loss of the last step."""

    loss: float | None = None

    def add(self, row: StepRow) -> None:
        self.loss = row.loss


@dataclass(frozen=True, slots=True)
class _Scoring:
    """What outputs are scored with; ``wanted`` are the float model's."""

    loss: str
    samples: Samples
    wanted: Array

    def score(self, outputs: Array, stage: str) -> Score:
        """Of ``outputs[N, ...]``."""
        labels = self.samples.labels
        found, wanted = torch.from_numpy(outputs), torch.from_numpy(self.wanted)
        targets = torch.from_numpy(labels) if self.loss in LABELLED and labels is not None else wanted
        right = None if labels is None else share_right(outputs, labels)
        loss, close = float(LOSSES[self.loss](found, targets)), 1 - float(cosine(found, wanted))
        return Score(stage, loss, close, relations(outputs, self.wanted), right)


def relations(found: Array, wanted: Array) -> float | None:
    """Pearson's r between the cosines of every two samples in ``found[N, ...]`` and what they are in ``wanted``, over
    the first ``RELATED``: one answer to everything may have a high cosine with the wanted ones, but no r. None where
    all cosines are the same, fewer than two, or not all finite."""
    one, other = (_similarities(each[:RELATED]) for each in (found, wanted))
    if len(one) < 2 or not (np.ptp(one) >= SAME and np.ptp(other) >= SAME):
        return None
    return float(np.corrcoef(one, other)[0, 1])


def _similarities(outputs: Array) -> npt.NDArray[np.float64]:
    rows = outputs.reshape(len(outputs), -1).astype(np.float64)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(min=1e-30)
    return np.asarray((unit @ unit.T)[np.triu_indices(len(rows), 1)])
