"""The static checker: proves that a program is legal, deadlock-free, race-free and reads nothing it has not written.

In order: every instruction by itself (``accel.legality``), the weights' way from LDW to GEM (``accel.weightflow``),
deadlock freedom (``accel.liveness``), races and reads before writes (``accel.hazards``). Accesses are intervals
(``accel.footprint``), so interleaved strided operands count as overlapping: such a program needs a token more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel.hazards import check_hazards
from accel.isa import QUEUES, Instruction, decode_program
from accel.legality import check_instructions
from accel.liveness import execute
from accel.machine import Machine
from accel.program import Program
from accel.weightflow import check_weight_flow


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a checked program holds. ``peak_tokens``: the most tokens any counter held in the untimed execution."""

    instructions: int
    by_queue: Mapping[str, int]
    tiles: int
    accesses: int
    tokens: int
    peak_tokens: int


def check_program(
    program: Sequence[Instruction] | npt.NDArray[np.uint8],
    machine: Machine,
    dram_bytes: int,
    loaded: Iterable[tuple[int, int]] | None = None,
) -> CheckReport:
    """Check instructions, or their words ``uint8[n, 16]``; raises ``IsaError`` naming the instruction and its text.

    ``loaded`` lists the DRAM intervals ``(start, stop)`` that hold data at the start; without it, all of DRAM does.
    """
    instructions = decode_program(program) if isinstance(program, np.ndarray) else program
    found = check_instructions(instructions, machine, dram_bytes)
    tiles = check_weight_flow(instructions, machine)
    execution = execute(instructions, machine)
    defined = [(0, dram_bytes)] if loaded is None else loaded
    accesses = check_hazards(instructions, found, execution, machine, dram_bytes, defined)
    counts = Counter(instruction.spec.queue for instruction in instructions)
    by_queue = {queue: counts[queue] for queue in QUEUES}
    return CheckReport(len(instructions), by_queue, tiles, accesses, execution.tokens, execution.peak_tokens)


def check_compiled(program: Program) -> CheckReport:
    """``check_program`` of a compiled program: the image and the inputs are all that DRAM holds at the start."""
    loaded = [(0, len(program.image)), *((port.address, port.address + port.bytes) for port in program.inputs)]
    return check_program(program.words, program.machine, program.dram_bytes, loaded)
