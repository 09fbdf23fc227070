"""How full the memories on chip are, as a run holds it: few enough steps for a plot, the highest level of each."""

from __future__ import annotations

from dataclasses import replace

from accel.energy import DEFAULT_ENERGY, EnergyTable
from accel.machine import Machine
from accel.occupancy import Occupancy
from accel.program import Program
from accel.run import MemoryLevel, Run
from sim import prepare
from sim.occupancy import RingEntries, occupancy_of
from sim.timing import Timing

POINTS = 400  # of a memory


def simulate_with_levels(program: Program, machine: Machine | None = None, energy: EnergyTable = DEFAULT_ENERGY) -> Run:
    """What ``sim.simulate`` returns and raises, and how full memories were, from one simulation."""
    machine, ring = program.machine if machine is None else machine, RingEntries()
    prepared = prepare(program, machine)
    timing = prepared.timing(machine, ring.take)
    return with_levels(prepared.run(machine, timing, energy), program, timing, ring)


def with_levels(run: Run, program: Program, timing: Timing, ring: RingEntries) -> Run:
    """``run`` of ``program`` with the levels of its memories; ``ring`` has watched it."""
    found = occupancy_of(program, run.machine, timing, ring)
    return replace(run, occupancy=tuple(_level(each.thinned(POINTS)) for each in found.values()))


def _level(found: Occupancy) -> MemoryLevel:
    cycles, held = found.cycles.tolist(), found.held_bytes.tolist()
    return MemoryLevel(found.memory, found.capacity_bytes, tuple(cycles), tuple(held))
