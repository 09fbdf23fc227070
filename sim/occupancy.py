"""How full the memories on chip are while a program runs: times of instructions, and the weight ring off the tape."""

from __future__ import annotations

import numpy as np

from accel.isa import BLOCK_BYTES, decode_program
from accel.machine import Machine
from accel.occupancy import MEMORIES, Occupancy, Schedule, instruction_occupancy, memory_bytes, occupancy
from accel.program import Program
from sim.params import TICKS
from sim.timing import Timing


def schedule_of(program: Program, timing: Timing) -> Schedule:
    """When every instruction of ``program`` runs, in cycles."""
    layers = program.instruction_layer.tolist()
    return Schedule(decode_program(program.words), layers, timing.started / TICKS, timing.completed / TICKS)


def sram_occupancy(program: Program, machine: Machine | None = None) -> dict[str, Occupancy]:
    """One ``Occupancy`` for each of ``accel.occupancy.MEMORIES`` of ``program`` on ``machine``, by default its own.

    Raises as ``simulate`` does. Memory grows with the blocks of the weight streams (48 bytes for each 64).
    """
    from sim import prepare
    from sim.tape import AMOUNT, BEGIN, ENTRY, KIND, RING, Tape

    ring: list[Tape] = [np.zeros((0, len(ENTRY)), np.int64)]

    def take(entries: Tape) -> None:
        ring.append(entries[entries[:, KIND] == RING])

    machine = program.machine if machine is None else machine
    timing = prepare(program, machine).timing(machine, take)
    found = instruction_occupancy(schedule_of(program, timing), machine)
    entries, size = np.concatenate(ring), memory_bytes(machine)["weight"]
    found["weight"] = occupancy("weight", size, entries[:, BEGIN] / TICKS, entries[:, AMOUNT] * BLOCK_BYTES)
    return {memory: found[memory] for memory in MEMORIES}
