"""How full the memories on chip are while a program runs: times of instructions, and the weight ring off the tape."""

from __future__ import annotations

import numpy as np

from accel.isa import BLOCK_BYTES, decode_program
from accel.machine import Machine
from accel.occupancy import MEMORIES, Occupancy, Schedule, instruction_occupancy, memory_bytes, occupancy
from accel.program import Program
from sim import prepare
from sim.params import TICKS
from sim.tape import AMOUNT, BEGIN, KIND, RING, Tape
from sim.timing import Timing


class RingEntries:
    """When blocks of the weight ring are reserved and freed, off the tape: 32 bytes for each block of 64."""

    def __init__(self) -> None:
        self._pieces: list[Tape] = [np.zeros((0, 2), np.int64)]

    def take(self, entries: Tape) -> None:
        """Keep what a piece of the tape says of the ring."""
        self._pieces.append(entries[entries[:, KIND] == RING][:, [BEGIN, AMOUNT]])

    def occupancy(self, machine: Machine) -> Occupancy:
        """How full the ring is, when the run is over."""
        ticks, blocks = np.concatenate(self._pieces).T
        return occupancy("weight", memory_bytes(machine)["weight"], ticks / TICKS, blocks * BLOCK_BYTES)


def schedule_of(program: Program, timing: Timing) -> Schedule:
    """When every instruction of ``program`` runs, in cycles."""
    layers = program.instruction_layer.tolist()
    return Schedule(decode_program(program.words), layers, timing.started / TICKS, timing.completed / TICKS)


def occupancy_of(program: Program, machine: Machine, timing: Timing, ring: RingEntries) -> dict[str, Occupancy]:
    """One ``Occupancy`` for each of ``accel.occupancy.MEMORIES``, of a run that ``ring`` has watched."""
    found = instruction_occupancy(schedule_of(program, timing), machine) | {"weight": ring.occupancy(machine)}
    return {memory: found[memory] for memory in MEMORIES}


def sram_occupancy(program: Program, machine: Machine | None = None) -> dict[str, Occupancy]:
    """How full every memory is while ``program`` runs on ``machine``, by default its own; raises as ``simulate``."""
    machine, ring = program.machine if machine is None else machine, RingEntries()
    timing = prepare(program, machine).timing(machine, ring.take)
    return occupancy_of(program, machine, timing, ring)
