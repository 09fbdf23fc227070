"""Finding attention: product, row-wise work on the scores, product. Chains are lowered head by head."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from accel.graph import ACTIVATION_FUNCTIONS, Op

if TYPE_CHECKING:
    from compiler.lowering import Lowering

SCORE_OPERATORS = frozenset(("add", "sub", "mul", "div", "reshape", "softmax", *ACTIVATION_FUNCTIONS))


@dataclass(frozen=True, slots=True)
class Chain:
    """``members[0]`` and ``members[-1]`` are ``matmul``s; those between work on the scores in place."""

    members: tuple[Op, ...]


def find_chains(state: Lowering) -> dict[str, Chain]:
    """Chains by the name of their last product."""
    chains: dict[str, Chain] = {}
    taken: set[str] = set()
    for op in state.graph.ops:
        if op.kind == "matmul" and op.name not in taken and math.prod(state.shape(op.output)[:-2]) > 1:
            members = _follow(state, op)
            if members:
                chains[members[-1].name] = Chain(members)
                taken.update(member.name for member in members)
    return chains


def _follow(state: Lowering, first: Op) -> tuple[Op, ...]:
    """The chain that starts at ``first``, or nothing."""
    members, tensor, scores = [first], first.output, state.shape(first.output)[-2:]
    while (reader := state.only_consumer(tensor)) is not None and reader.inputs[0] == tensor:
        members.append(reader)
        if reader.kind == "matmul":
            return tuple(members) if _same_items(state, first, reader) else ()
        if not _keeps_scores(state, reader, scores):
            return ()
        tensor = reader.output
    return ()


def _same_items(state: Lowering, first: Op, last: Op) -> bool:
    return math.prod(state.shape(first.output)[:-2]) == math.prod(state.shape(last.output)[:-2])


def _keeps_scores(state: Lowering, op: Op, scores: tuple[int, ...]) -> bool:
    shape = state.shape(op.output)
    if op.kind not in SCORE_OPERATORS or shape[-2:] != scores:
        return False
    if op.kind in ("mul", "div") and state.is_scalar(op.inputs[1]) and not state.is_free_scaling(op):
        return False
    if math.prod(shape) != math.prod(state.shape(op.inputs[0])):
        return False
    if any(state.shape(tensor)[-1] != scores[1] and not state.is_scalar(tensor) for tensor in op.inputs[1:]):
        return False  # one number a row: the vector unit reads its second operand along the row
    last_axis = op.kind != "softmax" or op.attributes["axis"] in (-1, len(shape) - 1)
    return last_axis and all(tensor in state.graph.parameters for tensor in op.inputs[1:])
