"""Tables: exact in CSV and JSON, readable in text, and their parts sum to their totals."""

from __future__ import annotations

import csv
import io
import json
import string
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from run_samples import sample_run

from accel.cli.run_tables import BREAKDOWNS, breakdown_table, flat_table, layers_table, metrics_table, run_tables
from accel.machine import load_machine
from accel.metrics import CAUSES, METRICS, TRAFFIC
from accel.reporting import (
    STYLES,
    Column,
    Table,
    bound_text,
    change,
    dominant,
    dram_busy,
    metric_column,
    metric_values,
    run_labels,
    times_less,
    to_csv,
    to_json,
    to_records,
    to_text,
)

COLUMNS = (Column("name", "name"), metric_column("total_cycles", "cycles"), metric_column("energy_total", "energy"))
TEXTS = st.text(string.printable, min_size=1).filter(lambda text: "\r" not in text)
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "name": TEXTS,
            "total_cycles": st.none() | st.integers(0, 1 << 62),
            "energy_total": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        }
    )
)


@given(ROWS)
def test_csv_and_json_return_the_exact_values(rows: list[dict[str, object]]) -> None:
    table = Table("t", COLUMNS, tuple(rows))
    read = list(csv.DictReader(io.StringIO(to_csv(table), newline="")))
    converted = [
        {
            "name": row["name"],
            "total_cycles": int(row["total_cycles [cycles]"]) if row["total_cycles [cycles]"] else None,
            "energy_total": float(row["energy_total [J]"]) if row["energy_total [J]"] else None,
        }
        for row in read
    ]
    assert converted == rows
    assert json.loads(to_json([table]))["tables"][0]["rows"] == rows == to_records(table)


def test_text_aligns_scales_and_marks_what_is_missing() -> None:
    rows = ({"name": "a", "total_cycles": 1234567, "energy_total": 1.5e-3}, {"name": "long", "total_cycles": None})
    text = to_text(Table("Title", COLUMNS, rows, ("a remark",)))
    assert text.splitlines() == [
        "Title",
        "name     cycles  energy [µJ]",
        "----  ---------  -----------",
        "a     1,234,567      1,500.0",
        "long          -            -",
        "note: a remark",
    ]


def test_every_unit_of_the_metrics_can_be_shown() -> None:
    assert {metric.unit for metric in METRICS.values()} <= set(STYLES)
    assert set(metric_values(sample_run())) == set(METRICS)


def test_breakdowns_sum_to_the_totals_of_the_run() -> None:
    run = sample_run("ssvq:k=16,d=8")
    totals = {"cycles_by_cause": run.total_cycles, "dram_bytes": run.dram_bytes_total}
    for breakdown in BREAKDOWNS:
        *rows, total = breakdown_table([run], breakdown).rows
        label = run_labels([run])[0]
        assert sum(row[label] for row in rows) == pytest.approx(total[label])
        assert sum(row[f"{label} share"] for row in rows) == pytest.approx(1)
        assert total[label] == pytest.approx(totals.get(breakdown.field, run.energy_total))


def test_flat_table_has_all_layers_and_they_sum_to_the_network() -> None:
    runs = [sample_run("int8"), sample_run("vq:k=256,d=4")]
    table = flat_table(runs)
    assert len(table.rows) == sum(1 + len(run.layers) for run in runs)
    summed = ["macs", "total_cycles", "dram_bytes_total"]
    summed += [f"cycles_{cause}" for cause in CAUSES] + [f"dram_{kind}" for kind in TRAFFIC]
    for label, run in zip(run_labels(runs), runs, strict=True):
        network, *layers = (row for row in table.rows if row["run"] == label)
        assert (network["layer"], network["dram_bytes_total"]) == ("(network)", run.dram_bytes_total)
        assert {key: sum(row[key] for row in layers) for key in summed} == {key: network[key] for key in summed}


