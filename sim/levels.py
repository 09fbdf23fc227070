"""How full the memories on chip are, as a run holds it: few enough steps for a plot, the highest level of each."""

from __future__ import annotations

from accel.machine import Machine
from accel.occupancy import Occupancy
from accel.program import Program
from accel.run import MemoryLevel
from sim.occupancy import sram_occupancy

POINTS = 400  # of a memory


def memory_levels(program: Program, machine: Machine | None = None) -> tuple[MemoryLevel, ...]:
    """The levels of ``program`` on ``machine``, by default its own; simulates it again and raises as ``simulate``."""
    return tuple(_level(each.thinned(POINTS)) for each in sram_occupancy(program, machine).values())


def _level(found: Occupancy) -> MemoryLevel:
    cycles, held = found.cycles.tolist(), found.held_bytes.tolist()
    return MemoryLevel(found.memory, found.capacity_bytes, tuple(cycles), tuple(held))
