"""Graph to steps. Weighted operators become ``GemmStep``s, attention products ``ProductStep``s, the rest vector work.

Reshapes, transposes, slices and concatenations are folded into addressing where strides can express it; what cannot be
folded becomes a ``copy`` and is charged. Scalings by constants fold into requantisation; activation functions and
per-channel scales of a GEMM's only consumer fold into its output stage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy.typing as npt

from accel.graph import Graph
from accel.program import INDEX_BYTES, Layer
from accel.quantisation import Quantisation
from compiler.attention import find_chains
from compiler.layouts import default_strides, plan_layouts
from compiler.lower_array import lower_chain, lower_conv, lower_gather, lower_gemm, lower_matmul
from compiler.lower_vector import VECTOR_RULES
from compiler.lowering import Lowering
from compiler.steps import Lowered
from compiler.views import View


def lower(graph: Graph, values: Mapping[str, npt.NDArray[Any]], quantisation: Quantisation) -> Lowered:
    """Lower a graph, whose constants have ``values``; raises ``CompileError`` naming the operator when it does not map
    onto the machine."""
    state = Lowering(graph, values, quantisation)
    state.planned = plan_layouts(graph, state.free)
    _declare_inputs(state)
    chains = find_chains(state)
    deferred = {op.name for chain in chains.values() for op in chain.members}
    rules = {**VECTOR_RULES, "gemm": lower_gemm, "conv": lower_conv, "matmul": lower_matmul, "embedding": lower_gather}
    for op in graph.ops:
        if op.name in chains:
            lower_chain(state, chains[op.name])
        elif op.name not in deferred and op.output not in state.done:
            rules[op.kind](state, op)
    return _finish(state)


def _declare_inputs(state: Lowering) -> None:
    gathers = {op.inputs[1] for op in state.graph.ops if op.kind == "embedding"}
    for name, shape in state.graph.inputs.items():
        element_bytes = INDEX_BYTES if name in gathers else 1
        state.new_buffer(name, math.prod(shape) * element_bytes, "input")
        strides = tuple(s * element_bytes for s in default_strides(shape, None, image=True))
        state.views[name] = View(name, 0, shape, strides)


def _finish(state: Lowering) -> Lowered:
    outputs = {}
    for tensor in state.graph.outputs:
        view = state.operand(tensor)
        shared = math.prod(view.shape) > state.buffers[view.buffer].size_bytes
        if shared or state.buffers[view.buffer].home != "activation":
            view = state.dense(view, _io_layer(state), "output")
        state.buffers[view.buffer] = replace(state.buffers[view.buffer], home="output")
        outputs[tensor] = view
    inputs = {name: state.views[name] for name in state.graph.inputs}
    return Lowered(
        tuple(state.steps), state.buffers, tuple(state.layers), inputs, outputs, dict(state.views), state.stages
    )


def _io_layer(state: Lowering) -> int:
    state.layers.append(Layer("outputs", "io"))
    return len(state.layers) - 1
