"""Runs a sweep: what the store does not know is simulated, kept at once, and written out now and then."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from accel.cli.sweep_models import Facts, Models
from accel.cli.sweep_pool import Run
from accel.cli.sweep_work import Result, Task, refusal, tool_digest
from accel.energy import EnergyTable
from accel.errors import ConfigError
from accel.machine import KEYS
from accel.sweep.columns import DONE, MACHINE_PREFIX, RESULTS_SCHEMA
from accel.sweep.pareto import on_front
from accel.sweep.points import Point, base_machines, content_digest, machine_digest, machine_document, machine_of
from accel.sweep.search import Values, rounds
from accel.sweep.spec import SweepSpec
from accel.sweep.store import Store

if TYPE_CHECKING:
    from accel.cli.progress import Report

Row = dict[str, Any]
POINTS_A_TASK = 32  # what a kill may cost a worker, against the price of a task
SNAPSHOT_SECONDS = 15.0  # between two writes of the results so far ...
SNAPSHOT_SHARE = 0.05  # ... of which none takes more than this share of the time
BASELINE = "int8"


@dataclass(frozen=True, slots=True)
class _Planned:
    """A point with all that is known before it is simulated; without a ``key`` it is refused for ``reason``."""

    point: Point
    document: Mapping[str, Any]
    facts: Facts
    digest: str
    key: str = ""
    program: str = ""
    reason: str = ""


@dataclass(slots=True)
class Sweep:
    """One sweep under way: ``planned`` in the order of the spec, ``results`` by key. ``computed`` of this time."""

    spec: SweepSpec
    store: Store
    run: Run
    energy: EnergyTable
    report: Report
    snapshot: Callable[[list[Row]], None] = lambda rows: None
    planned: list[_Planned] = field(default_factory=list)
    results: dict[str, Result] = field(default_factory=dict)
    computed: int = 0
    _bases: dict[str, dict[str, Any]] = field(default_factory=dict)
    _compiled_for: dict[Any, str] = field(default_factory=dict)
    _next_snapshot: float = 0.0

    def explore(self) -> list[Row]:
        """Every distinct point's row; raises ``ConfigError`` if not one of a grid is possible."""
        self._bases = base_machines(self.spec)
        models = Models(self.spec, self.store, self.report)
        asked = rounds(self.spec)
        number: dict[Point, int] = {}
        self._next_snapshot = time.monotonic() + SNAPSHOT_SECONDS
        points = next(asked, None)
        while points is not None:
            new = [point for point in dict.fromkeys(points) if point not in number]
            number.update({point: len(number) + at for at, point in enumerate(new)})
            self.planned += (plans := [self._plan(point, models) for point in new])
            self._simulate(plans)
            try:
                points = asked.send([self._values(self.planned[number[point]]) for point in points])
            except StopIteration:
                break
        rows = self.rows()
        if not any(row["status"] == DONE for row in rows):
            raise ConfigError(f"not one of {len(rows)} points is possible; the first: {rows[0]['reason']}")
        return rows

    def rows(self) -> list[Row]:
        """Those of all points known so far."""
        known = ((index, plan) for index, plan in enumerate(self.planned) if plan.reason or plan.key in self.results)
        rows = [self._row(index, plan) for index, plan in known]
        _add_speedups(rows)
        for row, best in zip(rows, on_front(rows, self.spec.objectives), strict=True):
            row["pareto"] = best
        return rows

    def _plan(self, point: Point, models: Models) -> _Planned:
        from compiler.dependence import compiled_part

        document = machine_document(point, self._bases)
        digest, facts = machine_digest(document), models.facts(point.model, point.codec)
        try:
            machine = machine_of(document)
        except ConfigError as error:
            return _Planned(point, document, facts, digest, reason=refusal(error)["reason"])
        if "reason" in facts:
            return _Planned(point, document, facts, digest, reason=facts["reason"])
        content = [RESULTS_SCHEMA, facts["packed_digest"], self.spec.batch, digest, self._energies(), tool_digest()]
        same = (facts["packed"], machine.name, compiled_part(machine))
        program = self._compiled_for.setdefault(same, json.dumps(document))
        return _Planned(point, document, facts, digest, content_digest(content), program)

    def _energies(self) -> dict[str, Any]:
        return {"source": self.energy.source, "changed": dict(self.energy.changed)}

    def _simulate(self, plans: Sequence[_Planned]) -> None:
        """Fill ``results`` for ``plans``, from the store where it knows them."""
        wanted = {plan.key: plan for plan in plans if plan.key and plan.key not in self.results}
        self.results |= self.store.get(wanted)
        missing = [plan for key, plan in wanted.items() if key not in self.results]
        if not missing:
            return
        start, before = time.monotonic(), self.computed
        self._tell(start, 0, len(missing))
        for task, results in self.run(list(self._tasks(missing))):
            found = dict(zip(task.keys, results, strict=True))
            self.store.put(found)
            self.results |= found
            self.computed += len(found)
            self._tell(start, self.computed - before, len(missing))
            self._write_now_and_then()

    def _tasks(self, plans: Iterable[_Planned]) -> Iterator[Task]:
        """Points of a program in tasks of a few; tasks of several programs in turn, so that workers share none."""
        groups: dict[tuple[str, str], list[_Planned]] = {}
        for plan in plans:
            groups.setdefault((plan.facts["packed"], plan.program), []).append(plan)
        longest = max(map(len, groups.values()))
        for first in range(0, longest, POINTS_A_TASK):
            for (packed, program), members in groups.items():
                if some := members[first : first + POINTS_A_TASK]:
                    yield self._task(packed, program, some)

    def _task(self, packed: str, program: str, plans: Sequence[_Planned]) -> Task:
        keys, machines = tuple(plan.key for plan in plans), tuple(plan.document for plan in plans)
        energies = dict(self.energy.changed)
        return Task(packed, self.spec.batch, program, keys, machines, energies, self.energy.source, tool_digest())

    def _tell(self, start: float, done: int, total: int) -> None:
        seconds = time.monotonic() - start
        rate = done / seconds if done else 0.0
        left = f", {rate:.3g} a second, {_clock((total - done) / rate)} left" if rate else ""
        self.report(done, total, f"{done:,} of {total:,} points{left}")

    def _write_now_and_then(self) -> None:
        begun = time.monotonic()
        if begun >= self._next_snapshot:
            self.snapshot(self.rows())
            took = time.monotonic() - begun
            self._next_snapshot = begun + max(SNAPSHOT_SECONDS, took / SNAPSHOT_SHARE)

    def _values(self, plan: _Planned) -> Values:
        """Of the objectives, for the search."""
        row = self._row(0, plan)
        values = [row.get(name) for name in self.spec.objectives]
        return None if row["status"] != DONE or None in values else [float(value) for value in values]  # type: ignore[arg-type]

    def _row(self, index: int, plan: _Planned) -> Row:
        point, facts = plan.point, plan.facts
        keys = _flat(plan.document)
        return {
            "point": index,
            "batch": self.spec.batch,
            "model": point.model,
            "codec": point.codec,
            "machine": plan.document.get("name"),
            "machine_digest": plan.digest,
            "accuracy": self.spec.accuracy_of(point.model, point.codec),
            **{name: facts.get(name) for name in ("packed_digest", "weights", "bits_per_weight", "relative_error")},
            **{MACHINE_PREFIX + key: keys.get(key) for key in KEYS},
            **(self.results[plan.key] if plan.key else {"status": "refused", "reason": plan.reason}),
        }


def _flat(document: Mapping[str, Any]) -> dict[str, Any]:
    tables = ((name, table) for name, table in document.items() if isinstance(table, Mapping))
    return {f"{name}.{key}": value for name, table in tables for key, value in table.items()}


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def _add_speedups(rows: Sequence[Row]) -> None:
    """Against the int8 point of the same model on the same machine, where the sweep has one."""
    baselines = {
        (row["model"], row["machine_digest"]): row["total_cycles"]
        for row in rows
        if row["codec"] == BASELINE and row["status"] == DONE
    }
    for row in rows:
        cycles = baselines.get((row["model"], row["machine_digest"]))
        if row["status"] == DONE and cycles is not None:
            row["speedup"] = cycles / row["total_cycles"]
