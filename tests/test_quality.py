"""Scores, tables and plots of quality on made-up figures; tests marked ``network`` execute a real model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from accel.codecs import parse_codec
from accel.reporting import to_text
from benchmarks.inputs import fill
from benchmarks.quality_models import PROFILES, SUBJECTS, cut, efficientnet_lite0
from benchmarks.quality_plots import pareto_figure, write_plots
from benchmarks.quality_run import Cost, Quality, executed_outputs, float_outputs
from benchmarks.quality_scores import cosine_values, cosines, divergences, pareto, right
from benchmarks.quality_tables import Scored, cost_table, missed, score_table
from compiler.compress import compress
from compiler.frontend.architectures import build_architecture


def made_up(pearson: float, cosine: float) -> Scored:
    """MiniLM in two formats; int8 scores as told."""
    costs = (Cost("edge64", 10, 30, 1000, 1e-6), Cost("edge32", 11, 31, 2000, 4e-6))
    values = {"pearson": pearson, "cosine_min": cosine, "cosine_mean": 0.999}
    int8 = Quality("int8", 8.1, values, 0.25, costs)
    int4 = replace(int8, codec="int4", bits_per_weight=4.1, values={**values, "pearson": 0.1})
    return Scored(PROFILES["minilm"], {"pearson": 0.65, "cosine_min": 1.0, "cosine_mean": 1.0}, (int8, int4))


def test_cosines_are_those_of_rows() -> None:
    found, wanted = np.array([[[1.0, 0.0]], [[3.0, 4.0]]]), np.array([[[0.0, 2.0]], [[6.0, 8.0]]])
    np.testing.assert_allclose(cosines(found, wanted), [0, 1])
    assert cosine_values(found, wanted) == {"cosine_min": pytest.approx(0), "cosine_mean": pytest.approx(0.5)}


def test_divergence_of_shares() -> None:
    shares, others = np.array([[0.25, 0.75]]), np.array([[0.5, 0.5]])
    expected = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    np.testing.assert_allclose(divergences(np.log(shares) + 1000, np.log(others)), [expected])
    np.testing.assert_allclose(divergences(shares, shares), [0])


def test_right_answers_are_counted() -> None:
    assert right(np.array([[[0.0, 1, 0]], [[5, 1, 0]], [[0, 0, 2]]]), np.array([1, 1, 2])) == 2


def test_pareto_points_are_those_nothing_beats() -> None:
    assert pareto([(3, 0.9), (1, 0.5), (2, 0.4), (2, 0.7), (4, 0.9)]) == [1, 3, 0]


def test_every_subject_has_a_profile() -> None:
    assert PROFILES.keys() == SUBJECTS.keys()


def test_tables_of_shorter_texts_are_cut() -> None:
    graph = build_architecture("minilm", {"input_ids": (1, 5)}).graph
    table = "embeddings.position_and_segment"
    assert cut({table: np.zeros((9, 384)), "other": np.zeros(3)}, graph)[table].shape == (5, 384)


def test_score_rows_start_with_the_float_model() -> None:
    table = score_table(made_up(0.65, 0.995))
    assert [row["codec"] for row in table.rows] == ["float32", "int8", "int4"]
    assert [row["pearson"] for row in table.rows] == [0.65, 0.65, 0.1]
    assert "note: required of int8: Pearson r within 0.01 of float" in to_text(table)


def test_cost_rows_are_grouped_by_machine() -> None:
    rows = cost_table([made_up(0.65, 0.995)]).rows
    assert [(row["machine"], row["codec"], row["cycles"]) for row in rows] == [
        ("edge64", "int8", 1000), ("edge64", "int4", 1000), ("edge32", "int8", 2000), ("edge32", "int4", 2000),
    ]  # fmt: skip


def test_only_int8_can_miss() -> None:
    assert not list(missed(made_up(0.641, 0.99)))
    assert list(missed(made_up(0.639, 0.98))) == [
        "MiniLM, Lee-50: Pearson r 0.6390, float 0.6500; required within 0.01 of float",
        "MiniLM, Lee-50: cosine min 0.9800, float 1.0000; required >= 0.99",
    ]


def test_plots_have_a_panel_a_model_and_a_file_a_machine(tmp_path: Path) -> None:
    models = [made_up(0.65, 0.99)] * 3
    figure = pareto_figure(models, "edge64")
    assert [axes.get_visible() for axes in figure.axes] == [True, True, True, False]
    assert figure.axes[0].get_xlabel() == "latency of one inference [ms]"
    names = {path.name for path in write_plots(models, tmp_path)}
    assert names == {f"quality_{machine}.{suffix}" for machine in ("edge64", "edge32") for suffix in ("png", "svg")}


def test_texts_that_fill_the_graph_are_kept() -> None:
    texts = tuple(np.arange(size) for size in (3, 4, 5, 4))
    assert fill(texts, 4).shape == (2, 4)


@pytest.mark.network
def test_efficientnet_keeps_its_answers_in_int8() -> None:
    pytest.importorskip("PIL")
    subject = efficientnet_lite0()
    subject = replace(subject, inputs=subject.inputs[:4], executed=4, calibration=subject.calibration[:5])
    wanted = float_outputs(subject)
    packed = compress(subject.graph, subject.weights, parse_codec("int8"), calibration=subject.calibration).packed
    found, _ = executed_outputs(subject, packed)
    assert (found.argmax(-1) == wanted.argmax(-1)).all()
    assert divergences(found, wanted).mean() < 0.1
