"""Simulate a compiled program: how long it takes, what it moves, and what each cycle was spent on."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from accel.cli.options import (
    add_energy,
    add_json,
    add_output,
    add_overrides,
    check_outputs,
    energy_table,
    overridden,
    say,
)
from accel.cli.trace_options import add_trace, check_trace
from accel.errors import SimError

if TYPE_CHECKING:
    from accel.energy import EnergyTable
    from accel.program import Program
    from accel.run import Run

HELP = "simulate a program, cycle by cycle"
EXAMPLE = "accel sim net.prog.safetensors -o net.run.json --trace net.trace.json.gz"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("program", metavar="PROG", help="a *.prog.safetensors file from accel compile")
    add_output(parser, "write the run (*.run.json) for accel report", required=False)
    add_overrides(parser)
    add_energy(parser)
    parser.add_argument(
        "--check",
        action="store_true",
        help="also decode every weight stream and compare it with the codec's own answer",
    )
    add_trace(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the tables of the run; exit code 1 when ``--check`` finds wrong weights."""
    from accel.cli.report import print_report
    from accel.program import read_program
    from accel.run import run_to_json, write_run

    check_trace(arguments)
    check_outputs([arguments.output, arguments.trace], [arguments.program, *filter(None, [arguments.energy])])
    energy = energy_table(arguments.energy)
    program = read_program(arguments.program)
    wrong = _wrong_weights(program) if arguments.check else ""
    result = _simulate(program, energy, arguments)
    if arguments.output:
        write_run(result, arguments.output)
        say(f"wrote {arguments.output} ({arguments.output.stat().st_size:,} bytes)")
    if arguments.json:
        print(run_to_json(result), end="")
    else:
        print_report([result])
    if arguments.check:
        say(
            f"check failed: {wrong}"
            if wrong
            else f"check passed: {len(program.streams)} weight streams decode as promised"
        )
    return 1 if wrong else 0


def _simulate(program: Program, energy: EnergyTable, arguments: argparse.Namespace) -> Run:
    """The run, with its timeline if that is asked for, and with how full memories were where that is shown."""
    machine, levels = overridden(program.machine, arguments.overrides), bool(arguments.output or arguments.json)
    if not arguments.trace:
        from sim import simulate
        from sim.levels import simulate_with_levels

        return (simulate_with_levels if levels else simulate)(program, machine, energy)
    from sim.timeline import WHOLE_RUN, Window, write_timeline

    window = Window(*arguments.trace_window) if arguments.trace_window else WHOLE_RUN
    result = write_timeline(program, arguments.trace, machine, energy, window, levels=levels)
    say(f"wrote {arguments.trace} ({arguments.trace.stat().st_size:,} bytes): one microsecond in a viewer is one cycle")
    return result


def _wrong_weights(program: Program) -> str:
    """What is wrong with the first weight stream that does not decode to what the compiler promised, or nothing."""
    from sim import check_weights

    try:
        check_weights(program)
    except SimError as error:
        return str(error)
    return ""
