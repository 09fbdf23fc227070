"""Progress on stderr: a bar where somebody watches, an occasional line where stderr goes to a file."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from accel.errors import printable

Report = Callable[[float, float, str], None]
SECONDS_BETWEEN_LINES = 5.0


@contextlib.contextmanager
def progress() -> Iterator[Report]:
    """Yield ``report(done, total, next)``, to be called whenever the work called ``next`` begins."""
    with _bar() if sys.stderr.isatty() else contextlib.nullcontext(_lines()) as report:
        yield report


@contextlib.contextmanager
def _bar() -> Iterator[Report]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    text = TextColumn("{task.description}", markup=False)
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), text)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def report(done: float, total: float, what: str) -> None:
            bar.update(task, completed=done, total=total, description=printable(what))

        yield report


def _lines() -> Report:
    last = time.monotonic()

    def report(done: float, total: float, what: str) -> None:
        nonlocal last
        if time.monotonic() - last >= SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            print(f"{done / total:4.0%} {printable(what)}", file=sys.stderr, flush=True)

    return report
