"""Where everything that can be made or fetched again is kept, and by which sources it was made."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def cache_folder(kind: str) -> Path:
    """``$ACCEL_CACHE/KIND``, else ``~/.cache/accel/KIND``; not made if missing."""
    root = os.environ.get("ACCEL_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "accel") / kind


def source_digest(packages: tuple[str, ...]) -> str:
    """SHA-256, shortened, over names and contents of the sources of our packages that something was made by."""
    root = Path(__file__).resolve().parent.parent
    state = hashlib.sha256()
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            content = path.read_bytes()
            state.update(f"{path.relative_to(root)}\0{len(content)}\0".encode() + content)
    return state.hexdigest()[:20]
