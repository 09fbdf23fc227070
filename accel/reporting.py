"""Tables: one row structure, rendered as text, CSV or JSON; and the figures of a run that every report derives.

Rows hold exact values in the units of ``accel.metrics`` (bytes, cycles, joules, seconds); only text rounds and scales
them (MB is 1e6 B). Missing values are ``None``: ``-`` in text, empty in CSV, ``null`` in JSON.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from accel import __version__
from accel.metrics import CAUSES, METRICS

if TYPE_CHECKING:
    from accel.run import Run

Row = Mapping[str, Any]


def plain(text: Any) -> str:
    """A text from a file as anything may show it: what cannot be printed (terminal codes, line ends) is replaced."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


@dataclass(frozen=True, slots=True)
class Style:
    """How text shows a number: multiplied by ``factor``, formatted by ``spec``, headed by ``unit``."""

    unit: str
    factor: float
    spec: str
    suffix: str = ""


# Keyed by the unit of the exact value, or by a name of its own where one unit is shown in several ways.
STYLES: Mapping[str, Style] = MappingProxyType(
    {
        "cycles": Style("cycles", 1, ",.0f"),
        "B": Style("MB", 1e-6, ",.3f"),
        "kB": Style("kB", 1e-3, ",.1f"),
        "J": Style("µJ", 1e6, ",.1f"),
        "s": Style("ms", 1e3, ",.3f"),
        "MAC": Style("MMAC", 1e-6, ",.3f"),
        "GB/s": Style("GB/s", 1, ",.2f"),
        "bit": Style("", 1, ".2f"),
        "1": Style("", 1, ".4f"),
        "ratio": Style("", 1, ".2f", "x"),
        "share": Style("", 100, ".1f", " %"),
        "seconds": Style("s", 1, ",.2f"),
        "percent": Style("", 100, ".2f", " %"),
        "error": Style("", 100, ".3f", " %"),
        "signed error": Style("", 100, "+.3f", " %"),
        "change": Style("", 100, "+.1f", " %"),
        "count": Style("", 1, ",.0f"),
        "Hz": Style("MHz", 1e-6, ",.0f"),
        "1/s": Style("million a second", 1e-6, ",.0f"),
        "MAC/cycle": Style("MAC/cycle", 1, ",.0f"),
        "MAC/B": Style("MAC/B", 1, ",.1f"),
        "B/cycle": Style("B/cycle", 1, ".2f"),
        "KiB": Style("KiB", 1 / 1024, ",.0f"),
        "bytes": Style("B", 1, ",.0f"),
        "dB": Style("dB", 1, ".1f"),
        "scientific": Style("", 1, ".1e"),
        "step": Style("", 1, ".1f"),
    }
)


@dataclass(frozen=True, slots=True)
class Column:
    """One column. ``unit`` is that of the exact value; ``style`` a row of ``STYLES`` where the unit's own does not fit.

    A column with neither holds text.
    """

    key: str
    title: str
    unit: str = ""
    style: str = ""

    @property
    def shown(self) -> Style | None:
        """How its numbers are shown, or ``None`` for text."""
        return STYLES[self.style or self.unit] if self.style or self.unit else None

    @property
    def heading(self) -> str:
        """Title with the unit shown in text."""
        unit = self.shown.unit if self.shown else ""
        return f"{self.title} [{unit}]" if unit and unit != self.title else self.title

    @property
    def field(self) -> str:
        """Heading in CSV: the key with the unit of the exact value."""
        return f"{self.key} [{self.unit}]" if self.unit not in ("", "1") else self.key

    def cell(self, value: Any) -> str:
        """The value as text shows it."""
        if value is None:
            return "-"
        style = self.shown
        return plain(value) if style is None else f"{value * style.factor:{style.spec}}{style.suffix}"


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table; ``notes`` are sentences that belong under it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def metric_column(metric: str, title: str = "", style: str = "", key: str = "") -> Column:
    """A column whose unit is that of a row of ``METRICS``."""
    return Column(key or metric, title or metric.replace("_", " "), METRICS[metric].unit, style)


def to_text(table: Table) -> str:
    """Aligned columns under a title: text to the left, numbers to the right."""
    cells = [[column.cell(row.get(column.key)) for column in table.columns] for row in table.rows]
    lines = [[column.heading for column in table.columns], *cells]
    widths = [max(map(len, texts)) for texts in zip(*lines, strict=True)]
    ruled = [lines[0], ["-" * width for width in widths], *lines[1:]]
    body = ["  ".join(map(_aligned, table.columns, line, widths)).rstrip() for line in ruled]
    return "\n".join([table.title, *body, *(f"note: {note}" for note in table.notes)]) + "\n"


def _aligned(column: Column, text: str, width: int) -> str:
    return text.rjust(width) if column.shown else text.ljust(width)


