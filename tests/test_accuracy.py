"""The accuracy benchmark: equal bits, kept cells, tables and plots, on a network small enough to train here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from accel.codecs import LR2VQ, SSVQ, Int8, parse_codec
from accel.errors import CodecError
from benchmarks import accuracy, accuracy_cells, accuracy_page, quality_data
from benchmarks.accuracy_cells import Cell, measured
from benchmarks.accuracy_methods import (
    ABOVE,
    BELOW,
    LEVELS,
    METHODS,
    TRIALS,
    TUNED_ON,
    Trial,
    candidates,
    chosen_codec,
    total_bits,
)
from benchmarks.accuracy_page import Entry
from benchmarks.accuracy_parts import PARTS, PROFILES, Part
from benchmarks.accuracy_plots import LOOKS, quality_figure
from compiler.compress import compress_layer
from compiler.compress.rank import estimated_rank, rank_errors
from compiler.frontend.torch_import import import_torch
from compiler.training import GraphModule, TrainingData, TrainingOptions, outputs_of


def weights() -> dict[str, np.ndarray]:
    """Two layers large enough that a codebook does not outweigh its codes."""
    random = np.random.default_rng(0)
    return {"a.weight": random.normal(size=(192, 192)), "b.weight": random.normal(size=(384, 192))}


def small_part() -> Part:
    """A perceptron that learns its own float answers."""
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.GELU(), torch.nn.Linear(64, 16)).eval()
    graph, values = import_torch(module, (torch.zeros(1, 32),))
    (name,) = graph.inputs
    inputs = np.random.default_rng(0).normal(size=(64, 1, 32)).astype(np.float32)
    wanted = outputs_of(GraphModule(graph, values), {name: inputs})

    def closeness(model: GraphModule) -> float:
        return -float(np.square(outputs_of(model, {name: inputs}) - wanted).mean())

    return Part(
        name="fashion",
        graph=graph,
        weights=values,
        compressed=("0.weight",),
        training=lambda seed, count: TrainingData({name: inputs[:count]}, wanted[:count]),
        samples=64,
        validate=closeness,
        score=lambda model: {"accuracy": closeness(model)},
        loss="mse",
        options=TrainingOptions(epochs=1, batch=8),
        augment=None,
    )


# --- equal bits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["int4", "vq:k=16,d=4", "ssvq:k=4,d=8", "mvq:k=8,d=8,nm=2:8", "lr2vq:k=16,m=4,r=2"])
def test_total_bits_are_those_of_the_layers_stored(text: str) -> None:
    codec = parse_codec(text)
    mode = "channel" if text == "int4" else "tensor"
    layers = [compress_layer(array.astype(np.float32), codec, mode, "out", 0) for array in weights().values()]
    stored = 0
    for layer in layers:
        stored += layer.codes.size * codec.code_bits + 32 * layer.scale.size
        stored += 0 if layer.side is None else layer.side.size
        stored += 0 if layer.codebook is None else 8 * layer.codebook.size
        stored += 0 if layer.projection is None else 8 * layer.projection.matrix.size
    exact = stored / sum(array.size for array in weights().values())
    assert exact <= total_bits(weights(), codec) <= exact + 0.02  # records are padded to whole bytes


@pytest.mark.parametrize("family", sorted({row.family for row in METHODS.values() if row.family}, key=str)[2:])
def test_the_chosen_codec_has_the_bits_of_the_level_and_the_least_error(family: type) -> None:
    codec, tried = chosen_codec(family, 1.5, weights())
    assert {type(each) for each in candidates(family)} == {type(codec)} == {family}
    assert tried[str(codec)][1] == min(error for _, error in tried.values())
    assert all(BELOW * 1.5 <= bits <= ABOVE * 1.5 for bits, _ in tried.values())


def test_uncorrelated_weights_have_a_codebook_of_full_rank_as_the_estimate_has_it() -> None:
    codec, tried = chosen_codec(LR2VQ, 1.5, weights())
    assert isinstance(codec, LR2VQ)
    errors = rank_errors(weights()["a.weight"].astype(np.float32), codec.k, codec.m, scale="tensor")
    assert codec.r == codec.m == estimated_rank(errors)
    assert any(each.r < each.m for each in map(parse_codec, tried) if isinstance(each, LR2VQ))


def test_a_level_no_codec_reaches_is_refused() -> None:
    with pytest.raises(CodecError, match=r"no ssvq codec of 0\.5 bits a weight; .* has 1\.\d\d to"):
        chosen_codec(SSVQ, 0.5, weights())


def test_every_method_may_try_as_many_rates() -> None:
    assert PARTS.keys() == PROFILES.keys() == TRIALS.keys() | TUNED_ON.keys()
    assert TRIALS.keys() >= set(TUNED_ON.values()) and TRIALS.keys().isdisjoint(TUNED_ON)
    assert len({len(rows[method.learns]) for rows in TRIALS.values() for method in METHODS.values()}) == 1
    assert all(METHODS[row.tuned_as].tuned_as == row.tuned_as for row in METHODS.values())


# --- cells -----------------------------------------------------------------------------------------------------------


def test_a_finished_cell_is_kept_until_its_setting_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part, cell = small_part(), Cell("fashion", "ssvq", parse_codec("ssvq:k=4,d=4"), 0, Trial(1e-3, 5.0, 1.0))
    first = measured(cell, part, tmp_path)
    assert first["steps"] == 8 and first["scores"]["accuracy"] < 0

    def never(*_: object) -> dict[str, object]:
        raise AssertionError("measured again")

    monkeypatch.setattr(accuracy_cells, "_measure", never)
    assert measured(cell, part, tmp_path) == first
    with pytest.raises(AssertionError, match="measured again"):
        measured(cell, replace(part, samples=32), tmp_path)
    with pytest.raises(AssertionError, match="measured again"):
        measured(replace(cell, trial=Trial(2e-3, 5.0, 1.0)), part, tmp_path)


def test_training_helps_and_untrained_cells_do_not_train(tmp_path: Path) -> None:
    part, codec = small_part(), parse_codec("vq:k=4,d=4")
    before = measured(Cell("fashion", "", codec, 0, None), part, tmp_path)
    after = measured(Cell("fashion", "vq", codec, 0, Trial(5e-3)), part, tmp_path)
    assert "steps" not in before
    assert after["scores"]["accuracy"] > before["scores"]["accuracy"]


def test_the_best_trial_is_the_one_with_the_best_validation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = TRIALS["fashion"]["dense"]
    scores = dict(zip(trials, (0.1, 0.3, 0.2), strict=True))
    monkeypatch.setattr(accuracy, "measured", lambda cell, *_: {"scores": {"validation": scores[cell.trial]}})
    assert accuracy.best_trial(small_part(), METHODS["int4"], tmp_path) == trials[1]


def test_every_compressed_method_has_a_look_of_its_own() -> None:
    assert set(LOOKS) == set(METHODS) - {accuracy_page.FLOAT}
    assert len(set(LOOKS.values())) == len(LOOKS)


def test_every_measure_has_a_panel_and_nothing_else() -> None:
    profile = PROFILES["vit_s14"]
    row = {"scores": {measure.key: 0.5 for measure in profile.measures}, "setting": {"seed": 0}}
    figure = quality_figure([Entry("vit_s14", "vq", LEVELS[0], "vq:k=64,d=4", 1.5, (row,), (row,))])
    titles = [measure.title for measure in profile.measures]
    assert [axes.get_ylabel().removesuffix(" [%]") for axes in figure.axes] == titles


@pytest.mark.parametrize(
    ("bits", "ticks"), [((), [1]), ((1.04,), [1]), ((1.04, 1.5), [1, 1.25, 1.5]), ((8.1,), [1, 1.25, 1.5, 2, 4, 8])]
)
def test_an_axis_of_bits_ends_where_they_do(bits: tuple[float, ...], ticks: list[float]) -> None:
    row = {"scores": {measure.key: 0.5 for measure in PROFILES["fashion"].measures}, "setting": {"seed": 0}}
    found = [Entry("fashion", "float", 0.0, "", 32.0, (row,), (row,))]
    found += [Entry("fashion", "vq", 1.0, "vq:k=64,d=4", each, (row,), (row,)) for each in bits]
    assert quality_figure(found).axes[0].get_xticks().tolist() == ticks


# --- words -----------------------------------------------------------------------------------------------------------


def test_word_correlation_is_of_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("scipy")
    vectors = {
        "a": np.array([1.0, 0.0]),
        "b": np.array([2.0, 0.1]),
        "c": np.array([1.0, 1.0]),
        "d": np.array([0.0, 3.0]),
    }
    pairs = (("a", "b", 9.0), ("a", "c", 8.9), ("a", "d", 1.0))
    assert quality_data.word_correlation(vectors, pairs) == pytest.approx(1.0)
    assert quality_data.word_correlation(vectors, [(a, b, -s) for a, b, s in pairs]) == pytest.approx(-1.0)


def test_word_pairs_skip_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "simlex999.txt").write_text("# Word 1\tWord 2\tHuman\nold\tnew\t1.58\n")
    files = {"simlex999.txt": tmp_path / "simlex999.txt"}
    monkeypatch.setattr(quality_data, "fetch_dataset", lambda *_: files)
    assert quality_data.word_pairs("simlex999") == (("old", "new", 1.58),)


def test_int8_is_compressed_per_channel() -> None:
    assert total_bits(weights(), Int8()) == pytest.approx(8 + 32 / 192)
