"""A packed model on its way to disk: every layer leaves memory as soon as it is coded.

The packed file begins with a header that only the last layer completes, so its tensors wait in a file without a name in
the same folder: it needs the same disk, and is gone when this process is, however it ends.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from accel.codecs import EncodedLayer
from accel.container import Tensor, tensor_bytes
from accel.errors import FormatError
from accel.graph import Graph
from accel.packed import layer_row, layer_tensors, parameter_tensor, read_layer


class Spool(Mapping[str, Tensor]):
    """Tensors by name, kept in a nameless file beside ``target`` and mapped into memory while they are looked at.

    A context manager. ``FormatError``, one line, if the disk is full or the folder cannot be written.
    """

    def __init__(self, target: str | os.PathLike[str]) -> None:
        self._target = os.fspath(target)
        self._places: dict[str, tuple[np.dtype[Any], tuple[int, ...], int]] = {}
        path = Path(target).resolve()
        folder = None if path.exists() and not path.is_file() else path.parent  # a device has no room beside it
        try:
            self._file: IO[bytes] = tempfile.TemporaryFile(dir=folder, buffering=0, prefix=".accel-")  # noqa: SIM115
        except OSError as error:
            raise self._refusal(error) from error

    def __enter__(self) -> Spool:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, name: str, tensor: Tensor) -> None:
        """Keep a tensor under a name not used before."""
        assert name not in self._places, name
        begin = self._file.tell()
        left = tensor_bytes(tensor)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            raise self._refusal(error) from error
        self._places[name] = tensor.dtype, tensor.shape, begin

    def __getitem__(self, name: str) -> Tensor:
        kind, shape, begin = self._places[name]
        return np.memmap(self._file, kind, "r", begin, shape).view(np.ndarray)

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def _refusal(self, error: OSError) -> FormatError:
        return FormatError(f"cannot write '{self._target}': {error.strerror or error}")


@dataclass(frozen=True, slots=True)
class SpooledLayers(MutableMapping[str, EncodedLayer]):
    """Layers of ``graph`` by weight, stored in ``spool`` as a packed file stores them; read and checked when asked
    for. None is ever taken out."""

    spool: Spool
    graph: Graph
    rows: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = field(default_factory=dict)

    def __setitem__(self, name: str, layer: EncodedLayer) -> None:
        stored = []
        for tensor, array in layer_tensors(name, layer):
            self.spool.add(tensor, array)
            stored.append(tensor)
        self.rows[name] = layer_row(layer), tuple(stored)

    def __getitem__(self, name: str) -> EncodedLayer:
        row, stored = self.rows[name]
        return read_layer(name, row, self.graph, {tensor: self.spool[tensor] for tensor in stored})

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"layer '{name}' is stored for good")

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class SpooledParameters(MutableMapping[str, Tensor]):
    """Parameters no codec touches, by name; the rest as ``SpooledLayers``."""

    spool: Spool
    names: list[str] = field(default_factory=list)

    def __setitem__(self, name: str, array: Tensor) -> None:
        self.spool.add(parameter_tensor(name), array)
        self.names.append(name)

    def __getitem__(self, name: str) -> Tensor:
        if name not in self.names:
            raise KeyError(name)
        return self.spool[parameter_tensor(name)]

    def __delitem__(self, name: str) -> None:
        raise TypeError(f"parameter '{name}' is stored for good")

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)
