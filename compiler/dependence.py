"""What of a machine a program depends on: machines that agree in it run one program, whatever else they differ in."""

from __future__ import annotations

from collections.abc import Hashable

from accel.machine import Machine
from compiler.banks import bank_turns

# Tiling, placement and cutting read these; where scratch begins in DRAM follows from ``bank_turns`` beside them.
TABLES = ("array", "sram")
KEYS = ("decoder.codebook_bytes", "decoder.codebook_buffers", "decoder.lookups_per_cycle")


def compiled_part(machine: Machine) -> tuple[Hashable, ...]:
    """Equal for two machines only if the compiler makes the same instructions and the same DRAM image for both."""
    read = (item for item in machine.flat().items() if item[0].partition(".")[0] in TABLES or item[0] in KEYS)
    return (*read, bank_turns(machine))
