"""Simulate a compiled program: how long it takes, what it moves, and what each cycle was spent on."""

from __future__ import annotations

import argparse
from dataclasses import replace
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
from accel.errors import SimError

if TYPE_CHECKING:
    from accel.program import Program

HELP = "simulate a program, cycle by cycle"
EXAMPLE = "accel sim net.prog.safetensors -o net.run.json --set vector.lanes=0"


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
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the tables of the run; exit code 1 when ``--check`` finds wrong weights."""
    from accel.cli.report import print_report
    from accel.program import read_program
    from accel.run import run_to_json, write_run
    from sim import simulate
    from sim.levels import memory_levels

    check_outputs([arguments.output], [arguments.program, *filter(None, [arguments.energy])])
    energy = energy_table(arguments.energy)
    program = read_program(arguments.program)
    wrong = _wrong_weights(program) if arguments.check else ""
    machine = overridden(program.machine, arguments.overrides)
    result = simulate(program, machine, energy)
    if arguments.output or arguments.json:
        result = replace(result, occupancy=memory_levels(program, machine))
    if arguments.output:
        write_run(result, arguments.output)
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


def _wrong_weights(program: Program) -> str:
    """What is wrong with the first weight stream that does not decode to what the compiler promised, or nothing."""
    from sim import check_weights

    try:
        check_weights(program)
    except SimError as error:
        return str(error)
    return ""
