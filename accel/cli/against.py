"""What ``accel run --against`` compares with: a model in float, or a packed model's decoded weights in float."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from accel.errors import ConfigError, ModelError
from accel.graph import Graph

if TYPE_CHECKING:
    from accel.graph import Shape
    from accel.program import Port, Program, StoredTensor

Array = npt.NDArray[Any]
PACKED_SUFFIX = ".vq.safetensors"


@dataclass(frozen=True, slots=True)
class Reference:
    """A model in float: ``values`` of its parameters, ``weights`` in words, and ``notes`` the reader should see."""

    spec: str
    graph: Graph
    values: Mapping[str, Array]
    weights: str
    notes: tuple[str, ...] = ()


def load_reference(spec: str, program: Program, load: Callable[[], Any]) -> Reference:
    """The reference ``spec`` names, checked against ``program``; ``load`` reads it if it is no packed file.

    Raises ``ModelError`` for a model in which a tensor of the program is missing or has another shape.
    """
    found = _packed(spec, program) if _is_packed(spec) else _model(spec, program, load())
    _check_same_model(found, program)
    return found


def _is_packed(spec: str) -> bool:
    path = Path(spec)
    return path.suffix == ".safetensors" and (":" not in path.name or spec.endswith(PACKED_SUFFIX) or path.is_file())


def _packed(spec: str, program: Program) -> Reference:
    from accel.packed import packed_digest, read_packed
    from compiler.quantise import packed_values

    packed = read_packed(spec)
    same = packed_digest(packed) == program.packed_digest
    notes = () if same else (f"the program was compiled from another packed file than '{spec}'",)
    return Reference(spec, packed.graph, packed_values(packed), "its decoded weights in float", notes)


def _model(spec: str, program: Program, model: Any) -> Reference:
    from accel.packed import model_digest

    same = model_digest(model.graph, model.weights) == program.source.get("sha256")
    notes = () if same else (f"the program was compressed from other weights than those of '{spec}'",)
    return Reference(spec, model.graph, model.weights, "its weights in float", notes)


def _check_same_model(reference: Reference, program: Program) -> None:
    if not program.tensors:
        raise ConfigError(f"--against {reference.spec}: the program of '{program.model}' names no stored tensors")
    for port in program.inputs:
        _check_tensor(reference, program, "input", port, reference.graph.inputs)
    for tensor in program.tensors:
        _check_tensor(reference, program, "tensor", tensor, reference.graph.shapes)


def _check_tensor(
    reference: Reference, program: Program, what: str, row: Port | StoredTensor, known: Mapping[str, Shape]
) -> None:
    where = f"--against {reference.spec}"
    if row.name not in known:
        raise ModelError(
            f"{where}: it has no {what} '{row.name}', which the program of '{program.model}' has; allowed: the model "
            f"it was compiled from"
        )
    if tuple(known[row.name]) != row.shape:
        raise ModelError(
            f"{where}: {what} '{row.name}' has shape {_sizes(known[row.name])}; the program of '{program.model}' has "
            f"{_sizes(row.shape)}"
        )


def _sizes(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"


def reference_tensors(reference: Reference, program: Program, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """What the model computes in float32 for the first item of ``inputs``: its inputs and all tensors of the program.

    Raises what ``run_program`` raises for inputs that do not fit, ``ModelError`` for indices outside their table.
    """
    from compiler.quantise import check_samples, evaluate
    from sim.functional.ports import check_names

    check_names(inputs, program)
    sample = {port.name: _first(port, inputs[port.name], program.batch) for port in program.inputs}
    check_samples(reference.graph, reference.values, [sample])
    wanted = {tensor.name for tensor in program.tensors} | set(sample)
    kept: dict[str, Array] = {}

    def keep(name: str, array: Array) -> None:
        if name in wanted:
            kept[name] = array

    evaluate(reference.graph, reference.values, sample, keep)
    return kept


def _first(port: Port, values: Array, batch: int) -> Array:
    """The first item as real numbers, or as indices; codes are what they stand for."""
    from accel.quantisation import dequantise
    from sim.functional.ports import input_codes

    codes = input_codes(port, values, batch)
    if port.code is None:
        return np.asarray(codes[0])
    array = np.asarray(values)
    real: Array = dequantise(codes[0], port.code) if array.dtype.kind in "iu" else array.reshape(codes.shape)[0]
    return real
