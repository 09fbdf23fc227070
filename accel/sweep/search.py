"""Random and TPE search over a spec's points, by Optuna; a grid needs no search.

What is asked for follows from the spec and the results alone, never from time or the number of workers: a sweep that
is run again asks for the same points in the same order, and finds those it had simulated in the store.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from accel.errors import ToolError
from accel.sweep.axes import Axis, Value
from accel.sweep.points import Point, grid
from accel.sweep.spec import SweepSpec

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.study import Study
    from optuna.trial import Trial

Values = Sequence[float] | None  # of the objectives; None: refused
Rounds = Generator[list[Point], Sequence[Values], None]
_MODEL, _MACHINE, _CODEC = "model", "machine", "codec"


def rounds(spec: SweepSpec) -> Rounds:
    """Yields points to simulate and takes the values of their objectives, until there are no more.

    A point that comes up again in a search is yielded again. Raises ``ToolError`` without Optuna.
    """
    if spec.search.method == "grid":
        yield list(grid(spec))
        return
    study, space = _study(spec), _space(spec)
    size = spec.search.at_a_time if spec.search.method == "tpe" else spec.search.points
    for first in range(0, spec.search.points, size):
        trials = [study.ask(space) for _ in range(min(size, spec.search.points - first))]
        values = yield [_point(spec, trial.params) for trial in trials]
        _tell(study, trials, values)


def _study(spec: SweepSpec) -> Study:
    try:
        import optuna
    except ImportError as error:
        raise ToolError(
            f"[search] method = {spec.search.method} needs Optuna; pip install 'accel-codesign[sweep]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    samplers = {"random": optuna.samplers.RandomSampler, "tpe": optuna.samplers.TPESampler}
    sampler = samplers[spec.search.method](seed=spec.search.seed)
    return optuna.create_study(sampler=sampler, directions=list(spec.objectives.values()))


def _space(spec: SweepSpec) -> dict[str, BaseDistribution]:
    from optuna.distributions import CategoricalDistribution

    words = {_MODEL: spec.models, _MACHINE: spec.machines, _CODEC: spec.codecs}
    return {name: CategoricalDistribution(choices) for name, choices in words.items()} | {
        axis.name: _distribution(axis) for axis in spec.axes
    }


def _distribution(axis: Axis) -> BaseDistribution:
    """Choices are asked for by number: TPE takes those that grow for neighbours."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if axis.span is None:
        last = len(axis.choices) - 1
        return IntDistribution(0, last) if axis.is_ordered else CategoricalDistribution(range(last + 1))
    if axis.span.integer:
        return IntDistribution(int(axis.span.low), int(axis.span.high), log=axis.span.log)
    return FloatDistribution(axis.span.low, axis.span.high, log=axis.span.log)


def _point(spec: SweepSpec, chosen: Mapping[str, Any]) -> Point:
    settings: list[tuple[str, Value]] = []
    for axis in spec.axes:
        value = chosen[axis.name]
        settings += axis.settings((value,) if axis.span else axis.choices[value])
    return Point(chosen[_MODEL], chosen[_CODEC], chosen[_MACHINE], tuple(settings))


def _tell(study: Study, trials: Sequence[Trial], values: Sequence[Values]) -> None:
    from optuna.trial import TrialState

    for trial, found in zip(trials, values, strict=True):
        if found is None:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, list(found))
