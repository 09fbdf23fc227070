"""A Core ML package on disk: a folder, or a zip archive of one, from which nothing is ever extracted."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import ModelError, listed

PACKAGE_SUFFIXES = (".mlpackage", ".mlpackage.zip")
MANIFEST = "Manifest.json"
MANIFEST_LIMIT_BYTES = 1 << 20
MODEL_LIMIT_BYTES = 1 << 30
WEIGHTS_LIMIT_BYTES = 1 << 36
EXPANSION_LIMIT = 100  # times the archive's own size, all members together
SMALL_ARCHIVE_BYTES = 1 << 20  # smaller ones count as this large
COMPRESSIONS = {zipfile.ZIP_STORED: "stored", zipfile.ZIP_DEFLATED: "deflated"}
"""What is read; of the others zipfile unpacks whole blocks, however little is asked for."""
CHUNK_BYTES = 1 << 20
WEIGHTS_PREFIX = "@model_path/"

UNREADABLE = (ValueError, RuntimeError, EOFError, zipfile.BadZipFile, zlib.error)
"""What reading a damaged archive raises; a ``RuntimeError`` for encrypted members, compression that is not known and
JSON that nests too deep."""

Read = Callable[[str, int], bytes]


@dataclass(frozen=True, slots=True)
class Package:
    """The model's protobuf and how to read files beside it, by the names it has for them."""

    model: bytes
    folder: PurePosixPath
    read: Read

    def blobs(self, file_name: str) -> npt.NDArray[np.uint8]:
        """A weight file (``@model_path/weights/weight.bin``); raises ``ModelError`` if it lies outside the package."""
        if not file_name.startswith(WEIGHTS_PREFIX):
            raise ModelError(f"weight file '{file_name[:80]}'; expected {WEIGHTS_PREFIX}...")
        inside = _inside(file_name.removeprefix(WEIGHTS_PREFIX))
        return np.frombuffer(self.read(str(self.folder / inside), WEIGHTS_LIMIT_BYTES), np.uint8)


def open_package(path: Path) -> Package:
    """Find and read the model that the manifest names; raises ``ModelError``."""
    try:
        read = _folder_reader(path) if path.is_dir() else _archive_reader(path)
        model = PurePosixPath("Data") / _inside(_model_path(json.loads(read(MANIFEST, MANIFEST_LIMIT_BYTES))))
        return Package(read(str(model), MODEL_LIMIT_BYTES), model.parent, read)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except (*UNREADABLE, KeyError, TypeError) as error:
        raise ModelError(f"{path}: not a readable Core ML package: {type(error).__name__}: {error}") from error


def _model_path(manifest: Any) -> str:
    entry = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]
    return str(entry["path"])


def _inside(path: str) -> PurePosixPath:
    """A path that cannot leave the package."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or "\\" in path or "\0" in path or ".." in parts or ":" in parts[0]:
        raise ModelError(f"path '{path[:80]}' leads out of the package; refused")
    return PurePosixPath(path)


def _folder_reader(folder: Path) -> Read:
    root = folder.resolve()

    def read(name: str, limit: int) -> bytes:
        target = (root / name).resolve()
        if not target.is_relative_to(root):
            raise ModelError(f"'{name}' is a link that leads out of the package; refused")
        if not target.is_file():
            raise ModelError(f"'{name}' is missing")
        if target.stat().st_size > limit:
            raise ModelError(f"'{name}' is longer than {limit} bytes")
        return target.read_bytes()

    return read


def _archive_reader(path: Path) -> Read:
    """Members are looked up by name; where the archive has the package in a folder of its own, below that.

    What members claim about themselves is not trusted: all that is read together has to be in proportion to the
    archive's own size.
    """
    with zipfile.ZipFile(path) as archive:
        manifests = [name for name in archive.namelist() if PurePosixPath(name).name == MANIFEST]
    if not manifests:
        raise ModelError(f"no {MANIFEST} in the archive")
    root = PurePosixPath(min(manifests, key=len)).parent
    left = EXPANSION_LIMIT * max(path.stat().st_size, SMALL_ARCHIVE_BYTES)

    def read(name: str, limit: int) -> bytes:
        nonlocal left
        with zipfile.ZipFile(path) as archive:
            member = str(root / name)
            if member not in archive.namelist():
                raise ModelError(f"'{name}' is missing")
            info = archive.getinfo(member)
            if info.file_size > min(limit, left):
                raise ModelError(f"'{name}' would unpack to {info.file_size} bytes; refused")
            left -= info.file_size
            return _unpacked(archive, info, name)

    return read


def _unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> bytes:
    """The member ``info``, a chunk at a time: asked for everything, zipfile would unpack beyond what is claimed."""
    if info.compress_type not in COMPRESSIONS:
        allowed = listed(COMPRESSIONS.values())
        raise ModelError(f"'{name}' is compressed by method {info.compress_type}; allowed: {allowed}")
    try:
        with archive.open(info) as member:
            return b"".join(iter(lambda: member.read(CHUNK_BYTES), b""))
    except UNREADABLE as error:
        raise ModelError(f"'{name}' is damaged: {type(error).__name__}: {error}") from error
