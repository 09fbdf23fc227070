"""accel run on what it was not meant for, its trace beside accel sim, and the Python API from model to values."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest
from functional_cases import program_of
from hostile_arrays import FLOATS, INTEGERS, REFUSED, save_hostile
from onnx_models import node, noise, save
from test_functional_errors import WINDOW, copying

import accel
from accel.cli import main
from accel.container import read_container, write_container
from accel.errors import ConfigError, SimError
from accel.program import PROGRAM_SCHEMA, Port, write_program
from sim.functional.ports import input_codes

MACHINES = ("edge64", "ecp5", "u65-mid")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """``model.onnx``, samples and the files every command makes of them."""
    path = tmp_path_factory.mktemp("run")
    constants = {"w": noise(32, 64), "v": noise(64, 8)}
    nodes = [node("MatMul", "x w", "h"), node("Relu", "h", "r"), node("MatMul", "r v", "y")]
    save(path, nodes, {"x": (1, 9, 32)}, constants)
    np.savez(path / "x.npz", x=noise(1, 9, 32))
    np.savez(path / "samples.npz", x=noise(6, 9, 32))
    samples = "--calibrate", path / "samples.npz"
    assert command("compress", path / "model.onnx", "--codec", "int8", *samples, "-o", path / "net.vq.safetensors") == 0
    assert command("compile", path / "net.vq.safetensors", "-o", path / "net.prog.safetensors") == 0
    assert command("sim", path / "net.prog.safetensors", "-o", path / "net.run.json") == 0
    return path


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """A folder with a program whose input ``x`` has the shape of the hostile files'."""
    path = tmp_path_factory.mktemp("hostile")
    save(path, [node("Relu", "x", "y")], {"x": (1, 2, 3)}, {})
    write_program(accel.compile(path / "model.onnx", calibration="random:2"), path / "net.prog.safetensors")
    return path


def command(*words):
    return main([str(word) for word in words])


def run(folder, program="net.prog.safetensors", source="x.npz", *more):
    return command("run", folder / program, "--input", folder / source, *more)


def refused(capsys, code, message, *outputs):
    shown = capsys.readouterr()
    assert code == 2 and shown.out == "" and shown.err.count("\n") == 1 and message in shown.err, shown
    assert not any(path.exists() for path in outputs)


def test_files_given_by_mistake_are_named_for_what_they_are(folder, tmp_path, capsys):
    y = tmp_path / "y.npz"
    for words, message in [
        (["run", "net.vq.safetensors"], "it is a packed model (schema 'accel.packed/1'); accel compile takes it"),
        (["run", "net.run.json"], "it is a run (schema 'accel.run/1'); accel report and accel diff take it"),
        (["run", "x.npz"], "truncated or not a safetensors file"),
        (["run", "model.onnx"], "it is a model; accel compress takes it"),
        (["run", "none"], "No such file"),
        (["compile", "net.prog.safetensors"], "it is a compiled program"),
        (["compile", "net.run.json"], "it is a run"),
    ]:
        more = ["--input", folder / "x.npz"] if words[0] == "run" else []
        refused(capsys, command(words[0], folder / words[1], *more, "-o", y), message, y)
    refused(capsys, command("report", folder / "net.prog.safetensors"), "accel run and accel sim take it")


@pytest.mark.parametrize(("version", "age"), [(1, "an older"), (99, "a newer")])
def test_programs_of_another_version_are_to_be_compiled_again(folder, tmp_path, capsys, version, age):
    document, tensors = read_container(folder / "net.prog.safetensors", PROGRAM_SCHEMA)
    write_container(tmp_path / "old.prog.safetensors", f"accel.program/{version}", document, tensors)
    y = tmp_path / "y.npz"
    code = command("run", tmp_path / "old.prog.safetensors", "--input", folder / "x.npz", "-o", y)
    message = f"schema 'accel.program/{version}': written by {age} version of accel; this version reads"
    refused(capsys, code, message, y)


@pytest.mark.parametrize(("row", "entry", "value", "message"), [
    ("outputs", "shape", [1, 1 << 40, 8], "port 'y'"), ("outputs", "code", {"scale": "1"}, "port 'y'"),
    ("tensors", "code", None, "code = None; allowed"),
])  # fmt: skip
def test_edited_programs_are_refused(folder, tmp_path, capsys, row, entry, value, message):
    document, tensors = read_container(folder / "net.prog.safetensors", PROGRAM_SCHEMA)
    document[row][0] |= {entry: value, "strides": [0, 0, 1]}
    write_container(tmp_path / "bad.prog.safetensors", PROGRAM_SCHEMA, document, tensors)
    y = tmp_path / "y.npz"
    refused(capsys, run(folder, tmp_path / "bad.prog.safetensors", "x.npz", "-o", y), message, y)


