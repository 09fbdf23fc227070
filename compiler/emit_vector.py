"""Vector steps to VST, VBT, VWN and VEC; gathers to GTH."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from accel.errors import CompileError
from accel.footprint import WITH_EXPONENTS
from accel.graph import ACTIVATION_FUNCTIONS
from accel.isa import BY_MNEMONIC, VECTOR_CODE, VECTOR_FUNCTIONS, Instruction
from compiler.split import WINDOWED, works_on_rows
from compiler.steps import VectorStep, Window
from compiler.views import View, merged_axes, outer_offsets

LIMIT = BY_MNEMONIC["VEC"].field("rows").limit - 1
Nest = list[list[int]]  # [size, stride of a, of b, of out], outermost first


_SPELLING = {"sub": "add"} | dict.fromkeys(ACTIVATION_FUNCTIONS, "table")  # VEC's name for what is another's in graphs


def vector_instructions(step: VectorStep, parameters: int, fields: Mapping[str, int]) -> Iterator[Instruction]:
    """Instructions of one step whose views lie in SRAM (offsets are addresses), and whose other bytes, if any, at
    ``parameters``; ``fields`` are those of VRQ."""
    if fields:
        channels = {"parameters": parameters + step.first_channel}  # a byte each
        exponents = channels if _spelling(step) in WITH_EXPONENTS and step.exponents else {}
        yield Instruction("VRQ", {**fields, **exponents})
    if step.function in WINDOWED:
        yield from _windowed(step)
    elif step.function == "mean":
        yield from _mean(step)
    elif works_on_rows(step):
        yield from _row_wise(step, parameters)
    else:
        yield from _element_wise(step, parameters)


def _spelling(step: VectorStep) -> str:
    return _SPELLING.get(step.function, step.function)


def _vec(step: VectorStep, a: int, b: int, out: int, rows: int, columns: int) -> Instruction:
    code = VECTOR_CODE[_spelling(step)]
    used = VECTOR_FUNCTIONS[code].operands
    values = {"function": code, "out": out, "rows": rows, "columns": columns}
    return Instruction("VEC", values | ({"a": a} if used else {}) | ({"b": b} if used > 1 else {}))


def _strides(a: int, b: int, out: int, a_column: int, out_column: int) -> Instruction:
    values = {"a_stride": a, "b_stride": b, "out_stride": out}
    return Instruction("VST", values | {"a_column_stride": a_column, "out_column_stride": out_column})


def _batches(count: int, a: int, b: int, out: int) -> Instruction:
    return Instruction("VBT", {"count": count, "a_stride": a, "b_stride": b, "out_stride": out})


def _element_wise(step: VectorStep, parameters: int) -> Iterator[Instruction]:
    b_strides = step.b.strides if step.b is not None else (0,) * len(step.out.shape)
    nest = merged_axes(step.out.shape, step.a.strides, b_strides, step.out.strides)
    nest = _split_long(sorted(nest, key=lambda row: -row[3]))
    columns = nest.pop()
    if step.b is not None and columns[2] != 1 and columns[0] > 1:
        raise CompileError(
            f"layer {step.layer} ({step.function}): the second operand must be dense along its last axis"
        )
    second = step.b.offset if step.b is not None else parameters
    yield from _loops(step, nest, columns[0], columns[1], columns[3], second)


def _row_wise(step: VectorStep, parameters: int) -> Iterator[Instruction]:
    """The last axis whole, as columns."""
    *shape, columns = step.a.shape
    b_strides = step.b.strides[:-1] if step.b is not None else (0,) * len(shape)
    second = step.b.offset if step.b is not None else parameters
    nest = _split_long(merged_axes(shape, step.a.strides[:-1], b_strides, step.out.strides[:-1]))
    yield from _loops(step, nest, columns, step.a.strides[-1], step.out.strides[-1], second)


def _loops(
    step: VectorStep, nest: Nest, columns: int, a_column: int, out_column: int, second: int
) -> Iterator[Instruction]:
    """Rows and batches in hardware, what is left of the nest unrolled."""
    rows = nest.pop() if nest else [1, 0, 0, 0]
    batch = nest.pop() if nest else [1, 0, 0, 0]
    b_stride = rows[2] if step.b is not None else rows[1]  # unused: what saves a change of configuration
    yield _strides(rows[1], b_stride, rows[3], a_column, out_column)
    yield _batches(*batch)
    sizes, *strides = (list(column) for column in zip(*nest, strict=True)) if nest else ([], [], [], [])
    for a, b, out in outer_offsets(sizes, *strides):
        yield _vec(step, step.a.offset + a, second + b, step.out.offset + out, rows[0], columns)


def _split_long(nest: Nest) -> Nest:
    """Loops longer than a field can count, cut in two."""
    done: Nest = []
    for size, *strides in nest:
        inner = size
        while inner > LIMIT:
            inner = next(inner // factor for factor in range(2, inner + 1) if inner % factor == 0)
        if inner < size:
            done.append([size // inner, *(stride * inner for stride in strides)])
        done.append([inner, *strides])
    return done


def window_fields(window: Window, a: View, out_w: int) -> dict[str, int]:
    """Fields of GMC and VWN for a window over the image ``a[H, W, C]``."""
    height, width, _ = a.shape
    return {
        "kernel_h": window.kernel[0],
        "kernel_w": window.kernel[1],
        "stride_h": window.stride[0],
        "stride_w": window.stride[1],
        "dilation_h": window.dilation[0],
        "dilation_w": window.dilation[1],
        "pad_top": window.pad_top,
        "pad_left": window.pad_left,
        "in_h": height,
        "in_w": width,
        "out_w": out_w,
        "pixel_stride": a.strides[1] if width > 1 else a.strides[0],
        "channel_major": int(window.channel_major),
    }


def pixel_stride(view: View) -> int:
    """Bytes from pixel to pixel of an image ``[H, W, C]``."""
    return view.strides[1] if view.shape[1] > 1 else view.strides[0]


def _windowed(step: VectorStep) -> Iterator[Instruction]:
    height, width, channels = step.out.shape
    yield _geometry(step)
    yield _strides(0, 0, pixel_stride(step.out), step.a.strides[2], step.out.strides[2])
    yield _batches(1, 0, 0, 0)
    yield _vec(step, step.a.offset, 0, step.out.offset, height * width, channels)


def _geometry(step: VectorStep) -> Instruction:
    """VWN of a pooling window, VRS of the images of a resize."""
    if step.resizing is None:
        assert step.window is not None
        return Instruction("VWN", window_fields(step.window, step.a, step.out.shape[1]))
    rows = step.resizing
    heights = {"in_h": rows.in_height, "out_h": rows.out_height, "in_row": rows.in_row, "out_row": rows.out_row}
    widths = {"in_w": step.a.shape[1], "out_w": step.out.shape[1], "pixel_stride": pixel_stride(step.a)}
    return Instruction("VRS", heights | widths)


def _mean(step: VectorStep) -> Iterator[Instruction]:
    rows, columns = step.a.shape
    yield _strides(step.a.strides[0], 0, 0, step.a.strides[1], step.out.strides[0])
    yield _batches(1, 0, 0, 0)
    yield _vec(step, step.a.offset, 0, step.out.offset, rows, columns)
