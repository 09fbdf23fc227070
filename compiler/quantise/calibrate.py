"""Scales from samples: the model is evaluated in float, tensor by tensor observed, and every group gets its code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from accel.errors import ModelError
from accel.graph import Graph
from accel.quantisation import Quantisation
from compiler.quantise.assign import assign
from compiler.quantise.exponents import ChannelExponents, Exponents, channel_exponents, eligible_axes
from compiler.quantise.floating import Tensors, evaluate
from compiler.quantise.groups import Group, Range, group_rules, tie_groups
from compiler.quantise.observe import Histogram, Statistics, merged, statistics
from compiler.quantise.operators import Array
from compiler.quantise.ranges import parse_method
from compiler.quantise.samples import check_samples

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True, slots=True)
class Calibration:
    """What calibrating gave: scales, the exponents among them, and what the user should know about the samples."""

    quantisation: Quantisation
    exponents: Exponents
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Histograms:
    """Of values divided by the factors of ``exponents``; ``squared_units`` as for ``statistics``."""

    exponents: Exponents
    squared_units: bool


def calibrate(
    graph: Graph,
    values: Tensors,
    samples: Sequence[Tensors],
    method: str = "minmax",
    exponents: Exponents | None = None,
    progress: Progress | None = None,
) -> Quantisation:
    """The scales of ``calibrate_model``."""
    return calibrate_model(graph, values, samples, method, exponents, progress).quantisation


def calibrate_model(
    graph: Graph,
    values: Tensors,
    samples: Sequence[Tensors],
    method: str = "minmax",
    exponents: Exponents | None = None,
    progress: Progress | None = None,
) -> Calibration:
    """Scales of every stored tensor from ``samples`` (input name to array, each of the graph's shape).

    ``values`` holds real parameters, not yet folded. ``method`` is ``minmax``, ``percentile:P`` or ``mse``.
    ``exponents`` are chosen from the samples unless given (none: ``{}``). ``progress`` gets (samples done, in all, what
    is next). Raises ``ConfigError`` for an unknown method or no samples, ``ModelError`` for samples the graph cannot
    take.
    """
    rule = parse_method(method)
    values = _single(graph, values)
    warnings = check_samples(graph, values, samples)
    groups = tie_groups(graph, values)
    seen: Mapping[str, Statistics] | None = None
    if exponents is None:
        seen = _observed(graph, values, samples, groups, None, progress)
        exponents = _chosen(graph, groups, seen)
    if seen is None or rule.narrow is not None:
        histograms = None if rule.narrow is None else Histograms(exponents, rule.squares)
        seen = _observed(graph, values, samples, groups, histograms, progress)
    evidence = {name: _evidence(each, exponents.get(name)) for name, each in seen.items()}
    tensors = assign(zip(groups, group_rules(graph, groups), strict=True), evidence, exponents, rule.narrow)
    quantisation = Quantisation(tensors, True, method, len(samples))
    return Calibration(quantisation, exponents, (*warnings, *_ignored(seen)))


def choose_exponents(
    graph: Graph, values: Tensors, samples: Sequence[Tensors], progress: Progress | None = None
) -> Exponents:
    """Channel exponents of every tensor that has any; raises what ``calibrate_model`` raises."""
    values = _single(graph, values)
    check_samples(graph, values, samples)
    groups = tie_groups(graph, values)
    return _chosen(graph, groups, _observed(graph, values, samples, groups, None, progress))


def _single(graph: Graph, values: Tensors) -> dict[str, Array]:
    """Parameters as the packed file holds them: float32, or integers."""
    for name in graph.parameters:
        if name not in values:
            raise ModelError(f"parameter '{name}' has no values")
    wide = {name: np.asarray(values[name]) for name in graph.parameters}
    return {name: array if array.dtype.kind in "iu" else array.astype(np.float32) for name, array in wide.items()}


def _observed(
    graph: Graph,
    values: Tensors,
    samples: Sequence[Tensors],
    groups: Sequence[Group],
    histograms: Histograms | None,
    progress: Progress | None,
) -> dict[str, Statistics]:
    """Statistics of every source; with histograms of values divided by the exponents' factors, if asked for."""
    axes = {name: axis for found in eligible_axes(graph, groups) for name, axis in found.items()}
    sources = {name for group in groups for name in group.sources}
    found: dict[str, Statistics] = {}

    def observe(name: str, array: Array) -> None:
        if name in sources:
            added = _statistics(array, axes.get(name), name, histograms)
            found[name] = merged(found[name], added) if name in found else added

    for number, sample in enumerate(samples):
        if progress is not None:
            progress(number, len(samples), "calibration")
        evaluate(graph, values, sample, observe)
    return found


def _statistics(array: Array, axis: int | None, name: str, histograms: Histograms | None) -> Statistics:
    if histograms is None:
        return statistics(array, axis)
    if name not in histograms.exponents:
        return statistics(array, axis, 1.0)
    return statistics(array, axis, histograms.exponents[name].spread(array.ndim), histograms.squared_units)


def _chosen(graph: Graph, groups: Sequence[Group], seen: Mapping[str, Statistics]) -> dict[str, ChannelExponents]:
    chosen: dict[str, ChannelExponents] = {}
    for group, axes in zip(groups, eligible_axes(graph, groups), strict=True):
        if axes:
            maxima = np.max([seen[name].maxima / group.factors[name] for name in group.sources], 0)
            exponents = channel_exponents(maxima, any(op.kind == "gemm" for op in group.consumers))
            chosen |= {name: ChannelExponents(axis, exponents) for name, axis in axes.items() if exponents}
    return chosen


def _evidence(seen: Statistics, exponents: ChannelExponents | None) -> tuple[Range, Histogram | None]:
    factors = 1.0 if exponents is None else exponents.factors
    return (float((seen.lows / factors).min()), float((seen.highs / factors).max())), seen.histogram


def _ignored(seen: Mapping[str, Statistics]) -> list[str]:
    return [
        f"tensor '{name}': {each.ignored:,} values were NaN or infinite and are ignored"
        for name, each in seen.items()
        if each.ignored
    ]
