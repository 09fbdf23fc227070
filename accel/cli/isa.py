"""Show the instruction set: its manual as Markdown, a program as text, or text as instruction words."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accel.program import Program

HELP = "the instruction set: manual, disassembler, assembler"
EXAMPLE = "accel isa --disasm net.prog.safetensors | head\n  accel isa --asm 'LDC address=0x40 bytes=128 bank=1'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--markdown", action="store_true", help="print the manual, generated from the instruction table")
    what.add_argument("--disasm", metavar="PROG", help="print a program as text that --asm reads back")
    what.add_argument(
        "--asm", metavar="TEXT", help="print one 128-bit word an instruction, 32 hex digits in memory order; - is stdin"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print what was asked for."""
    if arguments.markdown:
        from accel.documents import isa_markdown

        print(isa_markdown(), end="")
    elif arguments.disasm:
        from accel.program import read_program

        for line in _listing(read_program(arguments.disasm)):
            print(line)
    else:
        _print_words(sys.stdin.read() if arguments.asm == "-" else arguments.asm)
    return 0


def _listing(program: Program) -> Iterator[str]:
    """The instructions, a comment line wherever the layer changes."""
    from accel.isa import decode_program, disassemble

    shown = -1
    for instruction, layer in zip(decode_program(program.words), program.instruction_layer.tolist(), strict=True):
        if layer != shown:
            yield f"# {program.layers[layer].name}"
            shown = layer
        yield disassemble(instruction)


def _print_words(text: str) -> None:
    from accel.isa import assemble_program, encode

    for instruction in assemble_program(text):
        print(encode(instruction).hex())
