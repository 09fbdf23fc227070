"""Lowering of what the array does: weighted operators, attention products, and embeddings.

Activation functions and per-channel scales of a GEMM's only consumer fold into its output stage, scalings by constants
too. Attention is lowered head by head.
"""

from __future__ import annotations

import math
from dataclasses import replace

from accel.errors import CompileError
from accel.graph import Op, gemm_shape, weight_name
from accel.program import INDEX_BYTES
from compiler.attention import Chain
from compiler.images import as_image, conv_window, hwc, is_image
from compiler.lower_vector import chain_vector_step
from compiler.lowering import UNARY, Lowering
from compiler.steps import GatherStep, GemmStep, OutputStage, ProductStep, VectorStep, Window
from compiler.views import View, dense_strides, matrix, reshape, select, transpose, unravel


def output_stage(state: Lowering, op: Op) -> OutputStage:
    """Follow only consumers that the output stage can do for free, marking them done."""
    operands = op.inputs[:1] if op.kind != "matmul" else op.inputs
    found = OutputStage(operands, op.output, op.output, normalised=op.name in state.normalised)
    while (reader := state.only_consumer(found.result)) is not None:
        stage = _absorbed(state, op, reader, found)
        if stage is None:
            break
        state.done.add(reader.output)
        before = reader.output if not stage.function else stage.before
        found = replace(stage, result=reader.output, before=before)
    state.stages[op.output] = found
    return found


def _absorbed(state: Lowering, op: Op, reader: Op, found: OutputStage) -> OutputStage | None:
    if reader.kind in UNARY and not found.function:
        bounds = (reader.attributes["low"], reader.attributes["high"]) if reader.kind == "clip" else (0.0, 0.0)
        return replace(found, function=reader.kind, bounds=bounds)
    if reader.kind not in ("mul", "div") or reader.inputs[0] != found.result:
        return None
    if state.is_scalar(reader.inputs[1]):
        gain = state.gain(reader)
        name = "gain_after" if found.function else "gain"
        return replace(found, **{name: getattr(found, name) * gain})
    if op.kind != "matmul" and reader.kind == "mul" and not found.function and _per_column(state, op, reader):
        return replace(found, column_gains=(*found.column_gains, reader.inputs[1]))
    return None


def _per_column(state: Lowering, op: Op, reader: Op) -> bool:
    """Whether the other factor is one constant per output channel (LayerScale, unfolded norms)."""
    tensor, shape = reader.inputs[1], state.shape(reader.output)
    axis = 1 if op.kind == "conv" else len(shape) - 1
    padded = (1,) * (len(shape) - len(state.shape(tensor))) + state.shape(tensor)
    return tensor in state.graph.parameters and all(n == (shape[i] if i == axis else 1) for i, n in enumerate(padded))


def lower_gemm(state: Lowering, op: Op) -> None:
    """``x[..., K] @ w.T``: rows are all leading axes of x."""
    columns, reduction = gemm_shape(state.shape(weight_name(op)))
    x = state.operand(op.inputs[0])
    rows = x.elements // reduction
    index = _weighted_layer(state, op, "gemm", rows, reduction, columns, 1)
    stage = output_stage(state, op)
    a = matrix(x, reduction) or matrix(state.dense(x, index, "rows"), reduction)
    out, copy_to = _matrix_out(state, stage.result, columns)
    assert a is not None
    image = reshape(a, (rows, 1, reduction))
    out_image = reshape(out, (rows, 1, columns))
    assert image is not None and out_image is not None
    _emit_gemm(state, op, index, image, out_image, Window(), 1, stage)
    _copy_back(state, index, out, copy_to)


