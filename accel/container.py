"""The container of packed and program files: safetensors with one JSON document in ``__metadata__["accel"]``.

The document carries ``schema`` (``accel.packed/1``); tensors lie behind it, described by the safetensors header:
8 bytes little-endian header length, the header (JSON), then the data. Files are untrusted: the header is checked in
full, sizes against the real file size, before any of it is used, and tensors are mapped read-only, not copied.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from accel.atomic import open_atomic
from accel.errors import FormatError, listed
from accel.schemas import MODEL_SUFFIXES, misplaced, schema_of

METADATA_KEY = "accel"
CONTENT_KEY = "content_sha256"
HEADER_LIMIT_BYTES = 16 << 20
DIMENSION_LIMIT = 32

# safetensors spelling of each element type we write, in the order its own writer lays them out from the last
ELEMENT_TYPES: Mapping[str, np.dtype[Any]] = {
    "U8": np.dtype("<u1"),
    "I8": np.dtype("<i1"),
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "F16": np.dtype("<f2"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
}

Tensor = npt.NDArray[Any]


def write_container(
    path: str | os.PathLike[str], schema: str, document: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> None:
    """Write ``document`` (plain JSON values) and ``tensors`` atomically; raises ``FormatError`` if that is impossible.

    Equal content gives equal bytes, whatever the order of ``tensors``: those safetensors' own writer would write.
    Tensors are asked for one at a time, three times each (for the header, the digest and the data), and not kept: a
    mapping that reads them from disk is never in memory as a whole.
    """
    described = {"schema": schema, CONTENT_KEY: content_digest(tensors), **document}
    text = json.dumps(described, separators=(",", ":"), sort_keys=True, allow_nan=False)
    rows = _rows(tensors)
    header = json.dumps({"__metadata__": {METADATA_KEY: text}, **rows}, separators=(",", ":"), ensure_ascii=False)
    data = header.encode()
    data += b" " * (-len(data) % 8)
    if len(data) > HEADER_LIMIT_BYTES:
        raise FormatError(f"cannot write '{os.fspath(path)}': its header is larger than {HEADER_LIMIT_BYTES} bytes")
    with open_atomic(path) as file:
        file.write(len(data).to_bytes(8, "little") + data)
        for name in rows:
            file.write(tensor_bytes(tensors[name]))


def _rows(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Any]]:
    """The header's entry of each tensor, in the order of the data: widest elements first, then by name."""
    spelling = {kind: name for name, kind in ELEMENT_TYPES.items()}
    ranks = {kind: rank for rank, kind in enumerate(ELEMENT_TYPES.values())}
    found = {name: (tensors[name].dtype, tensors[name].shape) for name in tensors}
    rows, end = {}, 0
    for name, (kind, shape) in sorted(found.items(), key=lambda item: (-ranks[item[1][0]], item[0])):
        begin, end = end, end + math.prod(shape) * kind.itemsize
        rows[name] = {"dtype": spelling[kind], "shape": list(shape), "data_offsets": [begin, end]}
    return rows


def tensor_bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor, row-major; copied only if they do not lie like that."""
    return np.ascontiguousarray(tensor).reshape(-1).view(np.uint8).data


def read_container(path: str | os.PathLike[str], schema: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The document (without ``schema``) and read-only tensors of a container of that schema.

    Raises ``FormatError``, one line naming the file, on anything but a complete, well-formed container.
    """
    where = f"'{os.fspath(path)}'"
    try:
        data = _mapped(Path(path), where)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise FormatError(f"cannot read {where}: {reason}") from error
    _refuse_others(path, data, where, schema)
    header, body = _split(data, where)
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or not isinstance(metadata.get(METADATA_KEY), str):
        raise FormatError(f"{where}: no '{METADATA_KEY}' document in its metadata; not a file of this tool")
    document = parse_json(metadata[METADATA_KEY].encode(), where)
    found = document.pop("schema", None)
    if found != schema:
        raise FormatError(f"{where}: {misplaced(found, schema)}")
    tensors = _tensors(header, body, where)
    if document.pop(CONTENT_KEY, None) != content_digest(tensors):
        raise FormatError(f"{where}: its tensors do not have the digest the file states; it is corrupt")
    return document, tensors


def content_digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over name, element type, shape and bytes of every tensor, by name."""
    state = hashlib.sha256()
    for name in sorted(tensors):
        _digest_one(state, name, tensors[name])
    return state.hexdigest()


def _digest_one(state: hashlib._Hash, name: str, array: Tensor) -> None:
    """A function of its own: ``array`` is let go of before the next is asked for."""
    state.update(f"{name}\0{array.dtype.str}\0{array.shape}\0".encode())
    state.update(tensor_bytes(array))


def parse_json(text: bytes, where: str) -> dict[str, Any]:
    """A JSON object from untrusted bytes; ``FormatError`` on deep nesting, duplicate keys, NaN, or text that is not
    UTF-8."""
    try:
        value = json.loads(
            text.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
        )
        json.dumps(value, ensure_ascii=False).encode()  # lone surrogates would fail later, when printed
    except RecursionError as error:
        raise FormatError(f"{where}: bad JSON: nested too deeply") from error
    except ValueError as error:  # includes decoding errors and over-long integers
        raise FormatError(f"{where}: bad JSON: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise FormatError(f"{where}: JSON document is a {type(value).__name__}; expected an object")
    return value


def one_line(error: Exception, limit: int = 400) -> str:
    """An error's text fit for one line of a terminal, even if it quotes names from a hostile file."""
    text = str(error) or type(error).__name__
    escaped = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:limit])
    return escaped if len(text) <= limit else f"{escaped}..."


