"""Lowering of everything the vector unit does, and of operators that only move data."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product

from accel.arithmetic import LARGEST_NORM_ROW
from accel.errors import CompileError
from accel.graph import Op
from compiler.images import as_image, conv_window, hwc, is_image
from compiler.layouts import default_strides
from compiler.lowering import UNARY, Lowering
from compiler.steps import Resizing, VectorStep, Window
from compiler.views import View, broadcast_to, dense_strides, narrow, reshape, select, transpose, unravel


def _output(state: Lowering, op: Op, *inputs: str) -> View:
    """Where an element-wise result goes: over an input nobody else reads, else a place of its own."""
    for tensor in inputs:
        reusable = tensor in state.fresh and state.only_consumer(tensor) is op
        if reusable and op.output not in state.planned and state.shape(tensor) == state.shape(op.output):
            state.views[op.output] = state.views[tensor]
            state.fresh.add(op.output)
            return state.views[tensor]
    likes = [state.views[t] for t in inputs if t in state.views and state.shape(t) == state.shape(op.output)]
    return state.allocate(op.output, likes[0] if likes else None)


def lower_unary(state: Lowering, op: Op) -> None:
    """An element-wise function that no GEMM absorbed."""
    x = state.operand(op.inputs[0])
    index = state.layer(op, "vector")
    state.steps.append(VectorStep(index, op.kind, x, _output(state, op, op.inputs[0]), result=op.output))


def lower_binary(state: Lowering, op: Op) -> None:
    """Two operands, broadcasting; a product with one constant folds into requantisation and costs nothing."""
    if state.is_free_scaling(op):
        _as_view(state, op, reshape_or_same(state, op))
        return
    index = state.layer(op, "vector")
    shape = state.shape(op.output)
    a, b = (broadcast_to(state.operand(tensor), shape) for tensor in op.inputs)
    out = _output(state, op, *op.inputs)
    exponents = op.kind in ("add", "sub") and state.has_exponents(*op.inputs, op.output)
    second = _walkable(state, b, out, index, exponents)
    state.steps.append(VectorStep(index, op.kind, a, out, second, result=op.output, exponents=exponents))


def _walkable(state: Lowering, second: View, out: View, layer: int, along_last: bool) -> View:
    """``second``, or a copy: the vector unit reads it byte after byte along the innermost axis of ``out`` or, where
    columns are channels, along the last one."""
    long = [axis for axis, size in enumerate(out.shape) if size > 1]
    last = len(out.shape) - 1
    inner = last if along_last else min(long, key=lambda axis: out.strides[axis], default=None)
    if inner is None or second.strides[inner] == 1:
        return second
    buffer = state.new_buffer(f"{second.buffer}/second", second.elements)
    copy = View(buffer, 0, out.shape, default_strides(out.shape, None if along_last else out))
    state.steps.append(VectorStep(layer, "copy", second, copy))
    return copy


def reshape_or_same(state: Lowering, op: Op) -> View:
    """The first operand's view in the shape of the output (they hold the same elements)."""
    view = state.operand(op.inputs[0])
    shaped = reshape(view, state.shape(op.output))
    assert shaped is not None, op
    return shaped


def chain_vector_step(state: Lowering, op: Op, layer: int, scores: View, item: int) -> None:
    """One operator of an attention chain on one head's score map, in place."""
    if len(op.inputs) == 1:
        function = _softmax_function(state, op) if op.kind == "softmax" else op.kind
        state.steps.append(VectorStep(layer, function, scores, scores, result=op.output))
        return
    shape = state.shape(op.output)
    other = broadcast_to(state.operand(op.inputs[1]), shape)
    second = select(other, unravel(item, shape[:-2]))
    exponents = state.has_exponents(*op.inputs, op.output)
    state.steps.append(VectorStep(layer, op.kind, scores, scores, second, result=op.output, exponents=exponents))


def _softmax_function(state: Lowering, op: Op) -> str:
    """Whether the division is left to the product behind it."""
    return "exponentials" if op.name in state.deferred else "softmax"


def lower_softmax(state: Lowering, op: Op) -> None:
    """Softmax along any axis: rows run along it."""
    x, out = state.operand(op.inputs[0]), _output(state, op, op.inputs[0])
    axis = op.attributes["axis"] % len(x.shape)
    perm = (*(i for i in range(len(x.shape)) if i != axis), axis)
    index = state.layer(op, "vector")
    function = _softmax_function(state, op)
    state.steps.append(VectorStep(index, function, transpose(x, perm), transpose(out, perm), result=op.output))


