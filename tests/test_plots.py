"""Figures: they are written whole or not at all, labels never collide, and no two series look alike without colour."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from run_samples import BITS, sample_run

from accel import plots
from accel.errors import ConfigError, FormatError
from accel.machine import load_machine
from accel.metrics import CAUSES, TRAFFIC
from accel.plots import (
    Curve,
    SpeedupPanel,
    comparison_figure,
    layers_figure,
    speedup_figure,
    traffic_figure,
    write_figure,
)

BANDWIDTHS = (0.5, 1, 2, 4, 8)


def _panel(crossover: float | None = 3.0) -> SpeedupPanel:
    curves = [Curve(codec, BANDWIDTHS, (3, 3, 2, 1.1, 1)) for codec in BITS]
    curves.append(Curve("GEMM-only", BANDWIDTHS, (4, 3, 2, 1.1, 1), reference=True))
    return SpeedupPanel("title", curves, 2.0, crossover, "caption")


def _figures() -> dict[str, Figure]:
    runs = [sample_run(codec) for codec in BITS]
    return {
        "layers": layers_figure(runs[:2]),
        "comparison": comparison_figure(runs),
        "traffic": traffic_figure({"one": dict(zip(BITS, runs, strict=True)), "two": {"int8": runs[0]}}),
        "speedup": speedup_figure([_panel(), _panel(None)]),
    }


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_figures_are_written_in_the_format_of_the_suffix(tmp_path: Path, suffix: str, magic: bytes) -> None:
    for name, figure in _figures().items():
        path = tmp_path / f"{name}.{suffix}"
        write_figure(figure, path)
        assert path.read_bytes().startswith(magic)


def test_other_suffixes_and_missing_folders_leave_nothing_behind(tmp_path: Path) -> None:
    figure = comparison_figure([sample_run()])
    with pytest.raises(ConfigError, match=r"\.jpeg'; allowed: \.png, \.svg, \.pdf"):
        write_figure(figure, tmp_path / "plot.jpeg")
    with pytest.raises(FormatError):
        write_figure(figure, tmp_path / "missing" / "plot.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("blocks", [1, 12, 60])
def test_layer_names_do_not_overlap(blocks: int) -> None:
    figure = layers_figure([sample_run(blocks=blocks), sample_run("int4", blocks=blocks)])
    figure.canvas.draw()
    labels = figure.axes[0].get_yticklabels()
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.y0)
    assert len(boxes) > 4
    assert all(above.y0 >= below.y1 - 1 for below, above in itertools.pairwise(boxes))


def test_a_very_deep_network_keeps_every_cycle_in_its_bars() -> None:
    runs = [sample_run(blocks=60), sample_run("int4", blocks=60)]
    names, bars = plots._layer_rows(runs)
    assert [sum(sum(causes.values()) for causes in row) for row in bars] == [run.total_cycles for run in runs]
    assert {len(row) for row in bars} == {len(names)}
    assert names[-1] == f"({len(runs[0].layers) - 120} cheaper layers)"


def test_rows_of_layers_line_up_although_a_layer_is_free_in_one_run() -> None:
    free = load_machine("edge64-ideal", ["vector.lanes=0"])
    names, (first, second) = plots._layer_rows([sample_run(blocks=2), sample_run(machine=free, blocks=2)])
    norm = names.index("transformer.encoder.blocks.0.norm")
    assert sum(first[norm].values()) > sum(second[norm].values()) == 0
    assert first[norm + 1] == second[norm + 1]
    assert len(plots._layer_rows([sample_run(machine=free, blocks=2)])[0]) == 8


def test_long_names_keep_block_and_last_components() -> None:
    names = ["embeddings.projection", "layernorm", "encoder.layer.0.norm1"]
    names += [f"encoder.layer.{i}.attention.attention.{part}" for i in (0, 11) for part in ("query", "key")]
    names += ["encoder.layer.3.a_very_deep_path.of_modules.inside.dense", "encoder.layer.3." + "long" * 20]
    labels = plots.short_labels(names)
    assert labels[:4] == ["embeddings.projection", "layernorm", "0.norm1", "0.attention.query"]
    assert labels[6:8] == ["11.attention.key", "3…inside.dense"]
    assert labels[8].startswith("3…") and labels[8].endswith("longlong") and max(map(len, labels)) == 30
    assert plots.short_labels(["/encoder/layer.0/attention/attention/query/MatMul"]) == ["0.attention.query.MatMul"]
    assert plots.short_labels(["head", "blocks.0.fc"]) == ["head", "blocks.0.fc"]


def test_labels_stay_different() -> None:
    names = [f"{stem}.layer.{i}.attention.output.dense" for stem in ("encoder", "decoder") for i in (0, 1)]
    assert len(set(plots.short_labels(names))) == 4
    assert plots.short_labels([]) == []


def test_marks_of_machine_and_crossover_do_not_overlap() -> None:
    figure = speedup_figure([_panel(crossover=2.01)])
    figure.canvas.draw()
    first, second = (text.get_window_extent() for text in figure.axes[0].texts)
    assert not first.overlaps(second)
    inside = figure.axes[0].get_window_extent()
    assert min(first.y0, second.y0) > inside.y1 - 1  # no curve and no other mark runs through a label
    assert first.y1 < figure.axes[0].title.get_window_extent().y0 + 1


@pytest.mark.parametrize(("crossover", "captioned"), [(3.0, True), (None, False)])
def test_a_crossover_is_explained_where_there_is_one(crossover: float | None, captioned: bool) -> None:
    (axes,) = speedup_figure([_panel(crossover)]).axes
    assert ("caption" in axes.get_xlabel()) == captioned
    assert len(axes.texts) == 1 + captioned


def test_series_differ_without_colour() -> None:
    for keys in (CAUSES, TRAFFIC):
        assert len({plots._bar_style(i)["hatch"] for i in range(len(keys))}) == len(keys)
    lines = [plots._curve_style(i, reference=False) for i in range(8)]
    assert len({(str(style["linestyle"]), style["marker"]) for style in lines}) == 8


def test_bars_carry_the_numbers_of_the_runs() -> None:
    run = sample_run("ssvq:k=16,d=8")
    cycles, traffic = comparison_figure([run]).axes
    drawn = {container.get_label(): container[0].get_width() for container in (*cycles.containers, *traffic.containers)}
    assert drawn["compute"] == pytest.approx(run.cycles_by_cause["compute"] / 1e3)
    assert drawn["signs"] == pytest.approx(run.dram_bytes["signs"] / 1e6)
    assert "weights" not in drawn
