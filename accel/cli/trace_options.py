"""``--trace`` of ``accel sim``: where the timeline goes and which part of it."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from accel.cli.options import output_file
from accel.errors import ConfigError

_WINDOW = re.compile(r"([0-9]{1,18}):([0-9]{1,18})")


def window_cycles(text: str) -> tuple[int, int]:
    """``FROM:TO``, in cycles."""
    found = _WINDOW.fullmatch(text)
    if not found or int(found[1]) >= int(found[2]):
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: FROM:TO in cycles, FROM below TO, e.g. 20000:40000")
    return int(found[1]), int(found[2])


def add_trace(parser: argparse.ArgumentParser) -> None:
    """``--trace FILE`` and ``--trace-window FROM:TO``."""
    parser.add_argument(
        "--trace",
        metavar="FILE",
        type=trace_file,
        help="write the timeline of the run (.json, or .json.gz to compress it) for ui.perfetto.dev or chrome://tracing",
    )
    parser.add_argument(
        "--trace-window",
        metavar="FROM:TO",
        type=window_cycles,
        help="only what happens in these cycles (default: the whole run)",
    )


def trace_file(text: str) -> Path:
    """An output file whose name viewers take."""
    if not text.endswith((".json", ".json.gz")):
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: a name that ends in .json or .json.gz")
    return output_file(text)


def check_trace(arguments: argparse.Namespace) -> None:
    """Raise ``ConfigError`` for a window without a trace."""
    if arguments.trace_window and not arguments.trace:
        raise ConfigError("--trace-window is about the file of --trace, which is not given")
