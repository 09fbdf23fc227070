"""What a report says first of runs without a comparison: what bounds each, and how it compares with the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from accel.cli.verdict import bound_sentence, percent
from accel.reporting import ratio, run_labels, times_less
from accel.run import Run

_COMPARABLE = ("model", "batch")  # of a program: where they differ, times mean nothing side by side
_FEW_SECONDS = 1e-4  # that need microseconds


def run_verdicts(runs: Sequence[Run]) -> tuple[str, ...]:
    """A paragraph for each run."""
    labels = run_labels(runs)
    others = zip(labels[1:], runs[1:], strict=True)
    return (_alone(labels[0], runs[0]), *(_against(label, run, labels[0], runs[0]) for label, run in others))


def _alone(label: str, run: Run) -> str:
    return f"{label}: {' '.join(_facts(run))}"


def _facts(run: Run) -> Iterator[str]:
    """What a run costs, what bounds it, and where most of it goes."""
    yield f"{run.total_cycles:,} cycles, {_time(run.seconds)} at {run.machine.clock.hz / 1e6:g} MHz."
    if run.total_cycles:
        yield f"It is {bound_sentence(run)}; its multipliers do {percent(run.utilisation)} of what they could."
    if run.total_cycles and len(run.layers) > 1:
        yield _costliest(run)


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:,.3f} ms" if seconds >= _FEW_SECONDS else f"{seconds * 1e6:.3f} µs"


def _costliest(run: Run) -> str:
    first, second = sorted(run.layers, key=lambda layer: -layer.cycles)[:2]
    takes = f"{first.name} takes most" if first.cycles > second.cycles else f"none takes more than {first.name}"
    return f"Of its {len(run.layers)} layers {takes}, {100 * first.cycles / run.total_cycles:.1f} % of the cycles."


def _against(label: str, run: Run, first_label: str, first: Run) -> str:
    """The same, after how it compares with the first in time: cycles of machines with two clocks are two units."""
    if other := [key for key in _COMPARABLE if run.program.get(key) != first.program.get(key)]:
        return _alone(f"{label} ({', '.join(f'{key} {run.program.get(key)}' for key in other)})", run)
    speed, traffic = ratio(first.seconds, run.seconds), ratio(first.dram_bytes_total, run.dram_bytes_total)
    moves = f" and moves {_quantity(traffic)} from and to DRAM" if traffic else ""
    gain = f"{speed:.2f}x as fast as {first_label}{moves}. " if speed else ""
    return f"{label}: {gain}{' '.join(_facts(run))}"


def _quantity(quotient: float) -> str:
    return "about as much" if f"{quotient:.2f}" == "1.00" else times_less(quotient)
