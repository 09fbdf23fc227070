"""Report one run, or compare several with the first: what it cost, and what bounds each layer."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from accel.cli.options import check_outputs, output_file
from accel.errors import ConfigError

if TYPE_CHECKING:
    from accel.run import Run

HELP = "tables and plots of runs, or what differs between them"
EXAMPLE = "accel report int8.run.json ssvq.run.json --plot bars.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "runs", metavar="RUN.json", nargs="+", help="runs from accel sim; changes are against the first"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--format", choices=("text", "csv", "json"), default="text", help="default text")
    form.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
    parser.add_argument("-o", "--output", metavar="FILE", type=output_file, help="write there instead of to stdout")
    parser.add_argument(
        "--plot",
        metavar="FILE",
        type=output_file,
        help="draw cycles by cause (.png, .svg, .pdf): layers of one run, or totals of several",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print, write or draw the report."""
    from accel.atomic import write_text
    from accel.run import read_run

    check_outputs([arguments.output, arguments.plot], arguments.runs)
    if arguments.plot and arguments.output and arguments.plot.resolve() == arguments.output.resolve():
        raise ConfigError(f"'{arguments.plot}' is both -o and --plot; write them to two files")
    runs = [read_run(path) for path in arguments.runs]
    text = report_text(runs) if arguments.format == "text" else _data(runs, arguments.format)
    if arguments.plot:
        _plot(runs, arguments.plot)
    if arguments.output:
        write_text(arguments.output, text)
    else:
        print(text, end="")
    return 0


def print_report(runs: Sequence[Run]) -> None:
    """The text report on stdout."""
    print(report_text(runs), end="")


def _data(runs: Sequence[Run], form: str) -> str:
    from accel.cli.run_tables import flat_table, run_tables
    from accel.reporting import run_labels, to_csv, to_json

    if form == "csv":
        return to_csv(flat_table(runs))
    metrics, *others = run_tables(runs)
    remarks = [f"{label}: {note}" for label, run in zip(run_labels(runs), runs, strict=True) for note in run.notes]
    return to_json([replace(metrics, notes=(*metrics.notes, *remarks)), *others])


def _plot(runs: Sequence[Run], path: Path) -> None:
    from accel.plots import comparison_figure, layers_figure, write_figure

    write_figure(layers_figure(runs) if len(runs) == 1 else comparison_figure(runs), path)


def report_text(runs: Sequence[Run]) -> str:
    """What was run on what, then every table; metrics of a single run with their definitions."""
    from accel.cli.run_tables import metrics_text, run_tables
    from accel.reporting import run_labels, to_text

    heads = [run_heading(label, run) for label, run in zip(run_labels(runs), runs, strict=True)]
    metrics, *others = run_tables(runs)
    first = metrics_text(runs[0]) if len(runs) == 1 else to_text(metrics)
    return "\n".join(["\n".join(heads) + "\n", first, *map(to_text, others)])


def run_heading(label: str, run: Run) -> str:
    """Everything needed to say what a run is: model, weights, codec, machine, tool; then its notes."""
    from accel.cli.run_tables import dram_text, run_weights, weights_text

    machine, program = run.machine, run.program
    lines = [
        f"{label}: {program.get('model')}, {weights_text(run_weights(run))}; codec {program.get('codec')}",
        f"  machine {machine.name}: {machine.array.label} at {machine.clock.hz / 1e6:g} MHz, {dram_text(machine)}",
        f"  program {str(program.get('digest'))[:16]}, simulated by accel {run.tool}",
        *(f"  note: {note}" for note in run.notes),
    ]
    return "\n".join(lines)
