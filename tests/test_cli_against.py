"""accel run --against: differences from the float model, tensor by tensor, where they start, and bad input."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from onnx_models import node, noise, save
from tiny_models import TINY

import accel
from accel.cli import main
from accel.cli.difference import MOST_DB, difference, row_difference
from accel.cli.divergence import stored_sources, undivided_tensors
from accel.codecs import parse_codec
from accel.packed import write_packed
from accel.plots import write_figure
from accel.program import write_program
from accel.quantisation import TensorScale, quantise
from accel.snr_plot import SnrPoint, snr_figure
from compiler import compile_model
from compiler.compress import compress
from compiler.quantise import random_samples

CODE = TensorScale(0.1)


def test_what_only_rounding_changed_has_the_snr_of_rounding():
    values = np.random.default_rng(0).uniform(-12, 12, (4, 50))
    found = difference(quantise(values, CODE), CODE, values, 0.0)
    assert found.snr == found.rounding_snr and found.snr == pytest.approx(10 * np.log10(48 / (0.01 / 12)), abs=1)
    assert found.steps is not None and 0.4 < found.steps <= 0.5001 and found.cosine > 0.9999
    assert (found.beyond, found.outlier) == (0, None)


def test_values_beyond_the_codes_are_told_from_coarse_steps():
    values = np.linspace(-30, 10, 400).reshape(4, 100)
    codes = quantise(values, CODE)
    found = difference(codes, CODE, values, float((codes == -128).mean()))
    assert found.end == -128 and found.cut_share > 0.99 and found.beyond == pytest.approx(0.43, abs=0.01)
    wide = np.where(np.arange(8) == 5, 12.0, 0.02) * np.ones((3, 8))
    assert difference(quantise(wide, CODE), CODE, wide, 0).outlier == (5, pytest.approx(600))


def test_extremes_have_a_number():
    zeros, codes = np.zeros((2, 2)), np.zeros((2, 2), np.int8)
    assert difference(codes, CODE, zeros, 0).snr == MOST_DB and difference(codes, CODE, zeros, 0).cosine == 1
    assert difference(codes + 1, CODE, zeros, 0).snr == -MOST_DB and difference(codes + 1, CODE, zeros, 0).cosine == 0
    holes = np.array([[np.nan, 0.1], [-np.inf, 0.2]])
    assert difference(np.array([[9, 1], [9, 2]]), CODE, holes, 0).snr > 100


def test_undivided_rows_are_compared_divided():
    rows = np.array([[255, 128, 0], [255, 255, 255]])
    found = row_difference(rows, TensorScale(1 / 255, unsigned=True), rows / rows.sum(1, keepdims=True), 0.5)
    assert found.snr > 100 and found.steps is None and found.rounding_snr is None


def test_undivided_tensors_and_sources_are_read_from_the_graph():
    graph = TINY["attention"].graph
    softmax = next(op for op in graph.ops if op.kind == "softmax")
    assert undivided_tensors(graph) == {softmax.output}
    projected = graph.ops[-2].output
    assert stored_sources(graph, projected, {"x": 1}) == {"x"}
    assert stored_sources(graph, projected, {"x": 1, softmax.output: 1}) == {"x", softmax.output}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An ONNX model of two layers, packed twice (the second with activation ranges far too small), and compiled."""
    path = tmp_path_factory.mktemp("against")
    constants = {"w": noise(16, 24), "v": noise(24, 8), "b": noise(24)}
    nodes = [node("MatMul", "x w", "h"), node("Add", "h b", "i"), node("Relu", "i", "r"), node("MatMul", "r v", "y")]
    save(path, nodes, {"x": (1, 5, 16)}, constants)
    model = accel.load(path / "model.onnx")
    samples = random_samples(model.graph, 4)
    np.savez(path / "x.npz", **samples[0])
    packed = compress(model.graph, model.weights, parse_codec("int8"), calibration=samples).packed
    middle = next(op.output for op in model.graph.ops if op.kind == "relu")
    scales = packed.quantisation
    code = scales.tensors[middle]
    small = replace(scales, tensors={**scales.tensors, middle: replace(code, scale=code.scale / 8)})
    for name, found in (("good", packed), ("bad", replace(packed, quantisation=small))):
        write_packed(found, path / f"{name}.vq.safetensors")
        write_program(compile_model(found, TINY["mlp"].machine), path / f"{name}.prog.safetensors")
    return path


def run(folder, name, *arguments, source="x.npz"):
    program = folder / f"{name}.prog.safetensors"
    return main(["run", str(program), "--input", str(folder / source), *map(str, arguments)])


def test_a_sound_program_does_not_diverge(folder, capsys):
    for reference in ("model.onnx", "good.vq.safetensors"):
        assert run(folder, "good", "--against", folder / reference, "--snr", 25, "--drop", 10) == 0
        shown = capsys.readouterr().out
        assert "no divergence: no tensor below 25 dB" in shown and "largest drop first" in shown, shown


