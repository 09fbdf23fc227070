"""Learned signs: frozen ones never move again, fixed ones never move."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_cases import BUSY, compressed, one_thread, relaxed, stripes, trained

from compiler.training import (
    LOSSES,
    Freezing,
    TrainingOptions,
    WeightOptions,
    coded_weights,
    encoded_layers,
    frozen_share,
    train,
)
from compiler.training.signs import FrozenSigns

__all__ = ["one_thread"]  # a fixture


def naive_freezing(history: list[list[int]], rules: Freezing) -> list[list[int]]:
    """The signs in force after each step, one weight at a time."""
    steps, columns = len(history) - 1, []
    for weight in range(len(history[0])):
        rate, votes, frozen, last, column = 0.0, 0, 0, history[0][weight], []
        for step in range(1, steps + 1):
            sign = history[step][weight]
            rate = rate * (1 - rules.momentum) + (rules.momentum if sign != last else 0)
            votes, last = votes + sign, sign
            if step % rules.interval(steps) == 0 and step < steps:  # what is frozen is learned with
                if not frozen and rate > rules.threshold_at(step, steps):
                    frozen = last if votes == 0 else 1 if votes > 0 else -1
                votes = 0
            column.append(frozen or sign)
        columns.append(column)
    return [list(row) for row in zip(*columns, strict=True)]


@relaxed
@given(st.lists(st.lists(st.sampled_from((-1, 1)), min_size=6, max_size=6), min_size=3, max_size=25), st.integers(1, 6))
def test_freezing_is_what_the_paper_says_and_frozen_signs_never_move(history: list[list[int]], interval: int) -> None:
    rules = Freezing(interval_steps=interval, momentum=0.25, threshold=0.3, final_threshold=0.05)
    signs = torch.tensor(history, dtype=torch.int8)
    state, found, frozen = FrozenSigns(signs[0].float(), rules), [], torch.zeros(6, dtype=torch.int8)
    for step in range(1, len(history)):
        state.observe(signs[step], step, len(history) - 1)
        assert bool((state.sign == frozen)[frozen != 0].all())
        frozen = state.sign.clone()
        found.append(state.applied(signs[step]).tolist())
    assert found == naive_freezing(history, rules)


def test_frozen_signs_stay_in_training_whatever_the_gradient_says() -> None:
    model = compressed("ssvq:k=8,d=4", WeightOptions(freezing=BUSY))
    seen: dict[str, torch.Tensor] = {}

    class Watch:
        def add(self, row: object) -> None:
            for name, coded in coded_weights(model).items():
                held = coded.frozen.sign.clone()  # type: ignore[union-attr]
                before = seen.get(name, torch.zeros_like(held))
                assert bool((held == before)[before != 0].all())
                assert bool((coded.signs() == before)[before != 0].all())  # type: ignore[operator]
                seen[name] = held

    options = TrainingOptions(epochs=8, batch=16, rate=0.05)
    train(model, stripes(), LOSSES["cross_entropy"], options, open_logs=lambda _: [Watch()])
    assert 0 < frozen_share(model) < 1


def test_fixed_signs_never_move_and_without_freezing_none_is_frozen() -> None:
    for options, moved in ((WeightOptions(signs="fixed"), False), (WeightOptions(freezing=None), True)):
        model = compressed("ssvq:k=8,d=4", options)
        before = {name: layer.side for name, layer in encoded_layers(model).items()}
        trained(model, 8, rate=0.05)
        after = encoded_layers(model)
        assert any((before[name] != after[name].side).any() for name in before) == moved
        assert frozen_share(model) == 0


def test_schedules_end_where_they_should() -> None:
    assert Freezing().threshold_at(0, 100) == pytest.approx(0.1)
    assert Freezing().threshold_at(100, 100) == pytest.approx(0.01)
    assert [Freezing().interval(steps) for steps in (1, 300, 9_999, 50_000)] == [10, 15, 499, 500]
    rates = [TrainingOptions(warm_up=0.2).rate_share(step, 50) for step in range(50)]
    assert max(rates) == rates[10] == 1 and rates[:10] == sorted(rates[:10]) and rates[-1] < 0.01
