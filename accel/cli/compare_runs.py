"""What ``accel compare`` computes: every format compressed once, compiled and simulated for every machine."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from accel.errors import CompileError

if TYPE_CHECKING:
    from accel.cli.comparison import CodecResult, MachineResult
    from accel.cli.fidelity import Reference
    from accel.cli.progress import Report
    from accel.cli.tensors import Calibrating
    from accel.codecs import Codec
    from accel.energy import EnergyTable
    from accel.machine import Machine
    from accel.packed import Packed
    from accel.program import Program
    from compiler.compress import LayerReport
    from compiler.frontend import LoadedModel

    Keep = Sequence[tuple[str, Codec]]


def compare_formats(
    arguments: argparse.Namespace,
    model: LoadedModel,
    codecs: Sequence[Codec],
    keep: Keep,
    machines: Sequence[Machine],
    energy: EnergyTable,
    calibrating: Calibrating | None,
    reference: Reference | None,
    report: Report,
) -> tuple[MachineResult, ...]:
    """Each codec is compressed once, then compiled and simulated for every machine; its answers are those of the first
    machine's program: they are the same on all."""
    from accel.cli.comparison import MachineResult, array_grid, bandwidth_grid
    from accel.cli.fidelity import output_cosine

    grids = [bandwidth_grid(machine, arguments.bandwidths) for machine in machines]
    arrays = [array_grid(machine, arguments.arrays) for machine in machines]
    found: list[list[CodecResult]] = [[] for _ in machines]
    for index, codec in enumerate(codecs):
        part = _part(report, index, len(codecs), str(codec))
        programs = _programs(arguments, model, codec, keep if index else (), arrays, machines, calibrating, part)
        closeness: float | None = None
        for results, machine, grid, (reports, program, sizes) in zip(found, machines, grids, programs, strict=True):
            if reference is not None and closeness is None:
                closeness = output_cosine(program, reference, _part(part, 1, 2, "values"))
            simulated = _simulated(codec, reports, program, machine, grid, energy)
            results.append(replace(simulated, output_cosine=closeness, array_curve=sizes))
    rows = zip(machines, grids, found, arrays, strict=True)
    return tuple(
        MachineResult(machine, str(model.source["weights"]), grid, tuple(results), sizes)
        for machine, grid, results, sizes in rows
    )


def _part(report: Report, index: int, count: int, name: str) -> Report:
    """Progress within one of ``count`` equal parts of the work."""

    def part(done: float, total: float, what: str) -> None:
        report(index + done / total, count, f"{name}: {what}")

    return part


def _programs(
    arguments: argparse.Namespace,
    model: LoadedModel,
    codec: Codec,
    keep: Keep,
    arrays: Sequence[Sequence[Machine]],
    machines: Sequence[Machine],
    calibrating: Calibrating | None,
    report: Report,
) -> Iterator[tuple[Sequence[LayerReport], Program, tuple[int | None, ...]]]:
    """The model in one codec, compiled for every machine, and its cycles on each of the machine's ``arrays``."""
    from accel.cli.compress import compress_loaded
    from compiler import compile_model

    result = compress_loaded(model, codec, arguments, _part(report, 0, 2, "compressing"), keep, calibrating)
    for index, (machine, sizes) in enumerate(zip(machines, arrays, strict=True)):
        report(1 + index / len(machines), 2, f"compiling and simulating on {machine.name}")
        cycles = tuple(_cycles_on(result.packed, size, arguments.batch) for size in sizes)
        yield result.reports, compile_model(result.packed, machine, batch=arguments.batch), cycles


def _cycles_on(packed: Packed, machine: Machine, batch: int) -> int | None:
    """Total cycles of a model compiled for a machine, or ``None`` if it does not fit."""
    from compiler import compile_model
    from sim import simulate

    try:
        return simulate(compile_model(packed, machine, batch=batch), machine).total_cycles
    except CompileError:
        return None


def _simulated(
    codec: Codec,
    reports: Sequence[LayerReport],
    program: Program,
    machine: Machine,
    grid: Sequence[float],
    energy: EnergyTable,
) -> CodecResult:
    from accel.cli.comparison import CodecResult
    from accel.cli.comparison_tables import other_codecs
    from accel.cli.compress import bits_per_weight, mean_relative_error
    from sim import simulate
    from sim.levels import simulate_with_levels

    free_vector = replace(machine, vector=replace(machine.vector, lanes=0))
    return CodecResult(
        codec=str(codec),
        bits_per_weight=bits_per_weight(reports),
        relative_error=mean_relative_error(reports),
        whole=simulate_with_levels(program, machine, energy),
        gemm_only=simulate(program, free_vector, energy),
        curve=_curve(program, machine, grid),
        gemm_curve=_curve(program, free_vector, grid),
        others=other_codecs(codec, reports),
        cycles_at=lru_cache(maxsize=None)(lambda bandwidth: _curve(program, machine, (bandwidth,))[0]),
    )


def _curve(program: Program, machine: Machine, grid: Sequence[float]) -> tuple[int, ...]:
    """Total cycles of the same program at each bandwidth; a DRAM standard's clock is scaled for it."""
    from sim import simulate

    return tuple(simulate(program, machine.with_bandwidth(bandwidth)).total_cycles for bandwidth in grid)
