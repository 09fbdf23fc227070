"""GEM and GMS: exact integer products of rows and weights, and what happens to their sums on the way to the SRAM.

Sums are formed in float64, exact here: products stay below 2**15 and there are fewer than 2**20 of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.arithmetic import (
    Integers,
    normalise_rows,
    requantise,
    saturate,
    to_bytes,
    unpack_words,
)
from accel.errors import SimError
from accel.footprint import BIAS_BYTES, TABLE_BYTES, convolution_groups, stage_bytes, table_address
from sim.functional.flow import WeightFlow
from sim.functional.memory import Box, Bytes, run_of
from sim.functional.windows import Window, window_of
from sim.functional.work import Memories, Work

Reals = npt.NDArray[np.float64]
_BLOCK = 1 << 21  # elements of operand a expanded at a time: they stay in the cache, and large images fit into memory


def gem(work: Work, memories: Memories, flow: WeightFlow) -> None:
    """GEM: rows times decoded weights."""
    operand = _Operand(work, memories, convolution_groups(work.instruction, work.state))
    sums = np.empty((work.instruction["rows"], work.instruction["columns"]), np.int64)
    for rows, weights in flow.take(work):
        operand.multiply(rows, weights, sums)
    _finish(work, memories, sums)


def gms(work: Work, memories: Memories) -> None:
    """GMS: rows times another operand in the activation SRAM."""
    instruction, output = work.instruction, work.state.required("GMO", work.instruction)
    shape = (output["reduction"], instruction["columns"])
    shape = shape[::-1] if instruction["transpose_b"] else shape
    b = memories.sram.read(Box(instruction["b"], shape, (output["b_stride"], 1)), work.index, work.unfenced)
    weights = b.view(np.int8) if instruction["transpose_b"] else b.view(np.int8).T
    operand = _Operand(work, memories, groups=1)
    sums = np.empty((instruction["rows"], instruction["columns"]), np.int64)
    operand.multiply(slice(0, len(sums)), weights, sums)
    if output["normalise"]:
        _check_sums(work, sums)
        sums = normalise_rows(sums, operand.row_sums())
    _finish(work, memories, sums)


class _Operand:
    """Operand a of one product: the pixels its window touches, ``uint8[pixels, groups * channels]``."""

    def __init__(self, work: Work, memories: Memories, groups: int) -> None:
        self.configuration = work.state.required("GMC", work.instruction)
        output, rows = work.state.required("GMO", work.instruction), work.instruction["rows"]
        self.window: Window = window_of(self.configuration, rows)
        self.groups = groups
        self.channels = output["reduction"] // self.window.taps.shape[1]
        self.per_group = max(1, output["tile_columns"] // max(1, work.instruction["groups_per_tile"]))
        size = groups * self.channels
        shape = (self.window.span, size)
        strides = (self.configuration["pixel_stride"], 1)
        if not shape[0]:
            self.pixels: Bytes = np.zeros((0, size), np.uint8)
            return
        box = Box(work.instruction["a"], shape, strides, self.window.selection)
        self.pixels = memories.sram.read(box, work.index, work.unfenced)

    def multiply(self, rows: slice, weights: npt.NDArray[np.int8], sums: Integers) -> None:
        """Fill ``sums[rows]`` with the products of these rows and ``weights[columns, reduction]``."""
        if self.groups > 1:
            self._multiply_groups(rows, weights, sums)
            return
        stationary = weights.T.astype(np.float64)
        for part in self._parts(rows, len(sums)):
            sums[part] = self._expanded(part) @ stationary

    def row_sums(self) -> Integers:
        """Sum of every row of a."""
        parts = [self._expanded(part).sum(1) for part in self._parts(slice(0, None), len(self.window.taps))]
        return np.concatenate(parts).astype(np.int64)

    def _parts(self, rows: slice, total: int) -> Iterator[slice]:
        """Slices of rows that are expanded at a time."""
        stop = total if rows.stop is None else min(rows.stop, total)
        step = max(1, _BLOCK // (self.window.taps.shape[1] * self.channels * self.groups))
        return (slice(first, min(first + step, stop)) for first in range(rows.start, stop, step))

    def _tapped(self, rows: slice) -> npt.NDArray[Any]:
        """``[rows, taps, groups * channels]``; what lies outside the image is 0."""
        pixels = self.pixels if self.configuration["a_unsigned"] else self.pixels.view(np.int8)
        if self.window.dense:
            return pixels[rows][:, None, :]
        spare = np.zeros((1, pixels.shape[1]), pixels.dtype)
        found: npt.NDArray[Any] = np.concatenate([pixels, spare])[self.window.taps[rows]]
        return found

    def _expanded(self, rows: slice) -> Reals:
        """``[rows, reduction]`` in the order the weights stream; one group."""
        tapped = self._tapped(rows)
        if self.configuration["channel_major"]:
            tapped = tapped.transpose(0, 2, 1)
        return tapped.reshape(len(tapped), -1).astype(np.float64)

    def _multiply_groups(self, rows: slice, weights: npt.NDArray[np.int8], sums: Integers) -> None:
        """As ``multiply``: group g of the columns reads its own channels."""
        taps, columns = self.window.taps.shape[1], len(weights)
        padded = np.zeros((self.groups * self.per_group, weights.shape[1]), np.float64)
        padded[:columns] = weights
        shape = (self.groups, self.per_group, *self._reduction_axes(taps))
        stationary = padded.reshape(shape)
        if self.configuration["channel_major"]:
            stationary = stationary.swapaxes(2, 3)  # now groups, columns, taps, channels
        for part in self._parts(rows, len(sums)):
            tapped = self._tapped(part).reshape(-1, taps, self.groups, self.channels)
            if self.channels == self.per_group == 1:
                sums[part] = _depthwise(tapped[..., 0], stationary[:, 0, :, 0])[:, :columns]
            else:
                moving = tapped.transpose(2, 0, 1, 3).reshape(self.groups, -1, taps * self.channels)
                still = stationary.reshape(self.groups, self.per_group, -1).transpose(0, 2, 1)
                product = (moving.astype(np.float64) @ still).transpose(1, 0, 2)
                sums[part] = product.reshape(len(product), -1)[:, :columns]

    def _reduction_axes(self, taps: int) -> tuple[int, int]:
        return (self.channels, taps) if self.configuration["channel_major"] else (taps, self.channels)


def _depthwise(tapped: npt.NDArray[Any], weights: Reals) -> npt.NDArray[np.int32]:
    """``sum over t of tapped[rows, t, groups] * weights[groups, t]``; at most 4095 taps, so int32 holds it."""
    total = np.zeros((tapped.shape[0], tapped.shape[2]), np.int32)
    for tap, factors in enumerate(weights.T.astype(np.int32)):
        total += tapped[:, tap] * factors
    return total


def _finish(work: Work, memories: Memories, sums: Integers) -> None:
    """Bias, multipliers, saturation, table; store."""
    instruction, output = work.instruction, work.state.required("GMO", work.instruction)
    biases, words, table = _parameters(work, memories)
    _check_sums(work, sums)
    if output["bias"]:
        sums += biases
        _check_sums(work, sums)
    codes = saturate(requantise(sums, *unpack_words(words)), bool(output["unsigned"]))
    stored = table[to_bytes(codes)] if output["table"] else to_bytes(codes)
    unsigned = None if output["table"] else bool(output["unsigned"])  # what entries mean, only the table knows
    memories.store(work, Box(instruction["out"], stored.shape, (output["out_stride"], 1)), stored, unsigned)


def _parameters(work: Work, memories: Memories) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.uint32], Bytes]:
    """Biases, multipliers and table of a product; what it does without is empty."""
    output, columns = work.state.required("GMO", work.instruction), work.instruction["columns"]
    size, biases = stage_bytes(work.instruction, output), BIAS_BYTES * columns * output["bias"]
    data = memories.sram.read(run_of(output["parameters"], size), work.index, work.unfenced).copy()
    at = run_of(table_address(work.instruction, output), TABLE_BYTES * output["table"])
    table = memories.sram.read(at, work.index, work.unfenced).copy() if output["table"] else data[:0]
    return data[:biases].view("<i4"), data[biases:].view("<u4"), table


def _check_sums(work: Work, sums: Integers) -> None:
    """Accumulators are int32."""
    low, high = int(sums.min()), int(sums.max())
    if low < -(1 << 31) or high >= 1 << 31:
        bad = low if low < -(1 << 31) else high
        row, column = np.argwhere(sums == bad)[0]
        raise SimError(f"{work.where}: sum {bad} of row {row}, column {column}; allowed: int32")
