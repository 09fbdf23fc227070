"""Weight values for a graph: from a checkpoint under the source framework's names, or seeded random numbers."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import ModelError, listed
from accel.graph import Graph, Shape
from compiler.frontend.architectures.base import Array, Blueprint, Tensors

SHOWN = 3
"""How many offending names an error message spells out."""

TORCH_SUFFIXES = (".pth", ".pt", ".bin")
WRAPPER_PREFIX = "module."
"""What torch's DataParallel puts before every name."""

SAFETENSORS_DTYPES = {
    "F16": "<f2",
    "BF16": "<u2",
    "F32": "<f4",
    "F64": "<f8",
    "BOOL": "?",
    **{f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)},
}
POSITION_SPREAD = 0.02
"""Standard deviation of random embeddings and tables, as transformers are usually initialised."""


def load_weights(blueprint: Blueprint, path: Path) -> dict[str, Array]:
    """Values of every parameter of ``blueprint.graph`` from the checkpoint ``path`` (safetensors or torch).

    Raises ``ModelError`` when the file cannot be read or its entries are not exactly those of the architecture.
    """
    return assign(blueprint, read_checkpoint(path), str(path))


def read_checkpoint(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All tensors of a safetensors file, or of a torch checkpoint (``.pth``, ``.pt``, ``.bin``)."""
    if path.suffix in TORCH_SUFFIXES:
        from compiler.frontend.torch_checkpoint import read_torch_checkpoint

        return read_torch_checkpoint(path)
    return read_safetensors(path)


def read_safetensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All tensors of a safetensors file, bfloat16 widened to float32; raises ``ModelError``."""
    from safetensors import SafetensorError, deserialize

    try:
        entries = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise ModelError(f"{path}: not a readable safetensors file: {error}") from error
    return {name: _to_array(name, entry, path) for name, entry in entries}


def _to_array(name: str, entry: Mapping[str, Any], path: Path) -> npt.NDArray[Any]:
    dtype = entry["dtype"]
    if dtype not in SAFETENSORS_DTYPES:
        raise ModelError(f"{path}: tensor '{name}' has type {dtype}; readable: {listed(SAFETENSORS_DTYPES)}")
    raw = np.frombuffer(entry["data"], SAFETENSORS_DTYPES[dtype]).reshape(entry["shape"])
    return widen_bfloat16(raw) if dtype == "BF16" else raw


def widen_bfloat16(bits: npt.NDArray[Any]) -> Array:
    """bfloat16 bit patterns (uint16) as float32: the same numbers, 16 zero bits behind."""
    return (bits.astype("<u4") << np.uint32(16)).view("<f4")


def assign(blueprint: Blueprint, checkpoint: Mapping[str, npt.NDArray[Any]], where: str) -> dict[str, Array]:
    """Values of every graph parameter from checkpoint entries; raises ``ModelError`` unless the entries fit exactly."""
    with np.errstate(all="ignore"):  # what overflows or has no root is refused by name below
        tensors = _matched(blueprint, checkpoint, where)
        weights = {
            name: np.ascontiguousarray(_value(blueprint, tensors, name), dtype=np.float32)
            for name in blueprint.graph.parameters
        }
    _check_finite(weights, where, "after batch-normalisation folding ")
    return weights


def _value(blueprint: Blueprint, tensors: Tensors, name: str) -> Array:
    if name in blueprint.constants:
        return blueprint.constants[name]
    rule = blueprint.derived.get(name)
    return tensors[name] if rule is None else rule(tensors)


def _matched(blueprint: Blueprint, checkpoint: Mapping[str, npt.NDArray[Any]], where: str) -> dict[str, Array]:
    found = {
        name: value
        for name, value in _unwrapped(checkpoint).items()
        if not any(fnmatchcase(name, pattern) for pattern in blueprint.ignored)
    }
    wanted, model = blueprint.tensors, blueprint.graph.name
    refuse_names([name for name in wanted if name not in found], f"{where}: '{model}' needs tensors that are missing")
    refuse_names(sorted(found.keys() - wanted.keys()), f"{where}: unexpected tensors, not part of '{model}'")
    refuse_names(
        [
            f"{name} {list(found[name].shape)} instead of {list(shape)}"
            for name, shape in wanted.items()
            if found[name].shape != tuple(shape)
        ],
        f"{where}: tensors of '{model}' with the wrong shape",
    )
    refuse_names(
        [f"{name} ({found[name].dtype})" for name in wanted if found[name].dtype.kind != "f"],
        f"{where}: tensors that are not floating point (float16, bfloat16, float32, float64)",
    )
    tensors = {name: found[name].astype(np.float32) for name in wanted}
    _check_finite(tensors, where, "")
    return tensors


def _unwrapped(checkpoint: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
    wrapped = all(name.startswith(WRAPPER_PREFIX) for name in checkpoint)
    return {name.removeprefix(WRAPPER_PREFIX) if wrapped else name: value for name, value in checkpoint.items()}


def refuse_names(names: list[str], what: str) -> None:
    """Raise a ``ModelError`` that counts ``names`` and spells out the first few, if there are any."""
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise ModelError(f"{what} ({len(names)}): {listed(names[:SHOWN])}{more}")


def _check_finite(tensors: Tensors, where: str, when: str) -> None:
    for name, value in tensors.items():
        bad = value.size - int(np.count_nonzero(np.isfinite(value)))
        if bad:
            raise ModelError(f"{where}: tensor '{name}' {when}holds {bad} NaN or infinite of {value.size} values")


def random_weights(graph: Graph, seed: int = 0, constants: Mapping[str, Array] | None = None) -> dict[str, Array]:
    """Reproducible stand-ins where only traffic matters: Gaussian weights of variance 1/fan-in, plain norms.

    Biases are 0, normalisation gains 1, embeddings and other tables Gaussian with ``POSITION_SPREAD``;
    ``constants`` keep their values. A parameter's numbers depend on ``seed`` and its name alone.
    """
    roles = _roles(graph)
    fixed = constants or {}
    return {
        name: fixed[name] if name in fixed else _drawn(name, shape, roles.get(name, "table"), seed)
        for name, shape in graph.parameters.items()
    }


def _roles(graph: Graph) -> dict[str, str]:
    """What each parameter is to the operator that reads it: ``weight``, ``bias`` or ``gain``; absent: a table."""
    roles: dict[str, str] = {}
    for op in graph.ops:
        if op.kind in ("conv", "gemm"):
            roles.update(zip(op.inputs[1:], ("weight", "bias"), strict=False))
        if op.kind == "layernorm":
            roles.update(zip(op.inputs[1:], ("gain", "bias"), strict=True))
    return roles


def _drawn(name: str, shape: Shape, role: str, seed: int) -> Array:
    if role in ("bias", "gain"):
        return np.full(shape, float(role == "gain"), dtype=np.float32)
    spread = math.prod(shape[1:]) ** -0.5 if role == "weight" else POSITION_SPREAD
    stream = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return stream.standard_normal(shape, dtype=np.float32) * np.float32(spread)


def weights_digest(weights: Tensors) -> str:
    """sha256 over names, shapes and values, in order of names: the same model gives the same digest anywhere."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = np.ascontiguousarray(weights[name], dtype="<f4")
        digest.update(f"{name}{list(value.shape)}".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()
