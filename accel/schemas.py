"""The kinds of file this tool writes, by schema: what each is, which commands take it, how to make it again.

A file that is given where another kind is wanted is recognised by its content, whatever its name.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

MODEL_SUFFIXES = (".onnx", ".pt2")  # of the files that accel compress reads
TRACE_SCHEMA = "accel.trace/1"
TRACE_HEAD = b'{"displayTimeUnit":"ns","traceEvents":['
_LARGEST_JSON, _LARGEST_HEADER, _FOOTER = 64 << 20, 16 << 20, 1 << 16  # bytes read for a schema


@dataclass(frozen=True, slots=True)
class FileKind:
    """One family of schemas, whatever the version."""

    what: str
    taken_by: str
    again: str


FILE_KINDS: Mapping[str, FileKind] = MappingProxyType(
    {
        "accel.packed": FileKind("a packed model", "accel compile takes it", "compress the model again"),
        "accel.program": FileKind("a compiled program", "accel run and accel sim take it", "compile the model again"),
        "accel.run": FileKind("a run", "accel report and accel diff take it", "simulate the program again"),
        "accel.difference": FileKind("what accel diff --json printed", "no command takes it", "compare the runs again"),
        "accel.sweep": FileKind("results of a sweep", "no command takes it", "run the sweep again"),
        "accel.checkpoint": FileKind(
            "a checkpoint of training", "accel finetune --resume takes it", "fine-tune the model again"
        ),
        "accel.trace": FileKind(
            "the timeline of a run", "accel report --trace takes it", "simulate the program again with --trace"
        ),
        "accel.comparison": FileKind("a comparison", "accel report --curves takes it", "compare again"),
    }
)


def misplaced(found: Any, wanted: str) -> str:
    """Why a file of schema ``found`` is not one of schema ``wanted``, and what to do about it."""
    shown = ascii(found)[:80]
    family, _, version = str(found).partition("/")
    wanted_family, _, wanted_version = wanted.partition("/")
    if family == wanted_family and version.isascii() and version.isdigit():
        age = "an older" if int(version[:9]) < int(wanted_version) else "a newer"
        again = FILE_KINDS[family].again
        return f"schema {shown}: written by {age} version of accel; this version reads '{wanted}': {again}"
    if isinstance(found, str) and family in FILE_KINDS:
        return f"{kind_text(found)}; expected schema '{wanted}'"
    return f"schema {shown}; this version reads '{wanted}'"


def kind_text(schema: str) -> str:
    """What a file of one of our schemas is, and which command takes it."""
    kind = FILE_KINDS[schema.partition("/")[0]]
    return f"it is {kind.what} (schema {ascii(schema)[:80]}); {kind.taken_by}"


def schema_of(path: str | os.PathLike[str]) -> str:
    """The schema that a file of ours states, nothing else of it being checked; empty for what is none of ours."""
    try:
        found = _stated(Path(path))
    except (OSError, EOFError, zlib.error, LookupError, TypeError, ValueError, RecursionError):
        return ""
    return found if isinstance(found, str) and found.partition("/")[0] in FILE_KINDS else ""


def _stated(path: Path) -> Any:
    if not path.is_file():  # a pipe is read once, and by whoever wanted another kind
        return ""
    with path.open("rb") as file:
        head = file.read(len(TRACE_HEAD))
        if head[:2] == b"\x1f\x8b":
            file.seek(0)
            head = gzip.GzipFile(fileobj=file).read(len(TRACE_HEAD))
        if head == TRACE_HEAD:
            return TRACE_SCHEMA
        if head[:4] == b"PAR1":
            file.seek(max(0, path.stat().st_size - _FOOTER))
            return re.findall(rb'"schema": "(accel\.sweep/\d+)"', file.read())[-1].decode()
        file.seek(0)
        return _of_json(file.read(_LARGEST_JSON)) if head[:1] == b"{" else _of_container(file)


def _of_json(text: bytes) -> Any:
    return json.loads(text)["schema"]


def _of_container(file: Any) -> Any:
    length = int.from_bytes(file.read(8), "little")
    if length > _LARGEST_HEADER:
        raise ValueError("no header")
    return _of_json(json.loads(file.read(length))["__metadata__"]["accel"])