def lower_layernorm(state: Lowering, op: Op) -> None:
    """Layer normalisation over the last axis; gamma and beta are constants."""
    columns = state.graph.shapes[op.output][-1]
    if columns > LARGEST_NORM_ROW:
        raise CompileError(f"node '{op.name}' (layernorm): rows of {columns}; allowed: at most {LARGEST_NORM_ROW}")
    x, out = state.operand(op.inputs[0]), _output(state, op, op.inputs[0])
    index = state.layer(op, "vector")
    exponents = state.has_exponents(op.inputs[0])
    state.steps.append(VectorStep(index, "layernorm", x, out, result=op.output, exponents=exponents))


def _image_in_out(state: Lowering, op: Op, layer: int) -> tuple[View, View, View | None]:
    """NHWC input and output of a windowed operator; third is where to copy the output when it must lie elsewhere."""
    x = as_image(state, state.operand(op.inputs[0]), layer)
    out = state.allocate(op.output, image=True)
    if is_image(out):
        return x, out, None
    buffer = state.new_buffer(f"{op.output}/image", out.elements)
    return x, View(buffer, 0, out.shape, dense_strides(out.shape, (0, 2, 3, 1))), out


def _lower_windowed(
    state: Lowering, op: Op, function: str, window: Window | None = None, resizing: Resizing | None = None
) -> None:
    index = state.layer(op, "vector")
    x, out, target = _image_in_out(state, op, index)
    for n in range(x.shape[0]):
        images = hwc(x, n), hwc(out, n)
        state.steps.append(VectorStep(index, function, *images, window=window, resizing=resizing, result=op.output))
    if target is not None:
        state.steps.append(VectorStep(index, "copy", out, target))


def lower_pool(state: Lowering, op: Op) -> None:
    """Max and average pooling."""
    _lower_windowed(state, op, op.kind, conv_window(op))


def lower_resize(state: Lowering, op: Op) -> None:
    """Nearest or bilinear resizing of an image."""
    resizing = Resizing(state.shape(op.inputs[0])[2], state.shape(op.output)[2])
    _lower_windowed(state, op, f"resize_{op.attributes['mode']}", resizing=resizing)


def lower_mean(state: Lowering, op: Op) -> None:
    """Mean over axes: reduced axes become rows, kept axes columns; if need be, images of a batch one after another."""
    x = state.operand(op.inputs[0])
    reduced = sorted(axis % len(x.shape) for axis in op.attributes["axes"])
    index = state.layer(op, "vector")
    exponents = state.has_exponents(op.inputs[0], op.output)
    columns = x.shape[-1] if exponents else 0
    items = _mean_items(x, reduced, columns) or [_gathered(state, x, reduced, index)]
    flat = reshape(state.allocate(op.output), (math.prod(state.shape(op.output)),))
    if flat is None:
        raise CompileError(f"node '{op.name}' (mean): its result must be contiguous")
    width = flat.elements // len(items)
    for i, rows in enumerate(items):
        target = narrow(flat, 0, i * width, (i + 1) * width)
        state.steps.append(VectorStep(index, "mean", rows, target, result=op.output, exponents=exponents))


