"""What ``benchmarks peers`` has measured, kept as it comes: a run that is cut short goes on where it ended.

A file a measurement, under ``$ACCEL_CACHE/peers/kept``; those of other sources than today's are not read. When a whole
run has ended well its files are dropped, so the next one measures anew.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from accel.atomic import write_text
from accel.cache import cache_folder, source_digest

Fields = dict[str, Any]

# As they were when this process began: it computes by these, whatever is edited meanwhile.
SOURCES = source_digest(("accel", "benchmarks", "compiler", "sim"))


def kept(name: str, measure: Callable[[], list[Fields]]) -> list[Fields]:
    """The rows called ``name``, kept or measured now; rows with a ``problem`` are not kept."""
    path = _folder() / f"{re.sub('[^A-Za-z0-9]+', '-', name)}.json"
    try:
        found: list[Fields] = json.loads(path.read_text())
    except (OSError, ValueError):  # not there, or damaged: it can be measured again
        found = measure()
        if not any(row["problem"] for row in found):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(found, default=int) + "\n")
    return found


def drop_kept() -> None:
    """Forget what was kept, of any sources."""
    shutil.rmtree(_folder().parent, ignore_errors=True)


def _folder() -> Path:
    return cache_folder("peers") / "kept" / SOURCES
