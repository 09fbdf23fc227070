"""The functional simulator: executes a program's instructions on its DRAM image and inputs, in the accelerator's own
integer arithmetic (``accel.arithmetic``), once ``accel.check`` has proved that tokens order all accesses. The order
of execution is a second look at tokens, eager and lazy order from opposite sides (``sim.functional.schedule``).

It knows no graph and no packed file: what comes out is what hardware that follows ISA.md would store.
"""

from __future__ import annotations

from collections.abc import Mapping

from accel.program import Program
from sim.functional.ports import random_inputs
from sim.functional.run import Array, Captured, Execution, Observation, run_program
from sim.functional.schedule import ORDERS, Order

__all__ = ["ORDERS", "Captured", "Execution", "Observation", "Order", "execute", "random_inputs", "run_program"]


def execute(
    program: Program,
    inputs: Mapping[str, Array],
    *,
    raw: bool = False,
    order: Order = "eager",
    allow_uncalibrated: bool = False,
) -> dict[str, Array]:
    """Outputs of ``program`` by name: float32, or the stored int8 and uint8 codes if ``raw``.

    Inputs are real values of the port's shape, quantised by its code, or codes (int8 or uint8, as the port stores
    them), or int32 or int64 indices; with a batch above 1, ``[batch, *shape]``. Raises as ``run_program`` does.
    """
    found = run_program(program, inputs, order=order, allow_uncalibrated=allow_uncalibrated)
    return dict(found.codes if raw else found.outputs)
