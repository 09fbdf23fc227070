"""The command line: tables on stdout; one stderr line and exit code 2 for a mistake; what compare concludes."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from differential import check_values, random_inputs
from run_samples import BITS, sample_run

import compiler
import sim
from accel import __version__
from accel.cli import VERBS, main, verb_name
from accel.cli.comparison import (
    CodecResult,
    Crossover,
    MachineResult,
    array_grid,
    bandwidth_grid,
    find_crossover,
)
from accel.cli.comparison_tables import comparison_table
from accel.cli.curves import read_comparison
from accel.cli.verdict import verdict
from accel.codecs import parse_codec
from accel.errors import CompileError, FormatError
from accel.graph import Graph, Op
from accel.isa import Instruction, encode
from accel.machine import Machine, load_machine, preset_names
from accel.occupancy import MEMORIES
from accel.packed import Packed, read_packed
from accel.program import read_program, write_program
from accel.run import Run, read_run, run_to_json, write_run
from compiler import frontend
from sim.occupancy import sram_occupancy

NAMES = [verb_name(verb) for verb in VERBS]
Captured = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


def _json(capsys: Captured, *argv: str) -> object:
    assert main(list(argv)) == 0
    return json.loads(capsys.readouterr().out)


def _refused(capsys: Captured, *argv: str) -> str:
    """The one line a mistake is answered with; argparse leaves by ``SystemExit``."""
    try:
        code = main(list(argv))
    except SystemExit as leaving:
        code = leaving.code
    out, err = capsys.readouterr()
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert err.startswith("accel") and "Traceback" not in err
    return err


@pytest.fixture
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> frontend.LoadedModel:
    """A model of one linear layer that every MODEL argument stands for."""
    parameters = {"w": (64, 64), "b": (64,)}
    graph = Graph("tiny", {"x": (1, 4, 64)}, parameters, (Op("fc", "gemm", ("x", "w", "b"), "y"),), ("y",))
    values = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    source = {"spec": "tiny", "description": "one layer", "weights": "from net.onnx", "sha256": "0" * 64}
    model = frontend.LoadedModel(graph, {"w": values, "b": np.zeros(64, np.float32)}, source)
    monkeypatch.setattr(frontend, "load_model", lambda spec, **options: model)
    return model


def _files_of_runs(folder: Path, *runs: Run) -> list[str]:
    paths = [folder / f"{i}.run.json" for i in range(len(runs))]
    for run, path in zip(runs, paths, strict=True):
        write_run(run, path)
    return [str(path) for path in paths]


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
    assert [row["name"] for row in _json(capsys, "machines", "--json")] == list(preset_names())
    assert "deit_tiny" in [row["spec"] for row in _json(capsys, "models", "--json")]
    for row in _json(capsys, "codecs", "--json"):
        assert parse_codec(row["example"]).bits_per_weight == row["bits_per_weight"]
    for verb in ("machines", "models", "codecs"):
        assert main([verb]) == 0
        assert capsys.readouterr().out.count("\n") > 5


MISTAKES = {
    "verb": (["compres"], "invalid choice: 'compres'"),
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
    assert expected in _refused(capsys, *argv)
    assert not list(tmp_path.iterdir())


def test_truncated_files_are_refused_in_one_line(capsys: Captured, tmp_path: Path) -> None:
    (path,) = _files_of_runs(tmp_path, sample_run(blocks=1))
    whole = Path(path).read_bytes()
    for damaged in (b"", whole[:1], whole[: len(whole) // 2], whole[:-3], b"[1]", b"{}", b"\xff" * 64):
        Path(path).write_bytes(damaged)
        refusal = _refused(capsys, "report", path)
        assert path in refusal and "accel sim -o" in refusal and "Error" not in refusal
    Path(path).write_bytes(b'{"schema": "accel.run/1", "machine": 1}')
    assert "damaged" in _refused(capsys, "report", path)
    Path(path).write_bytes(b"\xff" * 64)
    assert path in _refused(capsys, "sim", path)
    assert path in _refused(capsys, "isa", "--disasm", path)


def test_a_run_whose_parts_do_not_sum_is_refused(capsys: Captured, tmp_path: Path) -> None:
    path = tmp_path / "bad.run.json"
    path.write_text(run_to_json(sample_run(blocks=1)).replace('"total_cycles": ', '"total_cycles": 1', 1))
    assert "sums to" in _refused(capsys, "report", str(path))


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), MemoryError()])
def test_what_goes_wrong_outside_is_one_line_too(
    error: BaseException, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("accel.machine.preset_names", fail)
    _refused(capsys, "machines")


def test_interrupted(tiny_model: frontend.LoadedModel, capsys: Captured, tmp_path: Path, monkeypatch: Patch) -> None:
    """Exit code of shells for Ctrl-C, one line, and no empty folder."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("compiler.compress.compress", interrupt)
    assert main(["compare", "tiny", "-o", str(tmp_path / "new")]) == 130
    assert capsys.readouterr() == ("", "accel: interrupted\n")
    assert not list(tmp_path.iterdir())


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
    assert "No space left" in _refused(capsys, "compare", "tiny", "-o", str(folder))
    assert folder.exists() == existed


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
    assert "would be lost" in _refused(capsys, case.split()[0], *argv)
    assert Path("in").read_text() == "precious"


