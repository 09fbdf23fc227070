"""Tensors that must have one code because they may share bytes, and what the operators around them allow."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from accel.graph import ACTIVATION_FUNCTIONS, Graph, Op
from accel.quantisation import deferred_softmax, stored_tensors, ties
from compiler.quantise.floating import Tensors

FUNCTIONS = frozenset(ACTIVATION_FUNCTIONS)
_VIEWS = frozenset(("reshape", "transpose", "slice", "concat", "roll", "expand"))

Range = tuple[float, float]

# Where a function still does something: beyond, its result no longer changes by a code, or is its argument.
_DOMAINS: Mapping[str, Range] = {
    "relu": (0.0, float("inf")),
    "relu6": (0.0, 6.0),
    "gelu": (-4.0, float("inf")),
    "silu": (-8.0, float("inf")),
    "sigmoid": (-8.0, 8.0),
    "tanh": (-4.0, 4.0),
    "hardswish": (-3.0, float("inf")),
    "hardsigmoid": (-3.0, 3.0),
}


@dataclass(frozen=True, slots=True)
class Group:
    """``factors``: each member's scale over the group's. ``sources``: the members that are not made of other members,
    so that all values of the group occur in them. ``inner``: operators that tie members; ``producers`` and
    ``consumers``: the others that write and read them."""

    factors: Mapping[str, float]
    sources: tuple[str, ...]
    inner: tuple[Op, ...]
    producers: tuple[Op, ...]
    consumers: tuple[Op, ...]


def tie_groups(graph: Graph, values: Tensors) -> tuple[Group, ...]:
    """Every stored tensor in exactly one group, in the graph's order; ``values`` must hold the scalar constants."""
    links: dict[str, list[tuple[str, float]]] = defaultdict(list)
    made: set[str] = set()
    for a, b, factor in ties(graph, values):
        links[a].append((b, factor))
        links[b].append((a, 1 / factor))
        made.add(b)
    groups: list[Group] = []
    placed: set[str] = set()
    readers, writers = graph.consumers(), {op.output: op for op in graph.ops}
    for name in stored_tensors(graph):
        if name not in placed:
            factors = _reached(name, links)
            placed |= factors.keys()
            groups.append(_group(factors, made, readers, writers))
    return tuple(groups)


def _reached(start: str, links: Mapping[str, list[tuple[str, float]]]) -> dict[str, float]:
    factors, waiting = {start: 1.0}, [start]
    while waiting:
        name = waiting.pop()
        for other, factor in links.get(name, ()):
            if other not in factors:
                factors[other] = factors[name] * factor
                waiting.append(other)
    return factors


def _group(
    factors: Mapping[str, float], made: set[str], readers: Mapping[str, list[Op]], writers: Mapping[str, Op]
) -> Group:
    inner = {writers[name].name: writers[name] for name in factors if name in made}
    written = [writers[name] for name in factors if name in writers and name not in made]
    read = {op.name: op for name in factors for op in readers[name] if op.name not in inner}
    sources = tuple(name for name in factors if name not in made)
    return Group(factors, sources, tuple(inner.values()), tuple(written), tuple(read.values()))


@dataclass(frozen=True, slots=True)
class Rules:
    """What a group's code may be. ``domain`` is where its values matter; ``probabilities``: rows of a softmax whose
    division is deferred; ``whole``: no value may be clipped, for the largest arguments of a softmax decide."""

    signed: bool = False
    whole: bool = False
    zero_point: bool = False
    probabilities: bool = False
    domain: Range = (float("-inf"), float("inf"))


def group_rules(graph: Graph, groups: tuple[Group, ...]) -> tuple[Rules, ...]:
    """The rules of each group."""
    softmaxes, products = deferred_softmax(graph)
    return tuple(
        Rules(
            signed=_must_be_signed(group, products),
            whole=any(op.kind == "softmax" for op in group.consumers),
            zero_point=_may_be_offset(graph, group),
            probabilities=any(op.name in softmaxes for op in group.producers),
            domain=_domain(graph, group),
        )
        for group in groups
    )


def _must_be_signed(group: Group, products: frozenset[str]) -> bool:
    """The array's stationary operand is signed, and so are sums yet to be divided by their row's sum."""
    held = any(op.kind == "matmul" and op.inputs[1] in group.factors for op in group.consumers)
    return held or any(op.name in products for op in group.producers)


def _may_be_offset(graph: Graph, group: Group) -> bool:
    """Whether the array or a table makes the tensors, and nothing but those reads them: both absorb a zero point."""
    made = {op.output for op in group.producers}
    return (
        all(op.kind in _VIEWS for op in group.inner)
        and all(name in graph.inputs or name in made for name in group.sources)
        and all(op.kind in FUNCTIONS | {"gemm", "conv"} for op in group.producers)
        and all(_absorbs_offset(op) for op in group.consumers)
    )


def _absorbs_offset(op: Op) -> bool:
    """A padded convolution does not: its padding is the number 0, whatever the zero point."""
    return op.kind in FUNCTIONS or op.kind == "gemm" or (op.kind == "conv" and not any(op.attributes["padding"]))


def _domain(graph: Graph, group: Group) -> Range:
    (name, *others) = group.factors
    if others or name in graph.outputs or len(group.consumers) != 1:
        return Rules().domain
    reader = group.consumers[0]
    if reader.kind == "clip":
        return float(reader.attributes["low"]), float(reader.attributes["high"])
    return _DOMAINS.get(reader.kind, Rules().domain)
