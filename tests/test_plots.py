"""Figures: they are written whole or not at all, labels never collide, and no two series look alike without colour."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from run_samples import BITS, sample_run

from accel import plots
from accel.errors import ConfigError, FormatError
from accel.layers_plot import layers_figure
from accel.machine import load_machine
from accel.metrics import CAUSES, TRAFFIC
from accel.occupancy_plot import occupancy_figure
from accel.plots import SPLITS, comparison_figure, split_figure, write_figure
from accel.roofline_plot import ABOVE_THE_ROOF, roofline_figure, roofline_points
from accel.run import MemoryLevel, Run
from accel.speedup_plot import ARRAY, Curve, SpeedupPanel, curve_style, speedup_figure

BANDWIDTHS = (0.5, 1, 2, 4, 8)


def _panel(crossover: float | None = 3.0) -> SpeedupPanel:
    curves = [Curve(codec, BANDWIDTHS, (3, 3, 2, 1.1, 1)) for codec in BITS]
    curves.append(Curve("GEMM-only", BANDWIDTHS, (4, 3, 2, 1.1, 1), reference=True))
    return SpeedupPanel("title", curves, 2.0, crossover, "caption")


def _filled(run: Run) -> Run:
    half = run.total_cycles / 2
    return replace(run, occupancy=(MemoryLevel("activation", 4096, (0.0, half), (4096, 1024)),))


def _figures() -> dict[str, Figure]:
    runs = [sample_run(codec, blocks=1) for codec in BITS]
    return {
        "layers": layers_figure(runs[:2]),
        "comparison": comparison_figure(runs),
        "traffic": split_figure(
            {"one": dict(zip(BITS, runs, strict=True)), "two": {"int8": runs[0]}}, SPLITS["traffic"]
        ),
        "speedup": speedup_figure([_panel(), _panel(None)]),
        "arrays": speedup_figure([replace(_panel(), sweep=ARRAY, names=("a", "b", "c", "d", "e"))]),
        "roofline": roofline_figure(runs[:2]),
        "occupancy": occupancy_figure([_filled(runs[0]), _filled(runs[1])]),
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
        assert len({plots.bar_style(i)["hatch"] for i in range(len(keys))}) == len(keys)
    lines = [curve_style(i, reference=False) for i in range(8)]
    assert len({(str(style["linestyle"]), style["marker"]) for style in lines}) == 8


def test_bars_carry_the_numbers_of_the_runs() -> None:
    run = sample_run("ssvq:k=16,d=8")
    cycles, traffic = comparison_figure([run]).axes
    drawn = {container.get_label(): container[0].get_width() for container in (*cycles.containers, *traffic.containers)}
    assert drawn["compute"] == pytest.approx(run.cycles_by_cause["compute"] / 1e3)
    assert drawn["signs"] == pytest.approx(run.dram_bytes["signs"] / 1e6)
    assert "weights" not in drawn


def test_panels_of_a_figure_share_a_scale() -> None:
    """A bar twice as long is twice as much, whichever machine's panel it is in."""
    slow, fast = sample_run("int8", blocks=4), sample_run("int8", blocks=2)
    for split in SPLITS.values():
        above, below = split_figure({"slow": {"int8": slow}, "fast": {"int8": fast}}, split).axes
        assert above.get_xlim() == below.get_xlim(), split.field


def test_log_axes_have_plain_numbers() -> None:
    figure = plots.new_figure(3, 3)
    axes = figure.subplots()
    axes.plot([1e-3, 2e7], [0.02, 0.5])
    for axis in (axes.xaxis, axes.yaxis):
        plots.log_axis(axis)
    figure.canvas.draw()
    ticks = [label.get_text() for axis in (axes.xaxis, axes.yaxis) for label in axis.get_ticklabels()]
    assert not [text for text in ticks if "$" in text] and {"0.01", "0.1", "10,000"} <= set(ticks)


def test_a_roofline_explains_layers_above_its_roof() -> None:
    label = roofline_figure([sample_run(blocks=1)]).axes[0].get_xlabel()
    assert label.startswith("arithmetic intensity [MAC/B") and ABOVE_THE_ROOF in label


