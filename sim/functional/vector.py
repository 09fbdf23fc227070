"""VEC: every vector function on whole operands, all batches at once. An operand is read before a result is stored."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from accel import arithmetic
from accel.arithmetic import EXPONENT_BIAS, Integers, from_bytes, requantise, saturate, to_bytes
from accel.errors import SimError
from accel.footprint import NORM_BYTES, TABLE_BYTES, has_exponents, vector_strides
from accel.isa import VECTOR_FUNCTIONS, Instruction, VectorFunction
from sim.functional.memory import Box, Bytes
from sim.functional.windows import window_of
from sim.functional.work import Memories, Work


def vec(work: Work, memories: Memories) -> None:
    """Run one VEC of a legal program (``accel.legality``); raises ``SimError`` for impossible bytes in memory."""
    operands = _Operands(work, memories)
    function = operands.function
    values, unsigned = _FUNCTIONS[function.name](operands)
    memories.store(work, operands.out(), to_bytes(values), unsigned)


Result = tuple[Integers, bool | None]  # values, and whether their codes are unsigned; None: bytes as they were


@dataclass(frozen=True, slots=True)
class _Operands:
    """One VEC: its configuration, and its operands ``[batches, rows, columns]`` on demand."""

    work: Work
    memories: Memories

    @property
    def vec(self) -> Instruction:
        return self.work.instruction

    @property
    def function(self) -> VectorFunction:
        return VECTOR_FUNCTIONS[self.vec["function"]]

    @property
    def strides(self) -> Mapping[str, int]:
        return vector_strides(self.vec, self.work.state)

    @property
    def requantisation(self) -> Instruction:
        return self.work.state.required("VRQ", self.vec)

    @property
    def unsigned(self) -> bool:
        return bool(self.requantisation["unsigned"])

    @property
    def has_exponents(self) -> bool:
        return has_exponents(self.function, self.vec, self.work.state)

    def batch(self, operand: str) -> tuple[int, int]:
        """How often VBT repeats the VEC, and its step of one operand."""
        batches = self.work.state.latest.get("VBT")
        return (batches["count"], batches[f"{operand}_stride"]) if batches else (1, 0)

    def factor(self, name: str) -> int:
        """A multiplier of VRQ, two's complement."""
        half = 1 << (arithmetic.MANTISSA_BITS - 1)
        return (self.requantisation[name] ^ half) - half

    def read(self, box: Box) -> Bytes:
        return self.memories.sram.read(box, self.work.index)

    def a_bytes(self) -> Bytes:
        """Operand a: ``[batches, rows, columns]``."""
        count, step = self.batch("a")
        shape = (count, self.vec["rows"], self.vec["columns"])
        return self.read(Box(self.vec["a"], shape, (step, self.strides["a_stride"], self.strides["a_column_stride"])))

    def a(self) -> Integers:
        return from_bytes(self.a_bytes(), bool(self.requantisation["a_unsigned"]))

    def b(self) -> Integers:
        count, step = self.batch("b")
        shape = (count, self.vec["rows"], self.vec["columns"])
        data = self.read(Box(self.vec["b"], shape, (step, self.strides["b_stride"], 1)))
        return from_bytes(data, bool(self.requantisation["b_unsigned"]))

    def b_run(self, size: int) -> Bytes:
        """``size`` bytes in a row at b, of each batch."""
        count, step = self.batch("b")
        return self.read(Box(self.vec["b"], (count, size), (step, 1)))

    def exponents(self) -> tuple[Integers, Integers]:
        """Left shifts of a and b by column that VRQ.parameters holds: 0 to 15."""
        data = self.read(Box(self.requantisation["parameters"], (self.vec["columns"],), (1,)))
        return _nibble(data) + EXPONENT_BIAS, _nibble(data >> 4) + EXPONENT_BIAS

    def pixels(self, start: int, span: int, stride: int, chosen: Integers | None) -> Bytes:
        """``[batches, pixels, columns]`` of an image at ``start``, only the ``chosen`` of its first ``span`` pixels."""
        count, step = self.batch("a")
        if not span:
            return np.zeros((count, 0, self.vec["columns"]), np.uint8)
        shape, column = (count, span, self.vec["columns"]), self.strides["a_column_stride"]
        return self.read(Box(start, shape, (step, stride, column), chosen))

    def out(self) -> Box:
        count, step = self.batch("out")
        rows = 1 if self.function.reduces_rows else self.vec["rows"]
        strides = (step, self.strides["out_stride"], self.strides["out_column_stride"])
        return Box(self.vec["out"], (count, rows, self.vec["columns"]), strides)

    def requantised(self, values: Integers, factor: int, extra: int = 0) -> Result:
        """``sat(round(values * factor, shift + extra))``."""
        shift = self.requantisation["shift"] + extra
        return saturate(requantise(values, factor, shift), self.unsigned), self.unsigned