def to_csv(table: Table) -> str:
    """One header line (``key [unit]``), then exact values."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(column.field for column in table.columns)
    writer.writerows([row.get(column.key) for column in table.columns] for row in table.rows)
    return file.getvalue()


def to_records(table: Table) -> list[dict[str, Any]]:
    """The rows as JSON objects of exact values, keys in the order of the columns."""
    return [{column.key: row.get(column.key) for column in table.columns} for row in table.rows]


def to_json(tables: Iterable[Table]) -> str:
    """Every table with its columns (key, title, unit), rows and notes, stamped with the tool's version."""
    documents = [
        {
            "title": table.title,
            "columns": [{"key": c.key, "title": c.title, "unit": c.unit} for c in table.columns],
            "rows": to_records(table),
            "notes": list(table.notes),
        }
        for table in tables
    ]
    return json.dumps({"tool": __version__, "tables": documents}, indent=1) + "\n"


def dominant(cycles_by_cause: Mapping[str, int]) -> tuple[str, float]:
    """The cause with most cycles and its share of them (0 for a layer without cycles)."""
    total = sum(cycles_by_cause.values())
    cause = max(CAUSES, key=lambda name: cycles_by_cause.get(name, 0))
    return cause, cycles_by_cause.get(cause, 0) / total if total else 0.0


def bound_text(cycles_by_cause: Mapping[str, int]) -> str:
    """What bounds it, with the share: ``weight_dma 71 %``."""
    cause, share = dominant(cycles_by_cause)
    return f"{cause} {100 * share:.0f} %" if share else "-"


def dram_busy(run: Run) -> float:
    """share of the cycles DRAM needs to move the bytes at the bandwidth the machine can sustain"""
    capacity = run.total_cycles * run.machine.sustained_bandwidth_bytes_per_cycle
    return run.dram_bytes_total / capacity if capacity else 0.0


def metric_values(run: Run, baseline: Run | None = None) -> dict[str, float | None]:
    """Every metric of ``METRICS`` for one run; ``speedup`` only against an int8 ``baseline``."""
    return {
        "total_cycles": run.total_cycles,
        "seconds": run.seconds,
        "macs": run.macs,
        "dram_bytes_total": run.dram_bytes_total,
        "utilisation": run.utilisation,
        "dram_bandwidth": run.dram_bytes_total / run.seconds / 1e9 if run.seconds else None,
        "conflict_factor": run.conflict_factor if run.machine.decoder.codebook_banks else None,
        "energy_total": run.energy_total,
        "speedup": ratio(baseline.total_cycles, run.total_cycles) if baseline else None,
    }


def ratio(numerator: float, denominator: float) -> float | None:
    """Their quotient, or ``None`` when there is none."""
    return numerator / denominator if denominator else None


def times_less(quotient: float) -> str:
    """``2.50x less``, or ``1.06x more`` for a reduction below 1."""
    return f"{quotient:.2f}x less" if quotient >= 1 else f"{1 / quotient:.2f}x more"


def change(value: float | None, reference: float | None) -> float | None:
    """Relative change from ``reference``, or ``None`` when there is nothing to compare with."""
    if value is None or not reference:
        return None
    return value / reference - 1


def run_labels(runs: Sequence[Run]) -> tuple[str, ...]:
    """A short, unique name for each run: its codec, with machine, its settings and a number where needed to differ."""
    names = [str(run.program.get("codec", "?")) for run in runs]
    if len(set(names)) < len(names) or len({run.machine.name for run in runs}) > 1:
        names = [f"{name}@{run.machine.name}" for name, run in zip(names, runs, strict=True)]
    alike = [[other for other, label in zip(runs, names, strict=True) if label == name] for name in names]
    names = [name + _settings(run, group) for name, run, group in zip(names, runs, alike, strict=True)]
    return tuple(numbered(names))


def numbered(names: Iterable[str]) -> list[str]:
    """Names that differ: those that occur again are numbered from the second on."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(f"{name}#{seen[name]}" if seen[name] > 1 else name)
    return found


def _settings(run: Run, alike: Sequence[Run]) -> str:
    """``", vector.lanes=0"``: what its machine has otherwise than the preset of its name, where ``alike`` differ."""
    from accel.machine import changes_from_preset, preset_names

    if len(alike) < 2:
        return ""
    keys = [each.machine.flat() for each in alike]
    own = changes_from_preset(run.machine) if run.machine.name in preset_names() else run.machine.flat()
    told = [f"{key}={value}" for key, value in own.items() if any(other.get(key) != value for other in keys)]
    more = f" and {len(told) - 2} more" if len(told) > 2 else ""
    return "".join(f", {text}" for text in told[:2]) + more


def int8_baseline(runs: Sequence[Run], run: Run) -> Run | None:
    """The int8 run that ``METRICS`` defines the speed-up against: same model, same machine."""
    for other in runs:
        same = other.machine == run.machine and other.program.get("model") == run.program.get("model")
        if same and other.program.get("codec") == "int8":
            return other
    return None
