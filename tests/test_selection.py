"""Choosing candidates under a limit where the solver is at the edge of what its tolerances and numbers allow."""

from __future__ import annotations

import ctypes
import itertools

import numpy as np
import pytest
import scipy.optimize

from compiler.compress import selection
from compiler.compress.selection import Selection, select


def loose(monkeypatch: pytest.MonkeyPatch, by: int, calls: int = 1) -> None:
    """A solver that takes its first limits for ``by`` bytes more, as its tolerances let it with large layers."""
    exact, seen = selection._solved, []

    def solved(sizes, costs, limit: float, unit: float) -> Selection:
        seen.append(limit)
        return exact(sizes, costs, limit + (by if len(seen) <= calls else 0), unit)

    monkeypatch.setattr(selection, "_solved", solved)


def test_a_bound_holds_for_the_limit_asked_for_not_for_a_tighter_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second search, under a tighter limit, sees less than what fits: 1 is possible, its own bound is 2."""
    loose(monkeypatch, 2)
    found = select([[11, 9, 5]], [[0.0, 1.0, 2.0]], 9)
    assert found.picks == (2,) and found.cost == 2 and found.bound <= 1


@pytest.mark.parametrize("calls", [1, 2])
def test_the_smallest_candidates_are_always_possible(calls: int, monkeypatch: pytest.MonkeyPatch) -> None:
    loose(monkeypatch, 2, calls)
    assert select([[11, 9]], [[0.0, 1.0]], 9).picks == (1,)


@pytest.mark.parametrize("ruined", [1e19, 1e30, 1e40])
def test_outputs_that_are_not_finite_are_chosen_where_nothing_else_fits(ruined: float) -> None:
    sizes, costs = [[10, 5], [10, 5]], [[0.001, 0.01], [0.002, ruined]]
    forced = select(sizes, costs, 10)
    assert forced.picks == (1, 1) and forced.cost == 0.01 + ruined and 0 < forced.bound <= forced.cost
    free = select(sizes, costs, 15)
    assert free.picks == (1, 0) and free.bound == pytest.approx(0.012, rel=1e-4)


# --- errors of many sizes ---------------------------------------------------------------------------------------------


def best_of_all(sizes, costs, limit):
    """The least cost of any selection within ``limit``."""
    every = zip(itertools.product(*sizes), itertools.product(*costs), strict=True)
    return min(sum(row) for taken, row in every if sum(taken) <= limit)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("floor", [None, 1e-8, 1e-12, 1e-16, 0.0])
@pytest.mark.parametrize("worst", [1.0, 1e8, 1e30])
def test_selections_are_the_best_of_all(seed, floor, worst):
    """Errors of many sizes; with a ``floor``, a codec that the weights are already in; outputs that are not finite."""
    rng = np.random.default_rng(seed)
    sizes = [rng.integers(1, 100, rng.integers(2, 5)).tolist() for _ in range(5)]
    costs = [(rng.random(len(row)) * 10.0 ** rng.integers(-6, 2)).tolist() for row in sizes]
    for taken, row in zip(sizes, costs, strict=True):
        if floor is not None:
            row[taken.index(max(taken))] = floor * rng.random()
        row[rng.integers(len(row))] *= worst
    limit = int(sum(map(min, sizes)) * 1.2 + 10)
    found = select(sizes, costs, limit)
    best = best_of_all(sizes, costs, limit)
    assert sum(row[pick] for row, pick in zip(sizes, found.picks, strict=True)) <= limit
    assert found.cost == sum(row[pick] for row, pick in zip(costs, found.picks, strict=True))
    assert found.cost == pytest.approx(best, rel=1e-4, abs=0)
    assert best * (1 - 2e-4) <= found.bound <= best * (1 + 1e-9)


def test_layers_without_a_good_candidate_leave_the_others_their_best():
    """However large what every candidate of one layer costs, the differences of others count."""
    for never in (1e30, float("inf")):
        assert select([[9, 1], [9, 5, 1]], [[never, never], [0.1, 0.2, 0.3]], 7).picks == (1, 1)
        assert select([[9, 1], [9, 5, 1]], [[0.1, never], [0.1, 0.2, 0.3]], 14).picks == (0, 1)


def test_selecting_prints_nothing(monkeypatch, capfd):
    """Not what the solver's C code prints to a buffer of its own either: standard output may be JSON."""
    library, real = ctypes.CDLL(None), scipy.optimize.milp

    def talkative(*arguments, **options):
        library.puts(b"debugging")
        return real(*arguments, **options)

    monkeypatch.setattr(scipy.optimize, "milp", talkative)
    library.puts(b"data")
    assert select([[3, 2]], [[0.0, 1.0]], 2).picks == (1,)
    library.puts(b"more data")
    library.fflush(None)
    assert capfd.readouterr().out == "data\nmore data\n"


def test_selections_without_errors():
    assert select([[3, 2]], [[0.0, 0.0]], 2).picks == (1,)
