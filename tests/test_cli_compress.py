"""``accel compress``: the file it writes, and what it says of models that hold nothing to compress."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from cli_calls import printed_json, refused

from accel.cli import main
from accel.graph import Graph, Op
from accel.packed import read_packed
from compiler import frontend

pytest_plugins = ["cli_models"]
Captured = pytest.CaptureFixture[str]
Patch = pytest.MonkeyPatch


@pytest.mark.parametrize("verb", [["compress", "--codec", "int8"], ["compare"]])
def test_a_model_without_weights(
    verb: list[str], tiny_model: frontend.LoadedModel, capsys: Captured, tmp_path: Path, monkeypatch: Patch
) -> None:
    graph = Graph("bare", {"x": (1, 4, 64)}, {}, (Op("act", "relu", ("x",), "y"),), ("y",))
    bare = replace(tiny_model, graph=graph, weights={})
    monkeypatch.setattr(frontend, "load_model", lambda spec, **options: bare)
    assert "nothing to compress: 'tiny'" in refused(capsys, *verb, "bare", "-o", str(tmp_path / "new"))
    assert not list(tmp_path.iterdir())


def test_compress_writes_the_file_and_says_what_it_cost(
    tiny_model: frontend.LoadedModel, capsys: Captured, tmp_path: Path
) -> None:
    path = tmp_path / "net.vq.safetensors"
    argv = ["compress", "tiny", "--codec", "ssvq:k=16,d=8", "-o", str(path)]
    document = printed_json(capsys, *argv, "--json")
    packed = read_packed(path)
    assert packed.source.description["weights"] == "from net.onnx"
    assert document["weights"] == 64 * 64
    assert document["weight_bytes"] == 64 * 64 * 1.5 / 8 + 16 * 8 + 64 * 4  # codes and signs, codebook, scales
    assert 0 < document["relative_error"] == document["layers"][0]["relative_error"] < 0.5
    assert main([*argv, "--keep", "fc=int8"]) == 0
    assert "kept by pattern 'fc'" in capsys.readouterr().out


def test_a_codec_that_makes_no_layer_smaller_is_refused(
    tiny_model: frontend.LoadedModel, tmp_path: Path, capsys: Captured
) -> None:
    argv = ["compress", "tiny", "--codec", "vq:k=65536,d=64", "-o", str(path := tmp_path / "tiny.vq.safetensors")]
    message = refused(capsys, *argv)
    assert "'vq:k=65536,d=64' makes no layer smaller than int8: of the largest, '" in message
    assert "allowed: one that does for at least 1 layer" in message and not path.exists()
    assert main([*argv, "--keep", "*=int4"]) == 0, "then no layer is asked to have it"


def test_input_shapes_reach_the_loader(tiny_model: frontend.LoadedModel, tmp_path: Path, monkeypatch: Patch) -> None:
    seen = {}
    monkeypatch.setattr(frontend, "load_model", lambda spec, **options: (seen.update(options), tiny_model)[1])
    shapes = ["--input-shape", "a=1x3", "--input-shape", "b=c=2"]
    assert main(["compress", "tiny", *shapes, "--codec", "int8", "-o", str(tmp_path / "a")]) == 0
    assert seen["input_shapes"] == {"a": (1, 3), "b=c": (2,)}
