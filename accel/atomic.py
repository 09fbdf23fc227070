"""Atomic file writes: a reader sees the old file or the whole new one, never a part; nothing partial is left behind.

Every writer of the project goes through here. The bytes go to a temporary file in the target's folder, are flushed to
disk and renamed over the target. Devices and pipes (``-o /dev/stdout``) are written directly.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from accel.errors import FormatError


@contextlib.contextmanager
def open_atomic(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """A binary file that becomes ``path`` when the block ends, and vanishes if it raises.

    Raises ``FormatError`` (one line) if the folder is missing or unwritable or the disk is full.
    """
    try:
        target = Path(path).resolve()  # a link keeps pointing where it did; its target is replaced
        writer = _direct(target) if target.exists() and not target.is_file() else _renamed(target)
        with writer as file:
            yield file
    except OSError as error:
        raise FormatError(f"cannot write '{os.fspath(path)}': {error.strerror or error}") from error


def write_bytes(path: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Write ``data`` to ``path`` atomically; raises ``FormatError`` if that is impossible."""
    with open_atomic(path) as file:
        file.write(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write ``text`` to ``path`` atomically in UTF-8; raises ``FormatError`` if that is impossible."""
    write_bytes(path, text.encode())


@contextlib.contextmanager
def _direct(target: Path) -> Iterator[BinaryIO]:
    with target.open("wb") as file:
        yield file


@contextlib.contextmanager
def _renamed(target: Path) -> Iterator[BinaryIO]:
    temporary = target.with_name(f".accel-{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:  # also when interrupted from the keyboard
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; folders of some file systems cannot be synced, which is no failure."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
