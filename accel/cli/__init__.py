"""The command line: one file a verb. ``main`` alone turns errors into one line and an exit code.

Exit codes: 0 done, 1 a check failed, 2 bad input, 130 interrupted, 141 nobody reads stdout any more.
A verb's file holds ``HELP``, ``EXAMPLE``, ``add_arguments(parser)``
and ``run(arguments) -> exit code``; it imports what is heavy only inside ``run``, so that ``--help`` stays quick.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Never

from accel import __version__
from accel.cli import (
    codecs,
    compare,
    compile,
    compress,
    diff,
    dram,
    finetune,
    gemm,
    import_,
    isa,
    machines,
    models,
    rank,
    report,
    rtl,
    run,
    sim,
    sweep,
    validate,
)
from accel.errors import AccelError, nearest, printable

VERBS: tuple[ModuleType, ...] = (
    *(compress, finetune, rank, import_, compile, run, sim, compare, sweep, report, diff),
    *(rtl, gemm, dram, validate),
    *(isa, machines, models, codecs),
)
BAD_INPUT = 2
INTERRUPTED = 130  # what shells report for Ctrl-C
READER_LEFT = 141  # and for a program whose reader (head, less) went away


class _Parser(argparse.ArgumentParser):
    """Answers a mistake with one line instead of the whole usage."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            guess = nearest(str(value), map(str, action.choices or ()))
            raise argparse.ArgumentError(action, f"{error.message}{guess}") from error

    def error(self, message: str) -> Never:
        self.exit(BAD_INPUT, f"{self.prog}: {message} (see {self.prog} --help)\n")


def verb_name(verb: ModuleType) -> str:
    """What to type; a file whose name Python reserves has an underscore behind it."""
    return verb.__name__.rpartition(".")[2].removesuffix("_")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all verbs."""
    parser = _Parser(
        prog="accel",
        description="Compress a network's weights, compile it, simulate it, and see what the compression buys.",
        epilog="Start here: accel compare deit_tiny -o deit_tiny_report",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"accel {__version__}")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    for verb in VERBS:
        added = verbs.add_parser(
            verb_name(verb),
            help=verb.HELP,
            description=verb.__doc__,
            epilog=f"Example:\n  {verb.EXAMPLE}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        verb.add_arguments(added)
        added.set_defaults(run=verb.run, parser=added)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code. Errors a user can cause become one line on stderr."""
    arguments, unknown = build_parser().parse_known_args(argv)
    if unknown:
        arguments.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()  # a full disk behind a redirect must be noticed here, not at exit
        return code
    except AccelError as error:
        return _failed(str(error))
    except KeyboardInterrupt as stop:  # a verb says what is kept, Python nothing
        _failed(f"interrupted: {stop}" if str(stop) else "interrupted")
        return INTERRUPTED
    except BrokenPipeError:  # usual with head or less, and nothing to complain about
        _settle_stdout()
        return READER_LEFT
    except OSError as error:
        where = f"'{error.filename}': " if error.filename else ""
        return _failed(f"{where}{error.strerror or error}")
    except MemoryError:
        return _failed("not enough memory")


def _failed(message: str) -> int:
    print(f"accel: {printable(' '.join(message.split()))}", file=sys.stderr)
    _settle_stdout()
    return BAD_INPUT


def _settle_stdout() -> None:
    """Write what is still buffered or, if stdout takes no more, drop it: Python would complain again at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