def test_inputs_that_do_not_fit_are_refused(folder, tmp_path, capsys):
    y, files = tmp_path / "y.npz", {
        "several": (noise(6, 9, 32), "has 1728 elements; allowed: 288 (6 runs' worth: give one, or accel compile"),
        "turned": (noise(1, 32, 9), "shape (1, 32, 9); allowed: (1, 1, 9, 32) or (1, 9, 32)"),
        "flat": (noise(288), "shape (288,); allowed"),
        "integers": (np.ones((1, 9, 32), np.int64), "type int64; allowed: float16, float32, float64, or"),
        "infinite": (np.full((1, 9, 32), np.inf), "288 NaN or infinite values"),
    }  # fmt: skip
    for name, (array, message) in files.items():
        np.savez(tmp_path / f"{name}.npz", x=array)
        extra = "-o", y, "--dump-layers", tmp_path / "layers", "--trace", tmp_path / "t.jsonl"
        code = run(folder, "net.prog.safetensors", tmp_path / f"{name}.npz", *extra)
        refused(capsys, code, message, y, tmp_path / "layers", tmp_path / "t.jsonl")


@pytest.mark.parametrize("kind", REFUSED)
def test_hostile_files_are_refused_in_one_line(program, tmp_path, capsys, kind):
    message = save_hostile(tmp_path / "x.npz", kind)
    refused(capsys, run(program, source=tmp_path / "x.npz"), message)


def test_floats_of_any_width_and_byte_order_are_taken(folder, tmp_path):
    x = np.round(noise(1, 9, 32), 1).astype(np.float16)
    for kind in FLOATS:
        np.savez(tmp_path / "x.npz", x=x.astype(kind))
        assert run(folder, "net.prog.safetensors", tmp_path / "x.npz", "-o", tmp_path / f"{kind[1:]}.npz") == 0
        found = np.load(tmp_path / f"{kind[1:]}.npz")["y"]
        np.testing.assert_array_equal(found, accel.execute(folder / "net.vq.safetensors", {"x": x.astype(kind)})["y"])


def test_indices_of_any_width_are_checked_against_their_range():
    port = Port("ids", (4,), (4,), 0, 16, 16, None)
    for kind in INTEGERS:
        codes = input_codes(port, np.array([0, 1, 127, 5]).astype(kind), 1)
        assert codes.dtype == np.int32 and codes.tolist() == [[0, 1, 127, 5]]
    for wrong in (np.array([0, 1, 2, 1 << 63], np.uint64), np.array([0, 1, 2, -1], ">i2")):
        with pytest.raises(SimError, match="allowed: 0 to 2147483647"):
            input_codes(port, wrong, 1)
    with pytest.raises(SimError, match="type float32; allowed: integers"):
        input_codes(port, np.zeros(4, np.float32), 1)


def test_batches_may_stand_for_a_leading_size_of_one(folder):
    model = accel.load(folder / "net.vq.safetensors")
    x = noise(3, 9, 32)
    together = accel.execute(model, {"x": x}, batch=3)["y"]
    np.testing.assert_array_equal(together, accel.execute(model, {"x": x[:, None]}, batch=3)["y"])
    one = accel.compile(model)
    np.testing.assert_array_equal(together, np.stack([accel.execute(one, {"x": item[None]})["y"] for item in x]))


def test_values_are_those_of_the_packed_file_on_every_machine(folder):
    x = {"x": np.load(folder / "x.npz")["x"]}
    first, *others = (accel.execute(folder / "net.vq.safetensors", x, raw=True, machine=name)["y"] for name in MACHINES)
    assert all((first == other).all() for other in others) and np.unique(first).size > 20


def test_a_machine_too_small_for_the_program_is_refused(folder, tmp_path, capsys):
    program = accel.load(folder / "net.prog.safetensors")
    small = replace(program.machine, sram=replace(program.machine.sram, activation_bytes=1024))
    write_program(replace(program, machine=small, tensors=()), tmp_path / "net.prog.safetensors")
    refused(
        capsys, run(tmp_path, "net.prog.safetensors", folder / "x.npz", "-o", tmp_path / "y"), "1024", tmp_path / "y"
    )
    with pytest.raises(SystemExit) as stop:
        run(folder, "net.prog.safetensors", "x.npz", "-m", "edge32")
    assert stop.value.code == 2 and "unrecognized arguments: -m edge32" in capsys.readouterr().err


