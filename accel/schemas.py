"""The kinds of file this tool writes, by schema: what each is, which commands take it, how to make it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


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
        kind = FILE_KINDS[family]
        return f"it is {kind.what} (schema {shown}); {kind.taken_by}; expected schema '{wanted}'"
    return f"schema {shown}; this version reads '{wanted}'"
