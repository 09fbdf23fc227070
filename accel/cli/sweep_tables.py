"""What ``accel sweep`` prints: the Pareto front of each model, and how many points there were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from accel import __version__
from accel.cli.run_tables import METRIC_TITLES
from accel.reporting import STYLES, Column, Table, to_records, to_text
from accel.sweep.columns import DONE, MACHINE_PREFIX, POINT_METRICS, RESULTS_SCHEMA
from accel.sweep.spec import SweepSpec

Rows = Sequence[Mapping[str, Any]]
MOST_ROWS = 40  # of a front in text
_SPECIAL_STYLES = {"sram_bytes": "KiB", "multipliers": "count"}  # memories as they are sold


def summary(rows: Rows) -> str:
    """How many points, and how many of them were refused."""
    refused = sum(row["status"] != DONE for row in rows)
    return f"{len(rows):,} points" + (f", {refused:,} of them refused" if refused else "")


def _heading(name: str) -> Column:
    """The column of an objective: a metric in the unit of reports, or a key of the machine."""
    if name not in POINT_METRICS:
        return Column(name, name.removeprefix(MACHINE_PREFIX))
    metric = POINT_METRICS[name]
    title = {"sram_bytes": "memory on chip", **METRIC_TITLES}.get(name, name.replace("_", " "))
    known = metric.unit if metric.unit in STYLES else "1"
    return Column(name, title, known, _SPECIAL_STYLES.get(name, ""))


def front_tables(rows: Rows, spec: SweepSpec) -> Iterator[Table]:
    """One a model: its front, best in the first objective first."""
    first, direction = next(iter(spec.objectives.items()))
    sign = 1 if direction == "minimize" else -1
    for model in spec.models:
        front = sorted((row for row in rows if row["pareto"] and row["model"] == model), key=lambda r: sign * r[first])
        yield Table(f"{model}: Pareto front", _columns(spec), tuple(front), tuple(_notes(rows, spec, model)))


def _columns(spec: SweepSpec) -> tuple[Column, ...]:
    """What tells points apart, the objectives, and cycles."""
    machine = (Column("machine", "machine"),) if len(spec.machines) > 1 else ()
    axes = (MACHINE_PREFIX + key for axis in spec.axes for key in axis.keys)
    figures = dict.fromkeys((*axes, *spec.objectives, "total_cycles"))
    return (Column("point", "point", "1", "count"), Column("codec", "codec"), *machine, *map(_heading, figures))


def _notes(rows: Rows, spec: SweepSpec, model: str) -> Iterator[str]:
    mine = [row for row in rows if row["model"] == model]
    wanted = ", ".join(f"{name} ({direction})" for name, direction in spec.objectives.items())
    yield f"of {summary(mine)}; no other is at least as good in every objective and better in one: {wanted}"
    blank = {row["codec"] for row in mine if row["status"] == DONE and any(row.get(n) is None for n in spec.objectives)}
    if blank:
        yield f"on no front, since an objective is not known: {', '.join(sorted(blank))}"
    refused = next((row for row in mine if row["status"] != DONE), None)
    if refused is not None:
        yield f"refused first: point {refused['point']}: {refused['reason']}"
    if any(row["weights"] == "random" for row in mine):
        yield "weights: random (shapes, no trained weights): relative_error means nothing"


def fronts_text(rows: Rows, spec: SweepSpec) -> str:
    """All tables, long fronts cut short."""
    return "\n".join(to_text(_short(table)) for table in front_tables(rows, spec))


def _short(table: Table) -> Table:
    """At most ``MOST_ROWS``, evenly spread."""
    count = len(table.rows)
    if count <= MOST_ROWS:
        return table
    kept = sorted({round(index * (count - 1) / (MOST_ROWS - 1)) for index in range(MOST_ROWS)})
    note = f"{len(kept)} of the {count} points of the front; the column pareto of the file marks them all"
    return replace(table, rows=tuple(table.rows[index] for index in kept), notes=(note, *table.notes))


def document(rows: Rows, spec: SweepSpec) -> dict[str, Any]:
    """The fronts as JSON values."""
    return {
        "schema": RESULTS_SCHEMA,
        "tool": __version__,
        "points": len(rows),
        "refused": sum(row["status"] != DONE for row in rows),
        "objectives": dict(spec.objectives),
        "fronts": {
            model: to_records(table) for model, table in zip(spec.models, front_tables(rows, spec), strict=True)
        },
    }
