"""One candidate of every layer, together no larger than a limit, with the least sum of costs: an integer program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

RELATIVE_GAP = 1e-4  # between cost and bound at which the search may end
COST_LIMIT = 1e9  # in units of the least cost imaginable; HiGHS takes 1e20 for infinite. What is worse counts as much
NODE_LIMIT = 20_000  # of the search tree; layers by codecs this small are usually done at the root

Rows = Sequence[Sequence[float]]  # a row a layer, an entry a candidate
Picks = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """``picks[layer]`` is the candidate taken; no selection within the limit costs less than ``bound``."""

    picks: Picks
    cost: float
    bound: float


def select(sizes: Sequence[Sequence[int]], costs: Rows, limit: int) -> Selection:
    """The cheapest selection of total size at most ``limit``, a multiple-choice knapsack, by HiGHS. The smallest
    candidates must fit."""
    floor = sum(min(row) for row in costs)
    unit = floor or max(max(row) for row in costs) or 1.0
    found = _solved(sizes, costs, limit, unit)
    picks = _within(sizes, costs, limit, unit, found.picks)
    cost = _total(costs, picks)
    return Selection(picks, cost, min(cost, max(found.bound, floor)))  # of the whole limit, not of a tighter one


def _within(sizes: Sequence[Sequence[int]], costs: Rows, limit: int, unit: float, picks: Picks) -> Picks:
    """``picks``; if they are over the limit, as the solver's tolerance of 1e-6 a choice allows, those of a limit as
    much tighter, or at last the smallest."""
    smallest = tuple(row.index(min(row)) for row in sizes)
    over = _total(sizes, picks) - limit
    if over > 0:
        picks = _solved(sizes, costs, max(limit - over, _total(sizes, smallest)), unit).picks
    return picks if _total(sizes, picks) <= limit else smallest


def _total(rows: Rows, picks: Sequence[int]) -> float:
    return sum(row[pick] for row, pick in zip(rows, picks, strict=True))


def _solved(sizes: Sequence[Sequence[int]], costs: Rows, limit: float, unit: float) -> Selection:
    """In units of the least cost imaginable: the solver's tolerances are absolute."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    owner = np.repeat(np.arange(len(costs)), [len(row) for row in costs])
    flat = np.minimum(_flat(costs) / unit, COST_LIMIT)
    one_each = csr_array((np.ones(len(flat)), (owner, np.arange(len(flat)))))
    result = milp(
        flat,
        integrality=np.ones(len(flat)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_each, 1, 1), LinearConstraint(_flat(sizes)[None], ub=limit)],
        options={"mip_rel_gap": RELATIVE_GAP, "node_limit": NODE_LIMIT},
    )
    assert result.x is not None, result.message
    starts = np.cumsum([0, *(len(row) for row in costs)])
    picks = tuple(int(result.x[one:other].argmax()) for one, other in pairwise(starts))
    return Selection(picks, _total(costs, picks), float(result.mip_dual_bound) * unit)


def _flat(rows: Rows) -> npt.NDArray[np.float64]:
    return np.array([value for row in rows for value in row], np.float64)
