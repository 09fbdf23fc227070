"""Loads and stores of strided views: loop nests of LDA and STA."""

from __future__ import annotations

from collections.abc import Iterator

from accel.isa import BY_MNEMONIC, Instruction
from accel.metrics import TRAFFIC
from compiler.views import View, merged_axes, outer_offsets, physical_order, transpose

KIND = {name: code for code, name in enumerate(TRAFFIC)}
ROWS = BY_MNEMONIC["LDA"].field("rows").limit - 1
RUN_BYTES = 1 << 17  # a longer contiguous run is cut into rows of this size, which the stride field can step over


def move(mnemonic: str, kind: str, sram: int, address: int, view: View, dense: View) -> Iterator[Instruction]:
    """Copy between ``view`` in DRAM (offset counted from ``address``) and ``dense``, its staged copy at ``sram``."""
    order = physical_order(view)
    view, dense = transpose(view, order), transpose(dense, order)
    stored = tuple(1 if stride == 0 else size for size, stride in zip(view.shape, view.strides, strict=True))
    nest = merged_axes(stored, view.strides, dense.strides)
    run = nest.pop()[0] if nest[-1][1] <= 1 and nest[-1][2] <= 1 else 1
    rows, stride = (nest[-1][0], nest[-1][1]) if nest else (1, 0)
    if nest and nest[-1][2] == run and stride < BY_MNEMONIC["LDA"].field("stride").limit:
        nest.pop()
    else:
        rows, stride = 1, 0
    sizes = [row[0] for row in nest]
    for far, near in outer_offsets(sizes, [row[1] for row in nest], [row[2] for row in nest]):
        yield from _rows(mnemonic, kind, sram + near, address + view.offset + far, rows, run, stride)


def _rows(mnemonic: str, kind: str, sram: int, address: int, rows: int, run: int, stride: int) -> Iterator[Instruction]:
    if run >= BY_MNEMONIC["LDA"].field("row_bytes").limit:
        for row in range(rows):
            yield from contiguous(mnemonic, kind, sram + row * run, address + row * stride, run)
        return
    for first in range(0, rows, ROWS):
        count = min(ROWS, rows - first)
        yield _instruction(mnemonic, kind, sram + first * run, address + first * stride, count, run, stride)


def contiguous(mnemonic: str, kind: str, sram: int, address: int, size: int) -> Iterator[Instruction]:
    """Copy ``size`` consecutive bytes."""
    if size < BY_MNEMONIC["LDA"].field("row_bytes").limit:
        yield _instruction(mnemonic, kind, sram, address, 1, size, 0)
        return
    whole = size // RUN_BYTES
    yield _instruction(mnemonic, kind, sram, address, whole, RUN_BYTES, RUN_BYTES)
    rest = size - whole * RUN_BYTES
    if rest:
        yield _instruction(mnemonic, kind, sram + size - rest, address + size - rest, 1, rest, 0)


def _instruction(
    mnemonic: str, kind: str, sram: int, address: int, rows: int, row_bytes: int, stride: int
) -> Instruction:
    values = {"kind": KIND[kind], "sram": sram, "address": address, "rows": rows, "row_bytes": row_bytes}
    return Instruction(mnemonic, values | {"stride": stride if rows > 1 else 0})
