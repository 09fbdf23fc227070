"""An average number of stored bits a weight: each layer gets the codec that serves the model's outputs best.

An integer program minimises the sum of the errors that layers make alone. Together they may make more than that, above
all those of codecs that are too coarse for most layers. So with samples its choice is held against others, as whole
models: its choices without one of the codecs each, and each codec for all layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Self

from accel.codecs import Codec, EncodedLayer, VectorAxis, layer_bytes, stored_bytes
from accel.errors import ConfigError
from accel.graph import Graph, gemm_shape
from accel.packed import weight_parameters
from compiler.compress.choices import Choice, Keep, kept_choices, no_larger_than_int8
from compiler.compress.coder import Coder, depthwise_weights
from compiler.compress.layer import relative_error
from compiler.compress.output_error import FloatModel, Progress, Tensors, WholeModel, layer_errors
from compiler.compress.scales import ScaleMode
from compiler.compress.selection import select

Coded = tuple[EncodedLayer, str]  # and why in that codec


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


Assignment = Mapping[str, Candidate]
"""A candidate for every layer."""


@dataclass(frozen=True, slots=True)
class Trial:
    """A choice that was tried as a whole model: its ``name``, and the ``whole_error`` of the model with all layers
    so."""

    name: str
    assignment: Assignment
    whole_error: float

    @property
    def error(self) -> float:
        """Sum of the errors of all layers alone."""
        return _sum(self.assignment)

    @property
    def stored_bytes(self) -> int:
        """Of all layers."""
        return sum(each.stored_bytes for each in self.assignment.values())


@dataclass(frozen=True, slots=True)
class Spending:
    """How a budget was spent: the sum of all layers' errors alone, ``bound``, which no choice within the budget beats,
    what ``measure`` of error that is, and the budget in bytes. The choice is the best of ``trials``, each on so many
    ``samples``; none if whole models were not tried."""

    candidates: Assignment
    error: float
    bound: float
    measure: str
    limit_bytes: int
    trials: tuple[Trial, ...] = ()
    samples: int = 0

    @property
    def best(self) -> Trial | None:
        """What was chosen, if whole models were tried."""
        return _best(self.trials) if self.trials else None


def _best(trials: Sequence[Trial]) -> Trial:
    return min(trials, key=lambda each: each.whole_error)


OUTPUT_ERROR = "squared error over squared outputs, each layer alone"
WEIGHT_ERROR = "squared error over squared weights, each layer alone: no samples"


def spend(
    budget: Budget,
    candidates: Mapping[str, Sequence[Candidate]],
    measure: str,
    whole: WholeModel | None = None,
    progress: Progress | None = None,
) -> Spending:
    """The choice with the least sum of errors or, given ``whole``, the best of that and its rivals as whole models.

    The rivals of a larger budget need not include what a smaller one chose. Raises ``ConfigError`` with the range of
    budgets if none is possible.
    """
    weights = sum(math.prod(row[0].layer.shape) for row in candidates.values())
    limit = _limit(budget, [[each.stored_bytes for each in row] for row in candidates.values()], weights)
    least, bound = _least_sum(candidates, limit)
    spending = Spending(least, _sum(least), min(bound, _sum(least)), measure, limit)
    if whole is None:
        return spending
    choices = [("least sum", least), *_rivals(least, budget.codecs, candidates, limit)]
    trials = tuple(_trials(choices, whole, progress))
    best = _best(trials)
    return replace(spending, candidates=best.assignment, error=best.error, trials=trials, samples=len(whole.traces))


def _trials(choices: Sequence[tuple[str, Assignment]], whole: WholeModel, progress: Progress | None) -> Iterator[Trial]:
    for done, (name, assignment) in enumerate(choices):
        if progress is not None:
            progress(done, len(choices), "whole models")
        error = whole.error({layer: candidate.layer for layer, candidate in assignment.items()})
        yield Trial(name, assignment, error)


def _sum(assignment: Assignment) -> float:
    """Of the errors of all layers alone."""
    return sum(each.error for each in assignment.values())


def check_possible(budget: Budget, graph: Graph, keep: Keep, axis: VectorAxis, scale: ScaleMode) -> None:
    """Raises ``ConfigError`` as ``spend`` would, before anything is coded; not for depthwise convolutions, whose codec
    their weights have a say in."""
    if depthwise_weights(graph):
        return
    sizes, weights = [], 0
    for name, row in _options(graph, axis, budget.codecs, keep).items():
        shape = gemm_shape(graph.parameters[name])
        scales = shape[0] if scale == "channel" else 1
        sizes.append([sum(stored_bytes(codec, shape, axis, scales).values()) for codec, _ in row.values()])
        weights += math.prod(shape)
    _limit(budget, sizes, weights)


def _limit(budget: Budget, sizes: Sequence[Sequence[int]], weights: int) -> int:
    """The budget in bytes; raises ``ConfigError`` if the smallest candidates do not fit."""
    limit = budget.limit_bytes(weights)
    if limit < sum(map(min, sizes)):
        least, most = (math.ceil(Fraction(80_000 * sum(map(end, sizes)), weights)) / 10_000 for end in (min, max))
        raise ConfigError(
            f"budget {float(budget.bits):g} bits a weight; allowed: at least {least:g} (from {most:g} on, every layer "
            "may have its largest codec)"
        )
    return limit


def _least_sum(candidates: Mapping[str, Sequence[Candidate]], limit: int) -> tuple[Assignment, float]:
    """The choice with the least sum of errors, and a bound on that; the smallest candidates must fit."""
    sizes, errors = (
        [[getattr(each, key) for each in row] for row in candidates.values()] for key in ("stored_bytes", "error")
    )
    found = select(sizes, errors, limit)
    return {name: row[pick] for pick, (name, row) in zip(found.picks, candidates.items(), strict=True)}, found.bound


def _rivals(
    least: Assignment, codecs: Sequence[Codec], candidates: Mapping[str, Sequence[Candidate]], limit: int
) -> Iterator[tuple[str, Assignment]]:
    """Other choices within ``limit`` that may make a better model, named: none of them twice, and not ``least``."""
    known = {_key(least)}
    for codec in codecs:
        alone = {name: [each for each in row if codec in each.serves] for name, row in candidates.items()}
        without = {name: [each for each in row if each.serves != {codec}] for name, row in candidates.items()}
        for name, rows in ((f"least sum without {codec}", without), (f"{codec} for all layers", alone)):
            if all(rows.values()) and sum(min(each.stored_bytes for each in row) for row in rows.values()) <= limit:
                found, _ = _least_sum(rows, limit)
                if _key(found) not in known:
                    known.add(_key(found))
                    yield name, found


def _key(assignment: Assignment) -> tuple[Codec, ...]:
    """What tells assignments apart: candidates of one layer in one codec are the same."""
    return tuple(each.choice[0] for each in assignment.values())


def candidates(
    coder: Coder,
    codecs: Sequence[Codec],
    keep: Keep,
    model: FloatModel,
    samples: Sequence[Tensors],
    progress: Progress | None = None,
) -> dict[str, list[Candidate]]:
    """Every layer in every codec it may have, with the error of the outputs of ``model`` on ``samples`` if it alone is
    so (``layer_errors``), or the relative error of its weights without any."""
    options = _options(coder.graph, coder.vector_axis, codecs, keep)
    layers: dict[str, list[Coded]] = {}
    for done, (name, row) in enumerate(options.items()):
        if progress is not None:
            progress(done, len(options), name)
        layers[name] = [coder.chosen(name, each) for each in row.values()]
    plain = {name: [layer for layer, _ in row] for name, row in layers.items()}
    errors = layer_errors(model, plain, samples, progress) if samples else _weight_errors(coder, plain)
    return {
        name: [
            Candidate(serves, (layer.codec, reason), layer, sum(layer_bytes(layer).values()), error)
            for serves, (layer, reason), error in zip(row, layers[name], errors[name], strict=True)
        ]
        for name, row in options.items()
    }


def _options(
    graph: Graph, axis: VectorAxis, codecs: Sequence[Codec], keep: Keep
) -> dict[str, dict[frozenset[Codec], Choice]]:
    """The choices of each layer by the codecs they serve. A layer kept in a codec has no other; codecs that would be
    larger than int8 are int8, once."""

    def of(name: str) -> dict[frozenset[Codec], Choice]:
        shape = gemm_shape(graph.parameters[name])
        every = {codec: no_larger_than_int8(codec, shape, axis) for codec in codecs}
        first = {codec: (codec, reason) for codec, reason in reversed(every.values())}
        return {frozenset(each for each in codecs if every[each][0] == codec): first[codec] for codec in first}

    kept = kept_choices(graph, keep)
    every_codec = frozenset(codecs)
    return {name: {every_codec: kept[name]} if name in kept else of(name) for name in weight_parameters(graph)}


def _weight_errors(coder: Coder, layers: Mapping[str, Sequence[EncodedLayer]]) -> dict[str, list[float]]:
    return {name: [relative_error(coder.matrix(name), layer) for layer in row] for name, row in layers.items()}
