"""The command line: help and lists, one stderr line and exit code 2 for a mistake, nothing lost, the whole chain."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from cli_calls import printed_json, refused
from differential import check_values, random_inputs

from accel import __version__
from accel.cli import VERBS, main, verb_name
from accel.cli.options import check_outputs
from accel.codecs import parse_codec
from accel.isa import Instruction, encode
from accel.machine import preset_names
from accel.occupancy import MEMORIES
from accel.packed import read_packed
from accel.program import read_program, write_program
from accel.run import read_run
from compiler import frontend
from sim.occupancy import sram_occupancy

pytest_plugins = ["cli_models"]
Captured = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


NAMES = [verb_name(verb) for verb in VERBS]


@pytest.mark.parametrize("name", NAMES)
def test_every_verb_has_help_with_an_example(name: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    out = capsys.readouterr().out
    assert f"Example:\n  accel {name}" in out


def test_version(capsys: Captured) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"accel {__version__}\n"


def test_help_imports_nothing_heavy() -> None:
    check = "import sys; from accel.cli import build_parser; build_parser(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    heavy = {"numpy", "numba", "matplotlib", "rich", "onnx", "torch", "faiss", "amaranth"}
    assert not loaded & (heavy | {"compiler", "sim", "rtl"})


def test_lists(capsys: Captured) -> None:
    assert [row["name"] for row in printed_json(capsys, "machines", "--json")] == list(preset_names())
    assert "deit_tiny" in [row["spec"] for row in printed_json(capsys, "models", "--json")]
    for row in printed_json(capsys, "codecs", "--json"):
        assert parse_codec(row["example"]).bits_per_weight == row["bits_per_weight"]
    for verb in ("machines", "models", "codecs"):
        assert main([verb]) == 0
        assert capsys.readouterr().out.count("\n") > 5


MISTAKES = {
    "verb": (["compres"], "invalid choice: 'compres'"),
    "misspelt verb": (["rpeort", "a"], "did you mean 'report'?"),
    "option of another verb": (
        ["sim", "a.prog.safetensors", "-m", "edge32"],
        "accel sim: unrecognized arguments: -m edge32 (see accel sim --help)",
    ),
    "folder nobody can make": (["compare", "deit_tiny", "-o", "/proc/x"], "cannot write '/proc/x': No such file"),
    "no argument": (["compress"], "required: MODEL"),
    "model": (["compress", "deit_tin", "--codec", "int8", "-o", "a"], "did you mean 'deit_tiny'"),
    "codec": (["compress", "deit_tiny", "--codec", "svq:k=16,d=8", "-o", "a"], "did you mean 'ssvq'"),
    "mask": (
        ["compress", "deit_tiny", "--codec", "mvq:k=16,d=8,nm=8:8", "-o", "a"],
        "N=8 of M=8 kept; allowed: 1 to 7",
    ),
    "groups": (["compress", "deit_tiny", "--codec", "mvq:k=16,d=9,nm=2:4", "-o", "a"], "allowed: multiples of M=4"),
    "wide": (["compress", "deit_tiny", "--codec", "mvq:k=16,d=16,nm=8:16", "-o", "a"], "allowed: at most 12 bits"),
    "rank": (["compress", "deit_tiny", "--codec", "lr2vq:k=16,m=8,r=9", "-o", "a"], "r=9; allowed: 1 to 8"),
    "stages": (["compress", "deit_tiny", "--codec", "rvq:k=16,d=8,stages=1", "-o", "a"], "is vq:k=16,d=8"),
    "keep": (["compress", "deit_tiny", "--codec", "int8", "--keep", "head", "-o", "a"], "--keep head; allowed: GLOB="),
    "kept codec": (["compare", "deit_tiny", "--keep", "a=int7", "-o", "a"], "codec 'int7'"),
    "folder": (["compress", "deit_tiny", "--codec", "int8", "-o", "no/a"], "folder 'no' does not exist"),
    "output is a folder": (["compress", "deit_tiny", "--codec", "int8", "-o", "."], "'.' is a folder"),
    "machine": (["compile", "a", "-m", "edge46", "-o", "a"], "did you mean 'edge64'"),
    "override": (
        ["compile", "a", "--set", "dram.bandwith=8", "-o", "a"],
        "--set dram.bandwith=8; did you mean 'dram.bandwidth_bytes_per_cycle'? allowed: KEY=VALUE with KEY in clock.hz",
    ),
    "batch": (["compile", "a", "--batch", "0", "-o", "a"], "'0'; allowed: a whole number of at least 1"),
    "packed": (["compile", "missing.vq.safetensors", "-o", "a"], "missing.vq.safetensors"),
    "program": (["sim", "missing.prog.safetensors"], "missing.prog.safetensors"),
    "run": (["report", "missing.run.json"], "'missing.run.json': no such file"),
    "machine file": (["compile", "a", "-m", "nope.toml", "-o", "a"], "'nope.toml': no such file"),
    "input shape": (["compare", "a.onnx", "--input-shape", "x=1xa", "-o", "a"], "'x=1xa'; allowed: NAME=SIZES"),
    "format": (["report", "a", "--format", "pdf"], "invalid choice: 'pdf'"),
    "instruction": (["isa", "--asm", "LDX sram=1"], "instruction 'LDX'"),
    "field": (["isa", "--asm", "LDC adress=1"], "did you mean 'address'"),
    "nothing asked": (["isa"], "one of the arguments --markdown --disasm --asm is required"),
    "twice": (["compare", "deit_tiny", "-m", "edge64", "-m", "edge64", "-o", "d"], "two machines are called 'edge64'"),
    "bandwidth": (["compare", "deit_tiny", "--bandwidths", "nan", "-o", "d"], "'nan'; allowed: a number above 0"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(name: str, capsys: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    argv, expected = MISTAKES[name]
    monkeypatch.chdir(tmp_path)
    assert expected in refused(capsys, *argv)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_what_goes_wrong_outside_is_one_line_too(
    error: BaseException, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("accel.machine.preset_names", fail)
    refused(capsys, "machines")


def test_interrupted(tiny_model: frontend.LoadedModel, capsys: Captured, tmp_path: Path, monkeypatch: Patch) -> None:
    """Exit code of shells for Ctrl-C, one line, and no empty folder."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("compiler.compress.compress", interrupt)
    assert main(["compare", "tiny", "-o", str(tmp_path / "new")]) == 130
    assert capsys.readouterr() == ("", "accel: interrupted\n")
    assert not list(tmp_path.iterdir())


