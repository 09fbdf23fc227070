"""What sweeps have found out, kept by content: a SQLite file that survives a kill at any moment.

Each batch of results is one transaction, so a result is there whole or not at all; its digest is the primary key, so
it is never there twice. Several sweeps may share the file.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from accel.errors import FormatError

BUSY_SECONDS = 60.0  # how long another sweep may hold the file
_ONE_QUERY = 500  # keys; SQLite of old took 999 at most
_TABLE = "CREATE TABLE IF NOT EXISTS found (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"


class Store:
    """Values by digest, in the file ``path``; raises ``FormatError`` if that cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._errors():
            path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(path, timeout=BUSY_SECONDS)
            with self._connection:
                self._connection.execute("PRAGMA synchronous = FULL")
                self._connection.execute(_TABLE)

    def get(self, keys: Iterable[str]) -> dict[str, Any]:
        """What is known of ``keys``; the others are missing."""
        wanted, found = list(dict.fromkeys(keys)), {}
        with self._errors():
            for start in range(0, len(wanted), _ONE_QUERY):
                some = wanted[start : start + _ONE_QUERY]
                places = ",".join("?" * len(some))
                rows = self._connection.execute(f"SELECT key, value FROM found WHERE key IN ({places})", some)
                found.update({key: json.loads(value) for key, value in rows})
        return found

    def put(self, values: Mapping[str, Any]) -> None:
        """Keep ``values``, all or none; they are on the disk when this returns. What is there already stays."""
        rows = [(key, json.dumps(value)) for key, value in values.items()]
        with self._errors(), self._connection:
            self._connection.executemany("INSERT OR IGNORE INTO found VALUES (?, ?)", rows)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise FormatError(
                f"results kept in '{self._path}': {reason}; what was kept so far is safe: mend that and sweep again "
                "(ACCEL_CACHE chooses another folder)"
            ) from error
