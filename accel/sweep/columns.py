"""The columns of a sweep's results: one table, which the file, the fronts, the plots and FORMATS.md read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, get_type_hints

from accel.documents import table
from accel.energy import COMPONENTS
from accel.machine import KEYS, TABLES, Machine
from accel.metrics import CAUSES, METRICS, TRAFFIC, Metric
from accel.reporting import metric_values
from accel.run import Run

RESULTS_SCHEMA = "accel.sweep/1"
DONE, REFUSED = "done", "refused"
MACHINE_PREFIX = "machine."  # of the columns that hold the machine's keys

# What a point has beside the metrics of a run.
DESIGN_METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        row.name: row
        for row in (
            Metric(
                "sram_bytes", "B",
                "activation, weight and accumulator SRAM and every buffer and copy of the codebook", "lower",
            ),
            Metric("multipliers", "1", "array.rows * array.columns", "lower"),
            Metric("bits_per_weight", "bit", "all stored for conv and gemm weights, over their number", "lower"),
            Metric(
                "relative_error", "1", "squared error of weights over squared weights, averaged; no accuracy", "lower"
            ),
            Metric("accuracy", "as given", "of the codec, from the table the spec names", "higher"),
        )
    }
)  # fmt: skip
POINT_METRICS: Mapping[str, Metric] = MappingProxyType({**METRICS, **DESIGN_METRICS})
_INTEGERS = ("total_cycles", "macs", "dram_bytes_total", "sram_bytes", "multipliers")

# What identifies a point and its origin -> definition. All texts but the first three.
IDENTITY: Mapping[str, str] = MappingProxyType(
    {
        "point": "number of the point in the order of the spec, from 0; no two rows share one",
        "batch": "inputs a run",
        "pareto": "whether no other point of the model is at least as good in every objective and better in one",
        "status": f"`{DONE}`, or `{REFUSED}`: the machine is impossible, or the model does not map onto it",
        "reason": "why it was refused; empty if it was not",
        "model": "as the spec spells it",
        "weights": "`trained`, `random` or `from FILE`",
        "codec": "spelling of the codec asked for",
        "machine": "name of the machine the keys below start from",
        "notes": "what compiler and simulator remarked, a line each",
        "packed_digest": "SHA-256 of the packed model's content",
        "machine_digest": "SHA-256 of the machine's keys and values, as JSON with sorted keys",
    }
)
_IDENTITY_KINDS = {"point": int, "batch": int, "pareto": bool}
GROUPS: Mapping[str, tuple[Mapping[str, str], type, str]] = MappingProxyType(
    {
        "cycles_by_cause": (CAUSES, int, METRICS["total_cycles"].unit),
        "dram_bytes": (TRAFFIC, int, METRICS["dram_bytes_total"].unit),
        "energy_joules": (COMPONENTS, float, METRICS["energy_total"].unit),
    }
)


def _kind(key: str) -> type:
    table, name = key.split(".")
    kind: type = get_type_hints(TABLES[table])[name]
    return kind


# Columns that can be minimised or maximised: metrics, and what of the machine is a number.
OBJECTIVE_COLUMNS = (*POINT_METRICS, *(MACHINE_PREFIX + key for key in KEYS if _kind(key) is not str))


def columns() -> Iterator[tuple[str, type, str, str]]:
    """Name, type, unit and definition of every column, in the order of the file."""
    for name, definition in IDENTITY.items():
        yield name, _IDENTITY_KINDS.get(name, str), "", definition
    for key in KEYS:
        yield MACHINE_PREFIX + key, _kind(key), "", f"machine key {key}; FORMATS.md, Machine"
    for metric in POINT_METRICS.values():
        yield metric.name, int if metric.name in _INTEGERS else float, metric.unit, metric.definition
    for group, (table_of, kind, unit) in GROUPS.items():
        for name, definition in table_of.items():
            yield f"{group}.{name}", kind, unit, definition


def columns_markdown() -> str:
    """The table of FORMATS.md; machine keys, which it has elsewhere, in one row."""
    names = {int: "integer", float: "number", str: "text", bool: "boolean"}
    rows = [
        (f"`{name}`", names[kind], unit, definition)
        for name, kind, unit, definition in columns()
        if not name.startswith(MACHINE_PREFIX)
    ]
    keys = (f"`{MACHINE_PREFIX}*`", "as there", "", "every key of the machine, as listed under Machine")
    return table(("column", "type", "unit", "meaning"), [*rows[: len(IDENTITY)], keys, *rows[len(IDENTITY) :]])


def sram_bytes(machine: Machine) -> int:
    """All memory bits on chip: see ``DESIGN_METRICS``. Banks hold one copy of a codebook, ports have one each."""
    sram, decoder = machine.sram, machine.decoder
    copies = 1 if decoder.codebook_banks else decoder.lookups_per_cycle
    codebooks = decoder.codebook_bytes * decoder.codebook_buffers * copies
    return sram.activation_bytes + sram.weight_bytes + sram.accumulator_bytes + codebooks


def run_columns(run: Run) -> dict[str, Any]:
    """What a row takes from a run; ``speedup`` is left to whoever knows the int8 run."""
    groups = ((name, getattr(run, name)) for name in GROUPS)
    return {
        **metric_values(run),
        "sram_bytes": sram_bytes(run.machine),
        "multipliers": run.machine.macs_per_cycle,
        "notes": "\n".join(run.notes),
        **{f"{group}.{name}": value for group, values in groups for name, value in values.items()},
    }
