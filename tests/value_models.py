"""Random calibrated models, drawn by hypothesis: the networks of ``strategies`` with numbers that find corner cases.

Scales are nominal, calibrated on random samples, or any that are legal: far too large and small, unsigned, with zero
points and channel exponents wherever the rules allow them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st
from strategies import Coding, codings, graphs, pack_randomly

from accel.arithmetic import EXPONENT_LIMIT
from accel.graph import Graph
from accel.packed import Packed
from accel.quantisation import Quantisation, TensorScale, check_quantisation
from compiler.quantise import calibrate, check_codes, choose_exponents, packed_values, random_samples
from compiler.quantise.assign import PROBABILITIES
from compiler.quantise.exponents import eligible_axes
from compiler.quantise.groups import Rules, group_rules, tie_groups

SCALES = ("nominal", "calibrated", "calibrated", "percentile:99", "mse", "random", "random", "extreme")
CONSTANTS = ("plain", "plain", "plain", "huge biases", "dead channels")


@dataclass(frozen=True)
class Numbers:
    """How a model's numbers are drawn: kind of scales, of constants, and the seed of both."""

    scales: str
    constants: str
    seed: int


def numbers() -> st.SearchStrategy[Numbers]:
    """Any scales and constants."""
    return st.builds(Numbers, st.sampled_from(SCALES), st.sampled_from(CONSTANTS), st.integers(0, 999))


@st.composite
def models(draw: st.DrawFn, most_blocks: int = 5) -> Packed:
    """A random network with random weights, constants and scales."""
    return packed_model(draw(graphs(most_blocks)), draw(codings()), draw(numbers()))


def packed_model(graph: Graph, coding: Coding, chosen: Numbers) -> Packed:
    """The network with weights, constants and scales as chosen."""
    rng = np.random.default_rng(chosen.seed)
    packed = _with_constants(pack_randomly(graph, coding, chosen.seed), chosen.constants, rng)
    found = quantisation(packed, chosen.scales, rng)
    if found is not None:
        check_codes(packed.graph, packed.parameters, found)
    return replace(packed, quantisation=found)


def quantisation(packed: Packed, scales: str, rng: np.random.Generator) -> Quantisation | None:
    """Scales of one of the ``SCALES``."""
    if scales == "nominal":
        return None
    if scales in ("random", "extreme"):
        return random_scales(packed.graph, packed.parameters, rng, extreme=scales == "extreme")
    method = "minmax" if scales == "calibrated" else scales
    values, samples = packed_values(packed), random_samples(packed.graph, 2, int(rng.integers(99)))
    exponents = choose_exponents(packed.graph, values, samples)
    return calibrate(packed.graph, values, samples, method, exponents)


def _with_constants(packed: Packed, kind: str, rng: np.random.Generator) -> Packed:
    biases = {op.inputs[2] for op in packed.graph.weight_ops() if len(op.inputs) > 2}
    if kind == "huge biases":
        grown = {name: packed.parameters[name] * np.float32(10.0 ** rng.uniform(2, 9)) for name in biases}
        return replace(packed, parameters={**packed.parameters, **grown})
    if kind == "dead channels":
        layers = {name: replace(each, scale=_with_dead(each.scale, rng)) for name, each in packed.layers.items()}
        return replace(packed, layers=layers)
    return packed


def _with_dead(scales: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Some scales next to nothing, some of them 0."""
    factors = rng.choice([1.0, 1e-12, 1e-30, 0.0], scales.shape, p=[0.7, 0.1, 0.1, 0.1])
    return (scales * factors).astype(np.float32)


def random_scales(
    graph: Graph, parameters: Mapping[str, np.ndarray], rng: np.random.Generator, extreme: bool = False
) -> Quantisation:
    """Any scales the compiler must accept: near one another, or orders of magnitude apart."""
    groups = tie_groups(graph, parameters)
    tensors: dict[str, TensorScale] = {}
    for group, rules, axes in zip(groups, group_rules(graph, groups), eligible_axes(graph, groups), strict=True):
        code = _random_code(rules, rng, 6.0 if extreme else 2.0)
        (axis, *_) = axes.values() or (0,)
        some = next(iter(axes), "")
        exponents = _random_exponents(graph.shapes[some][axis], rng) if axes else ()
        for name, factor in group.factors.items():
            place = axes.get(name, 0) if exponents else 0
            tensors[name] = replace(code, scale=code.scale * factor, axis=place, exponents=exponents)
    found = Quantisation(tensors, True, "random", 1)
    check_quantisation(graph, found, parameters)
    return found


def _random_code(rules: Rules, rng: np.random.Generator, spread: float) -> TensorScale:
    if rules.probabilities:
        return PROBABILITIES
    scale = 0.05 * 2.0 ** rng.normal(0, spread)
    unsigned = not rules.signed and bool(rng.integers(2))
    offset = unsigned and rules.zero_point and bool(rng.integers(4))
    return TensorScale(scale, int(rng.choice([0, 1, 100, 128, 254, 255])) if offset else 0, unsigned)


def _random_exponents(channels: int, rng: np.random.Generator) -> tuple[int, ...]:
    """None, some, or as far apart as they can be."""
    most = int(rng.choice([0, 1, 3, EXPONENT_LIMIT]))
    values = tuple(rng.integers(0, most + 1, channels).tolist())
    return values if any(values) else ()
