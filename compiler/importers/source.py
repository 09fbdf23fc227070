"""A checkpoint on disk, opened without trusting it: safetensors (one file or a folder of shards), torch, Core ML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy.typing as npt

from accel.errors import ModelError
from compiler.frontend.weights import TORCH_SUFFIXES, read_safetensors
from compiler.importers.mlpackage import PACKAGE_SUFFIXES, Package, open_package

CONFIG_NAME = "config.json"
CONFIG_LIMIT_BYTES = 64 << 20
SHARDS = "*.safetensors"


@dataclass(frozen=True, slots=True)
class Source:
    """What importers look at: tensors by name, or the ``package`` of a Core ML model. ``path`` is for messages."""

    path: Path
    tensors: Mapping[str, npt.NDArray[Any]]
    package: Package | None = None

    def quantization_config(self) -> Mapping[str, Any]:
        """The ``quantization_config`` object of the ``config.json`` beside the weights; raises ``ModelError``."""
        folder = self.path if self.path.is_dir() else self.path.parent
        document = _json_object(folder / CONFIG_NAME)
        config = document.get("quantization_config")
        if not isinstance(config, dict):
            raise ModelError(f"{folder / CONFIG_NAME}: no object 'quantization_config'")
        return config


def open_source(path: Path) -> Source:
    """Read all tensors of ``path``; raises ``ModelError`` for what is missing, damaged or of no known kind."""
    if not path.exists():
        raise ModelError(f"{path}: no such file")
    if path.name.endswith(PACKAGE_SUFFIXES):
        return Source(path, {}, open_package(path))
    if path.is_dir():
        return Source(path, _read_shards(path))
    if path.suffix in TORCH_SUFFIXES:
        from compiler.frontend.torch_checkpoint import read_torch_tree

        return Source(path, read_torch_tree(path))
    if path.suffix != ".safetensors":
        allowed = ", ".join((".safetensors", *TORCH_SUFFIXES, *PACKAGE_SUFFIXES))
        raise ModelError(f"{path}: suffix '{path.suffix}'; allowed: {allowed}, or a folder with .safetensors files")
    return Source(path, read_safetensors(path))


def files_within(path: Path) -> tuple[str, ...]:
    """Patterns of the files that are read of ``path`` if it is a folder."""
    return ("**/*",) if path.name.endswith(PACKAGE_SUFFIXES) else (SHARDS, CONFIG_NAME)


def _read_shards(folder: Path) -> dict[str, npt.NDArray[Any]]:
    shards = sorted(folder.glob(SHARDS))
    if not shards:
        raise ModelError(f"{folder}: holds no .safetensors file")
    tensors: dict[str, npt.NDArray[Any]] = {}
    for shard in shards:
        found = read_safetensors(shard)
        twice = sorted(found.keys() & tensors.keys())
        if twice:
            raise ModelError(f"{shard}: tensor '{twice[0]}' is in another file of the folder, too")
        tensors |= found
    return tensors


def _json_object(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > CONFIG_LIMIT_BYTES:
            raise ModelError(f"{path}: longer than {CONFIG_LIMIT_BYTES} bytes")
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}; this format keeps its settings there") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not a readable JSON file: {error}") from error
    if not isinstance(document, dict):
        raise ModelError(f"{path}: holds a {type(document).__name__}, not an object")
    return document


def modules(tensors: Mapping[str, Any], suffix: str) -> list[str]:
    """Names of the modules that have a tensor called ``suffix``, in the file's order."""
    return [name[: -len(suffix) - 1] for name in tensors if name.endswith(f".{suffix}")]


def taken(tensors: Mapping[str, npt.NDArray[Any]], name: str, rank: int, kinds: str) -> npt.NDArray[Any]:
    """The tensor ``name`` with ``rank`` axes, none empty, and an element type of ``kinds`` (NumPy's letters)."""
    if name not in tensors:
        raise ModelError(f"tensor '{name}' is missing")
    array = tensors[name]
    if array.ndim != rank or array.dtype.kind not in kinds or 0 in array.shape:
        wanted = "floating-point numbers" if kinds == "f" else "integers"
        raise ModelError(
            f"tensor '{name}': {array.dtype}{list(array.shape)}; expected {wanted} with {rank} axes, none empty"
        )
    return array


def remaining(tensors: Mapping[str, npt.NDArray[Any]], used: set[str]) -> dict[str, npt.NDArray[Any]]:
    """The tensors no layer took."""
    return {name: array for name, array in tensors.items() if name not in used}
