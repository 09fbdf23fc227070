"""The tables that say what a report is about: runs with their digests, machines key by key, definitions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accel.cli.run_tables import dram_text, run_weights, weights_text
from accel.energy import COMPONENTS
from accel.machine import machine_digest
from accel.metrics import CAUSES, METRICS, TRAFFIC
from accel.reporting import Column, Table, dram_busy, run_labels
from accel.run import Run


def identity_table(runs: Sequence[Run]) -> Table:
    """What was run on what, to the digit: one row a run."""
    keys = ("run", "model", "weights", "codec", "batch", "program", "machine", "machine_digest", "energy", "tool")
    titles = {"program": "program digest", "machine_digest": "machine digest", "energy": "energies", "tool": "accel"}
    columns = tuple(Column(key, titles.get(key, key)) for key in keys)
    rows = tuple(_identity(label, run) for label, run in zip(run_labels(runs), runs, strict=True))
    return Table("Runs", columns, rows)


def _identity(label: str, run: Run) -> dict[str, Any]:
    return {
        "run": label,
        "model": run.program.get("model"),
        "weights": weights_text(run_weights(run)),
        "codec": run.program.get("codec"),
        "batch": run.program.get("batch"),
        "program": run.program.get("digest"),
        "machine": f"{run.machine.name}: {run.machine.array.label} at {run.machine.clock.hz / 1e6:g} MHz, "
        f"{dram_text(run.machine)}",
        "machine_digest": machine_digest(run.machine),
        "energy": run.energy_table.get("source"),
        "tool": run.tool,
    }


def machines_table(runs: Sequence[Run]) -> Table:
    """Every key of every machine, one column a machine; keys that differ first. Machines of one name that are not the
    same (``--set`` keeps the name) are told apart by their digests."""
    machines = {machine_digest(run.machine): run.machine for run in runs}
    names = [machine.name for machine in machines.values()]
    titles = {
        digest: machine.name if names.count(machine.name) == 1 else f"{machine.name} ({digest[:8]})"
        for digest, machine in machines.items()
    }
    values = {digest: machine.flat() for digest, machine in machines.items()}
    rows: list[dict[str, Any]] = [
        {"key": key} | {digest: _key_text(flat.get(key)) for digest, flat in values.items()}
        for key in dict.fromkeys(key for flat in values.values() for key in flat)
    ]
    rows.sort(key=lambda row: len({row[digest] for digest in values}) == 1)
    return Table("Machines", (Column("key", "key"), *(Column(*title) for title in titles.items())), tuple(rows))


def _key_text(value: Any) -> str | None:
    """Whole numbers with their thousands, whatever their type: ``1,000,000,000`` Hz."""
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return None if value is None else f"{value:,.0f}" if whole else f"{value}"


def definitions_table() -> Table:
    """Every metric, cause and kind with its unit and definition."""
    rows: list[dict[str, Any]] = [
        {"name": row.name, "unit": row.unit, "definition": row.definition} for row in METRICS.values()
    ]
    rows.append({"name": "dram_busy", "unit": "1", "definition": dram_busy.__doc__})
    for unit, definitions in (("cycles", CAUSES), ("B", TRAFFIC), ("J", COMPONENTS)):
        rows += [{"name": name, "unit": unit, "definition": text} for name, text in definitions.items()]
    columns = (Column("name", "name"), Column("unit", "unit"), Column("definition", "definition"))
    return Table("Definitions", columns, tuple(rows))