def _mapped(path: Path, where: str) -> npt.NDArray[np.uint8]:
    if not path.is_file() and path.exists():
        raise FormatError(f"{where} is not a regular file")
    size = path.stat().st_size
    if size < 8:
        raise FormatError(f"{where}: truncated, {size} bytes; expected a safetensors file")
    return np.memmap(path, np.uint8, "r").view(np.ndarray)


def _refuse_others(path: str | os.PathLike[str], data: npt.NDArray[np.uint8], where: str, schema: str) -> None:
    """A model, or a file of ours that is no container (a run, a trace), is named for what it is."""
    if data[8:9].tobytes() == b"{":  # a header: whatever the name, it is a container
        return
    if Path(path).suffix in MODEL_SUFFIXES:
        raise FormatError(f"{where}: it is a model; accel compress takes it; expected schema '{schema}'")
    if found := schema_of(path):
        raise FormatError(f"{where}: {misplaced(found, schema)}")


def _split(data: npt.NDArray[np.uint8], where: str) -> tuple[dict[str, Any], npt.NDArray[np.uint8]]:
    length = int.from_bytes(data[:8].tobytes(), "little")
    if length > min(HEADER_LIMIT_BYTES, data.size - 8):
        raise FormatError(
            f"{where}: header of {length} bytes in a file of {data.size}; truncated or not a safetensors file"
        )
    return parse_json(data[8 : 8 + length].tobytes(), where), data[8 + length :]


def _tensors(header: Mapping[str, Any], body: npt.NDArray[np.uint8], where: str) -> dict[str, Tensor]:
    """Views into ``body``; every byte of it must belong to exactly one tensor."""
    extents = {name: _extent(row, f"{where}: tensor {_shown(name)}") for name, row in header.items()}
    tensors: dict[str, Tensor] = {}
    position = 0
    for name, (kind, shape, begin, end) in sorted(extents.items(), key=lambda item: item[1][2:]):
        if begin != position:
            raise FormatError(f"{where}: tensor {_shown(name)} starts at byte {begin}, expected {position}")
        if end > body.size:
            raise FormatError(f"{where}: truncated, tensor {_shown(name)} ends at byte {end} of {body.size}")
        try:
            tensors[name] = body[begin:end].view(kind).reshape(shape)
        except ValueError as error:  # no elements, yet sizes beyond what can be indexed
            raise FormatError(f"{where}: tensor {_shown(name)}: {one_line(error)}") from error
        position = end
    if position != body.size:
        raise FormatError(f"{where}: {body.size - position} bytes after the last tensor")
    return tensors


def _extent(row: Any, where: str) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    """Element type, shape, first and past-the-end byte of one header row, consistent with one another."""
    if not isinstance(row, dict) or set(row) != {"dtype", "shape", "data_offsets"}:
        raise FormatError(f"{where}: expected exactly dtype, shape and data_offsets")
    kind = ELEMENT_TYPES.get(row["dtype"]) if isinstance(row["dtype"], str) else None
    if kind is None:
        raise FormatError(f"{where}: element type {_shown(row['dtype'])}; allowed: {listed(ELEMENT_TYPES)}")
    shape, offsets = (_naturals(row[key]) for key in ("shape", "data_offsets"))
    if shape is None or offsets is None or len(offsets) != 2 or len(shape) > DIMENSION_LIMIT:
        raise FormatError(f"{where}: shape {_shown(row['shape'])}, offsets {_shown(row['data_offsets'])} are no extent")
    begin, end = offsets
    if end - begin != math.prod(shape) * kind.itemsize:
        raise FormatError(f"{where}: {end - begin} bytes for shape {_shown(list(shape))} of {row['dtype']}")
    return kind, shape, begin, end


def _naturals(values: Any) -> tuple[int, ...] | None:
    """The tuple of a list of integers in 0..2^63-1, else ``None``."""
    if not isinstance(values, list) or any(type(value) is not int or not 0 <= value < 1 << 63 for value in values):
        return None
    return tuple(values)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        key = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"key {_shown(key)} appears twice")
    return result


def _refuse_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number is too large")
    return value


def _shown(value: Any, limit: int = 60) -> str:
    """``value`` as it may appear in a one-line message: quoted, escaped and short."""
    text = repr(value) if not isinstance(value, str) else ascii(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."
