"""Arguments several verbs share, and where their output goes: data on stdout, messages on stderr."""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.errors import ConfigError, printable

if TYPE_CHECKING:
    from accel.energy import EnergyTable
    from accel.machine import Machine
    from accel.reporting import Table

DEFAULT_MACHINE = "edge64"


def output_file(text: str) -> Path:
    """The path of a file to write; refused at once, before any work is done, when its folder is missing."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"'{text}' is a folder; expected the name of a file to write")
    if not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"cannot write '{text}': folder '{path.parent}' does not exist")
    return path


def output_folder(text: str) -> Path:
    """The path of a folder to create (its parents too) or to write into."""
    path = Path(text)
    for ancestor in (path, *path.parents):
        if ancestor.exists() and not ancestor.is_dir():
            raise argparse.ArgumentTypeError(f"cannot write into '{text}': '{ancestor}' is not a folder")
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        raise argparse.ArgumentTypeError(f"cannot write into '{text}': no permission to write in '{existing}'")
    _try_to_write(text, existing)
    return path


def _try_to_write(text: str, folder: Path) -> None:
    """Permissions alone do not tell: not what a file system is for (/proc), nor what root may do."""
    try:
        Path(tempfile.mkdtemp(prefix=".accel-", suffix=".tmp", dir=folder)).rmdir()
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot write '{text}': {error.strerror or error}") from error


@contextlib.contextmanager
def created_folder(folder: Path) -> Iterator[None]:
    """``folder`` exists inside the block; should the block fail before it wrote anything, a new folder goes again."""
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:  # also when interrupted from the keyboard
        if new:
            with contextlib.suppress(OSError):  # it holds something
                folder.rmdir()
        raise


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[str], patterns: Iterable[str] = ()) -> None:
    """Raise ``ConfigError`` when a file to write is one that is read, or another to write: nobody loses a model to a
    slip of the keyboard.

    Links count as what they point to. ``inputs`` may hold words that are no paths at all. Of folders among them, files
    whose names match ``patterns`` are read; a new one by such a name is refused, since the next run would read it.
    """
    written = [output for output in outputs if output is not None]
    for path in map(Path, filter(None, inputs)):
        for output in written:
            _refuse_loss(output, path, tuple(patterns))
    for first, second in itertools.combinations(written, 2):
        if first.resolve() == second.resolve() and (first.is_file() or not first.exists()):  # not a device
            raise ConfigError(f"'{second}' is the file of two outputs; write them to two files")


def _refuse_loss(output: Path, path: Path, patterns: tuple[str, ...]) -> None:
    read = [each for pattern in patterns for each in path.glob(pattern)] if _is_folder(path) else [path]
    for each in read:
        if _is_file(each) and _is_file(output) and output.samefile(each):
            raise ConfigError(f"'{output}' is the input '{each}', which would be lost; write to another file")
    if _is_folder(path) and output.parent.samefile(path) and any(map(output.absolute().match, patterns)):
        raise ConfigError(f"'{output}' would be read as part of the input '{path}'; write to another folder")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name too long, or with a null byte
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def positive_integer(text: str) -> int:
    """A whole number of at least 1."""
    if not (text.isascii() and text.isdigit() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: a whole number of at least 1")
    return int(text)


def non_negative_integer(text: str) -> int:
    """A whole number of at least 0."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: a whole number of at least 0")
    return int(text)