def test_overflowing_accumulators_are_refused(tmp_path, capsys):
    text = f"""
    LDA sram=0 address=0 rows=1 row_bytes=128 push=compute
    GMC {WINDOW} in_w=1 out_w=1 pixel_stride=8
    GMO reduction=8 out_stride=1 parameters=96 tile_rows=8 tile_columns=8 b_stride=1 bias=1
    GMS a=0 b=8 out=256 rows=1 columns=1 chunk=1 pop=load
    FIN
    """
    image = bytes([128] * 96) + ((1 << 31) - 1).to_bytes(4, "little") + bytes(28)
    write_program(program_of(text, image), tmp_path / "net.prog.safetensors")
    np.savez(tmp_path / "x.npz")
    code = run(tmp_path, "net.prog.safetensors", "x.npz", "-o", tmp_path / "y.npz", "--trace", tmp_path / "t.jsonl")
    refused(capsys, code, "'GMS ", tmp_path / "y.npz", tmp_path / "t.jsonl")


def test_uncalibrated_programs_are_refused(tmp_path, capsys):
    write_program(copying(calibrated=False), tmp_path / "net.prog.safetensors")
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 2, 3)))
    for more in ([], ["--against", "deit_tiny"]):
        code = run(tmp_path, "net.prog.safetensors", "x.npz", "-o", tmp_path / "y.npz", *more)
        refused(capsys, code, "compress or import with --calibrate", tmp_path / "y.npz")


def test_poor_calibration_data_is_told(folder, tmp_path, capsys):
    words = "compress", folder / "model.onnx", "--codec", "int8", "-o", tmp_path / "n", "--calibrate"
    for array, message in [
        (noise(1, 9, 32), "warning: calibrated on 1 sample; ranges of others may differ"),
        (np.zeros((4, 9, 32)), "warning: input 'x' is 0 throughout all samples"),
    ]:
        np.savez(tmp_path / "s.npz", x=array)
        assert command(*words, tmp_path / "s.npz") == 0
        assert message in capsys.readouterr().err
    np.savez(tmp_path / "s.npz", x=np.zeros((4, 9, 31)))
    (tmp_path / "n").unlink()
    refused(capsys, command(*words, tmp_path / "s.npz"), "shape [4, 9, 31]; allowed: [1, 9, 32]", tmp_path / "n")


def test_the_trace_has_the_times_of_the_simulator(folder, tmp_path):
    assert run(folder, "net.prog.safetensors", "x.npz", "--trace", tmp_path / "t.jsonl") == 0
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    queues = defaultdict(list)
    for line in sorted(lines, key=lambda line: line["instruction"]):
        queues[line["queue"]].append(line)
        assert 0 <= line["start_cycle"] <= line["end_cycle"]
    for members in queues.values():
        starts = [line["start_cycle"] for line in members]
        assert starts == sorted(starts)
    program = accel.load(folder / "net.prog.safetensors")
    assert sorted(line["instruction"] for line in lines) == list(range(len(program.words)))
    assert max(line["end_cycle"] for line in lines) == accel.simulate(program).total_cycles


def test_the_example_of_the_package_runs(folder, monkeypatch):
    text = accel.__doc__ or ""
    lines = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    x = np.load(folder / "x.npz")["x"]
    names = {"accel": accel, "samples": [{"x": noise(1, 9, 32)} for _ in range(3)], "x": x}
    monkeypatch.chdir(folder)
    exec("\n".join(lines).replace('"input"', '"x"'), names)
    assert names["outputs"]["y"].shape == (1, 9, 8) and names["run"].total_cycles > 0
    assert np.abs(names["outputs"]["y"]).max() > 1 and names["program"].calibrated


def test_calibration_is_taken_as_the_command_line_takes_it(folder):
    model = accel.load(folder / "model.onnx")
    array = np.load(folder / "samples.npz")["x"]
    listed = accel.compile(model, calibration=[{"x": item[None]} for item in array])
    assert accel.compile(model, calibration=folder / "samples.npz").digest == listed.digest
    assert accel.compile(model, calibration="random:2").calibrated
    for wrong, told in [([], "no samples"), (array, "a ndarray"), ({"x": array}, "a dict"), (3, "a int")]:
        with pytest.raises(ConfigError, match=f"calibration: {told}; allowed: a list of samples"):
            accel.compile(model, calibration=wrong)
