"""Reads torch checkpoints without torch and without trusting them.

A ``.pth`` file is a pickle, which can name any function to call: ``torch_pickle`` reads it, and the numbers are copied
out here. Both layouts are read: the zip archive
(torch 1.6 and later) and the older run of pickles followed by raw storages.
Format: torch 2.13 ``torch/serialization.py`` (``_save``, ``_legacy_save``).
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from accel.container import one_line
from accel.errors import ModelError
from compiler.frontend.stored import widen_bfloat16
from compiler.frontend.torch_pickle import PICKLE_LIMIT_BYTES, Storage, StoredTensor, unpickle

LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
LEGACY_PROTOCOL = 1001
STATE_KEYS = ("state_dict", "model_state_dict", "model")
"""Where training scripts commonly nest the tensors."""

DEPTH_LIMIT = 8
"""How deep mappings may nest: one that holds itself has no end."""

NAMES_LIMIT_BYTES, ENTRY_BYTES = 1 << 26, 1 << 8
"""What all names in a file may take, and what an entry takes beside: mappings that hold one another many times over
have more of them than any file is long."""

_Entry = StoredTensor | int
Choose = Callable[[object], dict[str, _Entry]]


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
        reason = f"truncated or damaged ({one_line(error)})"
        raise ModelError(f"{path}: not a readable torch checkpoint: {reason}") from error


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
        state = unpickle(io.BytesIO(archive.read(entries["data.pkl"])))

        def load(storage: Storage) -> npt.NDArray[Any]:
            info = entries.get(f"data/{storage.key}")
            if info is None or info.file_size < storage.count * storage.dtype.itemsize:
                raise ModelError(f"storage '{storage.key}' is missing or shorter than its {storage.count} values")
            return np.frombuffer(archive.read(info), storage.dtype, storage.count)

        return _materialise(choose(state), load)


def _read_legacy(file: BinaryIO, choose: Choose) -> dict[str, npt.NDArray[Any]]:
    file.seek(0)
    if file.read(1) != pickle.PROTO:  # a truncated archive would be read as opcodes: 'P' is one
        reason = "no zip archive (truncated, or not written by torch.save)"
        raise ModelError(f"not a readable torch checkpoint: {reason}")
    file.seek(0)
    if unpickle(file) != LEGACY_MAGIC or unpickle(file) != LEGACY_PROTOCOL:
        raise ModelError("neither a zip archive nor torch's older format")
    if unpickle(file).get("little_endian") is not True:
        raise ModelError("big-endian numbers; save it on a little-endian machine")
    tensors = choose(unpickle(file))
    known = {tensor.storage.key: tensor.storage for tensor in tensors.values() if isinstance(tensor, StoredTensor)}
    flat = {key: _next_storage(file, known.get(key), key) for key in unpickle(file)}
    return _materialise(tensors, lambda storage: flat[storage.key])


def _next_storage(file: BinaryIO, storage: Storage | None, key: str) -> npt.NDArray[Any]:
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
        name: value for name, value in state.items() if isinstance(value, StoredTensor) and isinstance(name, str)
    }
    if not tensors:
        raise ModelError("holds no named tensors")
    return tensors


def _tree(state: object) -> dict[str, _Entry]:
    if not isinstance(state, Mapping):
        raise ModelError(f"holds a {type(state).__name__}, not a mapping of names to tensors")
    entries: dict[str, _Entry] = {}
    waiting: list[tuple[int, str, Mapping[Any, Any]]] = [(0, "", state)]
    taken = 0
    while waiting:
        depth, prefix, mapping = waiting.pop()
        for key, value in mapping.items():
            name = f"{prefix}{key}"
            taken += ENTRY_BYTES + len(name)
            if taken > NAMES_LIMIT_BYTES:
                raise ModelError(f"names in its mappings take more than {NAMES_LIMIT_BYTES} bytes")
            if isinstance(value, Mapping) and depth < DEPTH_LIMIT:
                waiting.append((depth + 1, f"{name}.", value))
            elif isinstance(value, StoredTensor | int):
                entries[name] = value
    return entries


def _materialise(
    entries: Mapping[str, _Entry], load: Callable[[Storage], npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    storages = {entry.storage for entry in entries.values() if isinstance(entry, StoredTensor)}
    flat = {storage: _widened(storage, load(storage)) for storage in storages}
    return {
        name: entry.view(flat[entry.storage]) if isinstance(entry, StoredTensor) else np.asarray(entry)
        for name, entry in entries.items()
    }


def _widened(storage: Storage, flat: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return widen_bfloat16(flat) if storage.kind == "BFloat16Storage" else flat
