"""One candidate of every layer, together no larger than a limit, with the least sum of costs: an integer program."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

RELATIVE_GAP = 1e-4  # between cost and bound, both above the least imaginable, at which the search may end
COST_LIMIT = 1e4  # of any candidate in the solver, whose tolerances, 1e-6 and 1e-7, are absolute
FAR = 1e-4  # of the cost assumed: less was found with too few digits, and is searched for again in smaller units
WORST = 1e300  # what a cost counts as at most: infinities have no differences
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
    """The cheapest selection of total size at most ``limit``, a multiple-choice knapsack, by HiGHS. Costs are no less
    than 0; the smallest candidates must fit.

    What counts is how much more than its layer's least each candidate costs. A candidate that alone costs more than
    a whole selection known to fit is in no better one, so this selection sets the unit of cost.
    """
    best, bound, excess = _smallest(sizes, costs), 0.0, _excess(costs)
    while (known := _total(excess, best)) > 0:
        picks, found = _solved(sizes, excess, limit, known)
        bound = max(bound, found)  # of the whole limit, not of a tighter one
        best = min(best, _within(sizes, excess, limit, known, picks), key=lambda each: _total(excess, each))
        if _total(excess, best) > FAR * known:
            break
    cost = _total(costs, best)
    return Selection(best, cost, min(cost, sum(map(min, costs)) + bound))


def _smallest(sizes: Sequence[Sequence[int]], costs: Rows) -> Picks:
    """The cheapest of the smallest candidates of each layer."""
    rows = (list(zip(*row, strict=True)) for row in zip(sizes, costs, strict=True))
    return tuple(row.index(min(row)) for row in rows)


def _excess(costs: Rows) -> list[list[float]]:
    rows = [[min(cost, WORST) for cost in row] for row in costs]
    return [[cost - min(row) for cost in row] for row in rows]


def _within(sizes: Sequence[Sequence[int]], costs: Rows, limit: int, known: float, picks: Picks) -> Picks:
    """``picks``; if they are over the limit, as the solver's tolerance of 1e-6 a choice allows, those of a limit as
    much tighter, or at last the smallest."""
    smallest = _smallest(sizes, costs)
    over = _total(sizes, picks) - limit
    if over > 0:
        picks, _ = _solved(sizes, costs, max(limit - over, _total(sizes, smallest)), known)
    return picks if _total(sizes, picks) <= limit else smallest


def _total(rows: Rows, picks: Sequence[int]) -> float:
    return sum(row[pick] for row, pick in zip(rows, picks, strict=True))


def _solved(sizes: Sequence[Sequence[int]], costs: Rows, limit: float, known: float) -> tuple[Picks, float]:
    """The best picks and a bound on their cost, if some cost no more than ``known``."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    owner = np.repeat(np.arange(len(costs)), [len(row) for row in costs])
    flat = np.minimum(_flat(costs), known) / known * COST_LIMIT
    one_each = csr_array((np.ones(len(flat)), (owner, np.arange(len(flat)))))
    with _unheard():
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
    return picks, float(result.mip_dual_bound) / COST_LIMIT * known


@contextmanager
def _unheard() -> Iterator[None]:
    """Nothing on standard output, which is for data: HiGHS prints a line of debugging there, whatever it is told."""
    library = ctypes.CDLL(None)  # whose buffer it prints to
    library.fflush(None)
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    try:
        yield
    finally:
        library.fflush(None)
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _flat(rows: Rows) -> npt.NDArray[np.float64]:
    return np.array([value for row in rows for value in row], np.float64)
