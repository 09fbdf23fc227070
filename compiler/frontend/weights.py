"""Weight values for a graph: from a checkpoint under the source framework's names, or seeded random numbers."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import ModelError, listed
from accel.graph import Graph, Shape
from compiler.frontend.architectures.base import Array, Blueprint, Tensors
from compiler.frontend.stored import StoredTensors

Checkpoint = Mapping[str, npt.NDArray[Any]]

SHOWN = 3
"""How many offending names an error message spells out."""

TORCH_SUFFIXES = (".pth", ".pt", ".bin")
WRAPPER_PREFIX = "module."
"""What torch's DataParallel puts before every name."""

POSITION_SPREAD = 0.02
"""Standard deviation of random embeddings and tables, as transformers are usually initialised."""


def load_weights(blueprint: Blueprint, path: Path) -> Mapping[str, Array]:
    """Values of every parameter of ``blueprint.graph`` from the checkpoint ``path`` (safetensors or torch).

    Those of a safetensors file are read each time they are asked for and not kept. Raises ``ModelError`` when the file
    cannot be read or its entries are not exactly those of the architecture.
    """
    if path.suffix in TORCH_SUFFIXES:
        return assign(blueprint, read_checkpoint(path), str(path))
    return fitted(blueprint, StoredTensors(path), str(path))


def read_checkpoint(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All tensors of a safetensors file, or of a torch checkpoint (``.pth``, ``.pt``, ``.bin``)."""
    if path.suffix in TORCH_SUFFIXES:
        from compiler.frontend.torch_checkpoint import read_torch_checkpoint

        return read_torch_checkpoint(path)
    return read_safetensors(path)


def read_safetensors(path: Path) -> dict[str, npt.NDArray[Any]]:
    """All tensors of a safetensors file, bfloat16 widened to float32; raises ``ModelError``."""
    return {name: np.array(tensor) for name, tensor in StoredTensors(path).items()}


class FittedWeights(Mapping[str, Array]):
    """Values of every graph parameter, ``float32`` and made from checkpoint entries when they are asked for."""

    def __init__(self, blueprint: Blueprint, tensors: Tensors) -> None:
        self._blueprint = blueprint
        self._tensors = tensors

    def __getitem__(self, name: str) -> Array:
        if name in self._blueprint.constants:
            return self._blueprint.constants[name]
        rule = self._blueprint.derived.get(name)
        with np.errstate(all="ignore"):  # what overflows or has no root has been refused by name
            return np.ascontiguousarray(self._tensors[name] if rule is None else rule(self._tensors), np.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self._blueprint.graph.parameters)

    def __len__(self) -> int:
        return len(self._blueprint.graph.parameters)


@dataclass(frozen=True, slots=True)
class _Floats(Mapping[str, Array]):
    """Entries of ``checkpoint`` in float32, by the name they have in an architecture."""

    checkpoint: Checkpoint
    keys_by_name: Mapping[str, str]

    def __getitem__(self, name: str) -> Array:
        with np.errstate(over="ignore"):
            return self.checkpoint[self.keys_by_name[name]].astype(np.float32, copy=False)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys_by_name)

    def __len__(self) -> int:
        return len(self.keys_by_name)


def assign(blueprint: Blueprint, checkpoint: Checkpoint, where: str) -> dict[str, Array]:
    """Values of every graph parameter from checkpoint entries; raises ``ModelError`` unless the entries fit exactly."""
    return {name: np.array(value) for name, value in fitted(blueprint, checkpoint, where).items()}


def fitted(blueprint: Blueprint, checkpoint: Checkpoint, where: str) -> FittedWeights:
    """As ``assign``, but nothing is kept: the checkpoint is looked through now and read again when values are asked
    for."""
    tensors = _matched(blueprint, checkpoint, where)
    weights = FittedWeights(blueprint, tensors)
    _check_finite(tensors, tensors, where, "")
    _check_finite(weights, blueprint.derived, where, "after batch-normalisation folding ")
    return weights


def _matched(blueprint: Blueprint, checkpoint: Checkpoint, where: str) -> _Floats:
    keys = {
        name: key
        for name, key in _unwrapped(checkpoint).items()
        if not any(fnmatchcase(name, pattern) for pattern in blueprint.ignored)
    }
    wanted, model = blueprint.tensors, blueprint.graph.name
    refuse_names([name for name in wanted if name not in keys], f"{where}: '{model}' needs tensors that are missing")
    refuse_names(sorted(keys.keys() - wanted.keys()), f"{where}: unexpected tensors, not part of '{model}'")
    found = {name: _extent(checkpoint[keys[name]]) for name in wanted}
    refuse_names(
        [
            f"{name} {list(found[name][0])} instead of {list(shape)}"
            for name, shape in wanted.items()
            if found[name][0] != tuple(shape)
        ],
        f"{where}: tensors of '{model}' with the wrong shape",
    )
    refuse_names(
        [f"{name} ({kind})" for name, (_, kind) in found.items() if kind.kind != "f"],
        f"{where}: tensors that are not floating point (float16, bfloat16, float32, float64)",
    )
    return _Floats(checkpoint, {name: keys[name] for name in wanted})


def _extent(array: npt.NDArray[Any]) -> tuple[Shape, np.dtype[Any]]:
    return tuple(array.shape), array.dtype


def _unwrapped(checkpoint: Checkpoint) -> dict[str, str]:
    """The name of each entry without what wraps it, and with."""
    wrapped = all(name.startswith(WRAPPER_PREFIX) for name in checkpoint)
    return {name.removeprefix(WRAPPER_PREFIX) if wrapped else name: name for name in checkpoint}


def refuse_names(names: list[str], what: str) -> None:
    """Raise a ``ModelError`` that counts ``names`` and spells out the first few, if there are any."""
    if names:
        more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
        raise ModelError(f"{what} ({len(names)}): {listed(names[:SHOWN])}{more}")


def _check_finite(tensors: Tensors, names: Iterable[str], where: str, when: str) -> None:
    for name in names:
        bad, size = _not_finite(tensors[name])
        if bad:
            raise ModelError(f"{where}: tensor '{name}' {when}holds {bad} NaN or infinite of {size} values")


def _not_finite(values: Array) -> tuple[int, int]:
    """How many, of how many; they are let go of before the next are read."""
    return values.size - int(np.count_nonzero(np.isfinite(values))), values.size


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
        _digest_one(digest, name, weights[name])
    return digest.hexdigest()


def _digest_one(digest: hashlib._Hash, name: str, values: Array) -> None:
    """A function of its own: values are let go of before the next are read."""
    value = np.ascontiguousarray(values, dtype="<f4")
    digest.update(f"{name}{list(value.shape)}".encode())
    digest.update(value.data)