def test_report_and_plot_are_two_files(capsys: Captured, tmp_path: Path) -> None:
    both = str(tmp_path / "a.png")
    assert "both -o and --plot" in _refused(capsys, "report", "a", "-o", both, "--plot", both)


@pytest.mark.parametrize("verb", [["compress", "--codec", "int8"], ["compare"]])
def test_a_model_without_weights(
    verb: list[str], tiny_model: frontend.LoadedModel, capsys: Captured, tmp_path: Path, monkeypatch: Patch
) -> None:
    graph = Graph("bare", {"x": (1, 4, 64)}, {}, (Op("act", "relu", ("x",), "y"),), ("y",))
    bare = replace(tiny_model, graph=graph, weights={})
    monkeypatch.setattr(frontend, "load_model", lambda spec, **options: bare)
    assert "nothing to compress: 'tiny'" in _refused(capsys, *verb, "bare", "-o", str(tmp_path / "new"))
    assert not list(tmp_path.iterdir())


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


def test_report_in_every_format(capsys: Captured, tmp_path: Path) -> None:
    one, two = _files_of_runs(tmp_path, sample_run("int8"), sample_run("ssvq:k=16,d=8"))
    assert main(["report", one]) == 0
    text = capsys.readouterr().out
    assert "shapes, no trained weights" in text and "total_cycles" in text and "weight_dma 76 %" in text
    assert main(["report", one, two]) == 0
    assert "change" in capsys.readouterr().out
    tables = _json(capsys, "report", one, two, "--format", "json")["tables"]
    assert tables == _json(capsys, "report", one, two, "--json")["tables"]
    assert main(["report", one, two, "--format", "csv", "-o", str(tmp_path / "all.csv")]) == 0
    rows = list(csv.DictReader(io.StringIO((tmp_path / "all.csv").read_text())))
    assert len(rows) == 2 * 61
    assert capsys.readouterr().out == ""


def test_report_plots(capsys: Captured, tmp_path: Path) -> None:
    files = _files_of_runs(tmp_path, sample_run("int8", blocks=1), sample_run("int4", blocks=1))
    for count in (1, 2):
        plot = tmp_path / f"{count}.png"
        assert main(["report", *files[:count], "--plot", str(plot)]) == 0
        assert plot.stat().st_size > 1000
    assert ".gif" in _refused_after_output(capsys, "report", files[0], "--plot", str(tmp_path / "a.gif"))


def _refused_after_output(capsys: Captured, *argv: str) -> str:
    capsys.readouterr()
    return _refused(capsys, *argv)


def test_compress_writes_the_file_and_says_what_it_cost(
    tiny_model: frontend.LoadedModel, capsys: Captured, tmp_path: Path
) -> None:
    path = tmp_path / "net.vq.safetensors"
    argv = ["compress", "tiny", "--codec", "ssvq:k=16,d=8", "-o", str(path)]
    document = _json(capsys, *argv, "--json")
    packed = read_packed(path)
    assert packed.source.description["weights"] == "from net.onnx"
    assert document["weights"] == 64 * 64
    assert document["weight_bytes"] == 64 * 64 * 1.5 / 8 + 16 * 8 + 64 * 4  # codes and signs, codebook, scales
    assert 0 < document["relative_error"] == document["layers"][0]["relative_error"] < 0.5
    assert main([*argv, "--keep", "fc=int8"]) == 0
    assert "kept by pattern 'fc'" in capsys.readouterr().out


def test_input_shapes_reach_the_loader(tiny_model: frontend.LoadedModel, tmp_path: Path, monkeypatch: Patch) -> None:
    seen = {}
    monkeypatch.setattr(frontend, "load_model", lambda spec, **options: (seen.update(options), tiny_model)[1])
    shapes = ["--input-shape", "a=1x3", "--input-shape", "b=c=2"]
    assert main(["compress", "tiny", *shapes, "--codec", "int8", "-o", str(tmp_path / "a")]) == 0
    assert seen["input_shapes"] == {"a": (1, 3), "b=c": (2,)}


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
    summary = _json(capsys, "compile", packed, "-m", "edge32", "--verify", "-o", program, "--json")
    assert summary["macs"] == 4 * 64 * 64 and sum(summary["instructions"].values()) > 5
    document = _json(capsys, "sim", program, "--check", "-o", run, "--set", "vector.lanes=0", "--json")
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
    assert "recompile it" in _refused(capsys, "sim", program, "--set", "array.rows=16")
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


