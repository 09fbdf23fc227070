"""The instruction set: one table of fixed 128-bit little-endian instructions. Everything else derives from it.

Five in-order queues (load, decode, compute, vector, store) run decoupled, in the manner of VTA. Bits 0..4 hold the
opcode, bits 5..9 the queues a token is popped from before the instruction starts, bits 10..14 the queues a token is
pushed to when it completes, bit 15 is zero. Field positions never depend on the machine. Changing a golden word in
``tests/test_isa.py`` bumps ``ISA_VERSION``.

Memories: DRAM (byte addresses, moved in 64-byte blocks), activation SRAM (byte addresses), weight SRAM (a ring that
``LDW`` fills and ``DEC`` drains in order, with hardware credits instead of tokens), two codebook banks, accumulators.
Configuration instructions (GMC, GMO, VST, VBT, VWN, VRS, VRQ) stay in force in their queue until overwritten.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from accel.errors import IsaError, listed, nearest
from accel.metrics import TRAFFIC

ISA_VERSION = 2
INSTRUCTION_BYTES = 16
BLOCK_BYTES = 64  # DRAM burst: the grain of all traffic
QUEUE_DEPTH = 64  # instructions a queue holds; dispatch (in program order) waits when its queue is full
QUEUES: tuple[str, ...] = ("load", "decode", "compute", "vector", "store")
OPCODE_BITS, POP_LSB, PUSH_LSB, PAYLOAD_LSB = 5, 5, 10, 16


@dataclass(frozen=True, slots=True)
class VectorFunction:
    """One row of ``VECTOR_FUNCTIONS``. ``passes``: lane-operations per element (times the window for pooling).
    ``requantises``: its result depends on VRQ (signedness of its operands included)."""

    name: str
    passes: int
    operands: int
    doc: str
    windowed: bool = False
    reduces_rows: bool = False
    requantises: bool = False


VECTOR_FUNCTIONS: tuple[VectorFunction, ...] = (
    VectorFunction("copy", 1, 1, "strided copy: transposes, concatenation, window partition, broadcast (stride 0)"),
    VectorFunction("fill", 1, 0, "write zeros"),
    VectorFunction("add", 1, 2, "a * a_multiplier + b * b_multiplier, by channel exponents if asked", requantises=True),
    VectorFunction("mul", 1, 2, "a * b * a_multiplier", requantises=True),
    VectorFunction("div", 2, 2, "a * a_multiplier / b: reciprocal, then product", requantises=True),
    VectorFunction("table", 1, 2, "each byte replaced by the entry of the 256-byte table at b"),
    VectorFunction("softmax", 3, 1, "per row: maximum, exponentials and their sum, scaling", requantises=True),
    VectorFunction("exponentials", 2, 1, "per row: maximum, exponentials (softmax left undivided)", requantises=True),
    VectorFunction("layernorm", 3, 2, "per row: mean, variance, scaling; b holds gains and offsets", requantises=True),
    VectorFunction(
        "maxpool", 1, 1, "one output pixel per row, a window of pixels each", windowed=True, requantises=True
    ),
    VectorFunction(
        "avgpool", 1, 1, "one output pixel per row, a window of pixels each", windowed=True, requantises=True
    ),
    VectorFunction("mean", 1, 1, "mean of all rows into one", reduces_rows=True, requantises=True),
    VectorFunction("resize_nearest", 1, 1, "one output pixel per row; VRS holds both image sizes"),
    VectorFunction(
        "resize_bilinear", 4, 1, "one output pixel per row, four taps; VRS holds both image sizes", requantises=True
    ),
)
VECTOR_CODE: Mapping[str, int] = MappingProxyType({row.name: code for code, row in enumerate(VECTOR_FUNCTIONS)})


@dataclass(frozen=True, slots=True)
class Field:
    """Bits ``lsb .. lsb+width-1`` of the word. ``choices`` names the values of an enumerated field."""

    name: str
    lsb: int
    width: int
    doc: str
    choices: tuple[str, ...] = ()

    @property
    def limit(self) -> int:
        """First value that is no longer allowed: it does not fit, or has no name."""
        return len(self.choices) or 1 << self.width


@dataclass(frozen=True, slots=True)
class InstructionSpec:
    """One row of ``INSTRUCTIONS``."""

    mnemonic: str
    opcode: int
    queue: str
    fields: tuple[Field, ...]
    doc: str

    def field(self, name: str) -> Field:
        """The field called ``name``; raises ``IsaError`` with the nearest name."""
        for candidate in self.fields:
            if candidate.name == name:
                return candidate
        names = [f.name for f in self.fields]
        raise IsaError(f"{self.mnemonic}: no field '{name}'; allowed: {listed(names)}{nearest(name, names)}")


def _row(mnemonic: str, opcode: int, queue: str, doc: str, *layout: tuple[object, ...]) -> InstructionSpec:
    lsb, fields = PAYLOAD_LSB, []
    for name, width, text, *rest in layout:
        choices = rest[0] if rest else ()
        assert isinstance(name, str) and isinstance(width, int) and isinstance(text, str) and isinstance(choices, tuple)
        fields.append(Field(name, lsb, width, text, choices))
        lsb += width
    return InstructionSpec(mnemonic, opcode, queue, tuple(fields), doc)


_SRAM = ("sram", 24, "activation SRAM byte address")
_DRAM = ("address", 34, "DRAM byte address")
_CODE = (
    ("code_bits", 5, "bits of one code"),
    ("vector_length", 7, "weights per vector (d)"),
    ("signed", 1, "1: one sign bit a weight follows the codes of a record"),
)
_MASK = (
    ("mask_kept", 4, "N: weights each mask keeps; the others are 0. 0: no masks. With mask_group = 1: codes a vector"),
    (
        "mask_group",
        5,
        "M: weights a mask is for; d/M mask indices follow the codes of a record. 0: no masks. 1: no "
        "masks, but mask_kept (2 to 8) codes a vector, of as many codebooks, whose codewords add up",
    ),
)
_MOVE = (
    ("kind", 4, "traffic kind the bytes are counted as", tuple(TRAFFIC)),
    _SRAM,
    _DRAM,
    ("rows", 12, "rows to move"),
    ("row_bytes", 20, "bytes a row; rows are dense in SRAM"),
    ("stride", 18, "bytes from row to row in DRAM"),
)
_WINDOW = (
    ("kernel_h", 6, "window height"),
    ("kernel_w", 6, "window width"),
    ("stride_h", 5, "window step, rows"),
    ("stride_w", 5, "window step, columns"),
    ("dilation_h", 6, "rows between taps"),
    ("dilation_w", 6, "columns between taps"),
    ("pad_top", 6, "zero rows above"),
    ("pad_left", 6, "zero columns to the left"),
    ("in_h", 14, "input rows present"),
    ("in_w", 14, "input columns"),
    ("out_w", 14, "output columns"),
    ("pixel_stride", 20, "bytes from input pixel to pixel"),
    ("channel_major", 1, "1: reduction runs channel, tap row, tap column; 0: tap row, tap column, channel"),
)

INSTRUCTIONS: tuple[InstructionSpec, ...] = (
    _row("LDA", 1, "load", "DRAM to activation SRAM: inputs, parameters, spilled activations", *_MOVE),
    _row(
        "LDW", 2, "load", "DRAM to the weight ring; waits for free space block by block. Traffic of signed records is "
        "split between indices and signs in the ratio code_bits : vector_length; mask indices count as indices; with "
        "vector_length 1, unsigned and one code a vector it is weights",
        _DRAM, ("blocks", 24, "64-byte blocks"), *_CODE, *_MASK,
    ),
    _row(
        "LDC", 3, "load", "DRAM to a codebook bank. With rank = R: C int8[k, R], then P int8[R, vector_length], k "
        "being bytes/R - vector_length; the bank gets k codewords clip(round(C*P / 2^shift), -127, 127), rounded as "
        "above",
        _DRAM, ("bytes", 21, "bytes loaded"), ("bank", 1, "codebook bank"),
        ("rank", 7, "numbers in a codeword of C; 0: the bytes are the codebook"),
        ("vector_length", 7, "weights per codeword; 0 with rank = 0"), ("shift", 5, "bits rounded off"),
    ),
    _row(
        "GTH", 4, "load", "gather rows of a DRAM table by the int32 indices in SRAM (embeddings); starts when all "
        "earlier loads have arrived, since the indices may be among them",
        _SRAM, ("ids", 24, "activation SRAM byte address of the indices"), _DRAM,
        ("row_bytes", 16, "bytes a row"), ("rows", 14, "rows to gather"),
    ),
    _row(
        "DEC", 5, "decode", "decode rows x columns of weights into tiles: for each strip of tile_columns columns, "
        "passes times, for each tile_rows rows. A strip starts on a 64-byte block and is one continuous record stream. "
        "With S = mask_kept codes a vector (mask_group = 1) the bank holds S codebooks of 2^code_bits codewords one "
        "after the other; a vector is clip(sum of C_s[code_s], -127, 127), its codes one after the other in the stream",
        *_CODE, ("axis_in", 1, "1: vectors run along rows (reduction), through the transpose buffer"),
        ("codebook", 1, "1: codes are looked up; 0: codes are the integers"), ("bank", 1, "codebook bank"),
        ("rows", 20, "reduction length"), ("columns", 20, "output channels"), ("tile_rows", 11, "rows of a full tile"),
        ("tile_columns", 11, "columns of a full tile"),
        ("groups_per_tile", 8, "convolution groups side by side: the tile fills rows*groups_per_tile array rows"),
        ("passes", 16, "times each strip is decoded"),
        ("release", 1, "1: ring bytes are freed, tile by tile, in the last pass; 0: the ring rewinds at the end"),
        *_MASK,
    ),
    _row(
        "GMC", 6, "compute", "how GEM and GMS walk operand a: the window over an NHWC image", *_WINDOW,
        ("a_unsigned", 1, "1: a is uint8, else int8"),
    ),
    _row(
        "GMO", 7, "compute", "reduction length, output and parameters of the GEMs that follow",
        ("reduction", 20, "reduction length (kernel_h*kernel_w*channels of a group)"),
        ("out_stride", 20, "bytes from output row to row"),
        ("parameters", 24, "activation SRAM address of int32 biases, then multipliers"),
        ("b_stride", 20, "GMS: bytes from row to row of b; GEM: from `parameters` to the table"),
        ("tile_rows", 11, "rows of a full tile"), ("tile_columns", 11, "columns of a full tile"),
        ("bias", 1, "1: add biases"), ("channel_scales", 1, "1: one multiplier a channel, else one in all"),
        ("unsigned", 1, "1: results saturate to uint8, else to int8"),
        ("table", 1, "1: results, saturated, are replaced by their entries of a 256-byte table"),
        ("normalise", 1, "1: GMS: sums are divided by the sum of their row of a, which must be uint8"),
    ),
    _row(
        "GEM", 8, "compute", "rows x reduction times decoded reduction x columns: for each strip of columns, for each "
        "chunk of rows, for each tile of reduction. Weight stationary arrays stream the chunk through the tile, input "
        "stationary ones the tile through the chunk, output stationary ones both past the sums",
        ("a", 24, "SRAM byte address of the rows"), ("out", 24, "SRAM byte address of the result"),
        ("rows", 20, "output rows"), ("columns", 20, "output columns"),
        ("chunk", 14, "rows of one pass, limited by the accumulators or, os and is, by the array"),
        ("groups_per_tile", 8, "convolution groups a tile covers"),
        ("fence", 1, "1: start after the results of all earlier GEMs have left the array pipeline"),
    ),
    _row(
        "GMS", 9, "compute", "as GEM, with b read from activation SRAM in place of weights (attention products)",
        ("a", 24, "SRAM byte address of the rows"), ("b", 24, "SRAM byte address of what stands for the weights"),
        ("out", 24, "SRAM byte address of the result"), ("rows", 14, "output rows"), ("columns", 14, "output columns"),
        ("chunk", 10, "as for GEM"),
        ("transpose_b", 1, "1: b is stored columns x reduction"), ("fence", 1, "as for GEM"),
    ),
    _row(
        "VST", 10, "vector", "row and column strides, in bytes, of the VECs that follow; 0 broadcasts",
        ("a_stride", 24, "a, row to row"), ("b_stride", 24, "b, row to row"), ("out_stride", 24, "out, row to row"),
        ("a_column_stride", 20, "a, column to column"), ("out_column_stride", 20, "out, column to column"),
    ),
    _row(
        "VBT", 11, "vector", "outermost loop of the VECs that follow",
        ("count", 16, "repetitions"), ("a_stride", 24, "a, step in bytes"), ("b_stride", 24, "b, step in bytes"),
        ("out_stride", 24, "out, step in bytes"),
    ),
    _row("VWN", 12, "vector", "pooling window of the VECs that follow", *_WINDOW),
    _row(
        "VEC", 13, "vector", "one vector function over rows x columns elements",
        ("function", 5, "what to do", tuple(row.name for row in VECTOR_FUNCTIONS)),
        ("a", 24, "SRAM byte address of the first operand"), ("b", 24, "SRAM byte address of the second operand"),
        ("out", 24, "SRAM byte address of the result"), ("rows", 16, "rows"), ("columns", 16, "elements a row"),
    ),
    _row("STA", 14, "store", "activation SRAM to DRAM: outputs and spilled activations", *_MOVE),
    _row("FIN", 15, "store", "end of the program"),
    _row(
        "VRQ", 16, "vector", "signedness and requantisation of the VECs that follow",
        ("a_multiplier", 24, "two's complement; softmax, exponentials: factor of the distance to the maximum"),
        ("b_multiplier", 24, "two's complement; softmax: factor of the shares; layernorm: epsilon, unsigned"),
        ("shift", 6, "products are divided by 2**shift and rounded"),
        ("epsilon_shift", 6, "layernorm: epsilon is b_multiplier * 2**epsilon_shift"),
        ("offset_shift", 6, "layernorm: left shift of the offsets"),
        ("parameters", 24, "add, mean: activation SRAM address of the channel exponents"),
        ("a_unsigned", 1, "1: a is uint8, else int8"), ("b_unsigned", 1, "1: b is uint8, else int8"),
        ("unsigned", 1, "1: results saturate to uint8, else to int8"),
        ("exponents", 1, "1: add, mean, layernorm: one byte of channel exponents a column"),
    ),
    _row(
        "VRS", 17, "vector", "images of the resizing VECs that follow",
        ("in_h", 14, "rows of the whole input image"), ("in_w", 14, "input columns"),
        ("out_h", 14, "rows of the whole output image"), ("out_w", 14, "output columns"),
        ("in_row", 14, "row of the input image that a begins with"), ("out_row", 14, "first output row"),
        ("pixel_stride", 20, "bytes from input pixel to pixel"),
    ),
)  # fmt: skip


def _check_table(rows: Iterable[InstructionSpec]) -> Mapping[str, InstructionSpec]:
    table = {row.mnemonic: row for row in rows}
    opcodes = [row.opcode for row in table.values()]
    assert len(set(opcodes)) == len(opcodes) == len(INSTRUCTIONS) and 0 not in opcodes
    for row in table.values():
        assert row.queue in QUEUES and row.opcode < 1 << OPCODE_BITS
        assert all(f.lsb + f.width <= 8 * INSTRUCTION_BYTES for f in row.fields), row.mnemonic
        assert all(len(f.choices) <= 1 << f.width for f in row.fields), row.mnemonic
    return MappingProxyType(table)


BY_MNEMONIC = _check_table(INSTRUCTIONS)
BY_OPCODE: Mapping[int, InstructionSpec] = MappingProxyType({row.opcode: row for row in INSTRUCTIONS})


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: mnemonic, field values (missing ones are 0) and the queues of its tokens."""

    mnemonic: str
    values: Mapping[str, int] = field(default_factory=dict)
    pop: tuple[str, ...] = ()
    push: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        spec = BY_MNEMONIC.get(self.mnemonic)
        if spec is None:
            near = nearest(self.mnemonic, BY_MNEMONIC)
            raise IsaError(f"instruction '{self.mnemonic}'; allowed: {listed(BY_MNEMONIC)}{near}")
        for name, value in self.values.items():
            f = spec.field(name)
            if not 0 <= value < f.limit:
                allowed = listed(f.choices) or f"0 to {f.limit - 1}"
                raise IsaError(f"{self.mnemonic}.{name} = {value}; allowed: {allowed}")
        if len(set(self.pop)) < len(self.pop) or len(set(self.push)) < len(self.push):
            raise IsaError(f"{self.mnemonic}: tokens {self.pop}, {self.push}; allowed: each queue once")
        for queue in (*self.pop, *self.push):
            if queue not in QUEUES or queue == spec.queue:
                others = listed(q for q in QUEUES if q != spec.queue)
                raise IsaError(f"{self.mnemonic}: token queue '{queue}'; allowed: {others}")

    @property
    def spec(self) -> InstructionSpec:
        """The table row of this instruction."""
        return BY_MNEMONIC[self.mnemonic]

    def __getitem__(self, name: str) -> int:
        return self.values.get(name, 0)


