"""What of a machine a program depends on: machines that agree in it run one program, whatever else they differ in."""

from __future__ import annotations

from collections.abc import Hashable

from accel.machine import FIXED_KEYS, Machine
from compiler.banks import bank_turns

# Cutting reads this, too: a program of another value is legal, but not the one the compiler would make. Where scratch
# begins in DRAM follows from ``bank_turns`` beside it.
_CHOSEN_BY = ("decoder.lookups_per_cycle",)


def compiled_part(machine: Machine) -> tuple[Hashable, ...]:
    """Equal for two machines only if the compiler makes the same instructions and the same DRAM image for both."""
    flat = machine.flat()
    return (*((key, flat[key]) for key in (*FIXED_KEYS, *_CHOSEN_BY)), bank_turns(machine))
