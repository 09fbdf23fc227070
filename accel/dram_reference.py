"""Traces through DRAM as other simulators timed them: ``accel/reference/dram.csv``, row by row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources


@dataclass(frozen=True, slots=True)
class DramReferenceRow:
    """One trace on one channel. ``activates``: ``None`` where the simulator did not count them."""

    simulator: str
    standard: str
    width_bits: int
    scheduler: str
    mapping: str
    trace: str
    cycles: int
    row_hit_percent: float
    activates: int | None
    refreshes: int
    read_latency_cycles: float


def dram_reference_rows() -> Iterator[DramReferenceRow]:
    """All rows, in the order of the file."""
    text = (resources.files("accel") / "reference" / "dram.csv").read_text(encoding="utf-8")
    return map(_row, csv.DictReader(text.splitlines()))


def _row(row: Mapping[str, str]) -> DramReferenceRow:
    return DramReferenceRow(
        simulator=row["simulator"],
        standard=row["standard"],
        width_bits=int(row["width_bits"]),
        scheduler=row["scheduler"],
        mapping=row["mapping"],
        trace=row["trace"],
        cycles=int(row["cycles"]),
        row_hit_percent=float(row["row_hit_percent"]),
        activates=int(row["activates"]) if row["activates"] else None,
        refreshes=int(row["refreshes"]),
        read_latency_cycles=float(row["read_latency_cycles"]),
    )
