"""An average number of stored bits a weight: each layer gets the codec that serves the model's outputs best.

An integer program minimises the sum of the errors that layers make alone. Together they may make more than that, above
all those of codecs that are too coarse for most layers. So with samples its choice is held against others, as whole
models: its choices without one of the codecs each, and each codec for all layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from accel.calibration import BUDGET_SAMPLES, WHOLE_SAMPLES
from accel.codecs import Codec, EncodedLayer, layer_bytes
from accel.errors import ConfigError
from accel.packed import weight_parameters
from compiler.compress.choices import Choice, Keep, kept_choices
from compiler.compress.coder import Coder
from compiler.compress.layer import relative_error
from compiler.compress.selection import select
from compiler.quantise import Exponents, evaluate
from compiler.quantise.fold import folded_factors
from compiler.quantise.revised import recorded, revised

Tensors = Mapping[str, npt.NDArray[Any]]
Progress = Callable[[int, int, str], None]

Coded = tuple[EncodedLayer, str]  # and why in that codec

NEVER = 1e30  # squared distance of outputs that are NaN or infinite


@dataclass(frozen=True, slots=True)
class Budget:
    """At most ``bits`` stored bits a weight on average, codebooks, scales and padding included, with layers in any of
    ``codecs``; raises ``ConfigError`` for none of these, or bits that are no positive number. A float stands for the
    decimal number it prints as, a fraction for itself."""

    bits: float | Fraction
    codecs: tuple[Codec, ...]

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bits) and self.bits > 0):
            raise ConfigError(f"budget {float(self.bits):g}; allowed: a positive number of bits a weight")
        if not self.codecs:
            raise ConfigError("a budget without codecs; allowed: at least 1")

    @classmethod
    def of_bytes(cls, stored_bytes: int, weights: int, codecs: tuple[Codec, ...]) -> Self:
        """``stored_bytes`` for a model of so many ``weights``, to the byte."""
        return cls(Fraction(8 * stored_bytes, weights), codecs)

    def limit_bytes(self, weights: int) -> int:
        """The most whole bytes that ``weights`` may take together."""
        return math.floor(Fraction(str(self.bits)) * weights / 8)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What a layer comes to in those of a budget's codecs that it ``serves``: its codec and why, ``stored_bytes`` it
    takes, and the ``error`` of the model if this layer alone is so."""

    serves: frozenset[Codec]
    choice: Choice
    layer: EncodedLayer
    stored_bytes: int
    error: float


Taken = Mapping[str, Candidate]
"""A candidate for every layer."""
Whole = Callable[[Taken], float]
"""The error of the model with all layers so."""


@dataclass(frozen=True, slots=True)
class Spending:
    """How a budget was spent: the sum of all layers' errors alone, ``bound``, which no choice within the budget beats,
    what ``measure`` of error that is, and the budget in bytes. ``whole``: the error of the whole model, the least of
    ``tried`` choices; None if none was tried."""

    candidates: Taken
    error: float
    bound: float
    measure: str
    limit_bytes: int
    whole: float | None = None
    tried: int = 1


OUTPUT_ERROR = "squared error over squared outputs, each layer alone"
WEIGHT_ERROR = "squared error over squared weights, each layer alone: no samples"


def spend(
    budget: Budget,
    candidates: Mapping[str, Sequence[Candidate]],
    measure: str,
    whole: Whole | None = None,
    progress: Progress | None = None,
) -> Spending:
    """The choice with the least sum of errors or, given ``whole``, the best of that and some others as whole models.

    Raises ``ConfigError`` with the range of budgets if none is possible.
    """
    limit = _limit(budget, candidates)
    best, bound = _least_sum(candidates, limit)
    errors: list[float] = []
    if whole is not None:
        choices = [best, *_rivals(best, budget.codecs, candidates, limit)]
        for done, taken in enumerate(choices):
            if progress is not None:
                progress(done, len(choices), "whole models")
            errors.append(whole(taken))
        best = choices[errors.index(min(errors))]
    total = sum(each.error for each in best.values())
    return Spending(best, total, min(bound, total), measure, limit, min(errors, default=None), max(len(errors), 1))


def _limit(budget: Budget, candidates: Mapping[str, Sequence[Candidate]]) -> int:
    """The budget in bytes; raises ``ConfigError`` if the smallest candidates do not fit."""
    weights = sum(math.prod(row[0].layer.shape) for row in candidates.values())
    sizes = [[each.stored_bytes for each in row] for row in candidates.values()]
    limit = budget.limit_bytes(weights)
    least, most = (Fraction(8 * sum(end(row) for row in sizes), weights) for end in (min, max))
    if limit < sum(map(min, sizes)):
        raise ConfigError(
            f"budget {float(budget.bits):g} bits a weight; allowed: at least {math.ceil(least * 10_000) / 10_000:g} "
            f"(from {float(most):.4g} on, every layer may have its largest codec)"
        )
    return limit


def _least_sum(candidates: Mapping[str, Sequence[Candidate]], limit: int) -> tuple[Taken, float]:
    """The choice with the least sum of errors, and a bound on that; the smallest candidates must fit."""
    sizes, errors = (
        [[getattr(each, key) for each in row] for row in candidates.values()] for key in ("stored_bytes", "error")
    )
    found = select(sizes, errors, limit)
    return {name: row[pick] for pick, (name, row) in zip(found.picks, candidates.items(), strict=True)}, found.bound


