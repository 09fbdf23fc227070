"""What a report says first of runs without a comparison: what bounds each, and how it compares with the first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from accel.cli.verdict import bound_sentence, percent
from accel.reporting import ratio, run_labels, times_less
from accel.run import Run


def run_verdicts(runs: Sequence[Run]) -> tuple[str, ...]:
    """A paragraph for each run."""
    labels = run_labels(runs)
    others = zip(labels[1:], runs[1:], strict=True)
    return (_alone(labels[0], runs[0]), *(_against(label, run, labels[0], runs[0]) for label, run in others))


def _alone(label: str, run: Run) -> str:
    return f"{label}: {' '.join(_facts(run))}"


def _facts(run: Run) -> Iterator[str]:
    """What a run costs, what bounds it, and where most of it goes."""
    yield f"{run.total_cycles:,} cycles, {run.seconds * 1e3:,.3f} ms at {run.machine.clock.hz / 1e6:g} MHz."
    if run.total_cycles:
        yield f"It is {bound_sentence(run)}; its multipliers do {percent(run.utilisation)} of what they could."
    if costliest := max(run.layers, key=lambda layer: layer.cycles, default=None):
        share = ratio(costliest.cycles, run.total_cycles) or 0.0
        yield f"Of its {len(run.layers)} layers {costliest.name} takes most, {100 * share:.1f} % of the cycles."


def _against(label: str, run: Run, first_label: str, first: Run) -> str:
    """The same, after how it compares with the first; not with one of another model, whose cycles mean nothing here."""
    if run.program.get("model") != first.program.get("model"):
        return _alone(label, run)
    speed, traffic = ratio(first.total_cycles, run.total_cycles), ratio(first.dram_bytes_total, run.dram_bytes_total)
    moves = f" and moves {times_less(traffic)} from and to DRAM" if traffic else ""
    gain = f"{speed:.2f}x as fast as {first_label}{moves}. " if speed else ""
    return f"{label}: {gain}{' '.join(_facts(run))}"
