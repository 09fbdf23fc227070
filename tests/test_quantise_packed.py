"""Calibration while compressing, scales in the packed file, folding, and the command line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from strategies import graphs
from test_quantise_floating import random_tensors

from accel.cli import main
from accel.codecs import parse_codec
from accel.errors import ConfigError, FormatError
from accel.graph import Graph, GraphBuilder
from accel.packed import Packed, packed_digest, read_packed, write_packed
from accel.quantisation import TensorScale, quantisation_from_json, quantisation_to_json
from compiler import frontend
from compiler.compress import compress
from compiler.quantise import (
    calibrate,
    choose_exponents,
    evaluate,
    exponents_of,
    fold_exponents,
    nominal,
    packed_values,
    unfold_exponents,
)

INT8 = parse_codec("int8")


def stream() -> Graph:
    """A residual block whose channels differ by factors of a thousand."""
    builder = GraphBuilder("net")
    x = builder.input("x", (1, 4, 8))
    wide = builder.op("gemm", x, builder.parameter("w", (8, 8)), builder.parameter("b", (8,)), output="wide")
    total = builder.op("add", wide, wide, output="sum")
    tail = builder.op("gemm", total, builder.parameter("v", (6, 8)), output="tail")
    return builder.build(builder.op("gelu", tail, output="y"))


def tensors(count: int = 3) -> tuple[dict[str, np.ndarray], list[dict[str, np.ndarray]]]:
    values, _ = random_tensors(stream(), 0)
    values["w"][2] *= 40
    values["v"][:, 2] /= 40
    return values, [random_tensors(stream(), n)[1] for n in range(count)]


def calibrated() -> Packed:
    values, samples = tensors()
    return compress(stream(), values, INT8, calibration=samples).packed


def test_exponents_are_folded_into_the_weights_that_read_them() -> None:
    values, samples = tensors()
    exponents = choose_exponents(stream(), values, samples)
    assert exponents["sum"].values[2] >= 4
    folded = fold_exponents(stream(), values, exponents)
    assert (folded["v"] == values["v"] * 2.0 ** np.array(exponents["sum"].values)).all()
    assert (folded["w"] == values["w"]).all() and folded["b"] is values["b"]
    assert (unfold_exponents(stream(), folded, exponents)["v"] == values["v"]).all()


def test_a_calibrated_model_still_computes_what_the_float_model_does() -> None:
    values, samples = tensors()
    packed = calibrated()
    assert exponents_of(packed.quantisation)["sum"].values == choose_exponents(stream(), values, samples)["sum"].values
    exact, decoded = (evaluate(stream(), each, samples[0])["y"] for each in (values, packed_values(packed)))
    assert np.abs(exact - decoded).max() < 0.02 * np.abs(exact).max()


def test_scales_are_those_of_the_decoded_weights() -> None:
    values, samples = tensors()
    packed = compress(stream(), values, parse_codec("vq:k=2,d=4"), keep=[("v", INT8)], calibration=samples).packed
    again = calibrate(stream(), packed_values(packed), samples, exponents=exponents_of(packed.quantisation))
    assert packed.quantisation == again
    assert packed.quantisation != calibrate(stream(), values, samples, exponents=exponents_of(packed.quantisation))


def test_without_samples_nothing_changes() -> None:
    values, _ = tensors()
    assert compress(stream(), values, INT8).packed.quantisation is None
    with pytest.raises(ConfigError, match="calibration method 'max'"):
        compress(stream(), values, INT8, method="max")


def test_files_keep_scales_and_the_digest_covers_them(tmp_path: Path) -> None:
    packed = calibrated()
    write_packed(packed, tmp_path / "a")
    assert read_packed(tmp_path / "a").quantisation == packed.quantisation
    assert packed_digest(tmp_path / "a") == packed_digest(packed) != packed_digest(replace(packed, quantisation=None))
    write_packed(replace(packed, quantisation=None), tmp_path / "b")
    assert read_packed(tmp_path / "b").quantisation is None


def test_scales_that_do_not_fit_are_refused() -> None:
    packed = calibrated()
    scales = packed.quantisation
    bad = {
        "missing": {n: c for n, c in scales.tensors.items() if n != "y"},
        "unexpected": {**scales.tensors, "z": TensorScale(1.0)},
        "2 channel exponents": {**scales.tensors, "sum": TensorScale(1.0, exponents=(1, 1))},
    }
    for message, rows in bad.items():
        with pytest.raises(FormatError, match=message):
            replace(packed, quantisation=replace(scales, tensors=rows))
    with pytest.raises(FormatError, match="nominal"):
        replace(packed, quantisation=nominal(packed.graph, packed.parameters))


def test_damaged_scales_are_refused_with_the_file_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed, document = calibrated(), quantisation_to_json(calibrated().quantisation)
    rows = document["tensors"]
    for change in (
        {"method": 3}, {"samples": "1"}, {"tensors": []}, {"extra": 1}, {"tensors": {**rows, "y": {}}},
        {"tensors": {**rows, "y": {**rows["y"], "scale": 0}}}, {"tensors": {**rows, "y": {**rows["y"], "axis": 1.5}}},
    ):  # fmt: skip
        damaged = {**document, **change}
        monkeypatch.setattr("accel.packed.quantisation_to_json", lambda scales, damaged=damaged: damaged)
        write_packed(packed, tmp_path / "a")
        with pytest.raises(FormatError, match="a'"):
            read_packed(tmp_path / "a")


@pytest.mark.parametrize(("entry", "value", "message"), [
    ("scale", "1", "activation scale '1'; allowed: a number"), ("scale", True, "scale True; allowed: a number"),
    ("scale", -0.5, "scale -0.5; allowed: 1e-30 to 1e"), ("scale", 0, "scale 0.0; allowed"),
    ("scale", 1e-31, "scale 1e-31; allowed"), ("scale", 1e31, "allowed: 1e-30 to 1e"),
    ("scale", float("nan"), "scale nan; allowed"), ("scale", 10**400, "scale beyond 1e"),
    ("exponents", "12", "exponents = '12'; allowed: a list of integers"), ("exponents", {}, "exponents = {}; allowed"),
    ("exponents", [1.0], "1.0 in the quantisation; allowed: an integer"), ("unsigned", 0, "unsigned = 0; allowed"),
])  # fmt: skip
def test_impossible_scales_are_refused_with_the_tensor_named(entry: str, value: object, message: str) -> None:
    document = quantisation_to_json(calibrated().quantisation)
    document["tensors"]["y"][entry] = value
    with pytest.raises(FormatError, match=message) as caught:
        quantisation_from_json(document)
    assert "'y'" in str(caught.value) and str(caught.value).isprintable()


def test_samples_are_counted_from_0() -> None:
    document = quantisation_to_json(calibrated().quantisation)
    with pytest.raises(FormatError, match="samples = -1; allowed: 0 or more"):
        quantisation_from_json({**document, "samples": -1})


@settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))
@given(graphs(most_blocks=4))
def test_every_network_can_be_calibrated_while_compressing(graph: Graph) -> None:
    values, inputs = random_tensors(graph, 0)
    packed = compress(graph, values, INT8, calibration=[inputs, random_tensors(graph, 1)[1]]).packed
    assert packed.quantisation is not None and packed.quantisation.samples == 2


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    source = {"spec": "net", "description": "a block", "weights": "random"}
    loaded = frontend.LoadedModel(stream(), tensors()[0], source)
    monkeypatch.setattr(frontend, "load_model", lambda spec, **options: loaded)


@pytest.mark.usefixtures("model")
def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "s.npz", x=np.concatenate([each["x"] for each in tensors()[1]]))
    argv = ["compress", "net", "--codec", "int8", "-o", str(tmp_path / "a")]
    assert main([*argv, "--calibrate", str(tmp_path / "s.npz")]) == 0
    assert (
        "activations calibrated on 3 samples (minmax): 5 tensors, 2 with channel exponents" in capsys.readouterr().out
    )
    assert read_packed(tmp_path / "a").quantisation == calibrated().quantisation
    assert main([*argv, "--calibrate", "random:1", "--calibration-method", "mse", "--json"]) == 0
    shown = capsys.readouterr()
    assert '"method": "mse on random inputs"' in shown.out
    assert "warning: calibrated on 1 sample; ranges of others may differ" in shown.err
    assert read_packed(tmp_path / "a").quantisation.method == "mse on random inputs"


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(("options", "message"), [
    (["--calibrate", "missing.npz"], "cannot read 'missing.npz'"), (["--calibrate", "random:0"], "allowed: FILE.npz"),
    (["--calibration-method", "kl"], "allowed: minmax"),
])  # fmt: skip
def test_bad_command_lines(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compress", "net", "--codec", "int8", "-o", str(tmp_path / "a"), *options]) == 2
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())
