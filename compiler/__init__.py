"""The compiler: a packed model and a machine in, an accelerator program out.

Passes, in order: lower (graph to steps), tile (weights to streams), plan (steps to visits), place (buffers to SRAM),
emit (visits to instructions), tokens (dependencies). ``verify`` states what must hold after each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accel.machine import Machine
    from accel.packed import Packed
    from accel.program import Program


def compile_model(packed: Packed, machine: Machine, *, batch: int = 1, verify: bool = False) -> Program:
    """Compile for one machine; ``verify`` checks the intermediate results and proves the program legal.

    Raises ``CompileError`` when the model does not map onto the machine.
    """
    from compiler.build import build_program

    return build_program(packed, machine, batch=batch, verify=verify)
