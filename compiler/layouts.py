"""Where tensors should lie so that concatenations and transposed reshapes cost nothing.

Planning runs backwards: the place an operator's consumer wants is handed to its producer, through reshapes and
transposes, as far as strides can express it. What is not planned gets a buffer of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from accel.graph import Graph, Op, Shape
from compiler.views import View, dense_strides, matrix, narrow, physical_order, reshape, transpose

IMAGE_ORDER = (0, 2, 3, 1)  # NCHW tensors lie as NHWC: channels are the array's reduction and columns
IMAGE_OPERATORS = frozenset(("conv", "maxpool", "avgpool", "resize"))
VIEW_OPERATORS = frozenset(("reshape", "transpose", "slice"))


def default_strides(shape: Shape, like: View | None, image: bool = False) -> Shape:
    """Gapless strides: in the order of ``like`` if given, NHWC for images, else row-major."""
    if like is not None and len(like.shape) == len(shape):
        return dense_strides(shape, physical_order(like))
    return dense_strides(shape, IMAGE_ORDER if image and len(shape) == 4 else None)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Views fixed so far, by tensor; results of the operators named in ``free`` share the bytes of their operand."""

    graph: Graph
    producers: Mapping[str, Op]
    free: frozenset[str]
    views: dict[str, View] = field(default_factory=dict)


def plan_layouts(graph: Graph, free: frozenset[str]) -> dict[str, View]:
    """Views fixed before lowering: concatenation inputs written in place, transposed results written transposed.
    Operators named in ``free`` only scale: their result has the bytes of their operand."""
    plan = _Plan(graph, {op.output: op for op in graph.ops}, free)
    for op in reversed(graph.ops):
        if op.kind == "concat":
            _plan_concat(plan, op)
        elif op.kind == "reshape" and _forward(graph, plan.producers, op.output) is None:
            view = View(op.output, 0, graph.shapes[op.output], dense_strides(graph.shapes[op.output]))
            _plan_back(plan, op.output, view)
    return plan.views


def _plan_concat(plan: _Plan, op: Op) -> None:
    shape = plan.graph.shapes[op.output]
    if op.output not in plan.views:
        plan.views[op.output] = View(op.output, 0, shape, default_strides(shape, None, image=True))
    axis, at = op.attributes["axis"] % len(shape), 0
    for tensor in op.inputs:
        size = plan.graph.shapes[tensor][axis]
        _plan_back(plan, tensor, narrow(plan.views[op.output], axis, at, at + size))
        at += size


def _plan_back(plan: _Plan, tensor: str, view: View) -> bool:
    """Plan ``tensor`` at ``view`` if its producer, through view operators, can write there."""
    op = plan.producers.get(tensor)
    if op is None or tensor in plan.views or tensor in plan.graph.outputs:
        return False
    if op.kind == "transpose":
        perm = op.attributes["perm"]
        inverse = tuple(perm.index(axis) for axis in range(len(perm)))
        possible = _plan_back(plan, op.inputs[0], transpose(view, inverse))
    elif op.kind == "reshape" or op.name in plan.free:
        source = reshape(view, plan.graph.shapes[op.inputs[0]])
        possible = source is not None and _plan_back(plan, op.inputs[0], source)
    else:
        possible = _can_write(plan.graph, op, view)
    if possible:
        plan.views[tensor] = view
    return possible


def _can_write(graph: Graph, op: Op, view: View) -> bool:
    if op.kind in ("slice", "expand", "embedding", "mean"):
        return False
    if op.kind in IMAGE_OPERATORS:
        _, c, h, w = view.strides
        return c == 1 and h == w * view.shape[3]
    if op.kind == "gemm":
        return matrix(view, graph.shapes[op.output][-1]) is not None
    return view.strides[-1] == 1 or op.kind not in ("matmul", "layernorm", "softmax")


def _forward(graph: Graph, producers: Mapping[str, Op], tensor: str) -> View | None:
    """The view a tensor gets when every producer writes its default layout; ``None`` where a copy would be needed."""
    op = producers.get(tensor)
    shape = graph.shapes[tensor]
    if op is None or op.kind not in VIEW_OPERATORS:
        image = op is None or op.kind in IMAGE_OPERATORS
        return View(tensor, 0, shape, default_strides(shape, None, image))
    source = _forward(graph, producers, op.inputs[0])
    if source is None:
        return View(tensor, 0, shape, dense_strides(shape))
    if op.kind == "transpose":
        return transpose(source, op.attributes["perm"])
    if op.kind == "slice":
        return narrow(source, op.attributes["axis"] % len(shape), op.attributes["start"], op.attributes["stop"])
    return reshape(source, shape)
