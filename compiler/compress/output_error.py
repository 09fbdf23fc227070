"""How far a model's outputs go from those of the float model when weights are coded: one of them alone, or all."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from accel.calibration import BUDGET_SAMPLES, WHOLE_SAMPLES
from accel.codecs import EncodedLayer
from accel.errors import ModelError
from accel.graph import Graph
from compiler.quantise.revised import dependents, recorded, revised

Tensors = Mapping[str, npt.NDArray[Any]]
Progress = Callable[[int, int, str], None]

LARGEST = 1e30  # of relative errors: those of outputs that are NaN or infinite


@dataclass(frozen=True, slots=True)
class FloatModel:
    """``graph`` with its parameters, and by weight what each column of its codes was multiplied by (channel exponents
    that were folded into it before it was coded)."""

    graph: Graph
    values: Tensors
    factors: Tensors

    def real(self, name: str, layer: EncodedLayer) -> npt.NDArray[np.float32]:
        """What ``layer`` stands for in the place of the weight ``name``."""
        return decoded_weight(layer).reshape(self.graph.parameters[name]) / self.factors.get(name, np.float32(1))

    def traces(self, samples: Sequence[Tensors]) -> Iterator[tuple[dict[str, npt.NDArray[Any]], Tensors]]:
        """All tensors, and the outputs, of each sample whose outputs are finite; raises ``ModelError`` if none is."""
        finite = 0
        for sample in samples:
            tensors = recorded(self.graph, self.values, sample)
            outputs = {name: tensors[name] for name in self.graph.outputs}
            if all(np.isfinite(each).all() for each in outputs.values()):
                finite += 1
                yield tensors, outputs
        if not finite:
            raise ModelError(
                f"outputs of the float model are NaN or infinite on all {len(samples)} samples that errors are "
                "measured on; allowed: finite ones on at least 1"
            )


def layer_errors(
    model: FloatModel,
    layers: Mapping[str, Sequence[EncodedLayer]],
    samples: Sequence[Tensors],
    progress: Progress | None = None,
) -> dict[str, list[float]]:
    """Squared errors of all outputs over their squares, both summed over the first ``BUDGET_SAMPLES``, with one weight
    alone coded: of each weight, for each of its ``layers``."""
    tried = samples[:BUDGET_SAMPLES]
    distances = {name: np.zeros(len(row)) for name, row in layers.items()}
    power = 0.0
    for number, (tensors, wanted) in enumerate(model.traces(tried)):
        power += squared(wanted)
        for done, (name, row) in enumerate(layers.items()):
            if progress is not None:
                progress(number * len(layers) + done, len(tried) * len(layers), f"sensitivity of {name}")
            for index, layer in enumerate(row):
                changed = revised(model.graph, tensors, {name: model.real(name, layer)})
                distances[name][index] += squared_distance(changed, wanted)
    return {name: [relative(each, power) for each in row.tolist()] for name, row in distances.items()}


@dataclass(frozen=True, slots=True)
class WholeModel:
    """What errors of all weights together are measured against: for each sample the tensors that no weight has a part
    in, and the outputs."""

    model: FloatModel
    traces: tuple[tuple[Tensors, Tensors], ...]

    @classmethod
    def of(cls, model: FloatModel, weights: Sequence[str], samples: Sequence[Tensors]) -> Self:
        """On the first ``WHOLE_SAMPLES`` of ``samples``, as far as their outputs are finite."""
        gone = dependents(model.graph, weights)
        traces = (
            ({name: each for name, each in tensors.items() if name not in gone}, wanted)
            for tensors, wanted in model.traces(samples[:WHOLE_SAMPLES])
        )
        return cls(model, tuple(traces))

    def error(self, layers: Mapping[str, EncodedLayer]) -> float:
        """Squared error of all outputs over their squares, both summed over the samples, with all these coded."""
        real = {name: self.model.real(name, layer) for name, layer in layers.items()}
        found = (revised(self.model.graph, tensors, real) for tensors, _ in self.traces)
        outputs = [wanted for _, wanted in self.traces]
        return relative(sum(map(squared_distance, found, outputs)), sum(map(squared, outputs)))


def decoded_weight(layer: EncodedLayer) -> npt.NDArray[np.float32]:
    """The real values ``[out, reduction]`` a layer stands for."""
    return layer.codec.decode(layer) * layer.scale[:, None]


def squared(outputs: Tensors) -> float:
    """Sum of squares of all outputs."""
    return sum(float(np.square(each, dtype=np.float64).sum()) for each in outputs.values())


def squared_distance(found: Tensors, wanted: Tensors) -> float:
    """Summed over all outputs; infinite if some are not finite."""
    total = squared({name: found[name] - each for name, each in wanted.items()})
    return total if math.isfinite(total) else math.inf


def relative(distance: float, power: float) -> float:
    """``distance`` over ``power``; no more than ``LARGEST``, and ``distance`` itself if there is no power."""
    return min(distance / (power or 1.0), LARGEST)
