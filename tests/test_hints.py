"""Mistakes that are easily made are answered with what was meant: another spelling, another command."""

from __future__ import annotations

import gzip
import json
import os
import threading
from pathlib import Path

import pytest
from cli_calls import Captured, refused
from run_samples import sample_run, write_sample_trace
from strategies import Coding, pack_randomly
from tiny_models import cnn

from accel.errors import nearest
from accel.machine import load_machine
from accel.packed import read_packed, write_packed
from accel.program import write_program
from accel.run import write_run
from accel.schemas import FILE_KINDS, kind_text, misplaced, schema_of
from compiler import compile_model


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of each kind, under a name that says nothing."""
    folder, run = tmp_path_factory.mktemp("files"), sample_run(blocks=1)
    found = {family: folder / family.replace(".", "-") for family in FILE_KINDS}
    packed = pack_randomly(cnn(), Coding("int8", "out", False))
    write_packed(packed, found["accel.packed"])
    write_program(compile_model(packed, load_machine("edge64")), found["accel.program"])
    write_run(run, found["accel.run"])
    trace = write_sample_trace(run, folder / "trace.json")
    found["accel.trace"].write_bytes(gzip.compress(trace.read_bytes()))
    for family in ("accel.difference", "accel.comparison", "accel.checkpoint"):
        found[family].write_text(json.dumps({"schema": f"{family}/1"}))
    results = pytest.importorskip("accel.sweep.results")
    results.write_results([{"point": 0}], {}, found["accel.sweep"])
    return found | {"plain trace": trace}


def test_every_kind_is_recognised_whatever_its_name(files: dict[str, Path]) -> None:
    for name, path in files.items():
        family = "accel.trace" if name == "plain trace" else name
        assert schema_of(path).partition("/")[0] == family


def test_what_is_none_of_ours_is_not_taken_for_it(tmp_path: Path) -> None:
    texts = (b"", b"{", b"{}", b"[1]", b'{"schema": 3}', b'{"schema": "other/1"}', b"PAR1", b"\x1f\x8b", b"\0" * 9,
             (12).to_bytes(8, "little") + b'{"a": [1, 2]}', b"[" * 100_000)  # fmt: skip
    path = tmp_path / "file"
    for text in texts:
        path.write_bytes(text)
        assert schema_of(path) == "", text[:40]
    assert schema_of(tmp_path) == schema_of(tmp_path / "none") == ""


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    asking = threading.Thread(target=schema_of, args=(tmp_path / "pipe",), daemon=True)
    asking.start()
    asking.join(5)
    assert not asking.is_alive()


VERBS = {
    "compile": (["compile", "FILE", "-o", "out"], {"accel.packed"}),
    "sim": (["sim", "FILE"], {"accel.program"}),
    "report": (["report", "FILE"], {"accel.run"}),
    "diff": (["diff", "FILE", "FILE"], {"accel.run"}),
    "compress": (["compress", "FILE", "--codec", "int8", "-o", "out"], set()),
    "compare": (["compare", "FILE", "-o", "out"], set()),
    "sweep": (["sweep", "FILE", "-o", "out.parquet"], set()),
    "curves": (["report", "RUN", "--format", "html", "--curves", "FILE"], {"accel.comparison"}),
    "trace": (["report", "RUN", "--format", "html", "--trace", "FILE"], {"accel.trace", "plain trace"}),
}


@pytest.mark.parametrize("verb", VERBS)
def test_another_kind_of_file_is_named_with_the_command_that_takes_it(
    verb: str, files: dict[str, Path], capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words, taken = VERBS[verb]
    for name, path in files.items():
        if name not in taken:
            argv = [{"FILE": str(path), "RUN": str(files["accel.run"])}.get(word, word) for word in words]
            line = refused(capsys, *argv)
            assert kind_text(schema_of(path)) in line and str(path) in line, (verb, name)
    assert not list(tmp_path.iterdir())


def test_a_model_goes_to_compress_first(capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"whatever it holds")
    line = refused(capsys, "compile", str(tmp_path / "net.onnx"), "-o", str(tmp_path / "out"))
    assert "it is a model; accel compress takes it" in line


def test_a_packed_model_is_one_whatever_its_name(files: dict[str, Path], tmp_path: Path) -> None:
    named = tmp_path / "net.onnx"
    named.write_bytes(files["accel.packed"].read_bytes())
    assert list(read_packed(named).layers) == list(read_packed(files["accel.packed"]).layers)


def test_files_that_are_no_models_are_told_from_misspelt_names(capsys: Captured, tmp_path: Path) -> None:
    (tmp_path / "net.h5").write_text("weights")
    line = refused(capsys, "compress", str(tmp_path / "net.h5"), "--codec", "int8", "-o", str(tmp_path / "out"))
    assert "suffix '.h5'; MODEL is a file (.onnx, .pt2)" in line and "unknown model" not in line
    assert misplaced("accel.run/1", "accel.packed/1").endswith("; expected schema 'accel.packed/1'")


@pytest.mark.parametrize("word", ["d", "x", "e", "ab", "q9", "", "zzz"])
def test_few_letters_are_close_to_nothing(word: str) -> None:
    assert nearest(word, ["deit_tiny", "edge64", "dram.bandwidth_bytes_per_cycle", "xnor"]) == ""


@pytest.mark.parametrize(("word", "meant"), [("dd", "d"), ("de", "deit_tiny"), ("LDB", "LDC"), ("edge46", "edge64")])
def test_what_is_close_is_suggested(word: str, meant: str) -> None:
    assert nearest(word, ["k", "d", "deit_tiny", "LDC", "edge64"]) == f"; did you mean '{meant}'?"
