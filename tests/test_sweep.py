"""A sweep's rows are those of single simulations; only what is new is simulated, and bad arguments are told first."""

from __future__ import annotations

from pathlib import Path

import pytest
from sweep_cases import SPEC, case_folder, run, write_case

pytest.importorskip("pyarrow")

import accel
from accel.cli import main
from accel.machine import load_machine
from accel.sweep.columns import sram_bytes
from accel.sweep.pareto import on_front

here = pytest.fixture(case_folder)


def test_every_row_is_what_simulating_alone_gives(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run(here)
    assert [row["point"] for row in rows] == list(range(12)) and {row["status"] for row in rows} == {"done"}
    assert "12 points; 12 simulated now" in capsys.readouterr().err
    for row in rows:
        settings = {key.removeprefix("machine."): value for key, value in row.items() if key.startswith("machine.")}
        overrides = [f"{key}={value}" for key, value in settings.items() if value is not None]
        machine = load_machine("edge64-ideal", overrides)
        alone = accel.simulate(str(here / "model.onnx"), machine, codec=row["codec"])
        assert row["total_cycles"] == alone.total_cycles and row["seconds"] == alone.seconds
        assert row["energy_total"] == alone.energy_total and row["dram_bytes_total"] == alone.dram_bytes_total
        assert row["cycles_by_cause.compute"] == alone.cycles_by_cause["compute"]
        assert row["dram_bytes.weights"] == alone.dram_bytes["weights"] and row["sram_bytes"] == sram_bytes(machine)
        pair = next(r for r in rows if r["codec"] == "int8" and r["machine_digest"] == row["machine_digest"])
        assert row["speedup"] == pair["total_cycles"] / row["total_cycles"]
    objectives = ("seconds", "energy_total", "sram_bytes")
    assert [row["pareto"] for row in rows] == on_front(rows, dict.fromkeys(objectives, "minimize"))


def test_only_what_is_new_is_simulated(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(here)
    assert run(here) == first and "12 points; 0 simulated now" in capsys.readouterr().err
    write_case(here, SPEC.replace("to = 4, factor", "to = 8, factor"))
    assert len(run(here)) == 16 and "16 points; 4 simulated now" in capsys.readouterr().err
    (here / "energy.toml").write_text("[energy]\ndram.ideal = { pj_per_bit = 1 }\n")
    write_case(here, "energy = 'energy.toml'\n" + SPEC)
    cheaper = run(here)
    assert "12 points; 12 simulated now" in capsys.readouterr().err
    assert all(a["energy_total"] < b["energy_total"] for a, b in zip(cheaper, first, strict=True))


def test_impossible_points_are_recorded_with_their_reason(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_case(here, SPEC.replace("[8, 16]", "[1, 8, 4096]"))
    rows = run(here)
    refused = {row["point"]: row["reason"] for row in rows if row["status"] == "refused"}
    assert len(rows) == 18 and len(refused) == 9 and "18 points, 9 of them refused" in capsys.readouterr().err
    assert sum("machine key array.rows = 4096; allowed: 1 to 1024" in reason for reason in refused.values()) == 6
    assert sum("vectors" in reason for reason in refused.values()) == 3, "vectors of 4 do not fit one column"
    assert all(row["total_cycles"] is None and not row["pareto"] for row in rows if row["status"] == "refused")
    assert all(row["machine.array.rows"] in (1, 4096) for row in rows if row["status"] == "refused")


def test_a_sweep_without_a_possible_point_is_a_bad_spec(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_case(here, SPEC.replace("[8, 16]", "[4096]"))
    assert main(["sweep", str(here / "spec.toml"), "-o", str(here / "r.parquet"), "--workers", "1"]) == 2
    error = capsys.readouterr().err
    assert "not one of 6 points is possible; the first: machine key array.rows = 4096" in error
    assert error.count("\n") == 1 and not (here / "r.parquet").exists()


def test_tpe_finds_the_best_corner_and_repeats_itself(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    search = '[search]\nmethod = "tpe"\npoints = 30\nat_a_time = 10\n[objectives]\nseconds = "minimize"\n'
    write_case(here, SPEC + search)
    rows = run(here)
    assert len({row["machine_digest"] + str(row["codec"]) for row in rows}) == len(rows) <= 12
    assert run(here) == rows and "; 0 simulated now" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["energy.toml", "a.csv", "model.onnx"])
def test_no_input_is_overwritten(here: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (here / "energy.toml").write_text("[energy]\ndram.ideal = { pj_per_bit = 1 }\n")
    (here / "a.csv").write_text("codec,accuracy\nint8,0.9\n")
    write_case(here, "energy = 'energy.toml'\naccuracy = 'a.csv'\n" + SPEC)
    before = (here / name).read_bytes()
    assert main(["sweep", str(here / "spec.toml"), "-o", str(here / name), "--workers", "1"]) == 2
    assert "which would be lost" in capsys.readouterr().err and (here / name).read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["-o", "none/r.parquet"], "folder 'none' does not exist"),
        (["-o", "r.parquet", "--plot", "f.bmp"], "suffix '.bmp'; allowed: .png, .svg, .pdf"),
        (["-o", "r.parquet", "--workers", "0"], "allowed: a whole number of at least 1"),
        (["-o", "spec.toml"], "is the input"),
        (["-o", "r.csv"], "-o r.csv: suffix '.csv'; allowed: .parquet"),
        (["-o", "r.parquet", "--plot", "f.jpg"], "suffix '.jpg'; allowed: .png, .svg, .pdf"),
    ],
)
def test_bad_arguments(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], part: str
) -> None:
    monkeypatch.chdir(here)
    try:
        code = main(["sweep", "spec.toml", *arguments])
    except SystemExit as error:
        code = error.code
    assert code == 2 and part in capsys.readouterr().err


def test_what_cannot_be_written_is_told_before_any_work(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(*_: object) -> None:
        raise AssertionError("the sweep began")

    monkeypatch.setattr("accel.cli.sweep_run.Sweep.explore", work)
    write_case(here, SPEC + "\n[objectives]\ntotal_cycles = 'minimize'\n")
    for output, plot, part in (("r.parquet", "f.png", "one objective"), ("r.csv", "f.png", "suffix '.csv'")):
        assert main(["sweep", str(here / "spec.toml"), "-o", str(here / output), "--plot", str(here / plot)]) == 2
        assert part in capsys.readouterr().err
