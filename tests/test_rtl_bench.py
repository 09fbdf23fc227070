"""The runner of cocotb benches itself: both simulators, shared builds, and failures that say what failed."""

from __future__ import annotations

from pathlib import Path

import pytest
from bench_runner import SIMULATORS, BenchError, run_bench
from rtl_stand_in import StandIn

from accel.errors import ToolError
from rtl import tools
from rtl.verilog import to_verilog

pytestmark = pytest.mark.rtl
BENCH = "tb_stand_in"


@pytest.fixture(scope="module")
def verilog(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    path = tmp_path_factory.mktemp("stand_in") / "decoder.v"
    path.write_text(to_verilog(StandIn()))
    return [path]


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_bench_passes(simulator: str, verilog: list[Path], tmp_path: Path) -> None:
    passed = run_bench(verilog, "decoder", BENCH, tmp_path, simulator=simulator).passed
    assert passed == ("reads_what_was_written", "reset_leaves_the_table")


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_failure_is_told_in_the_words_of_the_bench(simulator: str, verilog: list[Path], tmp_path: Path) -> None:
    wrong = {"STAND_IN_WRONG_AT": "77", "STAND_IN_CYCLES": "100"}
    with pytest.raises(BenchError, match=r"reads_what_was_written: .*word of cycle 77"):
        run_bench(verilog, "decoder", BENCH, tmp_path, simulator=simulator, environment=wrong)


def test_one_test_alone(verilog: list[Path], tmp_path: Path) -> None:
    result = run_bench(verilog, "decoder", BENCH, tmp_path, only="reset_leaves_the_table")
    assert result.passed == ("reset_leaves_the_table",)


@pytest.mark.parametrize(("bench", "only"), [(BENCH, "no_such_test"), ("tb_no_such_module", None)])
def test_nothing_run_is_a_failure(bench: str, only: str | None, verilog: list[Path], tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"no test was run|without results|No module named 'tb_no_such_module'"):
        run_bench(verilog, "decoder", bench, tmp_path, only=only)


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_verilog_that_cannot_be_built(simulator: str, tmp_path: Path) -> None:
    path = tmp_path / "broken.v"
    path.write_text("module decoder(input clk); endmodul\n")
    with pytest.raises(BenchError, match=rf"{simulator} cannot build decoder:\n(.|\n)*syntax error"):
        run_bench([path], "decoder", BENCH, tmp_path, simulator=simulator)


def test_one_build_serves_all(verilog: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_bench(verilog, "decoder", BENCH, tmp_path, only="reset_leaves_the_table")
    monkeypatch.setattr("bench_runner._build", lambda *_: pytest.fail("built again"))
    run_bench(verilog, "decoder", BENCH, tmp_path, only="reset_leaves_the_table")


def test_missing_simulator(verilog: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "tool_environment", lambda: {"PATH": "/nonexistent"})
    with pytest.raises(ToolError, match=r"^iverilog is not installed: apt-get install iverilog$"):
        run_bench(verilog, "decoder", BENCH, tmp_path)
