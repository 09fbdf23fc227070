"""Choosing candidates under a limit where the solver is at the edge of what its tolerances and numbers allow."""

from __future__ import annotations

import pytest

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
