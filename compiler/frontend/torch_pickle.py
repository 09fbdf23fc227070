"""Pickles of tensors, read without trusting them: a handful of names describe tensors, all others are refused.

What torch would call to build a tensor is replaced by records of what was asked for, checked when they are made and
sealed against the opcode that could change them later. Refusals name the opcode and where it is.
"""

from __future__ import annotations

import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt

from accel.container import DIMENSION_LIMIT
from accel.errors import ModelError

_Kind = TypeVar("_Kind")

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
NAMING_OPCODES = ("GLOBAL", "STACK_GLOBAL")
"""Opcodes that ask for something by name; what they ask for is looked up in ``_ALLOWED``."""

REFUSED_OPCODES = frozenset(("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4", "NEXT_BUFFER", "PERSID"))
"""Opcodes that make objects in ways torch never uses for tensors."""


KEY_LIMIT_CHARACTERS, KEY_LIMIT_BITS = 1 << 10, 64
"""Longest text and number that is a key: hashing and writing them out must not be what a file is about."""


def _check_keys(keys: Iterable[object]) -> None:
    """Raise ``ModelError`` for keys that take long to hash: tuples in tuples take twice as long with each."""
    for key in keys:
        if not isinstance(key, str | int | float):
            raise ModelError(f"a key of type {type(key).__name__} in a mapping or set; allowed: text and numbers")
        if isinstance(key, str) and len(key) > KEY_LIMIT_CHARACTERS:
            raise ModelError(f"a key of {len(key)} characters; allowed: {KEY_LIMIT_CHARACTERS}")
        if isinstance(key, int) and key.bit_length() > KEY_LIMIT_BITS:
            raise ModelError(f"a key of {key.bit_length()} bits; allowed: {KEY_LIMIT_BITS}")


def _sealed(kind: type[_Kind]) -> type[_Kind]:
    """Objects stay as they were made: the opcode BUILD could otherwise put in other numbers after the checks."""

    def refuse(self: _Kind, _state: object) -> None:
        raise ModelError("pickle opcode BUILD changes an object that has been checked; refused")

    kind.__setstate__ = refuse  # type: ignore[attr-defined]  # a frozen dataclass with slots has one that obeys
    return kind


@_sealed
@dataclass(frozen=True, slots=True)
class _StorageType:
    name: str


@_sealed
@dataclass(frozen=True, slots=True)
class Storage:
    """A flat block of numbers, by its key in the file."""

    key: str
    kind: str
    count: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("<" + STORAGE_DTYPES[self.kind])


@_sealed
@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A strided view of a storage, checked to lie inside it."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        if max(len(self.shape), len(self.strides)) > DIMENSION_LIMIT:
            raise ModelError(f"a tensor of {len(self.shape)} axes; allowed: {DIMENSION_LIMIT}")
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


def unpickle(stream: BinaryIO) -> Any:
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


class _TensorUnpickler(pickle._Unpickler):
    """Knows the names that torch uses to describe tensors, and no others. ``naming`` lists the opcodes that will ask
    for names, in order: a pickle has no branches.

    The one written in Python, since only there what opcodes do can be checked before they do it.
    """

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = dict(pickle._Unpickler.dispatch)

    def __init__(self, stream: BinaryIO, naming: list[str]) -> None:
        super().__init__(stream)
        self._naming = iter(naming)
        self._storages: dict[str, Storage] = {}

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

    def persistent_load(self, pid: Any) -> Storage:
        """A storage reference: ``("storage", type, key, device, count)`` and, in old files, a view."""
        kind, storage_type, key, _device, count, *view = pid
        if kind != "storage" or not isinstance(storage_type, _StorageType) or view not in ([], [None]):
            raise ModelError("a storage reference of an unknown form")
        if type(count) is not int or count < 0:
            raise ModelError("a storage whose size is no natural number")
        _check_keys([key])
        storage = Storage(str(key), storage_type.name, count)
        if self._storages.setdefault(storage.key, storage) != storage:
            raise ModelError(f"storage '{key}' is described in two ways")
        return storage


def _with_keys_checked(opcode: int, keys: Callable[[list[Any]], list[Any]]) -> Callable[[Any], None]:
    """What ``opcode`` does, after a look at those elements on the stack that it would hash."""
    obey = pickle._Unpickler.dispatch[opcode]

    def checked(unpickler: Any) -> None:
        _check_keys(keys(unpickler.stack))
        obey(unpickler)

    return checked


for _opcode, _keys in {
    pickle.SETITEM: lambda stack: stack[-2:-1],
    pickle.SETITEMS: lambda stack: stack[::2],
    pickle.DICT: lambda stack: stack[::2],
    pickle.ADDITEMS: lambda stack: stack,
    pickle.FROZENSET: lambda stack: stack,
}.items():
    _TensorUnpickler.dispatch[_opcode[0]] = _with_keys_checked(_opcode[0], _keys)


def _ordered(pairs: Iterable[Any] = ()) -> OrderedDict[Any, Any]:
    """Python 2 gives its entries when it is made."""
    _check_keys(key for key, _ in pairs)
    return OrderedDict(pairs)


def _rebuild_tensor(storage: Storage, offset: int, shape: Any, strides: Any, *_ignored: Any) -> StoredTensor:
    if not isinstance(storage, Storage):
        raise ModelError("a tensor without storage")
    return StoredTensor(storage, offset, tuple(shape), tuple(strides))


def _rebuild_parameter(tensor: StoredTensor, *_ignored: Any) -> StoredTensor:
    return tensor


@_sealed
@dataclass(frozen=True, slots=True)
class _Maker:
    """Something a pickle may call, with nothing on it that a pickle could change."""

    make: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.make(*arguments)


_ALLOWED: Mapping[tuple[str, str], _Maker] = {
    ("collections", "OrderedDict"): _Maker(_ordered),
    ("torch._utils", "_rebuild_tensor_v2"): _Maker(_rebuild_tensor),
    ("torch._utils", "_rebuild_parameter"): _Maker(_rebuild_parameter),
}
