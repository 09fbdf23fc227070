"""Compare formats of one model on one or more machines: the table, the curve over DRAM bandwidth, and the reasons.

int8 is always among them: it is what every ratio refers to, so ``--keep`` leaves it alone.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from accel.cli.options import (
    DEFAULT_MACHINE,
    add_batch,
    add_calibration,
    add_compression,
    add_energy,
    add_json,
    add_model,
    add_overrides,
    array_size,
    energy_table,
    output_folder,
    positive_number,
    print_json,
    say,
)
from accel.errors import CompileError, ConfigError

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

HELP = "the main job: what each format gains on each machine"
EXAMPLE = "accel compare deit_tiny -m edge64 -m u65-mid -o deit_tiny_report"
DEFAULT_CODECS = ("int8", "int4", "vq:k=256,d=4", "ssvq:k=256,d=8", "ssvq:k=16,d=8")
TEXT_WIDTH = 110


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    add_model(parser)
    parser.add_argument(
        "--codecs",
        metavar="CODEC",
        nargs="+",
        default=DEFAULT_CODECS,
        help=f"formats besides int8 (default {' '.join(DEFAULT_CODECS)})",
    )
    parser.add_argument(
        "-m",
        "--machine",
        dest="machines",
        metavar="MACHINE",
        action="append",
        help=f"a built-in machine (accel machines) or a TOML path, repeatable (default {DEFAULT_MACHINE})",
    )
    add_overrides(parser)
    add_batch(parser)
    add_compression(parser)
    add_calibration(parser)
    parser.add_argument(
        "--inputs",
        metavar="FILE.npz",
        help="inputs to execute every program on, beside --calibrate: how close answers stay to the float model's "
        "(default: the samples calibrated on)",
    )
    add_energy(parser)
    parser.add_argument(
        "--bandwidths",
        metavar="B",
        nargs="+",
        type=positive_number,
        default=(),
        help="DRAM bandwidths of the sweep in bytes a cycle (default 14, 1/25 to 16 times the machine's own)",
    )
    parser.add_argument(
        "--arrays",
        metavar="RxC",
        nargs="+",
        type=array_size,
        default=(),
        help="arrays to compile for besides each machine's own, e.g. 16x16 128x128 (default 1/4, 1/2 and 2 times it)",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        type=output_folder,
        required=True,
        help="folder for tables, curves, plots and runs; created if missing",
    )
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compress, compile, simulate, sweep; write the folder and print table and verdicts."""
    from accel.cli.comparison import comparison_document
    from accel.cli.comparison_files import CURVE_FILE, write_comparison
    from accel.cli.compress import kept_codecs, load
    from accel.cli.progress import progress
    from accel.cli.verdict import verdict

    codecs, machines, keep = _codecs(arguments.codecs), _machines(arguments), kept_codecs(arguments.keep)
    energy = energy_table(arguments.energy)
    model = load(arguments)
    calibrating, reference = _calibrating(arguments, model)
    with progress() as report:
        results = _compare(arguments, model, codecs, keep, machines, energy, calibrating, reference, report)
    curve = str(arguments.output / CURVE_FILE)
    verdicts = [verdict(result, curve) for result in results]
    document = comparison_document(results, model.source, arguments.batch, verdicts)
    text = _text(results, curve)
    write_comparison(arguments.output, results, document, text)
    if arguments.json:
        print_json(document)
    else:
        print(text, end="")
    say(f"wrote tables, plots and runs to {arguments.output}")
    return 0


def _calibrating(arguments: argparse.Namespace, model: LoadedModel) -> tuple[Calibrating | None, Reference | None]:
    """Samples to calibrate on, and the float model's answers to the inputs programs are executed on."""
    from accel.cli.fidelity import float_reference
    from accel.cli.tensors import calibration_samples, read_samples
    from compiler.quantise import candidate_methods

    candidate_methods(arguments.calibration_method)
    if not arguments.calibrate:
        if arguments.inputs:
            raise ConfigError(
                f"--inputs {arguments.inputs}; allowed: together with --calibrate, which makes values mean"
            )
        return None, None
    if arguments.batch > 1:
        raise ConfigError(f"--calibrate with --batch {arguments.batch}; allowed: one input at a time")
    calibrating = calibration_samples(arguments.calibrate, model.graph)
    inputs = read_samples(arguments.inputs, model.graph.inputs) if arguments.inputs else calibrating.samples
    return calibrating, float_reference(model, inputs)


def _codecs(texts: Sequence[str]) -> tuple[Codec, ...]:
    """int8 first, then the others once each."""
    from accel.codecs import parse_codec

    return tuple(dict.fromkeys(map(parse_codec, ("int8", *texts))))


def _machines(arguments: argparse.Namespace) -> tuple[Machine, ...]:
    from accel.machine import load_machine

    machines = [load_machine(spec, arguments.overrides) for spec in arguments.machines or (DEFAULT_MACHINE,)]
    names = [machine.name for machine in machines]
    if doubled := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"-m: two machines are called '{doubled[0]}'; their files would overwrite each other")
    return tuple(machines)


def _compare(
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
    from accel.cli.comparison import CodecResult, other_codecs
    from accel.cli.compress import bits_per_weight, mean_relative_error
    from sim import simulate
    from sim.levels import memory_levels

    free_vector = replace(machine, vector=replace(machine.vector, lanes=0))
    return CodecResult(
        codec=str(codec),
        bits_per_weight=bits_per_weight(reports),
        relative_error=mean_relative_error(reports),
        whole=replace(simulate(program, machine, energy), occupancy=memory_levels(program, machine)),
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


def _text(results: Sequence[MachineResult], curve_file: str) -> str:
    """A table and a verdict for each machine."""
    from accel.cli.comparison import comparison_table, table_notes
    from accel.cli.verdict import verdict
    from accel.reporting import to_text

    parts = [
        f"{to_text(comparison_table([result]))}\n{_wrapped(verdict(result, curve_file))}\n{_run_notes(result)}"
        for result in results
    ]
    return "\n".join([*parts, "\n".join(f"note: {note}" for note in table_notes(results)) + "\n"])


def _run_notes(result: MachineResult) -> str:
    """What compiler and simulator remarked on int8 and the best format, each remark once."""
    notes = dict.fromkeys(note for each in result.highlights for note in each.whole.notes)
    return "".join(f"note: {note}\n" for note in notes)


def _wrapped(paragraph: str) -> str:
    """Lines of at most ``TEXT_WIDTH``; a number stays with its per cent sign."""
    joined = paragraph.replace(" %", "\N{NO-BREAK SPACE}%")
    filled = textwrap.fill(joined, TEXT_WIDTH, break_long_words=False, break_on_hyphens=False)
    return filled.replace("\N{NO-BREAK SPACE}", " ")
