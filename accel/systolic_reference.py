"""Cycles of systolic arrays as other simulators reported them: ``accel/reference/systolic.csv``, row by row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

from accel.systolic import ArrayShape, GemmShape, gemm_cost
from accel.validation import Bound, Comparison, Group, Section

# SCALE-Sim prints the index of its last cycle, counted from 0, where others print how many there were.
UNCOUNTED_CYCLES = {"scalesim": 1, "stonne": 0}


@dataclass(frozen=True, slots=True)
class ReferenceRow:
    """One layer on one array. ``cycles``: as many as the simulator took, stalls excluded, none left uncounted."""

    simulator: str
    workload: str
    layer: str
    repeat: int
    gemm: GemmShape
    array: ArrayShape
    folds: int
    cycles: int


def systolic_reference_rows() -> Iterator[ReferenceRow]:
    """All rows, in the order of the file."""
    text = (resources.files("accel") / "reference" / "systolic.csv").read_text(encoding="utf-8")
    return map(_row, csv.DictReader(text.splitlines()))


def _row(row: Mapping[str, str]) -> ReferenceRow:
    simulator = row["simulator"]
    return ReferenceRow(
        simulator=simulator,
        workload=row["workload"],
        layer=row["layer"],
        repeat=int(row["repeat"]),
        gemm=GemmShape(int(row["m"]), int(row["k"]), int(row["n"])),
        array=ArrayShape(int(row["rows"]), int(row["columns"]), row["dataflow"], simulator),
        folds=int(row["folds"]),
        cycles=int(row["reported_cycles"]) - int(row["stall_cycles"]) + UNCOUNTED_CYCLES[simulator],
    )


def systolic_section() -> Section:
    """The closed form of every row beside what was reported: they are equal."""
    groups: dict[str, list[Comparison]] = {}
    for row in systolic_reference_rows():
        array = row.array
        case = f"{row.workload} {row.layer} {array.rows}x{array.columns}"
        cost = gemm_cost(row.gemm, array)
        group = groups.setdefault(f"{row.simulator} {array.dataflow}", [])
        group.append(Comparison(case, cost.cycles, row.cycles))
    exact = Bound(mean=0.0, largest=0.0)
    made = (Group(name, exact, tuple(comparisons)) for name, comparisons in groups.items())
    return Section("Systolic array: cycles of GEMMs", tuple(made))
