"""Samples to calibrate on: checked before anything runs on them, or drawn at random where there are none."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from accel.errors import ConfigError, ModelError, listed, nearest
from accel.graph import Graph
from accel.quantisation import stored_tensors
from compiler.quantise.floating import Tensors
from compiler.quantise.operators import Array


def check_samples(graph: Graph, values: Tensors, samples: Sequence[Tensors]) -> tuple[str, ...]:
    """Warnings about samples that can be used but say little. Raises ``ConfigError`` if there are none, ``ModelError``
    for arrays a graph's inputs cannot take and for indices outside their table."""
    if not samples:
        raise ConfigError("no samples to calibrate on; allowed: at least 1")
    rows = index_rows(graph)
    for name in rows.keys() & graph.parameters.keys():
        _check_indices(f"parameter '{name}'", np.asarray(values[name]), rows[name])
    for number, sample in enumerate(samples):
        _check_names(graph, sample, number)
        for name, array in sample.items():
            _check_array(graph, name, np.asarray(array), rows.get(name), number)
    return tuple(_warnings(graph, samples))


def check_inputs(graph: Graph, stacks: Tensors) -> None:
    """Raise ``ModelError`` unless a graph can take every sample of ``stacks``, arrays ``[N, *shape]`` by input."""
    rows = index_rows(graph)
    for name, array in stacks.items():
        _check_values(f"input '{name}'", np.asarray(array), rows.get(name))


def random_samples(graph: Graph, count: int, seed: int = 0) -> list[dict[str, Array]]:
    """Standard-normal numbers, and indices drawn evenly from their table."""
    rng, rows = np.random.default_rng(seed), index_rows(graph)

    def draw(name: str) -> Array:
        shape = graph.inputs[name]
        if name in rows:
            return rng.integers(0, rows[name], shape)
        return rng.standard_normal(shape, np.float32)

    return [{name: draw(name) for name in graph.inputs} for _ in range(count)]


def index_rows(graph: Graph) -> dict[str, int]:
    """Tensors of row numbers and how many rows their smallest table has."""
    rows: dict[str, int] = {}
    stored = set(stored_tensors(graph))
    for op in reversed(graph.ops):
        if op.kind == "embedding":
            table, ids = op.inputs
            rows[ids] = min(rows.get(ids, graph.shapes[table][0]), graph.shapes[table][0])
        elif op.output in rows:  # a view of row numbers
            rows |= {name: rows[op.output] for name in op.inputs if name not in stored}
    return rows


def _check_names(graph: Graph, sample: Tensors, number: int) -> None:
    for name in sample:
        if name not in graph.inputs:
            known = f"inputs are {listed(graph.inputs)}{nearest(name, graph.inputs)}"
            raise ModelError(f"sample {number}: no input '{name[:80]}'; {known}")
    for name in graph.inputs:
        if name not in sample:
            raise ModelError(f"sample {number}: input '{name}' is missing")


def _check_array(graph: Graph, name: str, array: Array, rows: int | None, number: int) -> None:
    where, shape = f"sample {number}, input '{name}'", tuple(graph.inputs[name])
    if array.shape != shape:
        raise ModelError(f"{where}: shape {list(array.shape)}; the graph has {list(shape)}")
    _check_values(where, array, rows)


def _check_values(where: str, array: Array, rows: int | None) -> None:
    """Indices of a table with so many rows, or real numbers."""
    if rows is not None:
        _check_indices(where, array, rows)
    elif array.dtype.kind not in "fiu":
        raise ModelError(f"{where}: element type {array.dtype}; allowed: real numbers")
    elif not _finite(array):
        raise ModelError(f"{where}: some values are NaN, infinite or beyond float32; allowed: finite numbers")


def _finite(array: Array) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(array.astype(np.float32)).all())


def _check_indices(where: str, array: Array, rows: int) -> None:
    if array.dtype.kind not in "iu":
        raise ModelError(f"{where}: element type {array.dtype}; allowed: integers, they number rows of a table")
    outside = array[(array < 0) | (array >= rows)]
    if outside.size:
        raise ModelError(f"{where}: index {outside[0]}; allowed: 0 to {rows - 1}, the rows of its table")


def _warnings(graph: Graph, samples: Sequence[Tensors]) -> list[str]:
    found = []
    if len(samples) == 1:
        found.append("calibrated on 1 sample; ranges of others may differ")
    for name in graph.inputs:
        extremes = {float(end) for each in samples for end in (np.min(each[name]), np.max(each[name]))}
        if len(extremes) == 1 and np.asarray(samples[0][name]).dtype.kind == "f":
            found.append(f"input '{name}' is {extremes.pop():g} throughout all samples")
    return found
