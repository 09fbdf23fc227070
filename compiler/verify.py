"""What must hold after each pass. Violations are our own bugs, hence assertions, except those of a whole program."""

from __future__ import annotations

import itertools

from accel.check import check_compiled
from accel.graph import Graph
from accel.machine import Machine
from accel.packed import Packed
from accel.program import Program
from compiler.place import Placement, dram_operands, staging_areas
from compiler.sram import aligned
from compiler.steps import GemmStep, Lowered, Visit


def verify_lowered(lowered: Lowered, graph: Graph) -> None:
    """Every view lies inside its buffer, every weighted operator became at least one GEMM, nothing reads the void."""
    written = {name for name, buffer in lowered.buffers.items() if buffer.home in ("input", "constant")}
    for step in lowered.steps:
        for view in (*step.reads, step.writes):
            buffer = lowered.buffers[view.buffer]
            assert view.offset + view.span_bytes <= buffer.size_bytes + 3, (step, buffer)  # +3: int32 indices
        for view in step.reads:
            assert view.buffer in written, f"{step} reads '{view.buffer}' before anything wrote it"
        written.add(step.writes.buffer)
    weights = {step.weight for step in lowered.steps if isinstance(step, GemmStep)}
    assert len(weights) == len({op.inputs[1] for op in graph.weight_ops()})


def verify_placement(placement: Placement, machine: Machine) -> None:
    """Buffers alive together do not overlap, staging areas included; everything ends inside the SRAM."""
    lives: dict[str, list[int]] = {}
    for index, visit in enumerate(placement.visits):
        for name in _resident(visit, placement):
            lives.setdefault(name, []).append(index)
    for index in range(len(placement.visits)):
        areas = [
            (placement.address[name], placement.address[name] + aligned(placement.buffers[name].size_bytes))
            for name, used in lives.items()
            if used[0] <= index <= used[-1]
        ]
        areas += staging_areas(placement, index)
        areas.sort()
        for (_, stop), (start, _) in itertools.pairwise(areas):
            assert stop <= start, f"visit {index}: SRAM areas overlap at {start}"
        assert not areas or areas[-1][1] <= machine.sram.activation_bytes


def _resident(visit: Visit, placement: Placement) -> set[str]:
    return {
        view.buffer
        for part in visit.parts
        for view in (*part.reads, part.writes)
        if view not in dram_operands(part, placement.address)
    }


def verify_program(program: Program, packed: Packed) -> None:
    """The static checker's proof, and every weight delivered."""
    check_compiled(program)
    delivered = {stream.weight.partition("[")[0] for stream in program.streams}
    assert delivered == set(packed.layers), "a weight has no stream"
