"""accel run and the Python API on a hand-assembled program: files, tables, and bad input in one line."""

from __future__ import annotations

import csv
import json
import zipfile

import numpy as np
import pytest
from test_functional_errors import chain, copying, gathering

import accel
from accel.cli import main
from accel.errors import AccelError, ConfigError, ModelError
from accel.program import StoredTensor, write_program
from accel.quantisation import TensorScale


@pytest.fixture
def prog(tmp_path):
    write_program(copying(), tmp_path / "net.prog.safetensors")
    np.savez(tmp_path / "x.npz", x=np.linspace(-3, 9, 12).reshape(2, 2, 3))
    return tmp_path


def run(folder, *arguments, source="x.npz"):
    spec = source if source.startswith("random:") else str(folder / source)
    return main(["run", str(folder / "net.prog.safetensors"), "--input", spec, *map(str, arguments)])


def test_outputs_are_written_and_reported(prog, capsys):
    assert run(prog, "-o", prog / "y.npz", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    values = accel.execute(copying(), {"x": np.load(prog / "x.npz")["x"]})["y"]
    np.testing.assert_array_equal(np.load(prog / "y.npz")["y"], values)
    (row,) = report["outputs"]
    assert (row["output"], row["shape"], row["minimum"], row["maximum"]) == ("y", "2x2x3", values.min(), values.max())
    assert report["instructions"] == 3
    assert run(prog, "-o", prog / "raw.npz", "--raw") == 0
    assert np.load(prog / "raw.npz")["y"].dtype == np.int8
    assert "3 instructions in" in capsys.readouterr().out


def test_random_inputs_follow_the_seed(prog):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        assert run(prog, "-o", prog / f"{name}.npz", source=f"random:{seed}") == 0
    a, b, c = (np.load(prog / f"{name}.npz")["y"] for name in "abc")
    assert (a == b).all() and (a != c).any()


def refused(capsys, code):
    found = capsys.readouterr()
    assert code == 2 and found.out == "" and found.err.count("\n") == 1, found
    return found.err


def test_files_that_are_no_inputs_are_refused(prog, capsys):
    whole = (prog / "x.npz").read_bytes()
    (prog / "cut.npz").write_bytes(whole[:-40])
    (prog / "text.npz").write_text("hello")
    np.savez(prog / "name.npz", z=np.zeros(12))
    np.savez(prog / "size.npz", x=np.zeros(13))
    np.savez(prog / "type.npz", x=np.zeros((2, 2, 3), np.complex64))
    np.savez(prog / "object.npz", x=np.array([None] * 12))
    np.savez(prog / "none.npz")
    header = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little")
    header += b"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 2, 3), }".ljust(117) + b"\n"
    huge = header.replace(b"(2, 2, 3)", b"(9, 9999)")
    for name, data in (("short", header), ("huge", huge), ("magic", b"no magic at all")):
        with zipfile.ZipFile(prog / f"{name}.npz", "w") as archive:
            archive.writestr("x.npy", data)
    for source, message in [
        ("cut.npz", "cannot read "),
        ("text.npz", "cannot read "),
        ("missing.npz", "No such file"),
        ("name.npz", "no input 'z'; inputs are x"),
        ("size.npz", "input 'x': shape [13] has 13 elements; allowed: 12"),
        ("type.npz", "element type complex64; allowed: real numbers"),
        ("object.npz", "element type object; allowed: real numbers"),
        ("none.npz", "no array for input 'x'; it holds none"),
        ("short.npz", "input 'x': the array is truncated: 0 bytes; its header says 96"),
        ("huge.npz", "input 'x': shape [9, 9999] has 89991 elements; allowed: 12"),
        ("magic.npz", "the magic string is not correct"),
        ("random:x", "--input random:x: 'x'; allowed: a whole number"),
    ]:
        code = run(prog, "-o", prog / "y.npz", source=source)
        assert message in refused(capsys, code), source
        assert not (prog / "y.npz").exists()


def test_inputs_are_not_overwritten(prog, capsys):
    assert "which would be lost" in refused(capsys, run(prog, "-o", prog / "x.npz"))


def test_uncalibrated_programs_need_a_word(prog, capsys):
    write_program(copying(calibrated=False), prog / "net.prog.safetensors")
    assert "compress or import with --calibrate" in refused(capsys, run(prog, "--dump-layers", prog / "layers"))
    assert not (prog / "layers").exists()
    assert run(prog, "--uncalibrated") == 0


def test_layers_and_trace_are_written(tmp_path, capsys):
    names = ("a/b", "a_b", "../c")
    tensors = [StoredTensor(name, 0, 8, "activation", 1024, (4, 8), (8, 1), TensorScale(2.0)) for name in names]
    program = chain(tensors=tensors)
    write_program(program, tmp_path / "net.prog.safetensors")
    np.savez(tmp_path / "x.npz")
    assert run(tmp_path, "--dump-layers", tmp_path / "new" / "layers", "--trace", tmp_path / "trace.jsonl") == 0
    with (tmp_path / "new" / "layers" / "layers.csv").open() as file:
        rows = list(csv.DictReader(file))
    stored = np.load(tmp_path / "new" / "layers" / "layers.npz")
    assert [row["tensor"] for row in rows] == list(names)
    assert [row["key"] for row in rows] == list(stored) == ["a_b", "a_b_2", "_c"]
    expected = accel.execute(program, {})["y"] * 2
    np.testing.assert_array_equal(stored["a_b"].reshape(-1), expected)
    lines = [json.loads(line) for line in (tmp_path / "trace.jsonl").read_text().splitlines()]
    assert sorted(line["instruction"] for line in lines) == list(range(11))
    add = next(line for line in lines if line["instruction"] == 8)
    assert add["queue"] == "vector" and add["text"].startswith("VEC function=add")
    assert (add["wrote"]["first"], add["wrote"]["last"], add["wrote"]["bytes"]) == (1024, 1055, 32)
    assert 0 < add["start_cycle"] < add["end_cycle"] <= accel.simulate(program).total_cycles


def test_a_program_that_fails_leaves_no_file(tmp_path, capsys):
    write_program(chain(("row_bytes=96", "row_bytes=66")), tmp_path / "net.prog.safetensors")
    np.savez(tmp_path / "x.npz")
    code = run(tmp_path, "-o", tmp_path / "y.npz", "--dump-layers", tmp_path / "layers")
    assert "nothing has written byte 66" in refused(capsys, code)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.prog.safetensors", "x.npz"]


def test_the_api_takes_what_it_returns(prog):
    program = accel.load(prog / "net.prog.safetensors")
    x = {"x": np.zeros((2, 2, 3), np.float32)}
    for model in (program, prog / "net.prog.safetensors", str(prog / "net.prog.safetensors")):
        np.testing.assert_array_equal(accel.execute(model, x)["y"], accel.execute(program, x)["y"])
    assert accel.execute(program, x, raw=True)["y"].dtype == np.int8
    assert accel.simulate(program).total_cycles > 0
    assert accel.load("mobilenet_v1", seed=3).source["weights"] == "random"


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda p: accel.load(3), ModelError, "a int as model; allowed"),
        (lambda p: accel.load("nothing"), ModelError, "unknown model 'nothing'"),
        (lambda p: accel.load("nothing.prog.safetensors"), AccelError, "nothing.prog.safetensors"),
        (lambda p: accel.compile(p, "edge64"), ModelError, "a program already"),
        (lambda p: accel.compile("mobilenet_v1", "edge65"), ConfigError, "did you mean"),
        (lambda p: accel.execute(p, {}, codec="int8"), ConfigError, "codec: the model is a program already"),
        (lambda p: accel.execute(p, {}), AccelError, "input 'ids' is missing"),
    ],
)
def test_the_api_refuses_in_one_line(call, kind, message):
    with pytest.raises(kind, match=message) as error:
        call(gathering())
    assert "\n" not in str(error.value)
