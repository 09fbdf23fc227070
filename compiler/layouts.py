"""Where tensors should lie so that concatenations and transposed reshapes cost nothing.

Planning runs backwards: the place an operator's consumer wants is handed to its producer, through reshapes and
transposes, as far as strides can express it. What is not planned gets a buffer of its own.
"""

from __future__ import annotations

import math

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


def plan_layouts(graph: Graph) -> dict[str, View]:
    """Views fixed before lowering: concatenation inputs written in place, transposed results written transposed."""
    planned: dict[str, View] = {}
    producers = {op.output: op for op in graph.ops}
    for op in reversed(graph.ops):
        if op.kind == "concat":
            _plan_concat(graph, producers, planned, op)
        elif op.kind == "reshape" and _forward(graph, producers, op.output) is None:
            view = View(op.output, 0, graph.shapes[op.output], dense_strides(graph.shapes[op.output]))
            _plan_back(graph, producers, planned, op.output, view)
    return planned


def _plan_concat(graph: Graph, producers: dict[str, Op], planned: dict[str, View], op: Op) -> None:
    shape = graph.shapes[op.output]
    if op.output not in planned:
        planned[op.output] = View(op.output, 0, shape, default_strides(shape, None, image=True))
    axis, at = op.attributes["axis"] % len(shape), 0
    for tensor in op.inputs:
        size = graph.shapes[tensor][axis]
        _plan_back(graph, producers, planned, tensor, narrow(planned[op.output], axis, at, at + size))
        at += size


def _plan_back(graph: Graph, producers: dict[str, Op], planned: dict[str, View], tensor: str, view: View) -> bool:
    """Plan ``tensor`` at ``view`` if its producer, through view operators, can write there."""
    op = producers.get(tensor)
    if op is None or tensor in planned or tensor in graph.outputs:
        return False
    if op.kind == "transpose":
        perm = op.attributes["perm"]
        inverse = tuple(perm.index(axis) for axis in range(len(perm)))
        possible = _plan_back(graph, producers, planned, op.inputs[0], transpose(view, inverse))
    elif op.kind == "reshape" or is_free_scaling(graph, op):
        source = reshape(view, graph.shapes[op.inputs[0]])
        possible = source is not None and _plan_back(graph, producers, planned, op.inputs[0], source)
    else:
        possible = _can_write(graph, op, view)
    if possible:
        planned[tensor] = view
    return possible


def is_free_scaling(graph: Graph, op: Op) -> bool:
    """Whether an operator only multiplies by one constant, which folds into requantisation: its result is its input."""
    if op.kind not in ("mul", "div") or op.inputs[1] not in graph.parameters:
        return False
    return math.prod(graph.shapes[op.inputs[1]]) == 1


def _can_write(graph: Graph, op: Op, view: View) -> bool:
    if op.kind in ("slice", "expand", "embedding", "mean"):
        return False
    if op.kind in IMAGE_OPERATORS:
        _, c, h, w = view.strides
        return c == 1 and h == w * view.shape[3]
    if op.kind == "gemm":
        return matrix(view, graph.shapes[op.output][-1]) is not None
    return view.strides[-1] == 1 or op.kind not in ("matmul", "layernorm", "softmax")


def _forward(graph: Graph, producers: dict[str, Op], tensor: str) -> View | None:
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
