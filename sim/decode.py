"""Instruction words to NumPy columns, driven by ``accel.isa``: every field of every instruction of a kind at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel.errors import SimError, listed
from accel.isa import (
    BY_OPCODE,
    INSTRUCTION_BYTES,
    INSTRUCTIONS,
    OPCODE_BITS,
    POP_LSB,
    PUSH_LSB,
    QUEUES,
    Field,
    InstructionSpec,
)

Column = npt.NDArray[np.int64]
_HALF_BITS = 64


@dataclass(frozen=True, slots=True)
class Rows:
    """All instructions of one kind: ``index`` is where they stand in the program, ``fields`` their values."""

    index: Column
    fields: Mapping[str, Column]

    def __getitem__(self, name: str) -> Column:
        return self.fields[name]


@dataclass(frozen=True, slots=True)
class Decoded:
    """``opcode``, ``queue`` (index into ``QUEUES``), ``pop`` and ``push`` (bit masks of queues) are ``int64[n]``."""

    opcode: Column
    queue: Column
    pop: Column
    push: Column
    rows: Mapping[str, Rows]

    def __getitem__(self, mnemonic: str) -> Rows:
        return self.rows[mnemonic]

    def __len__(self) -> int:
        return len(self.opcode)


def decode_words(words: npt.NDArray[np.uint8]) -> Decoded:
    """Columns of ``uint8[n, 16]``; raises ``SimError`` for an unknown opcode or an enumerated value out of range."""
    halves = np.ascontiguousarray(words).reshape(-1, INSTRUCTION_BYTES).view("<u8")
    opcode = _bits(halves, 0, OPCODE_BITS)
    queue_of_opcode = np.full(1 << OPCODE_BITS, -1, np.int64)
    for row in INSTRUCTIONS:
        queue_of_opcode[row.opcode] = QUEUES.index(row.queue)
    queue = queue_of_opcode[opcode]
    if (queue < 0).any():
        where = int(np.argmax(queue < 0))
        known = listed(str(code) for code in BY_OPCODE)
        raise SimError(f"instruction {where}: opcode {opcode[where]}; allowed: {known}")
    pop, push = (_bits(halves, lsb, len(QUEUES)) for lsb in (POP_LSB, PUSH_LSB))
    return Decoded(opcode, queue, pop, push, {row.mnemonic: _rows(row, opcode, halves) for row in INSTRUCTIONS})


def _rows(spec: InstructionSpec, opcode: Column, halves: npt.NDArray[np.uint64]) -> Rows:
    index = np.flatnonzero(opcode == spec.opcode)
    selected = halves[index]
    fields = {f.name: _bits(selected, f.lsb, f.width) for f in spec.fields}
    for f in spec.fields:
        _check_choice(spec, f, fields[f.name], index)
    return Rows(index, fields)


def _bits(halves: npt.NDArray[np.uint64], lsb: int, width: int) -> Column:
    """Bits ``lsb .. lsb+width-1`` of 128-bit words given as ``uint64[n, 2]``; ``width`` is at most 63."""
    half, shift = divmod(lsb, _HALF_BITS)
    value = halves[:, half] >> np.uint64(shift)
    if shift + width > _HALF_BITS:
        value = value | halves[:, half + 1] << np.uint64(_HALF_BITS - shift)
    return (value & np.uint64((1 << width) - 1)).astype(np.int64)


def _check_choice(spec: InstructionSpec, f: Field, values: Column, index: Column) -> None:
    bad = values >= len(f.choices) if f.choices else np.zeros(0, bool)
    if bad.any():
        where = int(np.argmax(bad))
        raise SimError(
            f"instruction {index[where]}: {spec.mnemonic}.{f.name} = {values[where]}; allowed: {listed(f.choices)}"
        )