OVERWRITING = {
    "compress": ["in", "--codec", "int8", "-o", "out"],
    "compress an architecture": ["deit_tiny:in", "--codec", "int8", "-o", "out"],
    "compile": ["in", "-o", "out"],
    "compile for": ["a", "-m", "in", "-o", "out"],
    "sim": ["in", "-o", "out"],
    "report": ["a", "in", "-o", "out"],
    "report a plot": ["in", "--plot", "out"],
}


@pytest.mark.parametrize("case", OVERWRITING)
@pytest.mark.parametrize("output", ["in", "./in", "link", "hard"])
def test_an_input_is_never_overwritten(
    case: str, output: str, capsys: Captured, tmp_path: Path, monkeypatch: Patch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("in").write_text("precious")
    Path("link").symlink_to("in")
    Path("hard").hardlink_to("in")
    argv = [output if word == "out" else word for word in OVERWRITING[case]]
    assert "would be lost" in refused(capsys, case.split()[0], *argv)
    assert Path("in").read_text() == "precious"


TWO_OUTPUTS = {
    "sim": ["a", "-o", "x.json", "--trace", "./x.json"],
    "run": ["a", "--input", "b", "-o", "x.json", "--trace", "x.json"],
    "finetune": ["a", "--codec", "int8", "--data", "b", "-o", "x", "--log", "link"],
    "report": ["a", "--plot", "x.svg", "--plot", "x.svg"],
    "rtl decoder": ["--codec", "vq:k=16,d=4", "--fpga", "ecp5-25k", "-o", "x", "--report", "x"],
}


@pytest.mark.parametrize("verb", TWO_OUTPUTS)
def test_two_outputs_are_two_files(verb: str, capsys: Captured, tmp_path: Path, monkeypatch: Patch) -> None:
    """Also where none of them exists yet."""
    monkeypatch.chdir(tmp_path)
    Path("link").symlink_to("x")
    assert "is the file of two outputs; write them to two files" in refused(capsys, *verb.split(), *TWO_OUTPUTS[verb])
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_what_lies_in_an_input_folder_is_input(capsys: Captured, tmp_path: Path, monkeypatch: Patch) -> None:
    """What is read of it is not written, nor is anything that the next run would read."""
    monkeypatch.chdir(tmp_path)
    for folder in ("net", "data", "m.mlpackage/Data"):
        Path(folder).mkdir(parents=True)
    for name in ("net/w.safetensors", "net/config.json", "data/x.npz", "m.mlpackage/Data/w.bin"):
        Path(name).write_text("precious")
    Path("link").symlink_to("net/w.safetensors")
    Path("other").symlink_to("net")
    tune = ["finetune", "a", "--codec", "int8", "--data", "data"]
    for argv, output in (
        (["import", "net"], "net/w.safetensors"),
        (["import", "net"], "net/config.json"),
        (["import", "net"], "link"),
        (["import", "m.mlpackage"], "m.mlpackage/Data/w.bin"),
        (tune, "data/x.npz"),
        ([*tune, "-o", "y", "--log"], "data/x.npz"),
    ):
        option = [] if argv[-1] == "--log" else ["-o"]
        assert "would be lost" in refused(capsys, *argv, *option, output)
    for argv, output in ((["import", "net"], "other/y.vq.safetensors"), (tune, "data/y.npz")):
        assert "would be read as part of the input" in refused(capsys, *argv, "-o", output)
    assert {path.read_text() for path in tmp_path.rglob("*") if path.is_file()} == {"precious"}


def test_outputs_beside_what_is_read_in_a_folder(tmp_path: Path, monkeypatch: Patch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.npz").write_text("precious")
    check_outputs([Path("net.vq.safetensors"), Path("log.csv"), None], [".", ""], ["*.npz"])
    check_outputs([Path(os.devnull), Path(os.devnull)], [])


def _codecs_into(stdout: int) -> subprocess.CompletedProcess[str]:
    """``accel codecs`` in a process of its own, with Python's usual buffering of stdout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "accel.cli", "codecs"]
    return subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, env=environment)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")  # noqa: PTH110
def test_full_disk_behind_stdout() -> None:
    with Path("/dev/full").open("w") as full:
        done = _codecs_into(full.fileno())
    assert (done.returncode, done.stderr) == (2, "accel: No space left on device\n")


def test_reader_that_leaves_early() -> None:
    read, write = os.pipe()
    os.close(read)
    done = _codecs_into(write)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_assembler_prints_words_of_stdin_and_arguments(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "# a comment\nLDC address=0x40 bytes=128 bank=1 push=decode\n\nFIN\n"
    expected = [encode(Instruction("LDC", {"address": 64, "bytes": 128, "bank": 1}, push=("decode",)))]
    expected.append(encode(Instruction("FIN")))
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    for argument in (text, "-"):
        assert main(["isa", "--asm", argument]) == 0
        assert [bytes.fromhex(line) for line in capsys.readouterr().out.split()] == expected


@pytest.mark.usefixtures("tiny_model")
@pytest.mark.parametrize("codec", ["mvq:k=16,d=8,nm=2:4", "lr2vq:k=16,m=8,r=3", "rvq:k=16,d=8,stages=2"])
def test_masked_folded_and_residual_codecs_run_and_compare(codec: str, capsys: Captured, tmp_path: Path) -> None:
    packed, program = (str(tmp_path / f"net.{kind}.safetensors") for kind in ("vq", "prog"))
    assert main(["compress", "tiny", "--codec", codec, "--calibrate", "random:2", "-o", packed]) == 0
    assert main(["compile", packed, "-m", "edge32", "--verify", "-o", program]) == 0
    assert main(["sim", program, "--check"]) == 0
    outputs = tmp_path / "outputs.npz"
    assert main(["run", program, "--input", "random:1", "--against", packed, "-o", str(outputs)]) == 0
    assert main(["compare", "tiny", "--codecs", "int8", codec, "-o", str(tmp_path / "compared")]) == 0
    assert codec in capsys.readouterr().out
    model = read_packed(packed)
    check_values(read_program(program), model, random_inputs(model, np.random.default_rng(0)))


@pytest.mark.usefixtures("tiny_model")
def test_the_whole_chain(capsys: Captured, tmp_path: Path) -> None:
    packed, program, run = (
        str(tmp_path / f"net.{kind}") for kind in ("vq.safetensors", "prog.safetensors", "run.json")
    )
    assert main(["compress", "tiny", "--codec", "vq:k=16,d=4", "-o", packed]) == 0
    capsys.readouterr()
    summary = printed_json(capsys, "compile", packed, "-m", "edge32", "--verify", "-o", program, "--json")
    assert summary["macs"] == 4 * 64 * 64 and sum(summary["instructions"].values()) > 5
    document = printed_json(capsys, "sim", program, "--check", "-o", run, "--set", "vector.lanes=0", "--json")
    assert document == json.loads(Path(run).read_text())
    assert document["machine"]["vector"]["lanes"] == 0 and document["total_cycles"] > 100
    assert {level["memory"] for level in document["occupancy"]} == set(MEMORIES)
    found = sram_occupancy(read_program(program), read_run(run).machine)
    levels = {level.memory: max(level.held_bytes) for level in read_run(run).occupancy}
    assert levels == {memory: each.peak_bytes for memory, each in found.items()}
    assert main(["report", run]) == 0
    assert capsys.readouterr().out.startswith("vq:k=16,d=4: ")
    assert main(["isa", "--disasm", program]) == 0
    assert main(["isa", "--asm", capsys.readouterr().out]) == 0
    words = [bytes.fromhex(line) for line in capsys.readouterr().out.split()]
    assert b"".join(words) == read_program(program).words.tobytes()
    assert "recompile it" in refused(capsys, "sim", program, "--set", "array.rows=16")
    _damage_weights(Path(program))
    assert main(["sim", program, "--check"]) == 1
    assert "check failed" in capsys.readouterr().err


def _damage_weights(path: Path) -> None:
    """Flip one byte of the first weight stream."""
    program = read_program(path)
    image = program.image.copy()
    image[program.streams[0].address] ^= 1
    write_program(replace(program, image=image), path)


@pytest.mark.usefixtures("tiny_model")
def test_simulating_imports_no_front_end_and_no_plots(tmp_path: Path) -> None:
    packed, program = str(tmp_path / "net.vq.safetensors"), str(tmp_path / "net.prog.safetensors")
    assert main(["compress", "tiny", "--codec", "int8", "-o", packed]) == 0
    assert main(["compile", packed, "-o", program]) == 0
    check = "import sys; from accel.cli import main; main(sys.argv[1:]); print('modules:', *sys.modules)"
    command = [sys.executable, "-c", check, "sim", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.partition("modules:")[2].split())
    assert "numba" in loaded and not loaded & {"matplotlib", "onnx", "torch", "faiss", "rich", "compiler"}


def test_progress_bar_or_lines(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    from accel.cli import progress

    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    with progress.progress() as report:
        report(1, 4, "second layer")
    assert capsys.readouterr() == ("", " 25% second layer\n")
    monkeypatch.setattr(
        sys, "stderr", SimpleNamespace(isatty=lambda: True, write=lambda text: None, flush=lambda: None)
    )
    with progress.progress() as report:
        report(1, 4, "second [layer]")
