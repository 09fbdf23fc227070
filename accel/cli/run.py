"""Execute a compiled program on inputs, in the accelerator's integer arithmetic: what it computes, not how long."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.cli.against_options import add_against, check_options, draw, judged, missed, model_files, started
from accel.cli.options import (
    add_json,
    add_output,
    check_outputs,
    created_folder,
    non_negative_integer,
    output_file,
    output_folder,
    print_json,
    say,
)
from accel.errors import ConfigError

if TYPE_CHECKING:
    from accel.cli.divergence import Comparison, Divergence
    from accel.program import Program
    from accel.reporting import Table
    from sim.functional import Execution

HELP = "execute a program on inputs and write its outputs"
EXAMPLE = "accel run net.prog.safetensors --input x.npz -o y.npz"
RANDOM_PREFIX = "random:"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("program", metavar="PROG", help="a *.prog.safetensors file from accel compile")
    parser.add_argument(
        "--input",
        metavar="FILE",
        required=True,
        help="an .npz file with one array for each input, or random:SEED for standard normal values",
    )
    add_output(parser, "write the outputs (*.npz)", required=False)
    parser.add_argument("--raw", action="store_true", help="write the stored int8 or uint8 codes, not real values")
    parser.add_argument(
        "--uncalibrated",
        action="store_true",
        help="also execute a program whose activations were not calibrated: its values mean nothing",
    )
    parser.add_argument(
        "--dump-layers",
        metavar="DIR",
        type=output_folder,
        help="write every tensor the program stores: real values, codes, an index (layers.npz, codes.npz, layers.csv)",
    )
    parser.add_argument(
        "--trace",
        metavar="FILE",
        type=output_file,
        help="write a line of JSON for each instruction: what it stored, and when it runs by accel sim",
    )
    add_against(parser)
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Execute, write what was asked for, print one row an output; exit code 1 if a limit that was given is missed."""
    from accel.program import read_program

    check_options(arguments)
    check_outputs(_files(arguments), [arguments.program, arguments.input, *model_files(arguments.against or "")])
    program = read_program(arguments.program)
    inputs = _inputs(program, arguments.input)
    comparison = started(program, inputs, arguments)
    begin = time.perf_counter()
    found = _execute(program, inputs, arguments, comparison)
    seconds = time.perf_counter() - begin
    say(_warnings(program, inputs))
    divergence = judged(comparison, arguments)
    _write(found, divergence, arguments)
    _print(found, divergence, seconds, as_json=arguments.json)
    for written in filter(None, (*_files(arguments), arguments.dump_layers)):
        say(f"wrote {written}")
    return 1 if missed(divergence, arguments) else 0


CLIPPED_SHARE = 0.05  # of an input beyond its calibrated range: more is told


def _warnings(program: Program, inputs: Mapping[str, Any]) -> Iterator[str]:
    """What makes values doubtful: scales that are nominal, inputs far outside what was calibrated."""
    from accel.quantisation import clipped_share

    if not program.calibrated:
        yield "warning: the program is not calibrated; its values mean nothing"
    for port in program.inputs:
        values = inputs.get(port.name)
        if port.code is None or values is None or values.dtype.kind != "f" or values.size % math.prod(port.shape):
            continue
        share = clipped_share(values.reshape(-1, *port.shape), port.code)
        if share > CLIPPED_SHARE:
            yield f"warning: {share:.0%} of input '{port.name}' lies beyond the range it was calibrated on"


def _files(arguments: argparse.Namespace) -> tuple[Path | None, ...]:
    """Every file to write."""
    return arguments.output, arguments.trace, arguments.plot


def _write(found: Execution, divergence: Divergence | None, arguments: argparse.Namespace) -> None:
    if arguments.output:
        from accel.cli.arrays import write_arrays

        write_arrays(arguments.output, found.codes if arguments.raw else found.outputs)
    if arguments.plot and divergence is not None:
        draw(divergence, arguments.plot)


def _print(found: Execution, divergence: Divergence | None, seconds: float, *, as_json: bool) -> None:
    from accel.cli.divergence_report import divergence_document, divergence_text
    from accel.reporting import to_text

    if as_json:
        more = {} if divergence is None else {"divergence": divergence_document(divergence)}
        print_json({**_document(found, seconds), **more})
        return
    print(to_text(_table(found, seconds)), end="")
    if divergence is not None:
        print(f"\n{divergence_text(divergence)}", end="")


def _inputs(program: Program, spec: str) -> dict[str, Any]:
    if spec.startswith(RANDOM_PREFIX):
        from sim.functional import random_inputs

        try:
            return random_inputs(program, non_negative_integer(spec.removeprefix(RANDOM_PREFIX)))
        except argparse.ArgumentTypeError as error:
            raise ConfigError(f"--input {spec}: {error}") from None
    from math import prod

    from accel.cli.arrays import read_arrays

    return read_arrays(spec, {port.name: program.batch * prod(port.shape) for port in program.inputs})


def _execute(
    program: Program, inputs: Mapping[str, Any], arguments: argparse.Namespace, comparison: Comparison | None
) -> Execution:
    """Execute with the observers the options ask for; their files appear only if all goes well."""
    from accel.cli.divergence import both
    from accel.cli.run_files import layer_files, trace_file
    from sim.functional import run_program

    with ExitStack() as stack:
        on_instruction = stack.enter_context(trace_file(program, arguments.trace)) if arguments.trace else None
        dump = None
        if arguments.dump_layers:
            stack.enter_context(created_folder(arguments.dump_layers))
            dump = stack.enter_context(layer_files(program, arguments.dump_layers))
        on_tensor = both(dump, comparison.take if comparison else None)
        return run_program(
            program,
            inputs,
            order="program" if on_tensor else "eager",
            allow_uncalibrated=arguments.uncalibrated,
            on_instruction=on_instruction,
            on_tensor=on_tensor,
        )


def _rows(found: Execution) -> list[dict[str, Any]]:
    return [
        {
            "output": name,
            "shape": "x".join(map(str, values.shape)),
            "minimum": float(values.min()),
            "maximum": float(values.max()),
            "saturated": found.saturated[name],
        }
        for name, values in found.outputs.items()
    ]


def _table(found: Execution, seconds: float) -> Table:
    from accel.reporting import Column, Table

    columns = (
        Column("output", "output"),
        Column("shape", "shape"),
        Column("minimum", "minimum", "1"),
        Column("maximum", "maximum", "1"),
        Column("saturated", "saturated", "share"),
    )
    note = (
        f"{found.instructions:,} instructions in {seconds:.2f} s; {found.sram_bytes:,} bytes of activation SRAM used; "
        "saturated: codes at an end of their range"
    )
    return Table("Outputs", columns, tuple(_rows(found)), (note,))


def _document(found: Execution, seconds: float) -> dict[str, Any]:
    return {
        "outputs": _rows(found),
        "instructions": found.instructions,
        "sram_bytes": found.sram_bytes,
        "seconds": seconds,
    }