@dataclass
class FakeProgram:
    """Stands for a compiled program: all the sample runs need to know is its codec."""

    codec: str


@pytest.fixture
def sampled_chain(tiny_model: frontend.LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compiler and simulator replaced by the closed form of ``run_samples``."""

    def compile_model(packed: Packed, machine: Machine, **options: object) -> FakeProgram:
        return FakeProgram(str(packed.layers["w"].codec))

    def simulate(program: FakeProgram, machine: Machine, energy: object = None) -> Run:
        return sample_run(program.codec, machine, blocks=2)

    monkeypatch.setattr(compiler, "compile_model", compile_model, raising=False)
    monkeypatch.setattr(sim, "simulate", simulate, raising=False)
    monkeypatch.setattr("sim.levels.simulate_with_levels", simulate)


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
    document = _json(capsys, *argv, "--json")
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


def test_arrays_are_the_machines_own_and_those_wanted() -> None:
    machine = load_machine("u65-mid")
    sizes = [
        [(each.array.rows, each.array.columns) for each in array_grid(machine, wanted)] for wanted in ((), [(8, 8)])
    ]
    assert sizes == [[(4, 8), (8, 16), (16, 32), (32, 64)], [(8, 8), (16, 32)]]
    assert [each.array.label[:5] for each in array_grid(machine, [(32, 16), (32, 16)])] == ["16x32", "32x16"]
    narrow = replace(machine, array=replace(machine.array, rows=1, columns=1))
    assert [each.macs_per_cycle for each in array_grid(narrow)] == [1, 4]  # none without rows
    tight = replace(machine, sram=replace(machine.sram, accumulator_bytes=4 * 32))
    assert [each.array.columns for each in array_grid(tight)] == [8, 16, 32]  # nor one its accumulators do not fit


@pytest.mark.usefixtures("sampled_chain")
def test_an_array_the_model_does_not_fit_is_left_out(capsys: Captured, tmp_path: Path, monkeypatch: Patch) -> None:
    whole = compiler.compile_model

    def refuse(packed: Packed, machine: Machine, **options: object) -> object:
        if machine.array.rows == 128 and str(packed.layers["w"].codec) == "int4":
            raise CompileError("too large")
        return whole(packed, machine, **options)

    monkeypatch.setattr(compiler, "compile_model", refuse)
    document = _json(capsys, "compare", "tiny", "--codecs", "int4", "-m", "edge64", "-o", str(tmp_path), "--json")
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


def test_crossover_is_interpolated_in_log_bandwidth() -> None:
    assert find_crossover((1, 2, 4, 8), (2, 2, 1.2, 1.0)).bandwidth == pytest.approx(4 * 2**0.5)
    assert find_crossover((1, 2), (1.0, 1.09)) == Crossover("never gains")
    assert find_crossover((1, 2), (2.0, 1.1)) == Crossover("always gains")
    assert find_crossover((1, 2, 4, 8), (1.0, 2, 1.1, 1.0)).bandwidth == 4  # the last fall counts


def test_grid_is_logarithmic_and_holds_the_machine_itself() -> None:
    machine = load_machine("edge64")
    grid = np.array(bandwidth_grid(machine))
    assert len(grid) == 14 and machine.bandwidth_bytes_per_cycle in grid
    assert np.allclose(np.diff(np.log2(grid)), 2 / 3)
    assert grid[0] < 0.3 and grid[-1] > 64
    assert bandwidth_grid(machine, [8, 1]) == (1, 6.4, 8)


def _machine_result(name: str, codecs: tuple[str, ...] = tuple(BITS)) -> MachineResult:
    machine = load_machine(name)
    free = load_machine(name, ["vector.lanes=0"])
    grid = bandwidth_grid(machine)

    def curve(codec: str, on: Machine) -> tuple[int, ...]:
        return tuple(sample_run(codec, on.with_bandwidth(b)).total_cycles for b in grid)

    results = (
        CodecResult(
            c, sum(BITS[c]), 0.1, sample_run(c, machine), sample_run(c, free), curve(c, machine), curve(c, free)
        )
        for c in codecs
    )
    return MachineResult(machine, "random", grid, tuple(results))


def test_ratios_refer_to_int8_on_the_same_machine() -> None:
    result = _machine_result("edge64")
    rows = comparison_table([result]).rows
    for row, each in zip(rows, result.results, strict=True):
        assert row["speedup"] == rows[0]["total_cycles"] / row["total_cycles"]
        assert row["traffic_ratio"] == rows[0]["dram_bytes_total"] / row["dram_bytes_total"]
        gemm_only = result.baseline.gemm_only.total_cycles / each.gemm_only.total_cycles
        assert row["speedup_gemm_only"] == gemm_only
        vector = each.whole.cycles_by_cause["vector"] / each.whole.total_cycles
        assert row["vector_share"] == pytest.approx(vector)
    assert rows[-1]["speedup_gemm_only"] > rows[-1]["speedup"] > 3
    assert result.best.codec == "ssvq:k=16,d=8"


def test_the_curve_passes_through_the_table() -> None:
    result = _machine_result("edge64")
    own = result.bandwidths.index(result.machine.bandwidth_bytes_per_cycle)
    for each in result.results:
        assert result.speedup_curve(each)[own] == result.speedup(each)


def test_verdict_says_why_and_names_curve_crossover_weights_and_dram() -> None:
    pays = verdict(_machine_result("edge64"), "d/speedup.png")
    assert "int8 is bound by weight dma (69 % of cycles: the array waits for compressed weights" in pays
    for expected in ("d/speedup.png", "Crossover: above 2", "no trained weights", "bank by bank (bgLow), peak"):
        assert expected in pays
    useless = verdict(_machine_result("u65-mid"), "d/speedup.png")
    assert "does not pay here" in useless and "int8 is bound by compute (98 % of cycles" in useless
    assert "DRAM is busy 34 %" in useless and "Crossover: above 2.6" in useless


def test_crossing_is_simulated_not_interpolated() -> None:
    """int8 takes max(1000, 4000/b) cycles, the format max(1000, 1000/b): 1.1x at b = 4/1.1 exactly."""

    def simulated(each: CodecResult, byte_cycles: int) -> CodecResult:
        def cycles_at(bandwidth: float) -> int:
            return round(1000 * max(1000, byte_cycles / bandwidth))

        return replace(each, curve=tuple(map(cycles_at, grid)), cycles_at=cycles_at)

    result = _machine_result("edge64", ("int8", "ssvq:k=16,d=8"))
    grid = (0.5, 2.0, 8.0)
    pair = zip(result.results, (4000, 1000), strict=True)
    result = replace(result, bandwidths=grid, results=tuple(simulated(*each) for each in pair))
    assert find_crossover(grid, result.speedup_curve(result.best)).bandwidth > 6
    assert result.crossover.bandwidth == pytest.approx(4 / 1.1, rel=0.006)


def _with_curve(result: MachineResult, codec: str, factor: tuple[float, ...]) -> MachineResult:
    """``codec`` slower than int8 by ``factor`` at each bandwidth of the sweep."""
    baseline = result.baseline.curve
    curve = tuple(round(cycles * by) for cycles, by in zip(baseline, factor, strict=True))
    results = (replace(each, curve=curve) if each.codec == codec else each for each in result.results)
    return replace(result, results=tuple(results))


def test_compression_is_not_credited_with_what_fewer_bytes_do_not_explain() -> None:
    memory = _machine_result("edge64")
    assert memory.gains_from_memory
    lasting = _with_curve(memory, memory.best.codec, (0.5,) * 14)
    assert not lasting.gains_from_memory
    text = verdict(lasting, "curve")
    assert "compression pays" not in text and "differ in how they map onto the array" in text
    own = memory.bandwidths.index(memory.machine.bandwidth_bytes_per_cycle) + 1
    cut = (replace(each, curve=each.curve[:own], gemm_curve=each.gemm_curve[:own]) for each in memory.results)
    assert replace(memory, bandwidths=memory.bandwidths[:own], results=tuple(cut)).gains_from_memory
    assert not _machine_result("u65-mid").gains_from_memory  # DRAM is busy 34 %


def test_the_format_that_falls_behind_int8_is_named() -> None:
    result = _machine_result("edge64")
    assert "slower than int8" not in verdict(result, "curve")
    rich = _with_curve(result, "vq:k=256,d=4", (1.0,) * 12 + (1.25, 2.0))
    low, high = result.bandwidths[11], result.bandwidths[12]
    pattern = r"Above ([\d.]+) B/cycle vq:k=256,d=4 is slower than int8 \(down to 0.50x\)"
    (sentence,) = re.findall(pattern, verdict(rich, "curve"))
    assert low <= float(sentence) <= high
    middle = _with_curve(result, "int4", (1.0,) * 5 + (1.25,) + (1.0,) * 8)
    assert f"At {result.bandwidths[5]:.3g} B/cycle int4 is slower" in verdict(middle, "")
    assert "At every bandwidth tried int4 is slower" in verdict(_with_curve(result, "int4", (1.25,) * 14), "")


def test_int8_alone_is_no_comparison() -> None:
    text = verdict(_machine_result("edge64", ("int8",)), "curve")
    assert "no compressed format to compare with" in text and "Crossover" not in text


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
