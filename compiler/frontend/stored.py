"""Tensors of a safetensors file, read when they are asked for: memory need not hold the model."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.container import DIMENSION_LIMIT
from accel.errors import ModelError, listed

SAFETENSORS_DTYPES = {
    "F16": "<f2",
    "BF16": "<u2",
    "F32": "<f4",
    "F64": "<f8",
    "BOOL": "?",
    **{f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)},
}


ELEMENT_LIMIT = (
    1 << 48
)  # NumPy counts the bytes of empty tensors, too, as if they had any; 64 bits hold those of so many


class StoredTensors(Mapping[str, npt.NDArray[Any]]):
    """All tensors of a safetensors file in the order they lie in, bfloat16 widened to float32.

    Each is mapped (or, if it must be converted, read) anew whenever it is asked for, and given back when its last user
    lets go of it; what is written into one is lost. Raises ``ModelError`` for what is no readable safetensors file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        rows, self._begin = _header(path)
        for name, row in rows.items():
            if row["dtype"] not in SAFETENSORS_DTYPES:
                raise ModelError(
                    f"{path}: tensor '{name}' has type {row['dtype']}; readable: {listed(SAFETENSORS_DTYPES)}"
                )
            _check_shape(row["shape"], f"{path}: tensor '{name}'")
        self._rows = dict(sorted(rows.items(), key=lambda item: item[1]["data_offsets"]))

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        row = self._rows[name]
        stored = self._mapped(SAFETENSORS_DTYPES[row["dtype"]], tuple(row["shape"]), row["data_offsets"][0])
        return widen_bfloat16(stored) if row["dtype"] == "BF16" else stored

    def _mapped(self, dtype: str, shape: tuple[int, ...], begin: int) -> npt.NDArray[Any]:
        if 0 in shape:
            return np.empty(shape, dtype)
        try:
            mapped = np.memmap(self._path, dtype, "c", self._begin + begin, shape)
        except (OSError, ValueError) as error:  # ValueError: the file has become shorter
            raise ModelError(f"{self._path}: {getattr(error, 'strerror', None) or error}") from error
        return np.require(mapped.view(np.ndarray), requirements="A")

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)


def _check_shape(shape: list[int], where: str) -> None:
    """The library has checked the sizes of tensors that have elements, not those of empty ones."""
    if len(shape) > DIMENSION_LIMIT:
        raise ModelError(f"{where} has {len(shape)} axes; allowed: {DIMENSION_LIMIT}")
    if math.prod(filter(None, shape)) > ELEMENT_LIMIT:
        raise ModelError(f"{where} has shape {shape}, more than {ELEMENT_LIMIT} elements but for an axis without any")


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """Rows of the header, which the library has checked against the file's size, and where the data begin."""
    from safetensors import SafetensorError, safe_open

    try:
        with path.open("rb") as file, safe_open(path, framework="numpy"):
            length = int.from_bytes(file.read(8), "little")
            rows = json.loads(file.read(length))
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ModelError(f"{path}: not a readable safetensors file: {error}") from error
    rows.pop("__metadata__", None)
    return rows, 8 + length


def widen_bfloat16(bits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """bfloat16 bit patterns (uint16) as float32: the same numbers, 16 zero bits behind."""
    wide = bits.astype("<u4")
    wide <<= np.uint32(16)
    return wide.view("<f4")
