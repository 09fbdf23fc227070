"""Arrays of the user's: .npz files read without trusting them, and written without leaving half of one."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from accel.atomic import open_atomic
from accel.errors import FormatError, listed, nearest

Array = npt.NDArray[Any]
_SUFFIX = ".npy"
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    ValueError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    KeyError,
)


def read_arrays(path: str | Path, elements: Mapping[str, int]) -> dict[str, Array]:
    """The arrays of an .npz file, by name; ``elements``: the names it may hold and how many elements each has.

    Sizes are checked before any memory is taken for them. Raises ``FormatError`` in one line for a file that is no
    .npz, is truncated, or holds other names, sizes or Python objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: _read(archive, name, elements) for name in _names(archive)}
    except FormatError as error:
        raise FormatError(f"'{path}': {error}") from error
    except _BROKEN as error:
        raise FormatError(f"'{path}' is no readable .npz file: {error}") from error


def _names(archive: zipfile.ZipFile) -> list[str]:
    names = [entry.filename.removesuffix(_SUFFIX) for entry in archive.infolist()]
    if len(set(names)) < len(names):
        raise FormatError("an array occurs twice")
    return names


def _read(archive: zipfile.ZipFile, name: str, elements: Mapping[str, int]) -> Array:
    if name not in elements:
        raise FormatError(f"array '{name}'; allowed: {listed(elements)}{nearest(name, elements)}")
    entry = archive.getinfo(name if name in archive.namelist() else name + _SUFFIX)
    with archive.open(entry) as file:
        shape, dtype = _header(file)
        count = 1
        for size in shape:
            count *= size
        if dtype.hasobject:
            raise FormatError(f"array '{name}' holds Python objects; allowed: numbers")
        if count != elements[name]:
            raise FormatError(_wrong_size(name, shape, count, elements[name]))
        if entry.file_size - file.tell() < count * dtype.itemsize:
            raise FormatError(f"array '{name}' is truncated")
    with archive.open(entry) as file:
        array: Array = np.lib.format.read_array(file, allow_pickle=False)
        return array


def _wrong_size(name: str, shape: tuple[int, ...], count: int, allowed: int) -> str:
    text = f"array '{name}' of shape {shape} has {count} elements; allowed: {allowed}"
    if count > allowed and count % allowed == 0:
        text += f" ({count // allowed} runs' worth: give one, or accel compile --batch)"
    return text


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise FormatError(f".npy version {version}; allowed: 1.0, 2.0")
    return shape, dtype


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
