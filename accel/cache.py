"""Where everything that can be made or fetched again is kept."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """``$ACCEL_CACHE/KIND``, else ``~/.cache/accel/KIND``; not made if missing."""
    root = os.environ.get("ACCEL_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "accel") / kind