def _nibble(data: npt.NDArray[Any]) -> Integers:
    """The low four bits, two's complement."""
    return ((data.astype(np.int64) & 15) ^ 8) - 8


def _copy(x: _Operands) -> Result:
    return x.a_bytes().astype(np.int64), None


def _fill(x: _Operands) -> Result:
    return np.zeros((1, 1, 1), np.int64), None


def _table(x: _Operands) -> Result:
    entries = x.b_run(TABLE_BYTES)
    chosen = x.a_bytes()
    batch = np.arange(len(entries))[:, None, None]
    return entries[batch, chosen].astype(np.int64), None


def _add(x: _Operands) -> Result:
    a, b = x.a() * x.factor("a_multiplier"), x.b() * x.factor("b_multiplier")
    if not x.has_exponents:
        return x.requantised(a + b, 1)
    of_a, of_b = x.exponents()
    return x.requantised((a << of_a) + (b << of_b), 1, EXPONENT_BIAS)


def _mul(x: _Operands) -> Result:
    return x.requantised(x.a() * x.b(), x.factor("a_multiplier"))


def _div(x: _Operands) -> Result:
    return x.requantised(arithmetic.divide(x.a() * x.factor("a_multiplier"), x.b()), 1)


def _mean(x: _Operands) -> Result:
    sums = x.a().sum(1, keepdims=True)
    if not x.has_exponents:
        return x.requantised(sums, x.factor("a_multiplier"))
    of_a, _ = x.exponents()
    return x.requantised(sums << of_a, x.factor("a_multiplier"), EXPONENT_BIAS)


def _softmax(x: _Operands) -> Result:
    mantissa, shift = x.factor("b_multiplier"), x.requantisation["shift"]
    shares = arithmetic.softmax(x.a(), x.factor("a_multiplier"), mantissa, shift)
    return saturate(shares, x.unsigned), x.unsigned


def _exponentials(x: _Operands) -> Result:
    return arithmetic.row_exponentials(x.a(), x.factor("a_multiplier")), True


def _layernorm(x: _Operands) -> Result:
    """Along the columns of every row; b holds gains, then offsets, then exponents."""
    columns, requantisation = x.vec["columns"], x.requantisation
    data = x.b_run(columns * (NORM_BYTES + x.has_exponents))
    halves = np.ascontiguousarray(data[:, : NORM_BYTES * columns]).view("<i2").astype(np.int64)
    gains, offsets = halves[:, None, :columns], halves[:, None, columns:]
    values = x.a()
    if x.has_exponents:
        exponents = _nibble(data[:, None, NORM_BYTES * columns :])
        if exponents.min() < 0:
            raise SimError(f"{x.work.where}: channel exponent {exponents.min()}; allowed: 0 to 7")
        values = values << exponents
    epsilon = requantisation["b_multiplier"] << requantisation["epsilon_shift"]
    norm = arithmetic.Norm(epsilon, gains, offsets, requantisation["shift"], requantisation["offset_shift"])
    return saturate(arithmetic.layernorm(values, norm), x.unsigned), x.unsigned