def encode(instruction: Instruction) -> bytes:
    """The 16 bytes of an instruction."""
    spec = instruction.spec
    word = spec.opcode | _token_bits(instruction.pop) << POP_LSB | _token_bits(instruction.push) << PUSH_LSB
    for f in spec.fields:
        word |= instruction[f.name] << f.lsb
    return word.to_bytes(INSTRUCTION_BYTES, "little")


def decode(data: bytes, where: str = "instruction") -> Instruction:
    """Inverse of ``encode``; raises ``IsaError`` for an unknown opcode or a reserved bit that is set."""
    word = int.from_bytes(data, "little")
    opcode = word & ((1 << OPCODE_BITS) - 1)
    spec = BY_OPCODE.get(opcode)
    if len(data) != INSTRUCTION_BYTES or spec is None:
        known = listed(f"{row.opcode} {row.mnemonic}" for row in INSTRUCTIONS)
        raise IsaError(f"{where}: {len(data)} bytes, opcode {opcode}; allowed: {INSTRUCTION_BYTES} bytes, {known}")
    values = {f.name: word >> f.lsb & ((1 << f.width) - 1) for f in spec.fields}
    pop, push = (_token_queues(word >> lsb) for lsb in (POP_LSB, PUSH_LSB))
    try:
        instruction = Instruction(spec.mnemonic, values, pop, push)
    except IsaError as error:
        raise IsaError(f"{where}: {error}") from error
    if encode(instruction) != data:
        raise IsaError(f"{where}: {spec.mnemonic} has reserved bits set: {data.hex()}")
    return instruction


