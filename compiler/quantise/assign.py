"""One code for every group of tied tensors, from the ranges of the tensors all others are views of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from accel.quantisation import TensorScale
from compiler.quantise.exponents import ChannelExponents, Exponents
from compiler.quantise.groups import Group, Range, Rules
from compiler.quantise.observe import Histogram
from compiler.quantise.ranges import Kind, RangeRule, code_of, kind_of

# Powers of a row's largest element, 0 to 1: their code does not depend on data.
PROBABILITIES = TensorScale(1 / TensorScale(1.0, unsigned=True).limits[1], unsigned=True)

MOST_NARROWED = 1000  # a method that shrinks a range further has met a tensor that is mostly one value
_NO_EXPONENTS = ChannelExponents(0, ())


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of one source of a group: its extremes and perhaps a histogram, both in its own units."""

    factor: float
    extremes: Range
    histogram: Histogram | None = None


def assign(
    groups: Iterable[tuple[Group, Rules]],
    evidence: Mapping[str, tuple[Range, Histogram | None]],
    exponents: Exponents,
    narrow: RangeRule | None = None,
) -> dict[str, TensorScale]:
    """The code of every member of all groups; ``evidence`` is by source, divided by its exponents' factors."""
    tensors: dict[str, TensorScale] = {}
    for group, rules in groups:
        known = [Evidence(group.factors[name], *evidence[name]) for name in group.sources]
        code = group_code(rules, known, narrow)
        for name, factor in group.factors.items():
            channels = exponents.get(name, _NO_EXPONENTS)
            scale = code.scale * factor
            tensors[name] = replace(code, scale=scale, axis=channels.axis, exponents=channels.values)
    return tensors


def group_code(rules: Rules, known: Sequence[Evidence], narrow: RangeRule | None) -> TensorScale:
    """The code of a group, in the units of the member whose factor is 1."""
    if rules.probabilities:
        return PROBABILITIES
    known = [replace(each, extremes=_within(each.extremes, rules.domain)) for each in known]
    kind = kind_of(_union(known), signed=rules.signed, zero_point=rules.zero_point)
    if narrow is not None and not rules.whole:
        known = [
            each if each.histogram is None else replace(each, extremes=_narrowed(narrow, each, kind)) for each in known
        ]
    return code_of(_union(known), kind)


def _narrowed(narrow: RangeRule, known: Evidence, kind: Kind) -> Range:
    """What a rule leaves of a range; all of it where that would be next to nothing (a tensor that is mostly 0)."""
    assert known.histogram is not None
    low, high = narrow(known.histogram, known.extremes, kind)
    whole = max(-known.extremes[0], known.extremes[1])
    return (low, high) if max(-low, high) * MOST_NARROWED >= whole else known.extremes


def _within(extremes: Range, domain: Range) -> Range:
    low, high = (min(max(end, domain[0]), domain[1]) for end in extremes)
    return low, high


def _union(known: Sequence[Evidence]) -> Range:
    """In units of the group."""
    lows, highs = ([each.extremes[end] / each.factor for each in known] for end in (0, 1))
    return min(lows), max(highs)
