"""Pareto fronts: the points that no other point beats in every objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Row = Mapping[str, Any]


def pareto_mask(costs: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Which rows of ``costs[point, objective]`` (less is better) are on the front; equal rows all are or none is.

    A row that is on the front drops all it beats, so the work is points times the size of the front.
    """
    left = np.lexsort(costs.T[::-1])
    front: list[int] = []
    while left.size:
        best = costs[left[0]]
        equal = (costs[left] == best).all(axis=1)
        front.extend(left[equal].tolist())
        left = left[(costs[left] < best).any(axis=1)]
    mask = np.zeros(len(costs), np.bool_)
    mask[front] = True
    return mask


def on_front(rows: Sequence[Row], objectives: Mapping[str, str]) -> list[bool]:
    """For each row whether it is on the front of its model; rows without a figure for an objective are not."""
    found = [False] * len(rows)
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if all(row.get(name) is not None for name in objectives):
            groups.setdefault(row["model"], []).append(index)
    for members in groups.values():
        mask = pareto_mask(costs_of([rows[index] for index in members], objectives))
        for index, best in zip(members, mask.tolist(), strict=True):
            found[index] = best
    return found


def costs_of(rows: Sequence[Row], objectives: Mapping[str, str]) -> npt.NDArray[np.float64]:
    """``[row, objective]``, what is to be maximised negated."""
    signs = [1.0 if direction == "minimize" else -1.0 for direction in objectives.values()]
    return np.array([[row[name] for name in objectives] for row in rows], np.float64).reshape(-1, len(signs)) * signs
