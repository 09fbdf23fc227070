"""Channel exponents: which groups of tensors may carry them, and their values.

A few channels of a transformer's residual stream are far larger than the rest. A power of two a channel evens them out
(FQ-ViT, Lin et al., IJCAI 2022) wherever the vector unit handles rows of channels and the weights behind can absorb it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel.arithmetic import EXPONENT_LIMIT
from accel.errors import CompileError
from accel.graph import Graph, Op, Shape, weight_name
from accel.quantisation import Quantisation, TensorScale
from compiler.quantise.floating import Tensors
from compiler.quantise.groups import Group, group_rules, tie_groups

Axes = Mapping[str, int]
_AROUND = "with the operators that make and read it"


@dataclass(frozen=True, slots=True)
class ChannelExponents:
    """``values[c]`` belongs to index c of ``axis``."""

    axis: int
    values: tuple[int, ...]

    @property
    def factors(self) -> npt.NDArray[np.float64]:
        """``2**exponent`` of each channel."""
        return np.exp2(np.array(self.values, np.float64))

    def spread(self, rank: int) -> npt.NDArray[np.float64]:
        """The factors, shaped to broadcast over a tensor of ``rank`` axes."""
        return self.factors.reshape((-1, *(1,) * (rank - 1 - self.axis)))


Exponents = Mapping[str, ChannelExponents]


def channel_axes(graph: Graph, group: Group) -> dict[str, int]:
    """The channel axis of every member, if the group may carry exponents; else empty.

    Outputs of the array carry none where they leave the network: a class's largest score is seen only with pictures of
    that class.
    """
    if any(name in graph.inputs for name in group.factors) or _is_score(graph, group):
        return {}
    axes = _anchors(graph, group)
    return _spread(graph, group, axes) if axes else {}


def _is_score(graph: Graph, group: Group) -> bool:
    """Whether the array makes what leaves the network."""
    leaves = any(name in graph.outputs for name in group.factors)
    return leaves and any(op.kind in ("gemm", "conv") for op in group.producers)


def eligible_axes(graph: Graph, groups: Sequence[Group]) -> tuple[Mapping[str, int], ...]:
    """For each group, the channel axis of its members, if they may carry exponents.

    A constant that is added carries them only if the sum does: masks of attention scores would gain nothing.
    """
    found = [channel_axes(graph, group) for group in groups]
    known = {name for axes in found for name in axes}
    return tuple(
        {} if _adds_to_plain_sums(graph, group, known) else axes for group, axes in zip(groups, found, strict=True)
    )


def _adds_to_plain_sums(graph: Graph, group: Group, known: set[str]) -> bool:
    constant = all(name in graph.parameters for name in group.factors)
    return constant and any(op.output not in known for op in group.consumers)


def check_codes(graph: Graph, parameters: Tensors, quantisation: Quantisation) -> None:
    """Raise ``CompileError`` for exponents and zero points that the operators around a tensor do not take."""
    groups, codes = tie_groups(graph, parameters), quantisation.tensors
    rules = group_rules(graph, groups)
    for group, allowed, axes in zip(groups, rules, eligible_axes(graph, groups), strict=True):
        shared = max((codes[name].exponents for name in group.factors), key=len)
        for name in group.factors:
            _check_exponents(name, codes[name], shared, axes.get(name))
            if codes[name].zero_point and not allowed.zero_point:
                raise CompileError(f"tensor '{name}': zero point {codes[name].zero_point}; allowed: 0 {_AROUND}")


def _check_exponents(name: str, code: TensorScale, shared: tuple[int, ...], axis: int | None) -> None:
    """``shared``: the exponents of a tensor it is tied to; ``axis``: where it may carry them, if anywhere."""
    found = f"tensor '{name}': channel exponents {list(code.exponents[:8])} along axis {code.axis}"
    if code.exponents and axis is None:
        raise CompileError(f"{found}; allowed: none {_AROUND}")
    if axis is not None and code.exponents != shared:
        raise CompileError(f"{found}; allowed: those of the tensors it shares bytes with, {list(shared[:8])}")
    if code.exponents and code.axis != axis:
        raise CompileError(f"{found}; allowed: axis {axis}")


def channel_exponents(maxima: npt.NDArray[np.float64], weighted: bool = False) -> tuple[int, ...]:
    """Exponents from each channel's absolute maximum: how often it must be halved to reach the median one, or twice
    that if weights are multiplied by them (``weighted``), whose own rounding suffers. Empty if no channel needs any."""
    positive = maxima[maxima > 0]
    if not positive.size:
        return ()
    reference = np.median(positive) * (2 if weighted else 1)
    ratio = np.where(maxima > 0, maxima, positive.min()) / reference
    exponents = np.clip(np.ceil(np.log2(ratio)), 0, EXPONENT_LIMIT).astype(int)
    return tuple(exponents.tolist()) if exponents.any() else ()


def _anchors(graph: Graph, group: Group) -> dict[str, int]:
    """Channel axes that the operators around a group dictate; empty if one of them refuses."""
    axes: dict[str, int] = {}
    for op in group.producers:
        axis = _produced_axis(graph, op)
        if axis is None:
            return {}
        axes[op.output] = axis
    for op in group.consumers:
        for name in {each for each in op.inputs if each in group.factors}:
            wanted = _read_axis(graph, op, name)
            if wanted is None or axes.setdefault(name, wanted) != wanted:
                return {}
    for op in group.inner:
        if op.kind == "embedding":
            axes[op.inputs[0]] = len(graph.shapes[op.inputs[0]]) - 1
    return axes


def _produced_axis(graph: Graph, op: Op) -> int | None:
    last = len(graph.shapes[op.output]) - 1
    if op.kind == "conv":
        return 1
    if op.kind in ("gemm", "layernorm") or _is_channel_gain(graph, op):
        return last
    return last if op.kind in ("add", "sub") and _whole_rows(graph, op) else None


def _is_channel_gain(graph: Graph, op: Op) -> bool:
    """Whether it multiplies what a gemm makes for it alone by a constant a channel: the gemm's output stage does it."""
    x, gain = op.inputs[0], op.inputs[-1]
    channels = graph.shapes[op.output][-1:]
    makers = [each.kind for each in graph.ops if each.output == x]
    alone = sum(each.inputs.count(x) for each in graph.ops) == 1 and x not in graph.outputs
    per_channel = op.kind == "mul" and gain in graph.parameters and _is_tail(graph.shapes[gain], channels)
    return per_channel and makers == ["gemm"] and alone


