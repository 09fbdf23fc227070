"""The tables runs are reported with: metrics, the three breakdowns, layers, and one flat table for spreadsheets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accel.energy import COMPONENTS
from accel.machine import Machine
from accel.metrics import CAUSES, METRICS, TRAFFIC
from accel.reporting import (
    Column,
    Table,
    bound_text,
    change,
    dominant,
    dram_busy,
    int8_baseline,
    metric_column,
    metric_values,
    ratio,
    run_labels,
)
from accel.run import LayerRun, Run

_DELTAS = ("total_cycles", "dram_bytes_total", "energy_total")
_METRIC_STYLES = {"utilisation": "share", "speedup": "ratio"}
METRIC_TITLES = {
    "total_cycles": "cycles",
    "seconds": "time",
    "macs": "work",
    "dram_bytes_total": "DRAM",
    "dram_bandwidth": "DRAM rate",
    "energy_total": "energy",
    "speedup": "speed-up",
}


def metrics_table(runs: Sequence[Run]) -> Table:
    """One row a run: every metric; from the second run on, the change against the first."""
    rows = [metric_values(run, int8_baseline(runs, run)) for run in runs]
    columns = [Column("run", "run"), Column("model", "model"), Column("machine", "machine")]
    for name in METRICS:
        columns.append(metric_column(name, METRIC_TITLES.get(name, ""), _METRIC_STYLES.get(name, "")))
        if name in _DELTAS and len(runs) > 1:
            columns.append(Column(f"{name}_change", "change", "1", "change"))
    columns += [Column("dram_busy", "DRAM busy", "1", "share"), Column("bound", "bound by")]
    records = [
        {"run": label, "model": run.program.get("model"), "machine": run.machine.name}
        | {f"{name}_change": change(row[name], rows[0][name]) for name in _DELTAS}
        | {**row, "dram_busy": dram_busy(run), "bound": bound_text(run.cycles_by_cause)}
        for label, run, row in zip(run_labels(runs), runs, rows, strict=True)
    ]
    return Table("Metrics", tuple(columns), tuple(records), tuple(_unlike(runs)))


def _unlike(runs: Sequence[Run]) -> Iterator[str]:
    """Notes when changes against the first run are not those of a format or machine alone."""
    for fact, plural in (("model", "models"), ("batch", "batches")):
        values = list(dict.fromkeys(str(run.program.get(fact)) for run in runs))
        if len(values) > 1:
            yield f"the changes compare different {plural}: {', '.join(values)}"


def metrics_text(run: Run) -> str:
    """The metrics of one run, one a line, each with unit and definition."""
    cells = list(_metric_cells(run))
    wide = max(len(value) for _, value, _, _ in cells)
    lines = [f"{name:18}{value:>{wide}} {unit:7}{definition}" for name, value, unit, definition in cells]
    return "\n".join(["Metrics", *lines]) + "\n"


def _metric_cells(run: Run) -> Iterator[tuple[str, str, str, str]]:
    """Name, value, unit and definition of every metric that a run alone has."""
    (row,) = (table := metrics_table([run])).rows
    for column in table.columns:
        if column.key in METRICS and row[column.key] is not None:
            unit = column.shown.unit if column.shown else ""
            yield column.key, column.cell(row[column.key]), unit, METRICS[column.key].definition
    yield "dram_busy", Column("", "", "1", "share").cell(dram_busy(run)), "", str(dram_busy.__doc__)


def metrics_list(run: Run) -> Table:
    """The metrics of one run as a table that is narrow: one row a metric."""
    keys = ("metric", "value", "unit", "definition")
    rows = tuple(dict(zip(keys, cells, strict=True)) for cells in _metric_cells(run))
    return Table("Metrics", tuple(Column(key, key) for key in keys), rows)


@dataclass(frozen=True, slots=True)
class Breakdown:
    """A total of a run split by the keys of one table: field of ``Run``, metric it sums to, definitions."""

    title: str
    field: str
    metric: str
    definitions: Mapping[str, str]


BREAKDOWNS = (
    Breakdown("Cycles by cause", "cycles_by_cause", "total_cycles", CAUSES),
    Breakdown("DRAM bytes by kind", "dram_bytes", "dram_bytes_total", TRAFFIC),
    Breakdown("Energy by component", "energy_joules", "energy_total", COMPONENTS),
)


def breakdown_table(runs: Sequence[Run], breakdown: Breakdown) -> Table:
    """One row a key: value and share of each run, the change against the first run, the definition; then the total."""
    labels = run_labels(runs)
    parts: list[Mapping[str, float]] = [getattr(run, breakdown.field) for run in runs]
    columns = [Column("part", "part")]
    for i, label in enumerate(labels):
        columns += [metric_column(breakdown.metric, label, key=label), Column(f"{label} share", "share", "1", "share")]
        columns += [Column(f"{label} change", "change", "1", "change")] if i else []
    columns += [Column("definition", "definition")] if breakdown.definitions and len(runs) == 1 else []
    keys = breakdown.definitions or dict.fromkeys(key for part in parts for key in part)
    used = [key for key in keys if any(part.get(key) for part in parts)]
    totals = [sum(part.values()) for part in parts]
    rows: list[dict[str, Any]] = [
        {"part": key, "definition": breakdown.definitions.get(key)}
        | _part_cells(labels, [part.get(key, 0) for part in parts], totals)
        for key in used
    ]
    rows.append({"part": "total", "definition": METRICS[breakdown.metric].definition})
    rows[-1] |= _part_cells(labels, totals, totals)
    return Table(breakdown.title, tuple(columns), tuple(rows))


def _part_cells(labels: Sequence[str], values: Sequence[float], totals: Sequence[float]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    for label, value, total in zip(labels, values, totals, strict=True):
        cells |= {label: value, f"{label} share": ratio(value, total), f"{label} change": change(value, values[0])}
    return cells


def layers_table(runs: Sequence[Run]) -> Table:
    """One row a layer: what it costs and what bounds it; with several runs, side by side against the first."""
    return _layers_of_one(runs[0]) if len(runs) == 1 else _layers_side_by_side(runs)


def _layers_of_one(run: Run) -> Table:
    columns = (
        Column("layer", "layer"),
        Column("kind", "kind"),
        metric_column("macs", "work"),
        metric_column("total_cycles", "cycles", key="cycles"),
        Column("share", "share", "1", "share"),
        Column("utilisation", "utilisation", METRICS["utilisation"].unit, "share"),
        metric_column("dram_bytes_total", "DRAM", "kB"),
        Column("intensity", "intensity", "MAC/B"),
        Column("bound", "bound by"),
    )
    return Table("Layers", columns, tuple(_layer_row(run, layer) for layer in run.layers))


def _layer_row(run: Run, layer: LayerRun) -> dict[str, Any]:
    return {
        "layer": layer.name,
        "kind": layer.kind,
        "macs": layer.macs,
        "cycles": layer.cycles,
        "share": ratio(layer.cycles, run.total_cycles),
        "utilisation": ratio(layer.macs, layer.cycles * run.machine.macs_per_cycle),
        "dram_bytes_total": sum(layer.dram_bytes.values()),
        "intensity": ratio(layer.macs, sum(layer.dram_bytes.values())),
        "bound": bound_text(layer.cycles_by_cause),
    }


def _layers_side_by_side(runs: Sequence[Run]) -> Table:
    labels = run_labels(runs)
    columns = [Column("layer", "layer"), Column("kind", "kind")]
    for i, label in enumerate(labels):
        columns.append(metric_column("total_cycles", label, key=label))
        columns += [Column(f"{label} change", "change", "1", "change")] if i else []
        columns.append(Column(f"{label} bound", "bound by"))
    tables = [{layer.name: layer for layer in run.layers} for run in runs]
    kinds = {layer.name: layer.kind for run in runs for layer in run.layers}
    rows = [
        {"layer": name, "kind": kind} | _layer_cells(labels, [table.get(name) for table in tables])
        for name, kind in kinds.items()
    ]
    return Table("Layers", tuple(columns), tuple(rows))


def _layer_cells(labels: Sequence[str], layers: Sequence[LayerRun | None]) -> dict[str, Any]:
    cells: dict[str, Any] = {}
    first = layers[0].cycles if layers[0] else None
    for label, layer in zip(labels, layers, strict=True):
        cycles = layer.cycles if layer else None
        bound = bound_text(layer.cycles_by_cause) if layer else None
        cells |= {label: cycles, f"{label} change": change(cycles, first), f"{label} bound": bound}
    return cells


def flat_table(runs: Sequence[Run]) -> Table:
    """Everything counted, for a spreadsheet: a row for each layer of each run, and one called ``(network)`` a run."""
    cycles = [metric_column("total_cycles", cause, key=f"cycles_{cause}") for cause in CAUSES]
    traffic = [metric_column("dram_bytes_total", kind, key=f"dram_{kind}") for kind in TRAFFIC]
    columns = (
        *(Column(key, key) for key in ("run", "tool", "model", "codec", "machine", "dram", "layer", "kind")),
        metric_column("macs"),
        metric_column("total_cycles"),
        metric_column("dram_bytes_total"),
        metric_column("energy_total"),
        Column("bound", "bound by"),
        *cycles,
        *traffic,
    )
    rows = [row for label, run in zip(run_labels(runs), runs, strict=True) for row in _flat_rows(label, run)]
    return Table("Runs", columns, tuple(rows))


def _flat_rows(label: str, run: Run) -> Iterable[dict[str, Any]]:
    shared = {"run": label, "tool": run.tool, "model": run.program.get("model"), "codec": run.program.get("codec")}
    shared |= {"machine": run.machine.name, "dram": dram_text(run.machine)}
    network = LayerRun(
        "(network)",
        "",
        run.macs,
        run.total_cycles,
        run.cycles_by_cause,
        run.dram_bytes,
        dominant(run.cycles_by_cause)[0],
    )
    for layer in (network, *run.layers):
        yield shared | {
            "layer": layer.name,
            "kind": layer.kind,
            "macs": layer.macs,
            "total_cycles": layer.cycles,
            "dram_bytes_total": sum(layer.dram_bytes.values()),
            "energy_total": run.energy_total if layer is network else None,
            "bound": layer.bound if layer.cycles else None,
            **{f"cycles_{cause}": layer.cycles_by_cause.get(cause, 0) for cause in CAUSES},
            **{f"dram_{kind}": layer.dram_bytes.get(kind, 0) for kind in TRAFFIC},
        }


def run_tables(runs: Sequence[Run]) -> tuple[Table, ...]:
    """All tables of a report: metrics, the three breakdowns, layers."""
    return (metrics_table(runs), *(breakdown_table(runs, row) for row in BREAKDOWNS), layers_table(runs))


def dram_text(machine: Machine) -> str:
    """The DRAM a run assumed."""
    bandwidth = machine.bandwidth_bytes_per_cycle
    rate = f"{bandwidth:.3g} B/cycle ({bandwidth * machine.clock.hz / 1e9:.3g} GB/s)"
    if not machine.is_banked:
        return f"ideal DRAM, {rate}"
    dram = machine.dram
    channels = f"{dram.channels} x " if dram.channels > 1 else ""
    return f"{channels}{dram.standard} x{dram.data_width_bits} bank by bank ({dram.mapping}), peak {rate}"


def weights_text(weights: str | None) -> str:
    """Where weights come from (``trained``, ``random`` or ``from net.onnx``) in words that leave no doubt."""
    if weights == "random":
        return "shapes, no trained weights (errors are those of random weights)"
    if weights == "trained":
        return "trained weights"
    return f"weights {weights}" if weights and weights.startswith("from ") else "weights of unknown origin"


def run_weights(run: Run) -> str | None:
    """Where the weights came from, as the run's program recorded it."""
    description = run.program.get("source", {}).get("description", {})
    return str(description["weights"]) if "weights" in description else None
