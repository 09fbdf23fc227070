"""Core ML packages (``.mlpackage``, iOS 18 form) whose weights are tables: ``constexpr_lut_to_dense`` of coremltools 9.

The table may come from ``constexpr_blockwise_shift_scale``: integers times one scale (an 8-bit table), or a table for
every output channel, times its scale (``enable_per_channel_scale``). Constants that are no weights (biases) come along.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import ModelError
from compiler.importers.foreign import Checkpoint, ForeignLayer, Matrix
from compiler.importers.mil import parse_model, read_value
from compiler.importers.mlpackage import Package
from compiler.importers.palette import channel_scale, palette_layer
from compiler.importers.source import Source

LUT, SCALED = "constexpr_lut_to_dense", "constexpr_blockwise_shift_scale"
WEIGHT_LIKE = ("constexpr_sparse_to_dense", "constexpr_sparse_blockwise_shift_scale", "constexpr_lut_to_sparse",
               "constexpr_affine_dequantize", "constexpr_cast")  # fmt: skip

Array = npt.NDArray[Any]


def read_coreml(source: Source) -> Checkpoint:
    """All tables and constants; raises ``ModelError`` naming the one at fault."""
    assert source.package is not None
    try:
        return _read(source.package)
    except ModelError as error:
        raise ModelError(f"{source.path}: {error}") from error


def _read(package: Package) -> Checkpoint:
    layers: dict[str, ForeignLayer] = {}
    tensors: dict[str, Array] = {}
    scaled: dict[str, tuple[Array, Array]] = {}
    values = _Values(package)
    for operation in _operations(package):
        name = operation.outputs[0].name if operation.outputs else ""
        try:
            if operation.type in WEIGHT_LIKE:
                raise ModelError(f"a weight made by '{operation.type}'; importable: {LUT}")
            if operation.type == SCALED:
                scaled[name] = _scaled(values.arguments(operation))
            elif operation.type == LUT:
                layers[name] = _layer(values.arguments(operation), scaled)
            elif operation.type == "const" and (constant := values.constant(operation)) is not None:
                tensors[name] = constant
        except ModelError as error:
            raise ModelError(f"layer '{name}': {error}") from error
    return Checkpoint(layers, tensors, flat_names=True)


def _operations(package: Package) -> Iterator[Any]:
    model = parse_model(package.model)
    for function in model.mlProgram.functions:
        for block in function.value.block_specializations:
            yield from block.value.operations


class _Values:
    """Tensors of operations; a weight file is read once."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self._files: dict[str, npt.NDArray[np.uint8]] = {}

    def arguments(self, operation: Any) -> dict[str, Array | str]:
        """The inputs of an operation: arrays, or names of other operations' results."""
        found: dict[str, Array | str] = {}
        for entry in operation.inputs:
            for binding in entry.value.arguments:
                found[entry.key] = binding.name or self._read(binding.value)
        return found

    def constant(self, operation: Any) -> Array | None:
        """The floating-point tensor of a ``const``; ``None`` for settings of operations."""
        for entry in operation.attributes:
            if (
                entry.key == "val"
                and entry.value.type.tensorType.dataType in (10, 11)
                and entry.value.type.tensorType.dimensions
            ):
                return self._read(entry.value)
        return None

    def _read(self, value: Any) -> Array:
        name = value.blobFileValue.fileName
        if name and name not in self._files:
            self._files[name] = self._package.blobs(name)
        return read_value(value, self._files.get(name, np.zeros(0, np.uint8)))


def _scaled(arguments: dict[str, Array | str]) -> tuple[Array, Array]:
    data, scale = (_array(arguments, name) for name in ("data", "scale"))
    if "offset" in arguments:
        raise ModelError("an offset beside the scale of its table")
    return data, scale


def _layer(arguments: dict[str, Array | str], scaled: dict[str, tuple[Array, Array]]) -> ForeignLayer:
    if "indices" not in arguments or "lut" not in arguments:
        raise ModelError("a table in the form of iOS 16; convert the model again with minimum_deployment_target iOS18")
    indices = _array(arguments, "indices").astype(np.int64)
    named = arguments["lut"]
    if isinstance(named, str) and named not in scaled:
        raise ModelError(f"its table is '{named[:80]}', which is no constant")
    lut, scale = scaled[named] if isinstance(named, str) else (named, np.ones((1,) * (indices.ndim + 2), np.float32))
    if lut.ndim != indices.ndim + 2 or indices.ndim < 2:
        raise ModelError(f"a table of shape {list(lut.shape)} for indices {list(indices.shape)}")
    axis = int(_array(arguments, "vector_axis").reshape(-1)[0]) if "vector_axis" in arguments else 0
    if not 0 <= axis < indices.ndim:
        raise ModelError(f"vector axis {axis}; allowed: 0 to {indices.ndim - 1}")
    return _palette(indices, lut, scale, axis)


def _palette(indices: npt.NDArray[np.int64], lut: Array, scale: Array, axis: int) -> ForeignLayer:
    """Of a table repeated for every channel because each has a scale, one copy is enough."""
    out = indices.shape[0] * (lut.shape[-1] if axis == 0 else 1)
    words: Matrix = lut.astype(np.float32)
    if scale.size > 1 and scale.shape == (len(lut),) + (1,) * (scale.ndim - 1) and (words == words[:1]).all():
        words = words[:1]
    if scale.ndim != lut.ndim:
        raise ModelError(f"scales of shape {list(scale.shape)} for a table {list(lut.shape)}")
    return palette_layer(indices, words, axis, channel_scale(scale, out))


def _array(arguments: dict[str, Array | str], name: str) -> Array:
    value = arguments.get(name)
    if value is None or isinstance(value, str):
        raise ModelError(f"input '{name}' is not a constant")
    return value