@pytest.mark.parametrize(("high", "numbers"), [(90, {"1", "2", "5", "10", "50"}), (9e4, {"1", "10", "10,000"})])
def test_a_short_log_axis_has_more_numbers(high: float, numbers: set[str]) -> None:
    axes = plots.new_figure(6, 3).subplots()
    axes.set_xlim(0.9, high)
    plots.short_log_axis(axes.xaxis)
    axes.figure.canvas.draw()
    shown = {label.get_text() for label in axes.get_xticklabels()}
    assert numbers <= shown and ("2" in shown) == (high < 100)


def test_legends_and_titles_stay_inside_the_figure() -> None:
    long = sample_run("ssvq:k=16,d=8", load_machine("edge64-ideal", ["vector.lanes=1", "array.rows=32"]), blocks=2)
    title = "edge64: 64x64 ws, LPDDR4-3200 x16 bank by bank (bgLow), peak 6.4 B/cycle (6.4 GB/s)"
    figures = [
        layers_figure([long]), roofline_figure([long, long]), occupancy_figure([_filled(long)]),
        split_figure({title: {"ssvq:k=256,d=8 (mixed)@edge64, vector.lanes=0": long}}, SPLITS["cycles"]),
    ]  # fmt: skip
    for figure in figures:
        figure.canvas.draw()
        boxes = [each.get_window_extent() for each in (*figure.legends, *(axes.title for axes in figure.axes))]
        assert all(figure.bbox.x0 <= box.x0 and box.x1 <= figure.bbox.x1 for box in boxes)


def test_runs_on_machines_of_one_name_have_titles_of_their_own() -> None:
    plain, changed = sample_run(), sample_run(machine=load_machine("edge64-ideal", ["vector.lanes=0"]))
    assert plots.run_title(plain) == "sample, int8 on edge64-ideal"
    assert plots.run_title(changed) == "sample, int8 on edge64-ideal with vector.lanes = 0"


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    for suffix in ("svg", "pdf", "png"):
        first, second = tmp_path / f"1.{suffix}", tmp_path / f"2.{suffix}"
        for path in (first, second):
            write_figure(layers_figure([sample_run(blocks=1)]), path)
        assert first.read_bytes() == second.read_bytes()


def test_every_axis_says_what_it_shows() -> None:
    for name, figure in _figures().items():
        for axes in figure.axes:
            place = axes.get_subplotspec()
            assert axes.get_xlabel() or not place.is_last_row(), name
            assert axes.get_ylabel() or axes.get_yticklabels() or not place.is_first_col(), name


def test_every_layer_that_multiplies_is_on_the_roofline() -> None:
    run = sample_run(blocks=2)
    resident = replace(run.layers[0], dram_bytes=dict.fromkeys(TRAFFIC, 0))
    moved = {kind: run.dram_bytes[kind] - run.layers[0].dram_bytes[kind] for kind in TRAFFIC}
    run = replace(run, layers=(resident, *run.layers[1:]), dram_bytes=moved)
    points = roofline_points(run)
    assert [point.name for point in points] == [layer.name for layer in run.layers if layer.macs]
    assert points[0].intensity is None
    one = run.layers[1]
    assert points[1].intensity == one.macs / sum(one.dram_bytes.values())
    assert max(point.attained for point in points) <= run.machine.macs_per_cycle
    (axes,) = roofline_figure([run]).axes
    hovers = [line.get_gid() for line in axes.lines if line.get_gid()]
    assert len(hovers) == len(points) and "no DRAM traffic" in hovers[0]


def test_names_are_no_formulas_and_no_control_codes(tmp_path: Path) -> None:
    run = sample_run(blocks=1)
    hostile = "$\\frac{x\x1b[31m\n<b>"
    run = replace(run, layers=tuple(replace(layer, name=f"{hostile}{i}") for i, layer in enumerate(run.layers)))
    run = _filled(replace(run, program={**run.program, "codec": hostile, "model": hostile}))
    for figure in (layers_figure([run]), roofline_figure([run]), occupancy_figure([run]), comparison_figure([run])):
        write_figure(figure, tmp_path / "a.svg")
        write_figure(figure, tmp_path / "a.pdf")


def test_a_curve_has_a_speedup_for_each_value() -> None:
    with pytest.raises(ValueError, match="2 speed-ups for 1 values"):
        Curve("c", (1,), (1, 2))