def _token_bits(queues: Iterable[str]) -> int:
    return sum(1 << QUEUES.index(queue) for queue in queues)


def _token_queues(bits: int) -> tuple[str, ...]:
    return tuple(queue for i, queue in enumerate(QUEUES) if bits >> i & 1)


def encode_program(instructions: Iterable[Instruction]) -> npt.NDArray[np.uint8]:
    """``uint8[n, 16]`` words of a program."""
    data = b"".join(map(encode, instructions))
    return np.frombuffer(data, np.uint8).reshape(-1, INSTRUCTION_BYTES)


def decode_program(words: npt.NDArray[np.uint8]) -> list[Instruction]:
    """Instructions of ``uint8[n, 16]``; raises ``IsaError`` naming the index of an illegal one."""
    return [decode(row.tobytes(), f"instruction {i}") for i, row in enumerate(words)]


def disassemble(instruction: Instruction) -> str:
    """One line of text that ``assemble`` reads back: ``LDC address=0x40 bytes=128 bank=1 push=decode``."""
    parts = [instruction.mnemonic]
    for f in instruction.spec.fields:
        value = instruction[f.name]
        if value:
            parts.append(f"{f.name}={f.choices[value] if f.choices else _shown(f.name, value)}")
    for name, queues in (("pop", instruction.pop), ("push", instruction.push)):
        if queues:
            parts.append(f"{name}={','.join(queues)}")
    return " ".join(parts)


