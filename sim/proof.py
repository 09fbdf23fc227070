"""Proves a program legal before it is timed or executed."""

from __future__ import annotations

from dataclasses import replace

from accel.check import check_compiled
from accel.machine import Machine
from accel.program import Program

_legal: set[tuple[str, int]] = set()  # digests of programs that were checked in this process


def prove(program: Program, machine: Machine, digest: str) -> None:
    """Raise ``IsaError`` naming the instruction if ``program`` is illegal on ``machine``, reaches beyond its memories,
    races or deadlocks. Proved once a process, as a sweep simulates and a comparison executes it many times.

    ``digest`` is the program's; it takes longer to work out than some programs to simulate."""
    key = digest, machine.dram.load_engines  # of a machine that was accepted nothing else matters here
    if key not in _legal:
        check_compiled(replace(program, machine=machine))
        _legal.add(key)