def test_a_range_too_small_is_found_where_it_is(folder, capsys):
    arguments = "--against", folder / "good.vq.safetensors", "--json"
    assert run(folder, "bad", *arguments) == 0
    found = json.loads(capsys.readouterr().out)["divergence"]
    first = found["first"]
    assert first["layer"] == found["tensors"][1]["layer"] and "its calibrated range is too small" in first["hint"]
    assert "saturated at +255" in first["hint"]
    assert found["notes"] == [f"the program was compiled from another packed file than '{arguments[1]}'"]
    source, middle, last = found["tensors"]
    assert source["kind"] == "io" and source["snr"] > 35 and source["cause"] == "scale too coarse"
    assert middle["cause"] == "range too small" and middle["saturated"] > 0.1 and middle["drop"] > 15
    assert last["cause"] == "inherited" and last["input_snr"] == middle["snr"]
    assert run(folder, "bad", *arguments, "--snr", 20) == 1
    assert run(folder, "bad", *arguments, "--drop", 12) == 1


def test_the_plot_and_the_dump_come_with_it(folder, tmp_path, capsys):
    files = "--plot", tmp_path / "snr.svg", "--dump-layers", tmp_path / "layers"
    assert run(folder, "bad", "--against", folder / "model.onnx", *files) == 0
    assert b"<svg" in (tmp_path / "snr.svg").read_bytes()[:400]
    values, codes = np.load(tmp_path / "layers" / "layers.npz"), np.load(tmp_path / "layers" / "codes.npz")
    assert list(values) == list(codes) and len(list(values)) == 2


def test_codes_as_inputs_are_what_they_stand_for(folder, tmp_path, capsys):
    np.savez(tmp_path / "c.npz", x=np.full((1, 5, 16), 7, np.uint8))
    assert run(folder, "good", "--against", folder / "model.onnx", "--json", source=tmp_path / "c.npz") == 0
    assert json.loads(capsys.readouterr().out)["divergence"]["tensors"][0]["snr"] == MOST_DB


def other_model(path, shape=(16, 24), inputs="x"):
    path.mkdir()
    nodes = [node("MatMul", f"{inputs} w", "h"), node("Relu", "h", "y")]
    return save(path, nodes, {inputs: (1, 5, 16)}, {"w": noise(*shape)})


def test_bad_references_are_refused_in_one_line(folder, tmp_path, capsys):
    (tmp_path / "cut.vq.safetensors").write_bytes((folder / "good.vq.safetensors").read_bytes()[:-9])
    for reference, message in [
        (other_model(tmp_path / "a"), "it has no tensor"),
        (other_model(tmp_path / "b", inputs="z"), "it has no input 'x', which the program of"),
        (folder / "good.prog.safetensors", "it is a compiled program (schema 'accel.program/2'); accel run and"),
        (tmp_path / "cut.vq.safetensors", "truncated"),
        (tmp_path / "none.safetensors", "No such file"),
        ("deit_tinny", "did you mean 'deit_tiny'"),
    ]:
        code = run(folder, "good", "--against", reference, "-o", tmp_path / "y.npz", "--plot", tmp_path / "p.png")
        shown = capsys.readouterr()
        assert code == 2 and shown.err.count("\n") == 1 and message in shown.err, shown
        assert not shown.out and not (tmp_path / "y.npz").exists() and not (tmp_path / "p.png").exists()


def test_another_shape_is_refused(folder, tmp_path, capsys):
    program = accel.load(folder / "good.prog.safetensors")
    port = program.inputs[0]
    changed = replace(program, inputs=(replace(port, shape=(5, 16), strides=port.strides[1:]),))
    write_program(changed, tmp_path / "net.prog.safetensors")
    np.savez(tmp_path / "x.npz", x=np.zeros((5, 16)))
    assert run(tmp_path, "net", "--against", folder / "model.onnx") == 2
    assert "input 'x' has shape 1x5x16; the program of" in capsys.readouterr().err
    write_program(replace(program, tensors=()), tmp_path / "net.prog.safetensors")
    assert run(tmp_path, "net", "--against", folder / "model.onnx", source=folder / "x.npz") == 2
    assert "names no stored tensors" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--snr", "20"], "--snr 20.0 without --against MODEL"),
        (["--plot", "p.png"], "--plot p.png without --against MODEL"),
        (["--against", "model.onnx", "--plot", "p.gif"], "suffix '.gif'; allowed: .png, .svg, .pdf"),
    ],
)
def test_options_that_make_no_sense_are_refused(folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    assert run(folder, "good", *arguments) == 2
    assert message in capsys.readouterr().err


def test_a_plot_of_every_kind_is_drawn(tmp_path):
    kinds = ("io", "conv", "gemm", "attention", "vector")
    points = [SnrPoint(f"{kind}:out", kind, 40.0 - 9 * i, 45.0, 0.01 * i, i > 2) for i, kind in enumerate(kinds)]
    for shown in (points, points[:1], [replace(points[0], rounding_snr=None, snr=MOST_DB)]):
        write_figure(snr_figure(shown, 20, "title"), tmp_path / "p.png")
        assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