_ADDRESS_FIELDS = ("sram", "address", "ids", "a", "b", "out", "parameters")


def _shown(name: str, value: int) -> str:
    return hex(value) if name in _ADDRESS_FIELDS else str(value)


def assemble(line: str) -> Instruction:
    """Inverse of ``disassemble``; fields left out are 0. Raises ``IsaError`` quoting the line."""
    mnemonic, *parts = line.split() or [""]
    spec = BY_MNEMONIC.get(mnemonic)
    if spec is None:
        return Instruction(mnemonic)
    values: dict[str, int] = {}
    tokens: dict[str, tuple[str, ...]] = {"pop": (), "push": ()}
    for part in parts:
        name, equals, text = part.partition("=")
        if not equals or name in values or tokens.get(name):
            raise IsaError(f"'{line}': '{part}' is no NAME=VALUE, or a repeated one")
        if name in tokens:
            tokens[name] = tuple(sorted(text.split(","), key=lambda q: QUEUES.index(q) if q in QUEUES else 0))
        else:
            values[name] = _parsed(spec.field(name), text, line)
    return Instruction(mnemonic, values, tokens["pop"], tokens["push"])


def _parsed(f: Field, text: str, line: str) -> int:
    if text in f.choices:
        return f.choices.index(text)
    try:
        return int(text, 0)
    except ValueError:
        allowed = listed(f.choices) + nearest(text, f.choices) if f.choices else "an integer"
        raise IsaError(f"'{line}': {f.name}={text}; allowed: {allowed}") from None


def assemble_program(text: str) -> list[Instruction]:
    """Assemble many lines; blank lines and ``# comments`` are skipped."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    return [assemble(line) for line in lines if line]
