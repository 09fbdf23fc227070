"""Compare formats of one model on one or more machines: the table, the curve over DRAM bandwidth, and the reasons.

int8 is always among them: it is what every ratio refers to, so ``--keep`` leaves it alone.
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Sequence
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
from accel.errors import ConfigError

if TYPE_CHECKING:
    from accel.cli.comparison import MachineResult
    from accel.cli.fidelity import Reference
    from accel.cli.tensors import Calibrating
    from accel.codecs import Codec
    from accel.machine import Machine
    from compiler.frontend import LoadedModel

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
    from accel.cli.compare_runs import compare_formats
    from accel.cli.comparison_files import CURVE_FILE, write_comparison
    from accel.cli.comparison_tables import comparison_document
    from accel.cli.compress import kept_codecs, load
    from accel.cli.progress import progress
    from accel.cli.verdict import verdict

    codecs, machines, keep = _codecs(arguments.codecs), _machines(arguments), kept_codecs(arguments.keep)
    energy = energy_table(arguments.energy)
    model = load(arguments)
    calibrating, reference = _calibrating(arguments, model)
    with progress() as report:
        results = compare_formats(arguments, model, codecs, keep, machines, energy, calibrating, reference, report)
    curve = str(arguments.output / CURVE_FILE)
    document = comparison_document(results, model.source, arguments.batch, [verdict(result) for result in results])
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


def _text(results: Sequence[MachineResult], curve_file: str) -> str:
    """A table and a verdict for each machine."""
    from accel.cli.comparison_tables import comparison_table, table_notes
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