def positive_number(text: str) -> float:
    """A finite number above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: a number above 0")
    return number


def array_size(text: str) -> tuple[int, int]:
    """``ROWSxCOLUMNS`` of an array."""
    rows, _, columns = text.partition("x")
    if not all(word.isascii() and word.isdigit() and int(word) for word in (rows, columns)):
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: ROWSxCOLUMNS, e.g. 32x32")
    return int(rows), int(columns)


def input_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """``NAME=1x3x224x224``: an input and its sizes."""
    name, equals, sizes = text.rpartition("=")
    words = sizes.split("x")
    if not (name and equals) or not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: NAME=SIZES, e.g. input=1x3x224x224")
    return name, tuple(map(int, words))


def add_model(parser: argparse.ArgumentParser) -> None:
    """``MODEL`` and the shapes of its inputs."""
    parser.add_argument("model", metavar="MODEL", help="a path (.onnx, .pt2), ARCH[:FILE] or zoo:NAME (accel models)")
    parser.add_argument(
        "--input-shape",
        dest="input_shapes",
        metavar="NAME=1x3x224x224",
        type=input_shape,
        action="append",
        default=[],
        help="sizes of an input, where the model leaves them open (repeatable)",
    )


def add_output(parser: argparse.ArgumentParser, what: str, *, required: bool = True) -> None:
    """``-o FILE``."""
    parser.add_argument("-o", "--output", metavar="FILE", type=output_file, required=required, help=what)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """``--set KEY=VALUE``, repeatable."""
    parser.add_argument(
        "--set",
        dest="overrides",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="override one key of the machine, e.g. sram.weight_bytes=32768 (repeatable)",
    )


def add_energy(parser: argparse.ArgumentParser) -> None:
    """``--energy FILE``."""
    parser.add_argument(
        "--energy",
        metavar="FILE",
        help="a TOML file with energies to use instead of the built-in ones; FORMATS.md lists those, under Energy",
    )


def energy_table(path: str | None) -> EnergyTable:
    """The table of ``--energy``, or the default one."""
    from accel.energy import DEFAULT_ENERGY, load_energy

    return load_energy(path) if path else DEFAULT_ENERGY


def add_batch(parser: argparse.ArgumentParser) -> None:
    """``--batch N``."""
    parser.add_argument("--batch", metavar="N", type=positive_integer, default=1, help="inputs a run (default 1)")


def add_compression(parser: argparse.ArgumentParser) -> None:
    """Exceptions and ``add_vectors``: the same for every verb that compresses."""
    parser.add_argument(
        "--keep",
        metavar="GLOB=CODEC",
        action="append",
        default=[],
        help="another codec for the weights or operators a pattern names (repeatable; the last match wins)",
    )
    add_vectors(parser)


def add_vectors(parser: argparse.ArgumentParser) -> None:
    """How weights are scaled and made vectors, and where random choices start."""
    parser.add_argument(
        "--scale",
        choices=("channel", "tensor"),
        default="channel",
        help="one weight scale an output channel, or one a tensor (default channel)",
    )
    parser.add_argument(
        "--vector-axis",
        choices=("out", "in"),
        default="out",
        help="vectors run along output channels, or along the reduction through a transpose buffer (default out)",
    )
    parser.add_argument(
        "--seed",
        metavar="N",
        type=non_negative_integer,
        default=0,
        help="start of everything random: k-means, and weights of an ARCH without a file (default 0)",
    )


def add_calibration(parser: argparse.ArgumentParser) -> None:
    """Samples that activation scales are found on, and how."""
    parser.add_argument(
        "--calibrate",
        metavar="FILE.npz",
        help="samples, one array an input; or random:N[:SEED], where only the time of a run matters",
    )
    parser.add_argument(
        "--calibration-method",
        metavar="METHOD",
        default="minmax",
        help="how ranges follow from samples: minmax, percentile:P, mse, or best, the better of minmax and mse "
        "(default minmax)",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON of exact values instead of text")


def print_table(table: Table, *, as_json: bool) -> None:
    """One table on stdout: text, or a JSON list of its rows."""
    from accel.reporting import to_records, to_text

    if as_json:
        print_json(to_records(table))
    else:
        print(to_text(table), end="")


def print_json(document: Any) -> None:
    """A JSON document on stdout."""
    print(json.dumps(document, indent=1))


def say(lines: str | Iterable[str]) -> None:
    """Messages for people, on stderr."""
    for line in [lines] if isinstance(lines, str) else lines:
        print(printable(line), file=sys.stderr)


def overridden(machine: Machine, overrides: Iterable[str]) -> Machine:
    """``machine`` with ``--set`` applied; raises ``ConfigError``."""
    from accel.machine import machine_from_document, machine_to_document, with_overrides

    return machine_from_document(with_overrides(machine_to_document(machine), overrides), machine.name)
