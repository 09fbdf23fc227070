"""Cutting steps into parts along their rows (or columns), and repeating them for every item of a batch."""

from __future__ import annotations

import itertools
from dataclasses import replace

from accel.arithmetic import source_rows
from compiler.steps import GatherStep, GemmStep, ProductStep, Resizing, Step, VectorStep
from compiler.tile import Tiling
from compiler.views import View, narrow

WINDOWED = frozenset(("maxpool", "avgpool", "resize_nearest", "resize_bilinear"))
ROW_WISE = frozenset(("softmax", "exponentials", "layernorm"))


def split_axis(step: Step) -> int:
    """Axis of ``step.out`` along which it can be cut."""
    if not isinstance(step, VectorStep) or step.function in WINDOWED or step.function == "mean":
        return 0
    axes = range(len(step.out.shape) - works_on_rows(step))
    cuttable = [axis for axis in axes if step.out.shape[axis] > 1]
    return max(cuttable, key=lambda axis: step.out.strides[axis], default=0)


def works_on_rows(step: VectorStep) -> bool:
    """Whether the last axis must stay whole, as the columns of a VEC."""
    return step.function in ROW_WISE or step.exponents


def most_parts(step: Step) -> int:
    """Into how many parts the step can be cut at most."""
    return step.out.shape[split_axis(step)]


def split(step: Step, parts: int, unit: int = 1) -> tuple[Step, ...]:
    """``parts`` steps of nearly equal rows that together do what ``step`` does.

    Cuts fall on multiples of ``unit`` rows, which may leave fewer parts, unless that makes parts of no ``unit`` rows.
    """
    size = most_parts(step)
    unit = unit if parts * unit <= size else 1
    edges = [*(size * i // parts // unit * unit for i in range(parts)), size]
    return tuple(_cut(step, start, stop) for start, stop in itertools.pairwise(edges) if start < stop)


def split_columns(step: GemmStep, tiling: Tiling, parts: int) -> tuple[GemmStep, ...]:
    """``parts`` steps that each take whole strips (or whole gemms) of the weights, and all of the moving operand."""
    width, units = column_units(tiling)
    edges = [min(units * i // parts * width, step.out.shape[2]) for i in range(parts + 1)]
    return tuple(
        replace(step, out=narrow(step.out, 2, start, stop), first_column=start)
        for start, stop in itertools.pairwise(edges)
        if start < stop
    )


def column_units(tiling: Tiling) -> tuple[int, int]:
    """``(columns, count)`` of the units a weight matrix can be cut into along its columns."""
    return (tiling.columns, tiling.gemms) if tiling.gemms > 1 else (tiling.tile_columns, tiling.strips)


def _cut(step: Step, start: int, stop: int) -> Step:
    axis = split_axis(step)
    out = narrow(step.out, axis, start, stop)
    if isinstance(step, GemmStep) or (isinstance(step, VectorStep) and step.function in WINDOWED):
        return _cut_window(step, out, start, stop)
    if isinstance(step, GatherStep):
        return replace(step, ids=narrow(step.ids, 0, start, stop), out=out)
    if isinstance(step, ProductStep):
        return replace(step, a=narrow(step.a, 0, start, stop), out=out)
    if step.function == "mean":
        return replace(step, a=narrow(step.a, 1, start, stop), out=out, first_channel=step.first_channel + start)
    b = None if step.b is None else narrow(step.b, axis, start, stop)
    return replace(step, a=narrow(step.a, axis, start, stop), b=b, out=out)


def _cut_window(step: GemmStep | VectorStep, out: View, start: int, stop: int) -> Step:
    if isinstance(step, VectorStep) and step.resizing is not None:
        return _cut_resizing(step, step.resizing, out, start, stop)
    window = step.window
    assert window is not None
    height = step.a.shape[0]
    first = start * window.stride[0] - window.pad_top
    last = (stop - 1) * window.stride[0] - window.pad_top + (window.kernel[0] - 1) * window.dilation[0] + 1
    low, high = max(first, 0), min(last, height)
    pad_top = max(low - first, 0)
    if low >= high:  # all of it lies in the padding: keep a row that no tap reaches, so that the view is not empty
        low, high, pad_top = 0, 1, last - first
    piece = replace(window, pad_top=pad_top)
    return replace(step, a=narrow(step.a, 0, low, high), out=out, window=piece)


def _cut_resizing(step: VectorStep, images: Resizing, out: View, start: int, stop: int) -> Step:
    """Output rows ``start..stop-1`` of the part, from the input rows they interpolate between."""
    first, last = (images.out_row + row for row in (start, stop - 1))
    low, _ = source_rows(first, images.in_height, images.out_height)
    _, high = source_rows(last, images.in_height, images.out_height)
    piece = replace(images, in_row=low, out_row=first)
    a = narrow(step.a, 0, low - images.in_row, high + 1 - images.in_row)
    return replace(step, a=a, out=out, resizing=piece)


def shifted(step: Step, offsets: dict[str, int]) -> Step:
    """The step with every view of a buffer in ``offsets`` moved by that many bytes."""

    def move(view: View) -> View:
        return replace(view, offset=view.offset + offsets.get(view.buffer, 0))

    if isinstance(step, GatherStep):
        return replace(step, ids=move(step.ids), out=move(step.out))
    if isinstance(step, ProductStep):
        return replace(step, a=move(step.a), b=move(step.b), out=move(step.out))
    if isinstance(step, GemmStep):
        return replace(step, a=move(step.a), out=move(step.out))
    return replace(step, a=move(step.a), b=None if step.b is None else move(step.b), out=move(step.out))
