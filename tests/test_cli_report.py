"""``accel report``: every format and plot, and runs that are damaged."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from cli_calls import files_of_runs, printed_json, refused
from run_samples import sample_run

from accel.cli import main
from accel.run import run_to_json

Captured = pytest.CaptureFixture[str]


def test_truncated_files_are_refused_in_one_line(capsys: Captured, tmp_path: Path) -> None:
    (path,) = files_of_runs(tmp_path, sample_run(blocks=1))
    whole = Path(path).read_bytes()
    for damaged in (b"", whole[:1], whole[: len(whole) // 2], whole[:-3], b"[1]", b"{}", b"\xff" * 64):
        Path(path).write_bytes(damaged)
        refusal = refused(capsys, "report", path)
        assert path in refusal and "accel sim -o" in refusal and "Error" not in refusal
    Path(path).write_bytes(b'{"schema": "accel.run/1", "machine": 1}')
    assert "damaged" in refused(capsys, "report", path)
    Path(path).write_bytes(b"\xff" * 64)
    assert path in refused(capsys, "sim", path)
    assert path in refused(capsys, "isa", "--disasm", path)


def test_a_run_whose_parts_do_not_sum_is_refused(capsys: Captured, tmp_path: Path) -> None:
    path = tmp_path / "bad.run.json"
    path.write_text(run_to_json(sample_run(blocks=1)).replace('"total_cycles": ', '"total_cycles": 1', 1))
    assert "sums to" in refused(capsys, "report", str(path))


def test_report_and_plot_are_two_files(capsys: Captured, tmp_path: Path) -> None:
    both = str(tmp_path / "a.png")
    assert "write them to two files" in refused(capsys, "report", "a", "-o", both, "--plot", both)


def test_report_in_every_format(capsys: Captured, tmp_path: Path) -> None:
    one, two = files_of_runs(tmp_path, sample_run("int8"), sample_run("ssvq:k=16,d=8"))
    assert main(["report", one]) == 0
    text = capsys.readouterr().out
    assert "shapes, no trained weights" in text and "total_cycles" in text and "weight_dma 76 %" in text
    assert main(["report", one, two]) == 0
    assert "change" in capsys.readouterr().out
    tables = printed_json(capsys, "report", one, two, "--format", "json")["tables"]
    assert tables == printed_json(capsys, "report", one, two, "--json")["tables"]
    assert main(["report", one, two, "--format", "csv", "-o", str(tmp_path / "all.csv")]) == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "all.csv").read_text())))
    assert len(rows) == 2 * 61
    assert capsys.readouterr().out == ""


def test_a_wrong_suffix_of_a_plot_is_told_before_any_work(
    capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(_: str) -> None:
        raise AssertionError("runs were read")

    monkeypatch.setattr("accel.run.read_run", work)
    assert "'.jpg'; allowed: .png" in refused(capsys, "report", "a.run.json", "--plot", str(tmp_path / "a.jpg"))


def test_report_says_what_it_wrote(capsys: Captured, tmp_path: Path) -> None:
    (path,) = files_of_runs(tmp_path, sample_run(blocks=1))
    page, plot = tmp_path / "a.html", tmp_path / "a.svg"
    assert main(["report", path, "--format", "html", "-o", str(page), "--plot", f"roofline={plot}"]) == 0
    assert capsys.readouterr() == ("", f"wrote {plot}\nwrote {page}\n")


def test_report_plots(capsys: Captured, tmp_path: Path) -> None:
    files = files_of_runs(tmp_path, sample_run("int8", blocks=1), sample_run("int4", blocks=1))
    for count in (1, 2):
        plot = tmp_path / f"{count}.png"
        assert main(["report", *files[:count], "--plot", str(plot)]) == 0
        assert plot.stat().st_size > 1000
    assert ".gif" in _refused_after_output(capsys, "report", files[0], "--plot", str(tmp_path / "a.gif"))


def _refused_after_output(capsys: Captured, *argv: str) -> str:
    capsys.readouterr()
    return refused(capsys, *argv)