def _rivals(
    best: Taken, codecs: Sequence[Codec], candidates: Mapping[str, Sequence[Candidate]], limit: int
) -> Iterator[Taken]:
    """Other choices within ``limit`` that may make a better model: none of them twice, and not ``best``."""
    known = {_key(best)}
    for codec in codecs:
        alone = {name: [each for each in row if codec in each.serves] for name, row in candidates.items()}
        without = {name: [each for each in row if each.serves != {codec}] for name, row in candidates.items()}
        for rows in (without, alone):
            if all(rows.values()) and sum(min(each.stored_bytes for each in row) for row in rows.values()) <= limit:
                taken, _ = _least_sum(rows, limit)
                if _key(taken) not in known:
                    known.add(_key(taken))
                    yield taken


def _key(taken: Taken) -> tuple[frozenset[Codec], ...]:
    return tuple(each.serves for each in taken.values())


def candidates(
    coder: Coder,
    codecs: Sequence[Codec],
    keep: Keep,
    values: Tensors,
    exponents: Exponents,
    samples: Sequence[Tensors],
    progress: Progress | None = None,
) -> dict[str, list[Candidate]]:
    """Every layer in every codec it may have, tried on the first ``BUDGET_SAMPLES`` of ``samples`` (float parameters:
    ``values``), or with the relative error of its weights without any."""
    options = _options(coder, codecs, keep)
    layers: dict[str, list[Coded]] = {}
    for done, (name, row) in enumerate(options.items()):
        if progress is not None:
            progress(done, len(options), name)
        layers[name] = [coder.chosen(name, each) for each in row.values()]
    errors = _output_errors(coder, layers, values, exponents, samples, progress) if samples else _errors(coder, layers)
    return {
        name: [
            Candidate(serves, (layer.codec, reason), layer, sum(layer_bytes(layer).values()), error)
            for serves, (layer, reason), error in zip(row, layers[name], errors[name], strict=True)
        ]
        for name, row in options.items()
    }


def _options(coder: Coder, codecs: Sequence[Codec], keep: Keep) -> dict[str, dict[frozenset[Codec], Choice]]:
    """The choices of each layer by the codecs they serve. A layer kept in a codec has no other; codecs that would be
    larger than int8 are int8, once."""

    def of(name: str) -> dict[frozenset[Codec], Choice]:
        every = {codec: coder.choice(name, codec) for codec in codecs}
        first = {codec: (codec, reason) for codec, reason in reversed(every.values())}
        return {frozenset(each for each in codecs if every[each][0] == codec): first[codec] for codec in first}

    kept = kept_choices(coder.graph, keep)
    whole = frozenset(codecs)
    return {name: {whole: kept[name]} if name in kept else of(name) for name in weight_parameters(coder.graph)}


def _errors(coder: Coder, layers: Mapping[str, Sequence[Coded]]) -> dict[str, list[float]]:
    return {name: [relative_error(coder.matrix(name), layer) for layer, _ in row] for name, row in layers.items()}


def _output_errors(
    coder: Coder,
    layers: Mapping[str, Sequence[Coded]],
    values: Tensors,
    exponents: Exponents,
    samples: Sequence[Tensors],
    progress: Progress | None,
) -> dict[str, list[float]]:
    """Squared errors of all outputs over their squares, both summed over samples, of each layer in each codec alone."""
    graph, tried = coder.graph, samples[:BUDGET_SAMPLES]
    factors = dict(folded_factors(graph, exponents))
    errors = {name: np.zeros(len(row)) for name, row in layers.items()}
    power = 0.0
    for number, sample in enumerate(tried):
        tensors = recorded(graph, values, sample)
        wanted = {name: tensors[name] for name in graph.outputs}
        power += sum(float(np.square(each, dtype=np.float64).sum()) for each in wanted.values())
        for done, (name, row) in enumerate(layers.items()):
            if progress is not None:
                progress(number * len(layers) + done, len(tried) * len(layers), f"sensitivity of {name}")
            for index, (layer, _) in enumerate(row):
                real = _real(coder, name, layer, factors)
                errors[name][index] += squared_distance(revised(graph, tensors, {name: real}), wanted)
    return {name: (found / power if power else found).tolist() for name, found in errors.items()}


def output_error(coder: Coder, values: Tensors, exponents: Exponents, samples: Sequence[Tensors]) -> Whole:
    """Squared error of all outputs over their squares, both summed over the first ``WHOLE_SAMPLES``."""
    graph, tried = coder.graph, samples[:WHOLE_SAMPLES]
    factors = dict(folded_factors(graph, exponents))
    wanted = [evaluate(graph, values, sample) for sample in tried]
    power = sum(float(np.square(each, dtype=np.float64).sum()) for outputs in wanted for each in outputs.values())

    def whole(taken: Taken) -> float:
        real = {name: _real(coder, name, each.layer, factors) for name, each in taken.items()}
        found = (evaluate(graph, {**values, **real}, sample) for sample in tried)
        return sum(map(squared_distance, found, wanted)) / (power or 1.0)

    return whole


def _real(coder: Coder, name: str, layer: EncodedLayer, factors: Tensors) -> npt.NDArray[np.float32]:
    """What stands for the weight ``name`` in the float model."""
    return decoded_weight(layer).reshape(coder.graph.parameters[name]) / factors.get(name, np.float32(1))


def decoded_weight(layer: EncodedLayer) -> npt.NDArray[np.float32]:
    """The real values ``[out, reduction]`` a layer stands for."""
    return layer.codec.decode(layer) * layer.scale[:, None]


def squared_distance(found: Tensors, wanted: Tensors) -> float:
    """Summed over all outputs; what is not finite counts as a distance no sum of others reaches."""
    total = sum(float(np.square(found[name] - each, dtype=np.float64).sum()) for name, each in wanted.items())
    return total if math.isfinite(total) else NEVER
