"""Compile a packed model for a machine: one file of instructions and DRAM image, and what it holds."""

from __future__ import annotations

import argparse

from accel.cli.options import (
    DEFAULT_MACHINE,
    add_batch,
    add_json,
    add_output,
    add_overrides,
    check_outputs,
    print_json,
    say,
)

HELP = "compile a packed model into a program"
EXAMPLE = "accel compile net.vq.safetensors -m edge64 -o net.prog.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("packed", metavar="PACKED", help="a *.vq.safetensors file from accel compress")
    parser.add_argument(
        "-m",
        "--machine",
        metavar="MACHINE",
        default=DEFAULT_MACHINE,
        help=f"a built-in machine (accel machines) or a TOML path (default {DEFAULT_MACHINE})",
    )
    add_overrides(parser)
    add_batch(parser)
    parser.add_argument("--verify", action="store_true", help="check the program between passes (slower)")
    add_output(parser, "the program file to write (*.prog.safetensors)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Compile, write and print the summary."""
    from accel.cli.program_summary import summary, summary_text
    from accel.machine import load_machine
    from accel.packed import read_packed
    from accel.program import write_program
    from compiler import compile_model

    check_outputs([arguments.output], [arguments.packed, arguments.machine])
    machine = load_machine(arguments.machine, arguments.overrides)
    packed = read_packed(arguments.packed)
    program = compile_model(packed, machine, batch=arguments.batch, verify=arguments.verify)
    write_program(program, arguments.output)
    if arguments.json:
        print_json(summary(program))
    else:
        print(summary_text(program), end="")
    say(f"wrote {arguments.output} ({arguments.output.stat().st_size:,} bytes)")
    return 0
