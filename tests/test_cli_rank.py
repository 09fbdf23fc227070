"""``accel rank``: the rank there is, found from the command line; mistakes are one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from test_rank import of_rank

from accel.cli import main
from accel.graph import GraphBuilder
from compiler import frontend
from compiler.compress.rank import rank_errors

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> frontend.LoadedModel:
    """Two layers, the first of rank 3, and one too small for any codebook."""
    builder = GraphBuilder("net")
    wide = of_rank(3, 0.01)
    hidden = builder.op("gemm", builder.input("x", (1, 40)), builder.parameter("low", wide.shape))
    hidden = builder.op("gemm", hidden, builder.parameter("full", (64, len(wide))))
    graph = builder.build(builder.op("gemm", hidden, builder.parameter("tiny", (2, 64))))
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=shape).astype(np.float32) for name, shape in graph.parameters.items()}
    loaded = frontend.LoadedModel(graph, weights | {"low": wide}, {"spec": "net", "description": "three layers"})
    monkeypatch.setattr(frontend, "load_model", lambda spec, **options: loaded)
    monkeypatch.chdir(tmp_path)
    return loaded


def rank(*more: str) -> list[str]:
    return ["rank", "net", "--k", "64", "--m", "8", "--scale", "tensor", *more]


def test_layers_have_the_rank_they_were_made_with(capsys: Captured, model: frontend.LoadedModel) -> None:
    assert main(rank("--json", "--plot", "rank.png")) == 0
    found = json.loads(capsys.readouterr().out)
    ranks = {row["layer"]: row["rank"] for row in found["layers"]}
    assert ranks["low"] == 3 and ranks.keys() == {"low", "full"} and found["left_out"] == ["tiny"]
    (layer,) = (row for row in found["layers"] if row["layer"] == "low")
    wanted = rank_errors(np.asarray(model.weights["low"]), 64, 8, scale="tensor")
    assert [row["clustering_error"] for row in layer["errors"]] == [each.clustering_error for each in wanted]
    assert Path("rank.png").read_bytes().startswith(b"\x89PNG")
    assert main(rank("--layers", "low")) == 0
    assert "LR2VQ: rank before training" in (text := capsys.readouterr().out) and "full " not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--layers", "lov"), "--layers 'lov' matches no weight; did you mean 'low'?"),
        (("--layers", "tiny"), "--k 64: too many for all layers, which have up to 16 vectors of 8"),
        (("--k", "63"), "63"),
        (("--m", "100"), "100"),
        (("--plot", "rank.bmp"), "rank.bmp"),
        (("--k", "0"), "argument --k"),
    ],
)
def test_mistakes_are_one_line(options: tuple[str, ...], message: str, capsys: Captured) -> None:
    try:
        code = main(rank(*options))
    except SystemExit as leaving:
        code = int(str(leaving.code))
    out, err = capsys.readouterr()
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1
    assert not list(Path().iterdir())
