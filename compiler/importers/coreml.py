"""Core ML packages (``.mlpackage``, iOS 18 form) whose weights are tables: ``constexpr_lut_to_dense`` of coremltools 9.

The table may come from ``constexpr_blockwise_shift_scale``: integers times one scale (an 8-bit table), or a table for
every output channel, times its scale (``enable_per_channel_scale``). Constants that are no weights (biases) come along.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import ModelError, listed
from compiler.importers.foreign import Checkpoint, ForeignLayer, Matrix
from compiler.importers.mil import parse_model, read_value
from compiler.importers.mlpackage import Package
from compiler.importers.palette import channel_scale, palette_layer, wrapped_axis
from compiler.importers.source import Source

LUT, SCALED = "constexpr_lut_to_dense", "constexpr_blockwise_shift_scale"
CONSTANT_PREFIX = "constexpr_"
"""Operators that make constants: weights, as far as the format goes."""

MAIN = "main"

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
    tables: set[str] = set()
    values = _Values(package)
    operations, notes = _operations(package)
    biases = _biases(operations)
    for operation in operations:
        name = operation.outputs[0].name if operation.outputs else ""
        try:
            if operation.type == SCALED:
                scaled[name] = _scaled(values.arguments(operation))
            elif operation.type == LUT:
                arguments = values.arguments(operation)
                layers[name] = _layer(arguments, scaled)
                tables |= {named for named in arguments.values() if isinstance(named, str)}
            elif operation.type.startswith(CONSTANT_PREFIX):
                raise _unreadable(operation.type)
            elif operation.type == "const" and (constant := values.constant(operation)) is not None:
                tensors[name] = constant
        except ModelError as error:
            raise ModelError(f"layer '{name}': {error}") from error
    if alone := sorted(scaled.keys() - tables):
        raise ModelError(f"layer '{alone[0]}': {_unreadable(SCALED)}")
    paired = {weight: bias for weight, bias in biases.items() if weight in layers and bias in tensors}
    return Checkpoint(layers, tensors, flat_names=True, notes=notes, biases=paired)


def _unreadable(operator: str) -> ModelError:
    return ModelError(f"a weight made by '{operator}', not by a table; importable: {LUT}")


def _operations(package: Package) -> tuple[Sequence[Any], tuple[str, ...]]:
    """Of the program's only function or of ``main``, all with results of different names; notes on what is left out."""
    functions = parse_model(package.model).mlProgram.functions
    names = [function.key for function in functions]
    chosen = [function.value for function in functions if function.key == MAIN or len(functions) == 1]
    if functions and len(chosen) != 1:
        raise ModelError(f"its functions are {listed(names)}; expected one, or one called '{MAIN}'")
    others = listed(name for name in names if name != MAIN)
    notes = (f"weights are those of the function '{MAIN}'; not read: {others}",) if len(functions) > 1 else ()
    return [operation for function in chosen for operation in _block(function)], notes


def _block(function: Any) -> Sequence[Any]:
    if len(blocks := function.block_specializations) > 1:
        raise ModelError(f"a function in {len(blocks)} forms ({listed(block.key for block in blocks)}); expected one")
    operations = [operation for block in blocks for operation in block.value.operations]
    made = Counter(output.name for operation in operations for output in operation.outputs)
    if twice := [name for name, count in made.items() if count > 1]:
        raise ModelError(f"{made[twice[0]]} operations make a result called '{twice[0]}'; expected one")
    return operations


def _biases(operations: Sequence[Any]) -> dict[str, str]:
    """Constants that operators add to what they multiply by a weight, by that weight; none of weights with several."""
    casts: dict[str, str] = {}
    found: dict[str, set[str]] = {}
    for operation in operations:
        named = {entry.key: binding.name for entry in operation.inputs for binding in entry.value.arguments}
        if operation.type == "cast":
            casts.update((output.name, named.get("x", "")) for output in operation.outputs)
        elif weight := named.get("weight"):
            bias = named.get("bias", "")
            found.setdefault(casts.get(weight, weight), set()).add(casts.get(bias, bias))
    return {weight: bias for weight, several in found.items() for bias in several if bias and len(several) == 1}


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
    indices = _whole(arguments, "indices")
    named = arguments["lut"]
    if isinstance(named, str) and named not in scaled:
        raise ModelError(f"its table is '{named[:80]}', which is no constant")
    lut, scale = scaled[named] if isinstance(named, str) else (named, np.ones((1,) * (indices.ndim + 2), np.float32))
    if lut.ndim != indices.ndim + 2 or indices.ndim < 2:
        raise ModelError(f"a table of shape {list(lut.shape)} for indices {list(indices.shape)}")
    axis = int(_whole(arguments, "vector_axis").reshape(-1)[0]) if "vector_axis" in arguments else 0
    return _palette(indices, lut, scale, wrapped_axis(axis, indices.ndim))


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


def _whole(arguments: dict[str, Array | str], name: str) -> npt.NDArray[np.int64]:
    array = _array(arguments, name)
    if array.dtype.kind not in "iu":
        raise ModelError(f"input '{name}' has type {array.dtype}; expected whole numbers")
    return array.astype(np.int64)
