"""Timelines for a report: the files of ``accel sim --trace``, each with the run it is of."""

from __future__ import annotations

from collections.abc import Sequence

from accel.cli.progress import Report, progress
from accel.errors import ConfigError
from accel.run import Run
from accel.timeline import Timeline
from accel.trace_reading import TraceFile, open_trace_file, read_timeline


def timelines_of(
    runs: Sequence[Run], paths: Sequence[str], window: tuple[int, int] | None
) -> tuple[tuple[Run, Timeline], ...]:
    """The timeline of every run that a file is of, over ``window`` or all that is in the file.

    Raises ``ConfigError`` for a file that is of none of the runs or of the same as another, or that does not hold the
    window.
    """
    with progress() as tell:
        return _timelines(runs, paths, window, tell)


def _timelines(
    runs: Sequence[Run], paths: Sequence[str], window: tuple[int, int] | None, tell: Report
) -> tuple[tuple[Run, Timeline], ...]:
    traces = [open_trace_file(path, tell) for path in paths]
    for trace in traces:
        if not any(trace.is_of(run) for run in runs):
            about = trace.description
            raise ConfigError(
                f"--trace {trace.path}: of program {str(about['program']['digest'])[:16]} on "
                f"{about['machine'].get('name')} in {about['total_cycles']} cycles; none of the runs is"
            )
    _check_different(traces)
    pairs = [(run, next((trace for trace in traces if trace.is_of(run)), None)) for run in runs]
    return tuple(
        (run, read_timeline(trace, run.machine, _window(trace, window), tell=tell)) for run, trace in pairs if trace
    )


def _check_different(traces: Sequence[TraceFile]) -> None:
    first: dict[tuple[object, ...], TraceFile] = {}
    for trace in traces:
        if (other := first.setdefault(trace.identity, trace)) is not trace:
            raise ConfigError(f"--trace {trace.path}: of the same run as '{other.path}'; allowed: one of each run")


def _window(trace: TraceFile, wanted: tuple[int, int] | None) -> tuple[int, int]:
    first, stop = trace.cycles
    if wanted is None:
        return first, stop
    if wanted[0] < first or wanted[0] >= stop or (wanted[1] > stop < trace.description["total_cycles"]):
        raise ConfigError(
            f"--trace-window {wanted[0]}:{wanted[1]}; allowed: within {first}:{stop}, the cycles in '{trace.path}'"
        )
    return wanted[0], min(wanted[1], stop)