def _windowed(x: _Operands) -> tuple[Integers, Integers]:
    """``[batches, pixels + 1, columns]``, the last pixel one outside the image, and ``[rows, taps]`` places in it."""
    configuration = x.work.state.required("VWN", x.vec)
    window = window_of(configuration, x.vec["rows"])
    unsigned = bool(x.requantisation["a_unsigned"])
    stride = configuration["pixel_stride"]
    data = x.pixels(x.vec["a"], window.span, stride, window.selection)
    outside = np.zeros((len(data), 1, data.shape[2]), np.int64)
    return np.concatenate([from_bytes(data, unsigned), outside], axis=1), window.taps


def _maxpool(x: _Operands) -> Result:
    pixels, taps = _windowed(x)
    outside = pixels.shape[1] - 1
    pixels[:, outside] = -129  # less than any code
    best = pixels[:, taps[:, 0]]
    for column in taps.T[1:]:
        np.maximum(best, pixels[:, column], out=best)
    return np.where(best == -129, 0, best), bool(x.requantisation["a_unsigned"])


def _avgpool(x: _Operands) -> Result:
    pixels, taps = _windowed(x)
    sums = pixels[:, taps[:, 0]]
    for column in taps.T[1:]:
        sums += pixels[:, column]
    return x.requantised(sums, x.factor("a_multiplier"))


def _source_image(x: _Operands, rows: Integers, columns: Integers) -> tuple[Bytes, Integers]:
    """Bytes ``[batches, pixels, columns]`` of input pixels at ``rows`` and ``columns`` of the whole image, and their
    places in them. ``SimError`` for rows before the one a begins with."""
    image = x.work.state.required("VRS", x.vec)
    wanted = (rows - image["in_row"]) * image["in_w"] + columns
    if wanted.min() < 0:
        raise SimError(f"{x.work.where}: reads input row {rows.min()}; a begins with row {image['in_row']}")
    chosen, places = np.unique(wanted, return_inverse=True)
    data = x.pixels(x.vec["a"], int(chosen[-1]) + 1, image["pixel_stride"], chosen)
    return data, places.reshape(wanted.shape)


def _positions(x: _Operands) -> tuple[Instruction, Integers, Integers]:
    """VRS, and row and column of every output pixel."""
    image = x.work.state.required("VRS", x.vec)
    down, right = np.divmod(np.arange(x.vec["rows"], dtype=np.int64), image["out_w"])
    return image, down + image["out_row"], right


def _resize_nearest(x: _Operands) -> Result:
    image, down, right = _positions(x)
    rows = arithmetic.nearest_source(down, image["in_h"], image["out_h"])
    columns = arithmetic.nearest_source(right, image["in_w"], image["out_w"])
    data, places = _source_image(x, rows, columns)
    return data[:, places].astype(np.int64), None


def _resize_bilinear(x: _Operands) -> Result:
    image, down, right = _positions(x)
    top, bottom, lower = arithmetic.linear_source(down, image["in_h"], image["out_h"])
    left, far, farther = arithmetic.linear_source(right, image["in_w"], image["out_w"])
    rows, columns = np.stack([top, top, bottom, bottom]), np.stack([left, far, left, far])
    data, places = _source_image(x, rows, columns)
    unsigned = bool(x.requantisation["a_unsigned"])
    pixels = from_bytes(data, unsigned)
    taps = (pixels[:, places[0]], pixels[:, places[1]], pixels[:, places[2]], pixels[:, places[3]])
    return arithmetic.blend(taps, lower[:, None], farther[:, None]), unsigned


_FUNCTIONS: Mapping[str, Callable[[_Operands], Result]] = {
    "copy": _copy,
    "fill": _fill,
    "add": _add,
    "mul": _mul,
    "div": _div,
    "table": _table,
    "softmax": _softmax,
    "exponentials": _exponentials,
    "layernorm": _layernorm,
    "maxpool": _maxpool,
    "avgpool": _avgpool,
    "mean": _mean,
    "resize_nearest": _resize_nearest,
    "resize_bilinear": _resize_bilinear,
}