def _read_axis(graph: Graph, op: Op, name: str) -> int | None:
    """Channel axis an operator wants of its operand, None if it takes no exponents."""
    last = len(graph.shapes[name]) - 1
    if op.kind == "layernorm" and name == op.inputs[0]:
        return last
    if op.kind == "gemm" and name == op.inputs[0]:
        uses = [each for each in graph.ops if weight_name(op) in each.inputs]
        return last if len(uses) == 1 else None
    if op.kind in ("add", "sub"):
        return last if _whole_rows(graph, op) else None
    return last if op.kind == "mean" and _keeps_rows(graph, op, last) else None


def _keeps_rows(graph: Graph, op: Op, last: int) -> bool:
    """Whether a mean runs over the axes just before the channels: then each of its columns is one channel."""
    reduced = _positive(op.attributes["axes"], graph.shapes[op.inputs[0]])
    return reduced == set(range(last - len(reduced), last))


def _whole_rows(graph: Graph, op: Op) -> bool:
    """Whether a sum broadcasts over leading axes only."""
    result = graph.shapes[op.output]
    return all(_is_tail(graph.shapes[name], result) for name in op.inputs)


def _is_tail(shape: Shape, of: Shape) -> bool:
    while shape and shape[0] == 1 and len(shape) > 1:
        shape = shape[1:]
    return len(shape) > 0 and shape == of[len(of) - len(shape) :]


def _spread(graph: Graph, group: Group, anchors: Axes) -> dict[str, int]:
    """Axes of all members from some; empty if they contradict each other, a view breaks the channels up, or a mean runs
    over them."""
    axes, waiting = dict(anchors), list(anchors)
    while waiting:
        name = waiting.pop()
        for op, other in _neighbours(group, name):
            axis = _through(graph, op, name, other, axes[name])
            if axis is None or axes.get(other, axis) != axis:
                return {}
            if other not in axes:
                axes[other] = axis
                waiting.append(other)
    means = [op for op in group.consumers if op.kind == "mean"]
    broken = any(axes[op.inputs[0]] in _positive(op.attributes["axes"], graph.shapes[op.inputs[0]]) for op in means)
    return {} if broken or axes.keys() != group.factors.keys() else axes


def _neighbours(group: Group, name: str) -> Iterator[tuple[Op, str]]:
    for op in group.inner:
        tied = op.inputs[:1] if op.kind == "embedding" else op.inputs
        if name == op.output:
            yield from ((op, other) for other in tied)
        elif name in tied:
            yield op, op.output


def _through(graph: Graph, op: Op, name: str, other: str, axis: int) -> int | None:
    """The channel axis on the other side of a view; None if it is not preserved."""
    here, there, forward = graph.shapes[name], graph.shapes[other], name != op.output
    if op.kind == "reshape":
        return _reshaped(here, there, axis)
    if op.kind == "transpose":
        perm = tuple(op.attributes["perm"])
        return perm.index(axis) if forward else perm[axis]
    if op.kind not in ("slice", "concat", "roll", "pad", "expand", "embedding"):
        return None
    moved = axis - len(here) + len(there)  # expand and embedding add leading axes
    kept = 0 <= moved < len(there) and here[axis] == there[moved]
    touched = "axis" in op.attributes and axis in _positive((op.attributes["axis"],), here)
    return moved if kept and not touched else None


def _reshaped(here: Shape, there: Shape, axis: int) -> int | None:
    before, size = math.prod(here[:axis]), here[axis]
    fits = (i for i, each in enumerate(there) if each == size > 1 and math.prod(there[:i]) == before)
    return next(fits, None)


def _positive(axes: tuple[int, ...], shape: Shape) -> set[int]:
    return {axis % len(shape) for axis in axes}
