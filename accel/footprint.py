"""Which bytes every instruction reads and writes: the one answer that compiler, checker and executor share.

Instructions are walked in program order; a ``QueueState`` keeps the configuration in force.
Each access is the smallest interval of bytes that holds all bytes touched, so strided accesses include their gaps;
those of resizing are whole input rows.

Defaults until they are first set: without VST, rows are dense (row strides ``columns``, column strides 1); without VBT,
one batch. GMC and GMO must precede the first GEM or GMS, VWN the first pooling VEC, VRS the first
resizing one, VRQ the first that requantises. The elements of b lie
one byte apart; those of a and out ``a_column_stride`` and ``out_column_stride`` bytes. Elements are one byte.

Reads of a table by GTH have addresses only the data knows: one row at ``address`` stands for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from accel.arithmetic import source_rows
from accel.errors import IsaError
from accel.fold import loaded_bytes
from accel.isa import BLOCK_BYTES, VECTOR_FUNCTIONS, Instruction, VectorFunction, disassemble
from accel.tiles import codes_per_vector_of

Space = Literal["dram", "activation", "codebook"]

ID_BYTES = 4  # int32 index of a GTH
BIAS_BYTES = 4  # int32
SCALE_BYTES = 4  # a multiplier (``accel.arithmetic.Multiplier``)
NORM_BYTES = 4  # gain and offset of a column, int16 each
TABLE_BYTES = 256  # one entry for every byte
CODEBOOK_SPAN = 1 << 21  # bank 1 begins here in the address space "codebook": no bank is larger (LDC.bytes)

CONFIGURATION = ("GMC", "GMO", "VST", "VBT", "VWN", "VRS", "VRQ")


@dataclass(frozen=True, slots=True)
class Access:
    """Bytes ``start`` up to, not including, ``stop`` of one memory, read or written."""

    space: Space
    start: int
    stop: int
    write: bool


@dataclass(slots=True)
class QueueState:
    """The last configuration instruction of each kind, as the compute and vector queues see it."""

    latest: dict[str, Instruction] = field(default_factory=dict)

    def update(self, instruction: Instruction) -> None:
        """Take over a configuration instruction; others change nothing."""
        if instruction.mnemonic in CONFIGURATION:
            self.latest[instruction.mnemonic] = instruction

    def required(self, mnemonic: str, user: Instruction) -> Instruction:
        """The configuration ``user`` relies on; raises ``IsaError`` if nothing has set it."""
        found = self.latest.get(mnemonic)
        if found is None:
            raise IsaError(f"'{disassemble(user)}' needs a {mnemonic} before it in the program; there is none")
        return found


def accesses(instructions: Iterable[Instruction]) -> Iterator[tuple[Access, ...]]:
    """One tuple of accesses per instruction, in program order, reads first.

    Raises ``IsaError`` if an instruction relies on a configuration that nothing has set.
    """
    state = QueueState()
    for instruction in instructions:
        state.update(instruction)
        yield instruction_accesses(instruction, state)


def instruction_accesses(instruction: Instruction, state: QueueState) -> tuple[Access, ...]:
    """Accesses of one instruction under ``state``; intervals of no bytes are left out."""
    rule = _RULES.get(instruction.mnemonic)
    found = rule(instruction, state) if rule else ()
    return tuple(access for access in found if access.stop > access.start)


def _strided(start: int, count: int, stride: int, size: int) -> tuple[int, int]:
    """The interval of ``count`` runs of ``size`` bytes, ``stride`` apart."""
    return (start, start + (count - 1) * stride + size) if count and size else (start, start)


def _read(space: Space, interval: tuple[int, int]) -> Access:
    return Access(space, *interval, write=False)


def _write(space: Space, interval: tuple[int, int]) -> Access:
    return Access(space, *interval, write=True)


def _moved(move: Instruction) -> tuple[tuple[int, int], tuple[int, int]]:
    """DRAM and SRAM intervals of LDA or STA."""
    dram = _strided(move["address"], move["rows"], move["stride"], move["row_bytes"])
    return dram, (move["sram"], move["sram"] + move["rows"] * move["row_bytes"])


def _lda(load: Instruction, state: QueueState) -> tuple[Access, ...]:
    dram, sram = _moved(load)
    return _read("dram", dram), _write("activation", sram)


def _sta(store: Instruction, state: QueueState) -> tuple[Access, ...]:
    dram, sram = _moved(store)
    return _read("activation", sram), _write("dram", dram)


def _ldw(load: Instruction, state: QueueState) -> tuple[Access, ...]:
    return (_read("dram", _strided(load["address"], load["blocks"], BLOCK_BYTES, BLOCK_BYTES)),)


def codebook_interval(bank: int, size: int) -> tuple[int, int]:
    """Address interval of the first ``size`` bytes of a bank in the space "codebook"."""
    return bank * CODEBOOK_SPAN, bank * CODEBOOK_SPAN + size


def _ldc(load: Instruction, state: QueueState) -> tuple[Access, ...]:
    bank = codebook_interval(load["bank"], loaded_bytes(load))
    return _read("dram", _strided(load["address"], 1, 0, load["bytes"])), _write("codebook", bank)


def _gth(gather: Instruction, state: QueueState) -> tuple[Access, ...]:
    rows, row_bytes = gather["rows"], gather["row_bytes"]
    return (
        _read("activation", (gather["ids"], gather["ids"] + ID_BYTES * rows)),
        _read("dram", _strided(gather["address"], min(rows, 1), 0, row_bytes)),
        _write("activation", (gather["sram"], gather["sram"] + rows * row_bytes)),
    )


def decoder_codebook_bytes(dec: Instruction) -> int:
    """Bytes of the codebooks, of all stages, a DEC looks its codes up in; 0 for integers."""
    return (codes_per_vector_of(dec) << dec["code_bits"]) * dec["vector_length"] if dec["codebook"] else 0


def _dec(dec: Instruction, state: QueueState) -> tuple[Access, ...]:
    return (_read("codebook", codebook_interval(dec["bank"], decoder_codebook_bytes(dec))),)


def _gem(gem: Instruction, state: QueueState) -> tuple[Access, ...]:
    return _product(gem, state, convolution_groups(gem, state))


def _gms(gms: Instruction, state: QueueState) -> tuple[Access, ...]:
    output = state.required("GMO", gms)
    shape = (output["reduction"], gms["columns"])
    count, size = shape[::-1] if gms["transpose_b"] else shape
    stationary = _strided(gms["b"], count, output["b_stride"], size)
    return _read("activation", stationary), *_product(gms, state, groups=1)


def convolution_groups(gem: Instruction, state: QueueState) -> int:
    """Groups the columns of a GEM cover: 1 unless tiles hold several groups side by side."""
    per_tile = gem["groups_per_tile"]
    if per_tile <= 1:
        return 1
    columns_per_group = max(1, state.required("GMO", gem)["tile_columns"] // per_tile)
    return -(-gem["columns"] // columns_per_group)


def _product(gem: Instruction, state: QueueState, groups: int) -> tuple[Access, ...]:
    """Moving operand, parameters and result of GEM or GMS."""
    window, output = state.required("GMC", gem), state.required("GMO", gem)
    channels = groups * -(-output["reduction"] // max(1, window["kernel_h"] * window["kernel_w"]))
    start, table = output["parameters"], table_address(gem, output)
    return (
        _read("activation", _window_interval(gem["a"], window, gem["rows"], channels)),
        _read("activation", (start, start + stage_bytes(gem, output))),
        _read("activation", (table, table + output["table"] * TABLE_BYTES)),
        _write("activation", _strided(gem["out"], gem["rows"], output["out_stride"], gem["columns"])),
    )


def stage_bytes(gem: Instruction, output: Instruction) -> int:
    """Bytes of biases and multipliers that a GEM or GMS reads under the GMO ``output``."""
    scales = gem["columns"] if output["channel_scales"] else 1
    return output["bias"] * BIAS_BYTES * gem["columns"] + SCALE_BYTES * scales


def table_address(gem: Instruction, output: Instruction) -> int:
    """Where the table of a GEM or GMS begins, if GMO asks for one."""
    offset = output["b_stride"] if gem.mnemonic == "GEM" else stage_bytes(gem, output)
    return output["parameters"] + offset


def _window_interval(start: int, window: Instruction, rows: int, pixel_bytes: int) -> tuple[int, int]:
    """Bytes that ``rows`` output pixels read through a window; ``pixel_bytes`` of every pixel."""
    pixels = window_pixels(window, rows)
    if pixels is None:
        return start, start
    first, last = (start + pixel * window["pixel_stride"] for pixel in pixels)
    return first, last + pixel_bytes


def window_pixels(window: Instruction, rows: int) -> tuple[int, int] | None:
    """First and last input pixel (``y*in_w + x``) that output pixels 0 .. rows-1 read; ``None`` if all is padding.

    ``window`` is a GMC or VWN. Output pixel r lies at row ``r // out_w`` and column ``r % out_w``; the taps of a window
    that fall outside the image are zeros and touch nothing.
    """
    in_w, out_w = window["in_w"], window["out_w"]
    vertical = (window["stride_h"], window["kernel_h"], window["dilation_h"], window["pad_top"], window["in_h"])
    horizontal = (window["stride_w"], window["kernel_w"], window["dilation_w"], window["pad_left"], in_w)
    full, rest = divmod(rows, max(1, out_w))
    touched: list[int] = []
    for first_y, last_y, width in ((0, full - 1, out_w), (full, full, rest)):
        y = _tap_range(first_y, last_y, *vertical)
        x = _tap_range(0, width - 1, *horizontal)
        if y and x:
            touched += [y[0] * in_w + x[0], y[1] * in_w + x[1]]
    return (min(touched), max(touched)) if touched else None


@lru_cache(maxsize=4096)
def _tap_range(
    first: int, last: int, stride: int, kernel: int, dilation: int, pad: int, size: int
) -> tuple[int, int] | None:
    """Lowest and highest ``o*stride + k*dilation - pad`` within ``0 .. size-1``, for o in first .. last, k < kernel."""
    ranges = []
    step = max(1, stride)
    for offset in {k * dilation - pad for k in range(kernel)}:
        low = max(first, -(offset // step))
        high = min(last, (size - 1 - offset) // step)
        if low <= high:
            ranges.append((low * stride + offset, high * stride + offset))
    ranges = [(a, b) for a, b in ranges if a >= 0 and b < size]
    return (min(a for a, _ in ranges), max(b for _, b in ranges)) if ranges else None


def _vec(vec: Instruction, state: QueueState) -> tuple[Access, ...]:
    function = VECTOR_FUNCTIONS[vec["function"]]
    found = [_write("activation", _vector_output(vec, function, state))]
    if function.name in WITH_EXPONENTS and has_exponents(function, vec, state):
        start = state.required("VRQ", vec)["parameters"]
        found.insert(0, _read("activation", (start, start + vec["columns"])))
    if function.operands == 2:
        found.insert(0, _read("activation", _second_operand(vec, function, state)))
    if function.operands:
        found.insert(0, _read("activation", _first_operand(vec, function, state)))
    return tuple(found)


WITH_EXPONENTS = ("add", "mean")  # their channel exponents lie at VRQ.parameters; layernorm's behind its offsets


def has_exponents(function: VectorFunction, vec: Instruction, state: QueueState) -> bool:
    """Whether a VEC reads one byte of channel exponents a column."""
    return function.requantises and bool(state.required("VRQ", vec)["exponents"])


def vector_strides(vec: Instruction, state: QueueState) -> Mapping[str, int]:
    """Strides in bytes by VST field, with the dense defaults."""
    columns = vec["columns"]
    vst = state.latest.get("VST")
    dense = {"a_stride": columns, "b_stride": columns, "out_stride": columns}
    strides = {name: vst[name] for name in dense} if vst else dense
    return strides | {name: vst[name] if vst else 1 for name in ("a_column_stride", "out_column_stride")}


def _batched(interval: tuple[int, int], operand: str, state: QueueState) -> tuple[int, int]:
    vbt = state.latest.get("VBT")
    return _strided(interval[0], vbt["count"], vbt[operand], interval[1] - interval[0]) if vbt else interval


def _rectangle(start: int, rows: int, stride: int, columns: int, column_stride: int) -> tuple[int, int]:
    row = _strided(start, columns, column_stride, 1)
    return _strided(start, rows, stride, row[1] - row[0])


def _first_operand(vec: Instruction, function: VectorFunction, state: QueueState) -> tuple[int, int]:
    strides, start, columns = vector_strides(vec, state), vec["a"], vec["columns"]
    pixel = _strided(0, columns, strides["a_column_stride"], 1)[1]
    if function.windowed:
        interval = _window_interval(start, state.required("VWN", vec), vec["rows"], pixel)
    elif function.name.startswith("resize"):
        interval = _resized_interval(start, vec["rows"], state.required("VRS", vec), pixel)
    else:
        interval = _rectangle(start, vec["rows"], strides["a_stride"], columns, strides["a_column_stride"])
    return _batched(interval, "a_stride", state)


def _resized_interval(start: int, rows: int, image: Instruction, pixel: int) -> tuple[int, int]:
    """Bytes of the input rows that ``rows`` output pixels interpolate between."""
    last = image["out_row"] + max(0, rows - 1) // max(1, image["out_w"])
    first, _ = resized_rows(image, image["out_row"])
    lines = resized_rows(image, last)[1] - first + 1
    at = start + (first - image["in_row"]) * image["in_w"] * image["pixel_stride"]
    return _strided(at, lines * image["in_w"], image["pixel_stride"], pixel)


def resized_rows(image: Instruction, row: int) -> tuple[int, int]:
    """First and last input row that one output row of a resized image (VRS) depends on."""
    return source_rows(row, image["in_h"], max(1, image["out_h"]))


def _second_operand(vec: Instruction, function: VectorFunction, state: QueueState) -> tuple[int, int]:
    if function.name == "layernorm":
        column_bytes = NORM_BYTES + has_exponents(function, vec, state)
        interval = vec["b"], vec["b"] + column_bytes * vec["columns"]
    elif function.name == "table":
        interval = vec["b"], vec["b"] + TABLE_BYTES
    else:
        interval = _rectangle(vec["b"], vec["rows"], vector_strides(vec, state)["b_stride"], vec["columns"], 1)
    return _batched(interval, "b_stride", state)


def _vector_output(vec: Instruction, function: VectorFunction, state: QueueState) -> tuple[int, int]:
    strides = vector_strides(vec, state)
    rows = min(vec["rows"], 1) if function.reduces_rows else vec["rows"]
    interval = _rectangle(vec["out"], rows, strides["out_stride"], vec["columns"], strides["out_column_stride"])
    return _batched(interval, "out_stride", state)


_RULES: Mapping[str, Callable[[Instruction, QueueState], tuple[Access, ...]]] = {
    "LDA": _lda,
    "LDW": _ldw,
    "LDC": _ldc,
    "GTH": _gth,
    "DEC": _dec,
    "GEM": _gem,
    "GMS": _gms,
    "VEC": _vec,
    "STA": _sta,
}
