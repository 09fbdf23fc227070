"""The results of a sweep as a Parquet file: a row a point, columns with units, what was asked in the metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from accel import __version__
from accel.atomic import write_bytes
from accel.errors import FormatError
from accel.schemas import misplaced
from accel.sweep.columns import RESULTS_SCHEMA, columns

METADATA_KEY = b"accel"
_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.string(), bool: pa.bool_()}


def write_results(rows: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write atomically. ``facts`` go into the metadata, beside schema and tool; what a row lacks is null."""
    document = {"schema": RESULTS_SCHEMA, "tool": __version__, **facts}
    fields = [
        pa.field(name, _TYPES[kind], metadata={"unit": unit, "definition": definition})
        for name, kind, unit, definition in columns()
    ]
    schema = pa.schema(fields, metadata={METADATA_KEY: json.dumps(document)})
    table = pa.table({field.name: [row.get(field.name) for row in rows] for field in fields}, schema=schema)
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd")
    write_bytes(path, memoryview(buffer.getvalue()))


def read_results(path: str | os.PathLike[str]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The metadata and the rows; raises ``FormatError`` for a file that is no results of this version."""
    where = f"results '{os.fspath(path)}'"
    try:
        table = pq.read_table(Path(path), partitioning=None)
        document = json.loads((table.schema.metadata or {}).get(METADATA_KEY, b"null"))
    except FileNotFoundError as error:
        raise FormatError(f"{where}: no such file") from error
    except (OSError, pa.ArrowException, ValueError) as error:
        raise FormatError(f"{where}: not a whole Parquet file") from error
    if not isinstance(document, dict) or document.get("schema") != RESULTS_SCHEMA:
        found = document.get("schema") if isinstance(document, dict) else None
        raise FormatError(f"{where}: {misplaced(found, RESULTS_SCHEMA)}")
    return document, table.to_pylist()