def test_comparison_shows_changes_against_the_first_run() -> None:
    first, second = sample_run("int8"), sample_run("ssvq:k=16,d=8")
    row = metrics_table([first, second]).rows[1]
    assert row["total_cycles_change"] == second.total_cycles / first.total_cycles - 1
    assert row["speedup"] == first.total_cycles / second.total_cycles
    assert layers_table([first, second]).rows[0]["ssvq:k=16,d=8 change"] < 0


def test_runs_of_different_models_say_so() -> None:
    run = sample_run()
    other = replace(run, program={**run.program, "model": "other"})
    assert metrics_table([run, other]).notes == ("the changes compare different models: sample, other",)
    assert metrics_table([run, run]).notes == ()


def test_less_or_more() -> None:
    assert (times_less(2.5), times_less(1), times_less(0.94)) == ("2.50x less", "1.00x less", "1.06x more")


def test_speedup_is_only_claimed_against_int8_on_the_same_machine() -> None:
    elsewhere = sample_run("int8", load_machine("edge32"))
    rows = metrics_table([elsewhere, sample_run("int4")]).rows
    assert [row["speedup"] for row in rows] == [1.0, None]


def test_layers_of_one_run_sum_to_it() -> None:
    run = sample_run("int4")
    rows = layers_table([run]).rows
    assert sum(row["dram_bytes_total"] for row in rows) == run.dram_bytes_total
    assert sum(row["cycles"] for row in rows) == run.total_cycles
    assert sum(row["share"] for row in rows) == pytest.approx(1)


def test_layers_only_one_run_has_are_shown_without_a_change() -> None:
    short, long = sample_run(blocks=1), sample_run("int4", blocks=2)
    rows = layers_table([short, long]).rows
    assert len(rows) == len(long.layers)
    assert rows[-1]["int8"] is None and rows[-1]["int4 change"] is None


def test_labels_are_unique_and_as_short_as_that_allows() -> None:
    edge32 = load_machine("edge32")
    assert run_labels([sample_run("int8"), sample_run("int4")]) == ("int8", "int4")
    same = [sample_run("int8"), sample_run("int8"), sample_run("int8", edge32)]
    assert run_labels(same) == ("int8@edge64-ideal", "int8@edge64-ideal#2", "int8@edge32")


def test_labels_say_which_settings_of_a_machine_differ() -> None:
    free = sample_run("int8", load_machine("edge64-ideal", ["vector.lanes=0"]))
    whole, labels = sample_run("int8"), ("int8@edge64-ideal, vector.lanes=0", "int8@edge64-ideal")
    assert run_labels([free, whole]) == labels
    assert run_labels([free, free]) == ("int8@edge64-ideal", "int8@edge64-ideal#2")
    assert run_labels([whole, free, sample_run("int4")]) == (*reversed(labels), "int4@edge64-ideal")


def test_what_bounds_a_run() -> None:
    causes = dict.fromkeys(CAUSES, 0) | {"compute": 1, "weight_dma": 3}
    assert dominant(causes) == ("weight_dma", 0.75)
    assert bound_text(causes) == "weight_dma 75 %"
    assert bound_text(dict.fromkeys(CAUSES, 0)) == "-"


def test_dram_is_busy_at_most_all_the_time_and_idle_when_bandwidth_abounds() -> None:
    run = sample_run()
    rich = replace(run.machine, dram=replace(run.machine.dram, bandwidth_bytes_per_cycle=1e4))
    assert 0.9 < dram_busy(run) <= 1
    assert dram_busy(sample_run(machine=rich)) < 0.01


def test_change_has_no_value_without_a_reference() -> None:
    assert change(3, 2) == 0.5
    assert change(3, 0) is change(3, None) is change(None, 2) is None


def test_every_table_renders() -> None:
    for table in run_tables([sample_run()]) + run_tables([sample_run(), sample_run("int4")]):
        assert len({len(line) for line in to_text(table).splitlines()[2:3]}) == 1
        assert all(set(row) >= {column.key for column in table.columns} for row in table.rows), table.title