def _gathered(state: Lowering, view: View, reduced: list[int], layer: int) -> View:
    """``[rows, columns]`` as a copy, for reduced axes that interleave with kept ones."""
    kept = [axis for axis in range(len(view.shape)) if axis not in reduced]
    copied = state.dense(transpose(view, (*reduced, *kept)), layer, "mean")
    rows = math.prod(view.shape[axis] for axis in reduced)
    gathered = reshape(copied, (rows, copied.elements // rows))
    assert gathered is not None
    return gathered


def _mean_items(view: View, reduced: list[int], wanted: int) -> list[View]:
    """``[rows, columns]`` of the whole view, else of every item of as few leading axes as it takes, else none.

    ``wanted`` is the number of columns each item must have, if any (those of one byte of exponents each).
    """
    for lead in range(reduced[0] + 1):
        rows = [axis - lead for axis in reduced]
        columns = [axis - lead for axis in range(lead, len(view.shape)) if axis not in reduced]
        if wanted and math.prod(view.shape[lead + axis] for axis in columns) != wanted:
            continue
        items = [_collapse(select(view, at), rows, columns) for at in product(*map(range, view.shape[:lead]))]
        if all(item is not None for item in items):
            return [item for item in items if item is not None]
    return []


def _collapse(view: View, rows: list[int], columns: list[int]) -> View | None:
    """``[prod(rows), prod(columns)]`` of a view, or ``None``."""
    ordered = transpose(view, (*rows, *columns))
    count = 1
    for axis in rows:
        count *= view.shape[axis]
    return reshape(ordered, (count, view.elements // count))


def lower_reshape(state: Lowering, op: Op) -> None:
    """A new shape: a view where strides allow, else a copy."""
    x = state.operand(op.inputs[0])
    view = reshape(x, state.shape(op.output))
    if view is None:
        index = state.layer(op, "vector")
        view = reshape(state.dense(x, index, "reshape"), state.shape(op.output))
        assert view is not None
        state.views[op.output] = view
        return
    _as_view(state, op, view)


def _as_view(state: Lowering, op: Op, view: View) -> None:
    """Let the result be ``view`` of the operand; if it is planned elsewhere (and not there already), copy it there."""
    if op.output not in state.planned:
        state.alias(op, view)
    elif state.allocate(op.output) != view:
        index = state.layer(op, "vector")
        state.steps.append(VectorStep(index, "copy", view, state.views[op.output]))


def lower_transpose(state: Lowering, op: Op) -> None:
    """Permuted axes: always a view."""
    _as_view(state, op, transpose(state.operand(op.inputs[0]), op.attributes["perm"]))


def lower_slice(state: Lowering, op: Op) -> None:
    """A range of one axis: always a view."""
    x = state.operand(op.inputs[0])
    axis = op.attributes["axis"] % len(x.shape)
    state.views[op.output] = narrow(x, axis, op.attributes["start"], op.attributes["stop"])


def lower_concat(state: Lowering, op: Op) -> None:
    """Joined tensors: inputs planned to lie there already cost nothing, the others are copied."""
    out = state.allocate(op.output)
    axis, at, index = op.attributes["axis"] % len(out.shape), 0, -1
    for tensor in op.inputs:
        size = state.shape(tensor)[axis]
        piece = narrow(out, axis, at, at + size)
        at += size
        if state.operand(tensor) != piece:
            index = state.layer(op, "vector") if index < 0 else index
            state.steps.append(VectorStep(index, "copy", state.operand(tensor), piece))


def lower_pad(state: Lowering, op: Op) -> None:
    """Zeros around a tensor: fill, then copy the inside."""
    x = state.operand(op.inputs[0])
    index = state.layer(op, "vector")
    out = state.allocate(op.output, x)
    inner = out
    for axis, (before, size) in enumerate(zip(op.attributes["before"], x.shape, strict=True)):
        inner = narrow(inner, axis, before, before + size)
    state.steps.append(VectorStep(index, "fill", out, out))
    state.steps.append(VectorStep(index, "copy", x, inner))


def lower_roll(state: Lowering, op: Op) -> None:
    """A cyclic shift: two copies."""
    x = state.operand(op.inputs[0])
    axis, index = op.attributes["axis"] % len(x.shape), state.layer(op, "vector")
    out = state.allocate(op.output, x)
    size = x.shape[axis]
    shift = op.attributes["shift"] % size
    for start, stop, target in ((0, size - shift, shift), (size - shift, size, 0)):
        if start < stop:
            piece = narrow(out, axis, target, target + stop - start)
            state.steps.append(VectorStep(index, "copy", narrow(x, axis, start, stop), piece))


def lower_expand(state: Lowering, op: Op) -> None:
    """Broadcast as a copy with stride 0."""
    x = broadcast_to(state.operand(op.inputs[0]), state.shape(op.output))
    index = state.layer(op, "vector")
    buffer = state.new_buffer(op.output, x.elements)
    state.views[op.output] = View(buffer, 0, x.shape, default_strides(x.shape, None))
    state.steps.append(VectorStep(index, "copy", x, state.views[op.output]))


VECTOR_RULES: dict[str, Callable[[Lowering, Op], None]] = {
    **dict.fromkeys(UNARY, lower_unary),
    **dict.fromkeys(("add", "sub", "mul", "div"), lower_binary),
    "softmax": lower_softmax,
    "layernorm": lower_layernorm,
    "maxpool": lower_pool,
    "avgpool": lower_pool,
    "mean": lower_mean,
    "resize": lower_resize,
    "pad": lower_pad,
    "reshape": lower_reshape,
    "transpose": lower_transpose,
    "slice": lower_slice,
    "concat": lower_concat,
    "roll": lower_roll,
    "expand": lower_expand,
}
