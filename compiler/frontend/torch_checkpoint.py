"""Reads torch checkpoints without torch and without trusting them.

A ``.pth`` file is a pickle, which can name any function to call. This reader allows the handful that describe
tensors, records what they describe, and copies the numbers out itself. Both layouts are read: the zip archive
(torch 1.6 and later) and the older run of pickles followed by raw storages.
Format: torch 2.13 ``torch/serialization.py`` (``_save``, ``_legacy_save``).
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt

from accel.errors import ModelError
from compiler.frontend.weights import widen_bfloat16

_Kind = TypeVar("_Kind")

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
PICKLE_LIMIT_BYTES = 16 << 20
"""Longest pickle we look at; a network of a thousand tensors needs about 0.2 MB."""

STORAGE_DTYPES = {
    "DoubleStorage": "f8",
    "FloatStorage": "f4",
    "HalfStorage": "f2",
    "BFloat16Storage": "u2",
    "LongStorage": "i8",
    "IntStorage": "i4",
    "ShortStorage": "i2",
    "CharStorage": "i1",
    "ByteStorage": "u1",
    "BoolStorage": "?",
}
STATE_KEYS = ("state_dict", "model_state_dict", "model")
"""Where training scripts commonly nest the tensors."""

ENTRY_LIMIT = 1 << 20
"""Most names in a file."""

NAMING_OPCODES = ("GLOBAL", "STACK_GLOBAL")
"""Opcodes that ask for something by name; what they ask for is looked up in ``_ALLOWED``."""

REFUSED_OPCODES = frozenset(("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "PERSID"))
"""Opcodes that make objects in ways torch never uses for tensors."""


def _sealed(kind: type[_Kind]) -> type[_Kind]:
    """Objects stay as they were made: the opcode BUILD could otherwise put in other numbers after the checks."""

    def refuse(self: _Kind, _state: object) -> None:
        raise ModelError(f"pickle opcode BUILD changes a {kind.__name__.strip('_').lower()}; refused")

    kind.__setstate__ = refuse  # type: ignore[attr-defined]  # a frozen dataclass with slots has one that obeys
    return kind


@_sealed
@dataclass(frozen=True, slots=True)
class _StorageType:
    name: str


@_sealed
@dataclass(frozen=True, slots=True)
class _Storage:
    """A flat block of numbers, by its key in the file."""

    key: str
    kind: str
    count: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("<" + STORAGE_DTYPES[self.kind])


@_sealed
@dataclass(frozen=True, slots=True)
class _Tensor:
    """A strided view of a storage, checked to lie inside it."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        numbers = (self.offset, *self.shape, *self.strides)
        if len(self.shape) != len(self.strides) or any(type(n) is not int or n < 0 for n in numbers):
            raise ModelError("a tensor's shape, strides or offset are not natural numbers")
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        if math.prod(self.shape) > self.storage.count or (0 not in self.shape and last >= self.storage.count):
            raise ModelError(f"a tensor of shape {list(self.shape)} reaches outside its {self.storage.count} values")

    def view(self, flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The tensor as a read-only view of its storage: a thousand tensors sharing one cost nothing more."""
        steps = tuple(step * flat.itemsize for step in self.strides)
        return np.lib.stride_tricks.as_strided(flat[self.offset :], self.shape, steps, writeable=False)


def read_torch_checkpoint(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Tensors by name, in the file's order.

    A mapping of names to tensors, or one nested under ``state_dict`` or ``model``, is accepted. Raises ``ModelError``
    for anything else: other callables in the pickle, compressed or oversized entries, tensors outside their storage.
    """
    return _read(path, _state_dict)


def read_torch_tree(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Tensors of nested mappings by their keys joined with dots; whole numbers and truth values count as scalars.

    Raises ``ModelError`` as ``read_torch_checkpoint`` does.
    """
    return _read(path, _tree)


def _read(path: Path, choose: Choose) -> dict[str, npt.NDArray[Any]]:
    try:
        with path.open("rb") as file:
            return _read_zip(file, choose) if zipfile.is_zipfile(file) else _read_legacy(file, choose)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except Exception as error:  # a hostile pickle can raise anything
        raise ModelError(f"{path}: not a readable torch checkpoint: {type(error).__name__}: {error}") from error


def _read_zip(file: BinaryIO, choose: Choose) -> dict[str, npt.NDArray[Any]]:
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename.partition("/")[2]: info for info in archive.infolist()}
        if "data.pkl" not in entries:
            raise ModelError("no data.pkl inside: not a torch checkpoint")
        if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
            raise ModelError("compressed entries; torch writes none")
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            raise ModelError("big-endian numbers; save it on a little-endian machine")
        if entries["data.pkl"].file_size > PICKLE_LIMIT_BYTES:
            raise ModelError(f"data.pkl is longer than {PICKLE_LIMIT_BYTES} bytes")
        state = _unpickle(io.BytesIO(archive.read(entries["data.pkl"])))

        def load(storage: _Storage) -> npt.NDArray[Any]:
            info = entries.get(f"data/{storage.key}")
            if info is None or info.file_size < storage.count * storage.dtype.itemsize:
                raise ModelError(f"storage '{storage.key}' is missing or shorter than its {storage.count} values")
            return np.frombuffer(archive.read(info), storage.dtype, storage.count)

        return _materialise(choose(state), load)


def _read_legacy(file: BinaryIO, choose: Choose) -> dict[str, npt.NDArray[Any]]:
    file.seek(0)
    if _unpickle(file) != LEGACY_MAGIC or _unpickle(file) != LEGACY_PROTOCOL:
        raise ModelError("neither a zip archive nor torch's older format")
    if _unpickle(file).get("little_endian") is not True:
        raise ModelError("big-endian numbers; save it on a little-endian machine")
    tensors = choose(_unpickle(file))
    known = {tensor.storage.key: tensor.storage for tensor in tensors.values() if isinstance(tensor, _Tensor)}
    flat = {key: _next_storage(file, known.get(key), key) for key in _unpickle(file)}
    return _materialise(tensors, lambda storage: flat[storage.key])


def _next_storage(file: BinaryIO, storage: _Storage | None, key: str) -> npt.NDArray[Any]:
    if storage is None:
        raise ModelError(f"storage '{key}' belongs to no tensor")
    count = int.from_bytes(file.read(8), "little", signed=True)
    if count != storage.count:
        raise ModelError(f"storage '{key}' says {count} values; its tensors say {storage.count}")
    size = count * storage.dtype.itemsize
    data = file.read(size)
    if len(data) != size:
        raise ModelError(f"truncated in storage '{key}'")
    return np.frombuffer(data, storage.dtype)


def _state_dict(state: object) -> dict[str, _Entry]:
    if not isinstance(state, Mapping):
        raise ModelError(f"holds a {type(state).__name__}, not a mapping of names to tensors")
    for key in STATE_KEYS:
        if isinstance(state.get(key), Mapping):
            return _state_dict(state[key])
    tensors: dict[str, _Entry] = {
        name: value for name, value in state.items() if isinstance(value, _Tensor) and isinstance(name, str)
    }
    if not tensors:
        raise ModelError("holds no named tensors")
    return tensors


def _tree(state: object) -> dict[str, _Entry]:
    if not isinstance(state, Mapping):
        raise ModelError(f"holds a {type(state).__name__}, not a mapping of names to tensors")
    entries: dict[str, _Entry] = {}
    waiting: list[tuple[str, Mapping[Any, Any]]] = [("", state)]
    while waiting:  # no recursion: a hostile file nests as deep as it likes
        prefix, mapping = waiting.pop()
        for name, value in mapping.items():
            if isinstance(value, Mapping):
                waiting.append((f"{prefix}{name}.", value))
            elif isinstance(value, _Tensor | int):
                entries[f"{prefix}{name}"] = value
        if len(waiting) + len(entries) > ENTRY_LIMIT:
            raise ModelError(f"more than {ENTRY_LIMIT} entries")
    return entries


def _materialise(
    entries: Mapping[str, _Entry], load: Callable[[_Storage], npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    storages = {entry.storage for entry in entries.values() if isinstance(entry, _Tensor)}
    flat = {storage: _widened(storage, load(storage)) for storage in storages}
    return {
        name: entry.view(flat[entry.storage]) if isinstance(entry, _Tensor) else np.asarray(entry)
        for name, entry in entries.items()
    }


def _widened(storage: _Storage, flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return widen_bfloat16(flat) if storage.kind == "BFloat16Storage" else flat


_Entry = _Tensor | int
Choose = Callable[[object], dict[str, _Entry]]


def _unpickle(stream: BinaryIO) -> Any:
    """One pickle from ``stream``, after a look at its opcodes: the unpickler would obey a huge memo index."""
    start, naming = stream.tell(), []
    for opcode, argument, position in pickletools.genops(stream):
        if opcode.name in REFUSED_OPCODES:
            raise ModelError(f"pickle opcode {opcode.name} at byte {position}; a file of tensors has no need of it")
        if opcode.name in NAMING_OPCODES:
            naming.append(f"{opcode.name} at byte {position}")
        if (position or 0) > PICKLE_LIMIT_BYTES + start:
            raise ModelError(f"a pickle longer than {PICKLE_LIMIT_BYTES} bytes")
        if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > PICKLE_LIMIT_BYTES:
            raise ModelError(f"a pickle with memo index {argument}")
    stream.seek(start)
    return _TensorUnpickler(stream, naming).load()


class _TensorUnpickler(pickle.Unpickler):
    """Knows the names that torch uses to describe tensors, and no others. ``naming`` lists the opcodes that will ask
    for names, in order: a pickle has no branches."""

    def __init__(self, stream: BinaryIO, naming: list[str]) -> None:
        super().__init__(stream)
        self._naming = iter(naming)
        self._storages: dict[str, _Storage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for ``module.name``; raises ``ModelError`` for what describes no tensor."""
        opcode = next(self._naming)
        if module == "torch" and name in STORAGE_DTYPES:
            return _StorageType(name)
        allowed = _ALLOWED.get((module, name))
        if allowed is None:
            raise ModelError(
                f"asks for '{module}.{name}' (pickle opcode {opcode}); a file of tensors has no need of it, so it is "
                "refused"
            )
        return allowed

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage reference: ``("storage", type, key, device, count)`` and, in old files, a view."""
        kind, storage_type, key, _device, count, *view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType) or view not in ([], [None]):
            raise ModelError("a storage reference of an unknown form")
        if type(count) is not int or count < 0:
            raise ModelError(f"a storage of {count!r} values")
        storage = _Storage(str(key), storage_type.name, count)
        if self._storages.setdefault(storage.key, storage) != storage:
            raise ModelError(f"storage '{key}' is described in two ways")
        return storage


def _rebuild_tensor(storage: _Storage, offset: int, shape: Any, strides: Any, *_ignored: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise ModelError("a tensor without storage")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: _Tensor, *_ignored: Any) -> _Tensor:
    return tensor


@_sealed
@dataclass(frozen=True, slots=True)
class _Maker:
    """Something a pickle may call, with nothing on it that a pickle could change."""

    make: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.make(*arguments)


_ALLOWED: Mapping[tuple[str, str], _Maker] = {
    ("collections", "OrderedDict"): _Maker(OrderedDict),
    ("torch._utils", "_rebuild_tensor_v2"): _Maker(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Maker(_rebuild_parameter),
}
