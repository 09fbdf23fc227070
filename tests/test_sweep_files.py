"""What a sweep keeps and writes: its store, its results, and what its documentation shows of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sweep_cases import ROOT

pytest.importorskip("pyarrow")

from accel.errors import FormatError
from accel.machine import load_machine
from accel.metrics import METRICS
from accel.sweep.columns import RESULTS_SCHEMA, columns, columns_markdown, sram_bytes
from accel.sweep.results import read_results, write_results
from accel.sweep.spec import load_spec
from accel.sweep.store import Store

EXAMPLE = ROOT / "docs" / "deit_tiny_sweep.toml"


def test_the_store_keeps_the_first_value_and_all_of_a_batch_or_none(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "store.sqlite"
    with Store(path) as store, Store(path) as other:
        store.put({"a": 1, "b": {"x": [1.5]}})
        other.put({"a": 2, "c": 3})
        assert store.get(["a", "b", "c", "d"]) == {"a": 1, "b": {"x": [1.5]}, "c": 3}
        with pytest.raises(TypeError):
            store.put({"e": 1, "f": object()})
        assert store.get(["e"]) == {}
        assert len(store.get(map(str, range(2000)))) == 0


def test_a_store_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_text("no database " * 100)
    with pytest.raises(FormatError, match=r"store\.sqlite': file is not a database; what was kept so far is safe"):
        Store(path)


def test_results_say_what_their_columns_mean(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "r.parquet"
    write_results([{"point": 0, "total_cycles": 3, "pareto": True}], {"complete": True}, path)
    document, (row,) = read_results(path)
    assert document["schema"] == "accel.sweep/1" and document["complete"] is True
    assert row["total_cycles"] == 3 and row["pareto"] is True and row["seconds"] is None
    schema = pq.read_schema(path)
    assert schema.names == [name for name, *_ in columns()] and len(set(schema.names)) == len(schema.names)
    for name, metric in METRICS.items():
        assert schema.field(name).metadata[b"unit"].decode() == metric.unit
        assert schema.field(name).metadata[b"definition"].decode() == metric.definition


def test_files_that_are_no_results_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "r.parquet"
    with pytest.raises(FormatError, match=r"no such file"):
        read_results(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(FormatError, match="not a whole Parquet file"):
        read_results(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(FormatError, match=r"this version reads 'accel.sweep/1'"):
        read_results(path)
    metadata = {"accel": json.dumps({"schema": "accel.sweep/9"})}
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata(metadata), path)
    with pytest.raises(FormatError, match="written by a newer version of accel"):
        read_results(path)


def test_formats_and_the_example_are_fresh() -> None:
    formats, guide = (ROOT / "FORMATS.md").read_text(), (ROOT / "docs" / "sweep.md").read_text()
    assert columns_markdown() in formats, "put the output of accel.sweep.columns.columns_markdown into FORMATS.md"
    assert formats.count(f"`{RESULTS_SCHEMA}`") >= 2
    assert (EXAMPLE.read_text()) in guide, "put docs/deit_tiny_sweep.toml into docs/sweep.md"
    assert load_spec(str(EXAMPLE)).grid_points == int(guide.partition("note: of ")[2].partition(" points")[0])


def test_memory_on_chip_counts_every_copy_of_the_codebook() -> None:
    machine = load_machine("edge64")
    fixed = 262144 + 65536 + 131072
    assert sram_bytes(machine) == fixed + 8192 * 2 * 4
    assert sram_bytes(load_machine("edge64", ["decoder.codebook_banks=8"])) == fixed + 8192 * 2
    assert sram_bytes(load_machine("edge64", ["decoder.codebook_buffers=1"])) == fixed + 8192 * 4
