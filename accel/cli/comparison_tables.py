"""The results of ``accel compare`` as a table with its notes, and as the document ``comparison.json``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from accel import __version__
from accel.cli.comparison import WORTHWHILE_GAIN, MachineResult
from accel.cli.curves import COMPARISON_SCHEMA
from accel.cli.run_tables import dram_text
from accel.machine import Machine, machine_to_document
from accel.metrics import METRICS
from accel.reporting import Column, Table, bound_text, metric_column, to_records

if TYPE_CHECKING:
    from accel.codecs import Codec
    from compiler.compress import LayerReport

COLUMNS = (
    Column("codec", "codec"),
    Column("bits_per_weight", "bits/weight", "bit"),
    Column("relative_error", "mean rel. error", "1"),
    metric_column("dram_bytes_total", "DRAM"),
    Column("traffic_ratio", "less traffic", "1", "ratio"),
    metric_column("total_cycles", "cycles"),
    metric_column("speedup", "speed-up", "ratio"),
    Column("speedup_gemm_only", "GEMM-only speed-up", METRICS["speedup"].unit, "ratio"),
    Column("vector_share", "free vector unit saves", "1", "share"),
    metric_column("energy_total", "energy"),
    Column("bound", "bound by"),
)
VALUES = Column("output_cosine", "output cosine", "1")


def _columns(results: Sequence[MachineResult]) -> tuple[Column, ...]:
    """``COLUMNS``, and what programs answered where they were executed."""
    executed = any(each.output_cosine is not None for result in results for each in result.results)
    return (*COLUMNS, VALUES) if executed else COLUMNS


def comparison_table(results: Sequence[MachineResult]) -> Table:
    """One row a codec and machine; the machine's column only where there are several."""
    rows = _all_rows(results)
    if len(results) == 1:
        return Table(_title(results[0].machine), _columns(results), rows)
    return Table("Comparison", (Column("machine", "machine"), *_columns(results)), rows)


def _all_rows(results: Sequence[MachineResult]) -> tuple[dict[str, Any], ...]:
    return tuple(row for result in results for row in _rows(result))


def _title(machine: Machine) -> str:
    return f"{machine.name}: {machine.array.label}, {dram_text(machine)}"


def _rows(result: MachineResult) -> Iterator[dict[str, Any]]:
    for each in result.results:
        yield {
            "machine": result.machine.name,
            "codec": each.codec,
            "bits_per_weight": each.bits_per_weight,
            "relative_error": each.relative_error,
            "dram_bytes_total": each.whole.dram_bytes_total,
            "traffic_ratio": result.traffic_ratio(each),
            "total_cycles": each.whole.total_cycles,
            "speedup": result.speedup(each),
            "speedup_gemm_only": result.gemm_speedup(each),
            "vector_share": each.vector_share,
            "energy_total": each.whole.energy_total,
            "bound": bound_text(each.whole.cycles_by_cause),
            "output_cosine": each.output_cosine,
        }


def document_table(document: Mapping[str, Any]) -> Table:
    """The table of a comparison from its document."""
    rows = tuple(document["rows"])
    executed = any("output_cosine" in row for row in rows)
    columns = (Column("machine", "machine"), *COLUMNS, *((VALUES,) if executed else ()))
    return Table("Comparison", columns, rows, tuple(map(str, document["notes"])))


TABLE_NOTES = (
    "less traffic, speed-up: against int8 on the same machine; GEMM-only: vector work free (vector.lanes = 0) for both",
    "bits/weight: all that is stored for conv and gemm weights, codebooks and scales included",
    "mean rel. error: squared error over squared weights, averaged over weights; it is not an accuracy",
)


VALUES_NOTE = "output cosine: of the program's outputs, executed bit for bit, and the float model's, over all inputs"


def other_codecs(codec: Codec, reports: Sequence[LayerReport]) -> tuple[str, ...]:
    """Which layers have another codec than the one asked for, and why: a sentence a group."""
    groups: dict[tuple[str, str], list[LayerReport]] = {}
    for report in reports:
        if report.reason:
            why = report.reason if report.reason.startswith("kept") else ""
            groups.setdefault((str(report.codec), why), []).append(report)
    return tuple(
        f"{codec}: {len(group)} of {len(reports)} layers {'are' if why else 'stay'} {other} "
        f"({why or f'{group[0].name}: {group[0].reason}'})"
        for (other, why), group in groups.items()
    )


def table_notes(results: Sequence[MachineResult]) -> tuple[str, ...]:
    """What belongs under the table: definitions, and which rows are mixed."""
    mixed = dict.fromkeys(note for result in results for each in result.results for note in each.others)
    executed = (VALUES_NOTE,) if VALUES in _columns(results) else ()
    return (*TABLE_NOTES, *executed, *mixed)


def comparison_document(
    results: Sequence[MachineResult], source: Mapping[str, Any], batch: int, verdicts: Sequence[str]
) -> dict[str, Any]:
    """The whole comparison as JSON values, schema ``COMPARISON_SCHEMA``."""
    return {
        "schema": COMPARISON_SCHEMA,
        "tool": __version__,
        "model": str(results[0].baseline.whole.program.get("model")),
        "source": dict(source),
        "batch": batch,
        "gain_threshold": WORTHWHILE_GAIN,
        "notes": list(table_notes(results)),
        "rows": to_records(
            Table("", (Column("machine", ""), *_columns(results)), tuple(r for m in results for r in _rows(m)))
        ),
        "machines": [_machine_document(*each) for each in zip(results, verdicts, strict=True)],
    }


def _machine_document(result: MachineResult, verdict: str) -> dict[str, Any]:
    return {
        "machine": machine_to_document(result.machine),
        "own_bandwidth_bytes_per_cycle": result.machine.bandwidth_bytes_per_cycle,
        "bandwidths_bytes_per_cycle": list(result.bandwidths),
        "curves": {
            each.codec: {
                "total_cycles": list(each.curve),
                "speedup": list(result.speedup_curve(each)),
                "total_cycles_gemm_only": list(each.gemm_curve),
                "speedup_gemm_only": list(result.gemm_speedup_curve(each)),
            }
            for each in result.results
        },
        "best": result.best.codec,
        "crossover": {"status": result.crossover.status, "bandwidth_bytes_per_cycle": result.crossover.bandwidth},
        "arrays": _arrays_document(result),
        "verdict": verdict,
    }


def _arrays_document(result: MachineResult) -> dict[str, Any]:
    mapped = result.mapped_arrays
    return {
        "names": [f"{array.array.rows}x{array.array.columns}" for array, _ in mapped],
        "macs_per_cycle": [array.macs_per_cycle for array, _ in mapped],
        "speedup": {each.codec: [speedups[each.codec] for _, speedups in mapped] for each in result.results},
        "crossover_macs_per_cycle": result.array_crossover.bandwidth,
    }
