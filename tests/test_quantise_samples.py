"""Samples: what is refused, in one line, whether it comes from Python or from a file."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hostile_arrays import FLOATS, INTEGERS, REFUSED, bomb, save_hostile, shaped

from accel.cli.tensors import Calibrating, calibration_samples, read_samples
from accel.errors import AccelError, ConfigError, FormatError, ModelError
from accel.graph import Graph, GraphBuilder
from compiler.quantise import calibrate, calibrate_model, random_samples

SHAPES = {"x": (1, 2, 3)}


def embedding() -> Graph:
    """Token numbers reach the table through a reshape."""
    builder = GraphBuilder("net")
    ids = builder.op("reshape", builder.input("ids", (1, 4)), shape=(4,))
    rows = builder.op("embedding", builder.parameter("table", (5, 3)), ids)
    return builder.build(builder.op("add", rows, builder.input("x", (4, 3)), output="y"))


VALUES = {"table": np.arange(15, dtype=np.float32).reshape(5, 3)}
GOOD = {"ids": np.array([[0, 4, 1, 1]]), "x": np.ones((4, 3), np.float32)}


@pytest.mark.parametrize(("change", "message"), [
    ({"ids": np.array([[0, 5, 1, 1]])}, "sample 0, input 'ids': index 5; allowed: 0 to 4"),
    ({"ids": np.array([[0, -1, 1, 1]])}, "index -1; allowed: 0 to 4"),
    ({"ids": np.zeros((1, 4))}, "sample 0, input 'ids': element type float64; allowed: integers"),
    ({"x": np.ones((3, 4))}, "input 'x': shape [3, 4]; the graph has [4, 3]"),
    ({"x": np.full((4, 3), np.nan)}, "input 'x': some values are NaN"),
    ({"x": np.full((4, 3), 1e300)}, "beyond float32"),
    ({"x": np.full((4, 3), "a")}, "element type <U1; allowed: real numbers"),
    ({"x": np.ones((4, 3), complex)}, "complex"),
    ({"xx": np.ones(3)}, "no input 'xx'; inputs are ids, x; did you mean"),
])  # fmt: skip
def test_samples_that_do_not_fit(change: dict, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        calibrate(embedding(), VALUES, [{**GOOD, **change}])
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_missing_things() -> None:
    with pytest.raises(ModelError, match="sample 1: input 'x' is missing"):
        calibrate(embedding(), VALUES, [GOOD, {"ids": GOOD["ids"]}])
    with pytest.raises(ConfigError, match="no samples to calibrate on; allowed: at least 1"):
        calibrate(embedding(), VALUES, [])
    with pytest.raises(ModelError, match="parameter 'table' has no values"):
        calibrate(embedding(), {}, [GOOD])


@pytest.mark.parametrize(
    "method", ["max", "percentile", "percentile:50", "percentile:101", "percentile:nan", "mse:1", ""]
)
def test_methods_that_do_not_exist(method: str) -> None:
    with pytest.raises(ConfigError, match="allowed: minmax, percentile:P with 50 < P <= 100, mse"):
        calibrate(embedding(), VALUES, [GOOD], method)


def test_indices_have_no_scale_and_warnings_name_poor_samples() -> None:
    found = calibrate_model(embedding(), VALUES, [GOOD])
    assert set(found.quantisation.tensors) == {"x", "table", "embedding_1:out", "y"}
    assert found.warnings == (
        "calibrated on 1 sample; ranges of others may differ", "input 'x' is 1 throughout all samples",
    )  # fmt: skip


def test_indices_among_parameters_are_checked() -> None:
    builder = GraphBuilder("net")
    ids = builder.parameter("positions", (4,))
    rows = builder.op("embedding", builder.parameter("table", (5, 3)), ids)
    graph = builder.build(builder.op("add", rows, builder.input("x", (4, 3)), output="y"))
    for positions, message in (([0, 1, 2, 7], "index 7"), ([0.0, 1, 2, 3], "float")):
        with pytest.raises(ModelError, match=message):
            calibrate(graph, {**VALUES, "positions": np.array(positions)}, [{"x": GOOD["x"]}])


def test_random_samples_are_seeded_and_fit() -> None:
    one, two, other = (random_samples(embedding(), 20, seed) for seed in (3, 3, 4))
    assert all((a["x"] == b["x"]).all() and (a["ids"] == b["ids"]).all() for a, b in zip(one, two, strict=True))
    assert (one[0]["x"] != other[0]["x"]).any()
    assert {int(i) for each in one for i in each["ids"].reshape(-1)} == set(range(5))
    assert len(calibrate(embedding(), VALUES, one).tensors) == 4


@pytest.mark.parametrize(("shape", "count"), [((1, 2, 3), 1), ((5, 1, 2, 3), 5), ((5, 2, 3), 5)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_files_hold_one_sample_or_many(tmp_path: Path, shape: tuple[int, ...], count: int, order: str) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    np.savez(tmp_path / "a.npz", x=np.asarray(array, order=order))
    samples = read_samples(tmp_path / "a.npz", SHAPES)
    assert len(samples) == count and all(each["x"].shape == (1, 2, 3) for each in samples)
    assert (np.concatenate([each["x"].reshape(-1) for each in samples]) == array.reshape(-1)).all()


def written(path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize(("arrays", "message"), [
    ({}, "no array for input 'x'; it holds none"), ({"y": np.ones(1)}, "no input 'y'; inputs are x"),
    ({"x": np.ones((2, 3))}, "shape [2, 3]; allowed: [1, 2, 3], or that with one more leading axis"),
    ({"x": np.ones((0, 2, 3))}, "shape [0, 2, 3]"), ({"x": np.array(1.0)}, "shape []"),
    ({"x": np.full((1, 2, 3), "a")}, "element type <U1; allowed: real numbers"),
    ({"x": np.full((1, 2, 3), None)}, "element type object; allowed: real numbers"),
])  # fmt: skip
def test_files_that_do_not_fit(tmp_path: Path, arrays: dict, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        read_samples(written(tmp_path / "a.npz", **arrays), SHAPES)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_inputs_must_agree_in_number(tmp_path: Path) -> None:
    path = written(tmp_path / "a.npz", x=np.ones((2, 3, 1)), y=np.ones((3, 3, 1)))
    with pytest.raises(ModelError, match=r"samples of each input: {'x': 2, 'y': 3}; allowed: equal"):
        read_samples(path, {"x": (3, 1), "y": (3, 1)})


@pytest.mark.parametrize("kind", REFUSED)
def test_hostile_files_give_one_line(tmp_path: Path, kind: str) -> None:
    message = save_hostile(tmp_path / "a.npz", kind)
    with pytest.raises((FormatError, ModelError)) as caught:
        read_samples(tmp_path / "a.npz", SHAPES)
    text = str(caught.value)
    assert message in text and text.isprintable() and len(text) < 600


def test_arrays_too_large_are_refused_by_their_header(tmp_path: Path) -> None:
    for data, message in (
        (shaped("(1099511627776, 2, 3)"), f"{24 << 40} bytes; allowed: up to {4 << 30}"),
        (shaped("(99999999, 2, 3)"), "the array is truncated: 24 bytes; its header says 2399999976"),
        (bomb(), "allowed: 200 times as many above 268435456"),
    ):
        (tmp_path / "a.npz").write_bytes(data)
        tracemalloc.start()
        with pytest.raises((FormatError, ModelError)) as caught:
            read_samples(tmp_path / "a.npz", SHAPES)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert message in str(caught.value) and peak < 4 << 20


@pytest.mark.parametrize("kind", [*FLOATS, *INTEGERS])
def test_numbers_of_any_width_and_byte_order(tmp_path: Path, kind: str) -> None:
    array = np.arange(6).reshape(1, 2, 3)
    found = read_samples(written(tmp_path / "a.npz", x=array.astype(kind)), SHAPES)[0]["x"]
    wanted = np.float32 if "f" in kind else np.dtype(kind).newbyteorder("=")
    assert found.dtype == wanted and found.dtype.isnative and (found == array).all()


def test_numbers_beyond_float32_are_refused_later(tmp_path: Path) -> None:
    found = read_samples(written(tmp_path / "a.npz", x=np.full((1, 2, 3), 1e300)), SHAPES)[0]["x"]
    assert np.isinf(found).all()


def test_damaged_files_give_one_line_or_the_same_samples(tmp_path: Path) -> None:
    path = written(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=(4, 2, 3)))
    sound, rng = path.read_bytes(), random.Random(0)
    for _ in range(600):
        data = bytearray(sound)
        if rng.random() < 0.3:
            del data[rng.randrange(len(data)) :]
        for _ in range(rng.randrange(1, 4)):
            if data:
                data[rng.randrange(len(data))] = rng.randrange(256)
        path.write_bytes(data)
        try:
            samples = read_samples(path, SHAPES)
        except AccelError as error:
            assert "\n" not in str(error) and len(str(error)) < 600
        else:
            assert all(each["x"].shape == (1, 2, 3) for each in samples)


def test_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("hello")
    for path in (tmp_path, tmp_path / "missing.npz", tmp_path / "text.npz", "a\0b"):
        with pytest.raises(FormatError, match="cannot read"):
            read_samples(path, SHAPES)


@pytest.mark.parametrize(
    "text", ["random", "random:", "random:0", "random:x", "random:1:2:3", "random:99999", "random:-1"]
)
def test_random_spellings(text: str) -> None:
    with pytest.raises(ConfigError, match=r"allowed: FILE.npz, or random:N\[:SEED\]"):
        calibration_samples(text, embedding())


def test_random_from_the_command_line() -> None:
    found = calibration_samples("random:3:7", embedding())
    assert isinstance(found, Calibrating) and found.origin == " on random inputs"
    assert (found.samples[2]["x"] == random_samples(embedding(), 3, 7)[2]["x"]).all()
