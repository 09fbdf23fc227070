"""Findings of the post-training benchmark: kept by model, codecs and sources, and dropped by the run that made them;
what its page says of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accel.calibration import BUDGET_SAMPLES
from accel.graph import GraphBuilder
from benchmarks import post_training_kept
from benchmarks.post_training import without_softmax
from benchmarks.post_training_findings import CODECS, HELD_BACK, Findings, Layer, Outcome, Weighing
from benchmarks.post_training_kept import drop_kept, kept_findings
from benchmarks.post_training_page import error_figure, introduction, write_page
from benchmarks.post_training_tables import tables
from compiler.quantise.floating import evaluate

INT8 = (["int8"], ["int8"])
INT4 = (["int4"], ["int8"])


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACCEL_CACHE", str(tmp_path))
    return tmp_path / "post_training"


def findings(error: float) -> Findings:
    layer = Layer("fc", "int8", "asked for", 64, 72, 0.25, 0.5)
    outcome = Outcome("int8", 72, error, (layer, layer), bound=0.125)
    return Findings("net", (outcome,), (outcome, outcome), (Weighing("int8", "in", 0.5, 0.25),))


def forbidden() -> Findings:
    raise AssertionError("measured again")


def test_what_is_kept_is_what_was_found() -> None:
    assert kept_findings("net", *INT8, lambda: findings(1.5)) == findings(1.5)
    assert kept_findings("net", *INT8, forbidden) == findings(1.5)


def test_other_codecs_models_and_sources_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    kept_findings("net", *INT8, lambda: findings(1.5))
    assert kept_findings("net", *INT4, lambda: findings(2.5)) == findings(2.5)
    assert kept_findings("other", *INT8, lambda: findings(3.5)) == findings(3.5)
    monkeypatch.setattr(post_training_kept, "SOURCES", "edited")
    assert kept_findings("net", *INT8, lambda: findings(4.5)) == findings(4.5)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"model": "net", "uniform": [{"codec": 1}]}'])
def test_a_damaged_file_is_measured_again(text: str, folder: Path) -> None:
    kept_findings("net", *INT8, lambda: findings(1.5))
    (path,) = folder.rglob("*.json")
    path.write_text(text)
    assert kept_findings("net", *INT8, lambda: findings(2.5)) == findings(2.5)
    assert kept_findings("net", *INT8, forbidden) == findings(2.5)


def test_a_whole_run_drops_its_own_files_only() -> None:
    kept_findings("net", *INT8, lambda: findings(1.5))
    kept_findings("other", *INT8, lambda: findings(2.5))
    kept_findings("net", *INT4, lambda: findings(3.5))
    drop_kept(["net", "never measured"], *INT8)
    assert kept_findings("other", *INT8, forbidden) == findings(2.5)
    assert kept_findings("net", *INT4, forbidden) == findings(3.5)
    assert kept_findings("net", *INT8, lambda: findings(4.5)) == findings(4.5)


def test_without_softmax_a_graph_ends_with_its_last_layer() -> None:
    builder = GraphBuilder("two classes")
    hidden = builder.op("relu", builder.input("x", (1, 4)), output="hidden")
    scores = builder.op("gemm", hidden, builder.parameter("w", (2, 4)), output="scores")
    graph = without_softmax(builder.build(builder.op("softmax", scores, axis=-1)))
    weight, x = np.arange(8, dtype=np.float32).reshape(2, 4), np.array([[-1, 1, 2, 3]], np.float32)
    found = evaluate(graph, {"w": weight}, {"x": x})
    np.testing.assert_allclose(found["hidden"], np.maximum(x, 0))
    np.testing.assert_allclose(found["scores"], np.maximum(x, 0) @ weight.T)
    assert set(found) == {"hidden", "scores"}


def test_the_page_says_what_it_rests_on_and_what_it_leaves_out() -> None:
    text = introduction([findings(0.5)])
    assert "Not measured here: int4, vq, ssvq, mvq, lr2vq, rvq." in text
    assert f"on {HELD_BACK} inputs a model" in text
    assert f"on {BUDGET_SAMPLES} of the calibration samples" in text


def coded(codec: str, error: float) -> Outcome:
    return Outcome(codec, 72, error, (Layer("fc", codec, "", 64, 72, 0.25, 0.5),))


def looks(*codecs: str) -> dict[str, tuple[str, str]]:
    """Marker and colour of each codec on a plot of these."""
    outcomes = tuple(coded(codec, 0.1 + 0.1 * index) for index, codec in enumerate(codecs))
    axes = error_figure([Findings("net", outcomes, outcomes, ())]).axes[0]
    return {str(line.get_label()): (str(line.get_marker()), str(line.get_color())) for line in axes.lines[1:]}


def test_a_codec_looks_the_same_whatever_else_is_asked_for() -> None:
    everything = looks(*CODECS)
    assert len(set(everything.values())) == len(CODECS)
    assert looks(CODECS[3], CODECS[1]) == {codec: everything[codec] for codec in (CODECS[3], CODECS[1])}
    assert looks("vq:k=2,d=2", CODECS[1])[CODECS[1]] == everything[CODECS[1]]
    others = [f"vq:k=2,d={d}" for d in range(2, 22)]
    assert len(set(looks(*CODECS, *others).values())) == len(CODECS) + len(others)


def test_errors_within_a_decade_have_numbers_on_their_axis() -> None:
    found = Findings("net", (coded("int8", 0.2), coded("int4", 0.6)), (coded("int8", 0.2), coded("int4", 0.6)), ())
    figure = error_figure([found])
    figure.canvas.draw()
    low, high = figure.axes[0].get_ylim()
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels() if low <= tick.get_position()[1] <= high]


def test_what_people_wrote_stays_when_the_page_is_made_again(tmp_path: Path) -> None:
    page = tmp_path / "post_training.md"
    models = [Findings("net", (coded("int8", 0.2),), (coded("int8", 0.2),), ())]
    list(write_page(models, tables(models), tmp_path, None))
    made = page.read_text()
    assert "What was found" in made and "## What was found" not in made
    written = "## What was found\n\nInt8 is good.\n\n- Very.\n\n"
    page.write_text(made.replace("## net", f"{written}## net", 1))
    before = page.read_text()
    list(write_page(models, tables(models), tmp_path, None))
    assert page.read_text() == before and page.read_text().count(written) == 1
