"""Samples to train on, and what the model is to answer to each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from accel.errors import ModelError

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Samples:
    """Stacks of inputs ``[N, *shape]`` by name and, where known, a class for each, int64 ``[N]``."""

    inputs: Mapping[str, Array]
    labels: Array | None = None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(self, chosen: Array) -> Samples:
        """Some of them."""
        inputs = {name: array[chosen] for name, array in self.inputs.items()}
        return Samples(inputs, None if self.labels is None else self.labels[chosen])


@dataclass(frozen=True, slots=True)
class TrainingData:
    """``inputs``: by name and in the model's order, one array ``[N, ...]`` each. ``targets``: int64 labels ``[N]`` or
    float32 outputs to imitate ``[N, ...]``. Raises ``ModelError`` unless there are samples, as many of each."""

    inputs: Mapping[str, Array]
    targets: Array

    def __post_init__(self) -> None:
        counts = {**{name: len(array) for name, array in self.inputs.items()}, "targets": len(self.targets)}
        if len(set(counts.values())) != 1 or not self.inputs or not len(self):
            raise ModelError(f"samples to train on: {counts}; allowed: equal numbers, at least 1")

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, chosen: Array) -> tuple[tuple[Tensor, ...], Tensor]:
        """Inputs and targets of the samples ``chosen``."""
        inputs = tuple(torch.from_numpy(each[chosen]) for each in self.inputs.values())
        return inputs, torch.from_numpy(self.targets[chosen])


def batches(samples: int, size: int, seed: int, epoch: int) -> list[npt.NDArray[np.int64]]:
    """Indices of every batch of an epoch, in an order that follows from ``seed`` and ``epoch`` alone.

    An incomplete last batch is left out, unless it is the only one.
    """
    order = np.random.default_rng([seed, epoch]).permutation(samples)
    whole = max(1, samples // size)
    return [order[start * size : (start + 1) * size] for start in range(whole)]


def outputs_of(model: nn.Module, inputs: Mapping[str, Array], size: int = 64) -> Array:
    """What ``model`` answers to ``inputs[N, ...]`` in evaluation mode, float32 ``[N, ...]``; its mode stays."""
    training = model.training
    model.eval()
    with torch.no_grad():
        parts = [model(*part) for part in _parts(inputs, size)]
    model.train(training)
    if not all(isinstance(part, Tensor) for part in parts):
        raise ModelError("the model has several outputs; allowed: one to train on")
    found: Array = torch.cat(parts).float().numpy()
    return found


def _parts(inputs: Mapping[str, Array], size: int) -> Iterator[tuple[Tensor, ...]]:
    count = len(next(iter(inputs.values())))
    for start in range(0, count, size):
        yield tuple(torch.from_numpy(each[start : start + size]) for each in inputs.values())


def mean_loss(model: nn.Module, data: TrainingData, loss: Callable[[Tensor, Tensor], Tensor], size: int = 64) -> float:
    """The loss over all of ``data`` in evaluation mode."""
    with torch.no_grad():
        found = torch.from_numpy(outputs_of(model, data.inputs, size))
        return float(loss(found, torch.from_numpy(data.targets)))


def accuracy(model: nn.Module, data: TrainingData, size: int = 64) -> float:
    """Share of the samples whose highest output is that of their label."""
    return share_right(outputs_of(model, data.inputs, size), data.targets)


def share_right(outputs: Array, labels: Array) -> float:
    """Share of ``outputs[N, ..., classes]`` that are highest at the class of ``labels[N]``."""
    return float((outputs.reshape(len(labels), -1).argmax(1) == labels).mean())
