"""Arrays of the user's: .npz files read without trusting them, and written without leaving half of one.

What a file declares (names, element types, shapes, sizes) is checked before memory is taken for its data, and nothing
is ever unpickled.
"""

from __future__ import annotations

import math
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from accel.atomic import open_atomic
from accel.container import one_line
from accel.errors import FormatError, ModelError, listed, nearest
from accel.graph import Shape

LIMIT_BYTES = 4 << 30  # of one array
EXPANSION_LIMIT = 200  # of an array above EXPANSION_BYTES; deflate reaches 1032 on zeros
EXPANSION_BYTES = 256 << 20

Array = npt.NDArray[Any]
Fit = Callable[[str, Shape], Shape]

_SUFFIX = ".npy"
_ENCRYPTED = 1  # of a ZIP entry's flag bits
_METHODS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_RANK_LIMIT = 64  # numpy's own
_BROKEN = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,
    MemoryError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def read_arrays(path: str | os.PathLike[str], elements: Mapping[str, int]) -> dict[str, Array]:
    """The arrays of an .npz file, one for every name in ``elements``, which says how many elements each has.

    Raises what ``read_npz`` raises.
    """

    def fit(name: str, shape: Shape) -> Shape:
        count, allowed = math.prod(shape), elements[name]
        if count != allowed:
            raise ModelError(_wrong_count(name, shape, count, allowed))
        return shape

    return read_npz(path, elements, fit)


def _wrong_count(name: str, shape: Shape, count: int, allowed: int) -> str:
    text = f"input '{name}': shape {list(shape)} has {count} elements; allowed: {allowed}"
    if count > allowed and count % allowed == 0:
        text += f" ({count // allowed} runs' worth: give one, or accel compile --batch)"
    return text


def read_npz(path: str | os.PathLike[str], names: Iterable[str], fit: Fit) -> dict[str, Array]:
    """An array for each of ``names``, the only ones the .npz file may hold: floats of any width as float32, integers
    as they are, all in the machine's byte order.

    ``fit`` gets a name and the shape in the file; it returns the shape to give the array, or raises ``ModelError``.
    Raises, in one line, ``FormatError`` for files that cannot be read, ``ModelError`` for arrays that do not fit.
    """
    where = f"'{os.fspath(path)}'"
    try:
        with zipfile.ZipFile(path) as archive:
            entries = _entries(archive, list(names))
            return {name: _read(archive, entry, name, fit) for name, entry in entries.items()}
    except (FormatError, ModelError) as error:
        raise type(error)(f"{where}: {error}") from error
    except _BROKEN as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise FormatError(f"cannot read {where}: {reason}") from error


def _entries(archive: zipfile.ZipFile, names: list[str]) -> dict[str, zipfile.ZipInfo]:
    """The entry of each of ``names``; there must be exactly those."""
    found: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        name = entry.filename.removesuffix(_SUFFIX)
        if name not in names:
            known = f"inputs are {listed(names)}{nearest(name[:80], names)}"
            raise ModelError(f"no input {ascii(name)[:80]}; {known}")
        if name in found:
            raise FormatError(f"input '{name}': two arrays; allowed: one")
        found[name] = entry
    for name in names:
        if name not in found:
            raise ModelError(f"no array for input '{name}'; it holds {listed(sorted(found)) or 'none'}")
    return {name: found[name] for name in names}


def _read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, name: str, fit: Fit) -> Array:
    _check_entry(entry, name)
    with archive.open(entry) as stream:
        shape, fortran, dtype = _header(stream, name)
        if dtype.kind not in "fiu":  # a structure may have any number of fields
            raise ModelError(f"input '{name}': element type {_clipped(dtype)}; allowed: real numbers")
        wanted = fit(name, shape)
        size = math.prod(shape) * dtype.itemsize
        _check_size(entry, name, size, entry.file_size - stream.tell())
        data = stream.read(size)
    if len(data) != size:
        raise FormatError(f"input '{name}': ends after {len(data)} of {size} bytes")
    array = np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C").reshape(wanted)
    with np.errstate(over="ignore"):  # infinite from here on, and refused as such
        return array.astype(np.float32 if dtype.kind == "f" else dtype.newbyteorder("="))


def _clipped(value: object) -> str:
    """What a hostile header may make as long as it likes."""
    return ascii(str(value))[1:-1][:80]


def _check_entry(entry: zipfile.ZipInfo, name: str) -> None:
    if entry.flag_bits & _ENCRYPTED:
        raise FormatError(f"input '{name}': encrypted; allowed: arrays without a password")
    if entry.compress_type not in _METHODS:
        known = listed(f"{number} ({method})" for number, method in _METHODS.items())
        raise FormatError(f"input '{name}': compression method {entry.compress_type}; allowed: {known}")


def _check_size(entry: zipfile.ZipInfo, name: str, size: int, held: int) -> None:
    """Raise for an array of ``size`` bytes that is too large or not what the entry says it holds."""
    if size > LIMIT_BYTES:
        raise ModelError(f"input '{name}': {size} bytes; allowed: up to {LIMIT_BYTES}")
    if held != size:
        what = "is truncated" if held < size else "goes on after its end"
        raise FormatError(f"input '{name}': the array {what}: {held} bytes; its header says {size}")
    if size > max(EXPANSION_BYTES, EXPANSION_LIMIT * entry.compress_size):
        known = f"{EXPANSION_LIMIT} times as many above {EXPANSION_BYTES}"
        raise FormatError(f"input '{name}': {size} bytes compressed to {entry.compress_size}; allowed: {known}")


def _header(stream: IO[bytes], name: str) -> tuple[Shape, bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and element type; raises ``FormatError``."""
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise FormatError(f"input '{name}': array format {version[0]}.{version[1]}; allowed: 1.0, 2.0")
    try:
        with warnings.catch_warnings(action="ignore"):  # of Python 2 and of odd literals, in several lines
            shape, fortran, dtype = _HEADERS[version](stream)
    except Exception as error:  # numpy evaluates the text; it raises what tokenize, ast and dtype happen to raise
        raise FormatError(f"input '{name}': not the header of an array: {one_line(error, 120)}") from error
    if len(shape) > _RANK_LIMIT or not all(type(size) is int and 0 <= size < 1 << 63 for size in shape):
        raise FormatError(f"input '{name}': shape {_clipped(shape)}; allowed: up to {_RANK_LIMIT} whole numbers from 0")
    return shape, fortran, dtype


class ArrayWriter:
    """Adds one array after another to an .npz file."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive

    def add(self, name: str, array: Array) -> None:
        """Store ``array`` under ``name``."""
        with self.archive.open(name + _SUFFIX, "w", force_zip64=True) as file:
            np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


@contextmanager
def open_arrays(path: str | Path) -> Iterator[ArrayWriter]:
    """An .npz file that becomes ``path`` when the block ends, and vanishes if it raises."""
    with open_atomic(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        yield ArrayWriter(archive)


def write_arrays(path: str | Path, arrays: Mapping[str, Array]) -> None:
    """Write an .npz file atomically; raises ``FormatError`` if that is impossible."""
    with open_arrays(path) as writer:
        for name, array in arrays.items():
            writer.add(name, array)