def _matrix_out(state: Lowering, tensor: str, columns: int) -> tuple[View, View | None]:
    """Output as ``[rows, columns]``; when the planned place has no such shape, a dense buffer and where to copy it."""
    view = state.allocate(tensor)
    flat = matrix(view, columns)
    if flat is not None:
        return flat, None
    buffer = state.new_buffer(f"{tensor}/rows", view.elements)
    return View(buffer, 0, (view.elements // columns, columns), (columns, 1)), view


def _copy_back(state: Lowering, layer: int, source: View, target: View | None) -> None:
    if target is not None:
        shaped = reshape(source, target.shape)
        assert shaped is not None
        state.steps.append(VectorStep(layer, "copy", shaped, target))


def _weighted_layer(state: Lowering, op: Op, kind: str, rows: int, reduction: int, columns: int, groups: int) -> int:
    figures = {"rows": rows, "reduction": reduction, "columns": columns // groups}
    weights = reduction * columns
    return state.layer(op, kind, macs=rows * weights, weights=weights, **figures)


def _emit_gemm(
    state: Lowering, op: Op, layer: int, a: View, out: View, window: Window, groups: int, stage: OutputStage
) -> None:
    bias = op.inputs[2] if len(op.inputs) > 2 else ""
    step = GemmStep(layer, a, out, window, weight_name(op), groups, bias, stage)
    state.steps.append(step)


def lower_conv(state: Lowering, op: Op) -> None:
    """Convolution as GEMM over an im2col window; images of a batch one after another."""
    x, groups = state.operand(op.inputs[0]), op.attributes["groups"]
    columns, reduction = gemm_shape(state.shape(weight_name(op)))
    images, _, height, width = state.shape(op.output)
    index = _weighted_layer(state, op, "conv", images * height * width, reduction, columns, groups)
    stage = output_stage(state, op)
    image = as_image(state, x, index)
    out = state.allocate(stage.result, image=True)
    target = None
    if not is_image(out):
        buffer = state.new_buffer(f"{stage.result}/image", out.elements)
        target, out = out, View(buffer, 0, out.shape, dense_strides(out.shape, (0, 2, 3, 1)))
    window = conv_window(op)
    for n in range(images):
        _emit_gemm(state, op, index, hwc(image, n), hwc(out, n), window, groups, stage)
    if target is not None:
        state.steps.append(VectorStep(index, "copy", out, target))


def lower_matmul(state: Lowering, op: Op) -> None:
    """A product of two activations outside an attention chain: every batch item in turn."""
    index = product_layer(state, op)
    stage = output_stage(state, op)
    out = state.allocate(stage.result)
    batch = out.shape[:-2]
    a, b = state.operand(op.inputs[0]), state.operand(op.inputs[1])
    for item in range(math.prod(batch)):
        at = unravel(item, batch)
        emit_product(state, op, index, select(a, at), select(b, at), select(out, at), stage)


def product_layer(state: Lowering, op: Op) -> int:
    """Layer row of an attention product: macs of all batch items, the GEMM of one."""
    *_, rows, reduction = state.shape(op.inputs[0])
    columns, items = state.shape(op.output)[-1], math.prod(state.shape(op.output)[:-2])
    macs = items * rows * reduction * columns
    return state.layer(op, "attention", macs=macs, rows=rows, reduction=reduction, columns=columns)


def emit_product(state: Lowering, op: Op, layer: int, a: View, b: View, out: View, stage: OutputStage) -> None:
    """One ``ProductStep``; operands whose strides the array cannot follow are copied first."""
    transpose_b = bool(op.attributes["transpose_b"])
    if b.strides[1] != 1 and b.shape[1] > 1:
        if b.strides[0] == 1:
            b, transpose_b = transpose(b, (1, 0)), not transpose_b
        else:
            b = state.dense(b, layer, "stationary")
    if a.strides[1] != 1 and a.shape[1] > 1:
        a = state.dense(a, layer, "moving")
    target = out
    if out.strides[1] != 1 and out.shape[1] > 1:
        buffer = state.new_buffer(f"{op.output}/rows", out.elements)
        target = View(buffer, 0, out.shape, dense_strides(out.shape))
    state.steps.append(ProductStep(layer, a, b, target, transpose_b, stage))
    _copy_back(state, layer, target, out if target is not out else None)


def lower_chain(state: Lowering, chain: Chain) -> None:
    """Attention, one batch item (head) at a time, so that only one score map is alive."""
    first, last = chain.members[0], chain.members[-1]
    indices = {op.name: product_layer(state, op) for op in (first, last)}
    middle = [op for op in chain.members[1:-1] if not _is_free(state, op)]
    indices |= {op.name: state.layer(op, "vector") for op in middle}
    stage = output_stage(state, last)
    out = state.allocate(stage.result)
    batch = state.shape(first.output)[:-2]
    plain = state.stages[first.output] = OutputStage(first.inputs, first.output, first.output)
    for item in range(math.prod(batch)):
        at = unravel(item, batch)
        scores = _head_scores(state, first, item)
        a, b = (select(state.operand(t), at) for t in first.inputs)
        emit_product(state, first, indices[first.name], a, b, scores, plain)
        for op in middle:
            chain_vector_step(state, op, indices[op.name], scores, item)
        values = state.operand(last.inputs[1])
        at_last = unravel(item, values.shape[:-2])
        emit_product(state, last, indices[last.name], scores, select(values, at_last), select(out, at_last), stage)


def _head_scores(state: Lowering, op: Op, item: int) -> View:
    shape = state.shape(op.output)[-2:]
    return View(state.new_buffer(f"{op.output}[{item}]", math.prod(shape)), 0, shape, dense_strides(shape))


def _is_free(state: Lowering, op: Op) -> bool:
    return op.kind == "reshape" or state.is_free_scaling(op)


def lower_gather(state: Lowering, op: Op) -> None:
    """Embedding look-up: rows of a DRAM table by indices that lie in SRAM."""
    table, ids = op.inputs
    row_bytes = state.shape(table)[1]
    index = state.layer(op, "io", rows=math.prod(state.shape(ids)), columns=row_bytes)
    state.operand(table)
    out = matrix(state.allocate(op.output), row_bytes)
    flat = reshape(state.operand(ids), (math.prod(state.shape(ids)),))
    if flat is None or out is None or out.strides[0] != row_bytes or not _are_indices(flat):
        raise CompileError(f"node '{op.name}' (embedding): indices and result must be contiguous")
    indices = View(flat.buffer, flat.offset, (flat.elements, INDEX_BYTES), (INDEX_BYTES, 1))
    state.steps.append(GatherStep(index, indices, table, row_bytes, out, op.output))


def _are_indices(view: View) -> bool:
    """Whether int32 elements follow one another without gaps."""
    return view.elements == 1 or view.strides[0] == INDEX_BYTES
