"""How close quantised outputs are to those of the float model, and to labels: plain functions of arrays [N, ...]."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]


def cosines(found: Array, wanted: Array) -> Floats:
    """Cosine of the angle between row n of both, everything behind the first axis taken as one vector."""
    one, other = _rows(found), _rows(wanted)
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return np.asarray((one * other).sum(1) / lengths)


def divergences(found: Array, wanted: Array) -> Floats:
    """Kullback-Leibler divergence in nats of the softmax of ``found`` from that of ``wanted``, row by row."""
    one, other = _log_shares(found), _log_shares(wanted)
    return np.asarray((np.exp(other) * (other - one)).sum(1))


def right(scores: Array, labels: Array) -> int:
    """How many rows have their highest score at their label."""
    return int((_rows(scores).argmax(1) == labels).sum())


def cosine_values(found: Array, wanted: Array) -> dict[str, float]:
    """Minimum and mean of ``cosines``."""
    each = cosines(found, wanted)
    return {"cosine_min": float(each.min()), "cosine_mean": float(each.mean())}


def pareto(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the (cost, score) points that no other one beats in both, by increasing cost."""
    kept: list[int] = []
    best = -np.inf
    for index in sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1])):
        if points[index][1] > best:
            kept.append(index)
            best = points[index][1]
    return kept


def _rows(values: Array) -> Floats:
    return values.reshape(len(values), -1).astype(np.float64)


def _log_shares(scores: Array) -> Floats:
    rows = _rows(scores)
    shifted = rows - rows.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))
