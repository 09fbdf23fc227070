"""The accuracy benchmark: equal bits, kept cells, tables and plots, on a network small enough to train here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from accel.codecs import LR2VQ, SSVQ, Int8, parse_codec
from accel.errors import CodecError, ConfigError, FormatError
from benchmarks import accuracy, accuracy_cells, accuracy_page, quality_data
from benchmarks.accuracy_cells import SOURCES, Cell, measured
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
from benchmarks.accuracy_page import Entry, contrasts, entries, read_rows
from benchmarks.accuracy_parts import PARTS, PROFILES, Part
from benchmarks.accuracy_plots import LOOKS, quality_figure, write_plots
from benchmarks.accuracy_report import BEGIN, write_report
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


# --- tables ----------------------------------------------------------------------------------------------------------


def lay_cell(
    folder: Path, method: str, codec: str, seed: int, score: float, trained: bool = True, batch: int = 8
) -> None:
    """A cell file with made-up scores."""
    setting = {
        "part": "fashion",
        "method": method if trained else "",
        "codec": codec or None,
        "seed": seed,
        "trial": {"rate": 1e-3, "codebook_factor": 5.0, "sign_factor": 0.0} if trained else None,
        "tuning": False,
        "training": {"batch": batch},
    }
    facts = dict.fromkeys(("steps", "flipped", "frozen", "first_loss", "last_loss"), 0.5) if trained else {}
    row = {"setting": setting, "bits_per_weight": 1.5, **facts, "scores": {"accuracy": score}, "cpu_seconds": 1.0}
    (folder / "cells").mkdir(exist_ok=True)
    (folder / "cells" / f"{method}.{codec.replace(':', '_')}.{seed}.{trained}.json").write_text(json.dumps(row))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """SSVQ with signs fixed and learned, two seeds, and the float model."""
    (tmp_path / "choices").mkdir()
    (tmp_path / "choices" / "fashion.ssvq.1.5.json").write_text('{"codec": "ssvq:k=16,d=8"}')
    for seed, (fixed, free) in enumerate(((0.80, 0.83), (0.82, 0.83))):
        lay_cell(tmp_path, "ssvq-fixed", "ssvq:k=16,d=8", seed, fixed)
        lay_cell(tmp_path, "ssvq-free", "ssvq:k=16,d=8", seed, free)
        lay_cell(tmp_path, "ssvq", "ssvq:k=16,d=8", seed, 0.75, trained=False)
    lay_cell(tmp_path, "float", "", 0, 0.9)
    lay_cell(tmp_path, "float", "", 0, 0.88, trained=False)
    return tmp_path


def test_entries_join_seeds_and_their_start(folder: Path) -> None:
    found = entries(read_rows(folder), folder)
    assert [(each.method, each.level, each.values("accuracy")) for each in found] == [
        ("float", 0.0, [0.9]),
        ("ssvq-fixed", LEVELS[0], [0.80, 0.82]),
        ("ssvq-free", LEVELS[0], [0.83, 0.83]),
    ]
    assert found[1].values("accuracy", found[1].untrained) == [0.75, 0.75]


def test_differences_are_taken_seed_by_seed(folder: Path) -> None:
    text = contrasts(entries(read_rows(folder), folder), PROFILES["fashion"].measures)
    assert "| SSVQ, no freezing − SSVQ, signs fixed | +2.00 ± 1.41 (+3.00, +1.00) |" in text
    assert text.count("\n") == 3  # pairs that were not measured have no row


def test_the_page_keeps_what_stands_above_its_mark(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Accuracy\n\nProse.\n\n{BEGIN}\n\nold tables\n")
    found = write_report(folder, page)
    text = page.read_text()
    assert text.startswith(f"# Accuracy\n\nProse.\n\n{BEGIN}\n")
    assert "old tables" not in text and "81.00 ± 1.41" in text
    assert len(page.with_suffix(".csv").read_text().splitlines()) == 1 + 2 + 2 * 4
    assert all(path.stat().st_size for path in write_plots(found, tmp_path))
    page.write_text("no mark")
    with pytest.raises(ConfigError, match="lacks the line"):
        write_report(folder, page)
    assert page.read_text() == "no mark"


def test_the_page_keeps_parts_that_were_not_measured(folder: Path, tmp_path: Path) -> None:
    page, sheet = tmp_path / "page.md", tmp_path / "page.csv"
    titles = {part: f"## {PROFILES[part].title}" for part in ("fashion", "minilm", "vit_s14")}
    page.write_text(
        f"{BEGIN}\n\n{titles['fashion']}\n\nof before\n\n{titles['vit_s14']}\n\nkept\n\n{titles['minilm']}\n\ntoo\n"
    )
    sheet.write_text("part,method,lee\nvit_s14,vq,0.1\nfashion,vq,0.2\nminilm,vq,0.65625\n")
    for _ in range(2):  # the second time changes nothing
        write_report(folder, page)
        text, rows = page.read_text(), sheet.read_text().splitlines()[1:]
        assert list(map(text.index, titles.values())) == sorted(map(text.index, titles.values()))
        assert "81.00 ± 1.41" in text and "of before" not in text
        assert text.endswith(f"\n\n{titles['minilm']}\n\ntoo\n\n{titles['vit_s14']}\n\nkept\n")
        assert [row.partition(",")[0] for row in rows] == ["fashion"] * 10 + ["minilm", "vit_s14"]
        assert ",0.65625," in rows[-2] and not any(",0.2," in row for row in rows)


@pytest.mark.parametrize(("heading", "part"), [("## Another", "fashion"), (f"## {PROFILES['minilm'].title}", "other")])
def test_a_page_of_parts_we_do_not_know_stays_as_it_is(folder: Path, tmp_path: Path, heading: str, part: str) -> None:
    page, sheet = tmp_path / "page.md", tmp_path / "page.csv"
    page.write_text(f"{BEGIN}\n\n{heading}\n\ntext\n")
    sheet.write_text(f"part,method\n{part},vq\n")
    before = page.read_text(), sheet.read_text()
    with pytest.raises(ConfigError, match=r"Another|'other'"):
        write_report(folder, page)
    assert (page.read_text(), sheet.read_text()) == before


def test_cells_of_two_trainings_are_not_mixed(folder: Path) -> None:
    lay_cell(folder, "ssvq-free", "ssvq:k=16,d=8", 2, 0.9, batch=16)
    with pytest.raises(ConfigError, match="trained in 2 ways"):
        read_rows(folder)


def test_cells_of_other_sources_are_counted_and_marked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = folder / "cells" / "ssvq-free.ssvq_k=16,d=8.0.True.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"sources": SOURCES}))
    write_report(folder, None)
    assert "fashion: 7 of 8 cells are of other sources than today's" in capsys.readouterr().err
    assert (folder / "accuracy.csv").read_text().count(SOURCES) == 1


def test_a_damaged_cell_is_named(folder: Path) -> None:
    (folder / "cells" / "x.json").write_text("{")
    with pytest.raises(FormatError, match=r"x\.json"):
        read_rows(folder)


def test_every_compressed_method_has_a_look_of_its_own() -> None:
    assert set(LOOKS) == set(METHODS) - {accuracy_page.FLOAT}
    assert len(set(LOOKS.values())) == len(LOOKS)


def test_every_measure_has_a_panel_and_nothing_else() -> None:
    profile = PROFILES["vit_s14"]
    row = {"scores": {measure.key: 0.5 for measure in profile.measures}, "setting": {"seed": 0}}
    figure = quality_figure([Entry("vit_s14", "vq", LEVELS[0], "vq:k=64,d=4", 1.5, (row,), (row,))])
    titles = [measure.title for measure in profile.measures]
    assert [axes.get_ylabel().removesuffix(" [%]") for axes in figure.axes] == titles


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
