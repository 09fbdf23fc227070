"""``accel compare``: the folder it writes, its document, and layers or arrays that are left out."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
from cli_calls import printed_json, refused

import compiler
from accel.cli import main
from accel.cli.curves import read_comparison
from accel.errors import CompileError, FormatError
from accel.graph import Graph, Op
from accel.machine import Machine
from accel.packed import Packed
from compiler import frontend

pytest_plugins = ["cli_models"]
Captured = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.mark.usefixtures("sampled_chain")
@pytest.mark.parametrize("existed", [False, True])
def test_compare_that_cannot_write_leaves_no_new_folder(
    existed: bool, capsys: Captured, tmp_path: Path, monkeypatch: Patch
) -> None:
    def full(*_: object) -> None:
        raise FormatError("cannot write 'table.txt': No space left on device")

    monkeypatch.setattr("accel.atomic.write_text", full)
    folder = tmp_path / "new"
    if existed:
        folder.mkdir()
    assert "No space left" in refused(capsys, "compare", "tiny", "-o", str(folder))
    assert folder.exists() == existed


@pytest.mark.usefixtures("sampled_chain")
def test_compare_writes_everything_it_names(capsys: Captured, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "report"
    argv = ["compare", "tiny", "--codecs", "ssvq:k=16,d=8", "-m", "edge64", "-m", "u65-mid", "-o", str(folder)]
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert (folder / "table.txt").read_text() == out
    assert err == f"wrote tables, plots and runs to {folder}\n"
    for name in (
        "table.csv",
        "comparison.json",
        "traffic.png",
        "speedup.png",
        "arrays.png",
        "layers.png",
        "report.html",
    ):
        assert (folder / name).stat().st_size
    stems = {
        f"{m}.{c}{only}"
        for m in ("edge64", "u65-mid")
        for c in ("int8", "ssvq-k-16-d-8")
        for only in ("", ".gemm-only")
    }
    assert {path.name for path in folder.glob("*.run.json")} == {f"{stem}.run.json" for stem in stems}
    assert out.count(str(folder / "speedup.png")) == 2 and out.count("Crossover:") == 2
    paragraphs = [" ".join(part.split()) for part in out.split("\n\n")]
    assert any(part.startswith("edge64: compression pays: ssvq:k=16,d=8") for part in paragraphs)
    assert any(part.startswith("u65-mid: compression does not pay here") for part in paragraphs)
    assert "Weights: from net.onnx." in paragraphs[1] and "bank by bank (bgLow), peak 6.4 B/cycle" in out


@pytest.mark.usefixtures("sampled_chain")
def test_compare_document_holds_the_table_and_the_curves(capsys: Captured, tmp_path: Path) -> None:
    argv = ["compare", "tiny", "--codecs", "int4", "-m", "edge64-ideal", "--bandwidths", "1", "64", "-o", str(tmp_path)]
    document = printed_json(capsys, *argv, "--json")
    assert document == json.loads((tmp_path / "comparison.json").read_text())
    assert [row["codec"] for row in document["rows"]] == ["int8", "int4"]
    (machine,) = document["machines"]
    assert machine["bandwidths_bytes_per_cycle"] == [1.0, 5.12, 64.0]
    assert machine["curves"]["int8"]["speedup"] == [1, 1, 1]
    assert machine["curves"]["int4"]["speedup"][1] == document["rows"][1]["speedup"]
    assert machine["arrays"]["names"] == ["16x16", "32x32", "64x64", "128x128"]
    assert machine["arrays"]["speedup"]["int4"][2] == document["rows"][1]["speedup"]
    assert read_comparison(tmp_path / "comparison.json") == document
    rows = list(csv.DictReader(io.StringIO((tmp_path / "table.csv").read_text())))
    assert [float(row["speedup"]) for row in rows] == [row["speedup"] for row in document["rows"]]


@pytest.mark.usefixtures("sampled_chain")
def test_an_array_the_model_does_not_fit_is_left_out(capsys: Captured, tmp_path: Path, monkeypatch: Patch) -> None:
    whole = compiler.compile_model

    def refuse(packed: Packed, machine: Machine, **options: object) -> object:
        if machine.array.rows == 128 and str(packed.layers["w"].codec) == "int4":
            raise CompileError("too large")
        return whole(packed, machine, **options)

    monkeypatch.setattr(compiler, "compile_model", refuse)
    document = printed_json(
        capsys, "compare", "tiny", "--codecs", "int4", "-m", "edge64", "-o", str(tmp_path), "--json"
    )
    assert document["machines"][0]["arrays"]["names"] == ["16x16", "32x32", "64x64"]


@pytest.fixture
def two_layers(monkeypatch: Patch) -> None:
    """A model whose second layer is too small for a codebook of 256 entries to pay."""
    parameters = {"w1": (256, 64), "w2": (64, 8)}
    ops = (Op("fc1", "gemm", ("x", "w1"), "h"), Op("cut", "slice", ("h",), "g", {"axis": 2, "start": 0, "stop": 8}))
    ops += (Op("fc2", "gemm", ("g", "w2"), "y"),)
    graph = Graph("two", {"x": (1, 4, 64)}, parameters, ops, ("y",))
    rng = np.random.default_rng(0)
    values = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in parameters.items()}
    source = {"spec": "two", "description": "two layers", "weights": "random", "trained": False, "sha256": "0" * 64}
    model = frontend.LoadedModel(graph, values, source)
    monkeypatch.setattr(frontend, "load_model", lambda spec, **options: model)


@pytest.mark.usefixtures("two_layers")
def test_compare_keeps_layers_of_every_format_but_int8_and_says_so(capsys: Captured, tmp_path: Path) -> None:
    argv = ["compare", "two", "--codecs", "vq:k=256,d=4", "int4", "--bandwidths", "4", "-o", str(tmp_path)]
    argv += ["--keep", "fc1=ssvq:k=16,d=8"]
    assert main(argv) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "vq:k=256,d=4: 1 of 2 layers are ssvq:k=16,d=8 (kept by pattern 'fc1')" in out
    assert "vq:k=256,d=4: 1 of 2 layers stay int8 (w2: vq:k=256,d=4 would take 1152 bytes, int8 takes 512)" in out
    assert "int4: 1 of 2 layers are ssvq:k=16,d=8 (kept by pattern 'fc1')" in out
    assert "note: int8:" not in out
    rows = json.loads((tmp_path / "comparison.json").read_text())["rows"]
    assert [row["codec"] for row in rows] == ["int8", "vq:k=256,d=4", "int4"]
    assert rows[0]["bits_per_weight"] > 8 > rows[1]["bits_per_weight"]
