"""Arrays from the command line: ``.npz`` files with one array an input, or random numbers in their place.

Files are untrusted: an array's type and shape are checked before its data are read, and nothing is ever unpickled.
"""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from accel.container import one_line
from accel.errors import ConfigError, FormatError, ModelError, listed, nearest
from accel.graph import Graph, Shape

LIMIT_BYTES = 4 << 30  # of one array
RANDOM_LIMIT = 1024  # samples

Array = npt.NDArray[Any]
Samples = list[dict[str, Array]]

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_BROKEN = (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)  # RuntimeError: encrypted


@dataclass(frozen=True, slots=True)
class Calibrating:
    """Samples to calibrate on, and where they came from if not from a file: `` on random inputs``."""

    samples: Samples
    origin: str = ""


def calibration_samples(text: str, graph: Graph) -> Calibrating:
    """What ``--calibrate FILE.npz`` or ``--calibrate random:N[:SEED]`` asks for."""
    if text != "random" and not text.startswith("random:"):
        return Calibrating(read_samples(text, graph.inputs))
    from compiler.quantise import random_samples

    count, seed = _count_and_seed(text)
    return Calibrating(random_samples(graph, count, seed), " on random inputs")


def _count_and_seed(text: str) -> tuple[int, int]:
    words = text.split(":")[1:]
    sound = 1 <= len(words) <= 2 and all(word.isascii() and word.isdigit() and len(word) < 10 for word in words)
    if not sound or not 1 <= int(words[0]) <= RANDOM_LIMIT:
        raise ConfigError(f"--calibrate {text}; allowed: FILE.npz, or random:N[:SEED] with N from 1 to {RANDOM_LIMIT}")
    return int(words[0]), int(words[1]) if len(words) == 2 else 0


def read_samples(path: str | os.PathLike[str], shapes: Mapping[str, Shape]) -> Samples:
    """Samples from an ``.npz`` file with an array for every input in ``shapes``: exactly of the input's shape, with one
    more leading axis (samples), or with samples in place of a leading size of 1.

    Raises ``FormatError`` for files that cannot be read, ``ModelError`` for arrays that do not fit the inputs.
    """
    where = f"'{os.fspath(path)}'"
    try:
        with zipfile.ZipFile(path) as archive:
            _check_names(archive, shapes, where)
            stacked = {name: _stacked(archive, name, tuple(shape), where) for name, shape in shapes.items()}
    except _BROKEN as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise FormatError(f"cannot read {where}: {reason}") from error
    counts = {name: len(array) for name, array in stacked.items()}
    if len(set(counts.values())) > 1:
        raise ModelError(f"{where}: samples of each input: {counts}; allowed: equal numbers")
    return [{name: array[i] for name, array in stacked.items()} for i in range(min(counts.values(), default=0))]


def _check_names(archive: zipfile.ZipFile, shapes: Mapping[str, Shape], where: str) -> None:
    found = {name.removesuffix(".npy") for name in archive.namelist()}
    for name in sorted(found - shapes.keys()):
        known = f"inputs are {listed(shapes)}{nearest(name[:80], shapes)}"
        raise ModelError(f"{where}: no input {ascii(name)[:80]}; {known}")
    for name in shapes:
        if name not in found:
            raise ModelError(f"{where}: no array for input '{name}'; it holds {listed(sorted(found)) or 'none'}")


def _stacked(archive: zipfile.ZipFile, name: str, wanted: Shape, where: str) -> Array:
    """An input's array with samples as its leading axis."""
    with archive.open(f"{name}.npy") as stream:
        shape, fortran, dtype = _header(stream)
        if dtype.kind not in "fiu":
            raise ModelError(f"{where}, input '{name}': element type {dtype}; allowed: real numbers")
        stack = _stack(shape, wanted)
        if stack is None:
            known = f"{list(wanted)}, or that with one more leading axis, samples"
            raise ModelError(f"{where}, input '{name}': shape {list(shape)}; allowed: {known}")
        size = math.prod(shape) * dtype.itemsize
        if size > LIMIT_BYTES:
            raise ModelError(f"{where}, input '{name}': {size} bytes; allowed: up to {LIMIT_BYTES}")
        data = stream.read(size)
    if len(data) != size:
        raise FormatError(f"{where}, input '{name}': ends after {len(data)} of {size} bytes")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C").reshape(stack)


def _header(stream: IO[bytes]) -> tuple[Shape, bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"array format {version[0]}.{version[1]}; allowed: 1.0, 2.0")
    shape, fortran, dtype = _HEADERS[version](stream)
    return shape, fortran, dtype


def _stack(shape: Shape, wanted: Shape) -> Shape | None:
    """The shape with samples in front, None if an array of ``shape`` holds no samples of ``wanted``."""
    if shape == wanted:
        return (1, *wanted)
    in_front, in_place = shape[1:] == wanted, wanted[:1] == (1,) and shape[1:] == wanted[1:]
    return (shape[0], *wanted) if shape and shape[0] > 0 and (in_front or in_place) else None
