"""Tables as Markdown, for the pages that benchmarks write."""

from __future__ import annotations

import sys
from collections.abc import Collection

from accel.reporting import Table


def markdown(table: Table, without: Collection[str] = ()) -> str:
    """The table as text shows it under a heading, less the columns whose keys are in ``without``; then its notes."""
    columns = [column for column in table.columns if column.key not in without]
    lines = [[column.heading for column in columns], ["--:" if column.shown else "---" for column in columns]]
    lines += [[column.cell(row.get(column.key)) for column in columns] for row in table.rows]
    rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([f"## {table.title}", "", *rows, "", *(f"{note}\n" for note in table.notes)])


def command(name: str) -> str:
    """The command that runs, as typed."""
    return " ".join(["python -m benchmarks", name, *sys.argv[2:]])
