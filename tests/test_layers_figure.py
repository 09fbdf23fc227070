"""Bars of layers: names never collide, rows line up, and of a large network what has no bar is told."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from run_samples import sample_run

from accel.layers_plot import _shown, layer_bars, layers_figure
from accel.machine import load_machine


@pytest.mark.parametrize("blocks", [1, 12, 60])
def test_names_do_not_overlap(blocks: int) -> None:
    figure = layers_figure([sample_run(blocks=blocks), sample_run("int4", blocks=blocks)])
    figure.canvas.draw()
    labels = figure.axes[0].get_yticklabels()
    boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.y0)
    assert 4 < len(boxes) <= 48
    assert all(above.y0 >= below.y1 - 1 for below, above in itertools.pairwise(boxes))


def test_what_has_no_bar_is_told() -> None:
    runs = [sample_run(blocks=60), sample_run("int4", blocks=60)]
    shown = layer_bars(runs)
    for run, bars, left_out, rest in zip(runs, *shown[1:], strict=True):
        assert sum(sum(causes.values()) for causes in bars) + rest == run.total_cycles
        by_cycles = sorted((layer.cycles for layer in run.layers), reverse=True)
        assert len(bars) + left_out == len(run.layers)
        assert sorted((sum(causes.values()) for causes in bars), reverse=True) == by_cycles[: len(bars)]
    label = layers_figure(runs).axes[1].get_xlabel()
    share = 100 * shown.rest_cycles[1] / runs[1].total_cycles
    assert f"not shown: {shown.left_out[1]} other layers, {share:.1f} % of cycles" in label
    assert "not shown" not in layers_figure([sample_run(blocks=2)]).axes[0].get_xlabel()


def test_equal_layers_of_blocks_are_shown_of_all_or_none() -> None:
    assert _shown([9] * 10) == 10
    assert _shown([100] * 12 + [60] * 12 + [40] * 12 + [12, *[11] * 12, *[1] * 50]) == 36
    assert _shown([100] * 12 + [60] * 12 + [50] * 16 + [1] * 50) == 40


def test_rows_line_up_although_a_layer_is_free_in_one_run() -> None:
    free = load_machine("edge64-ideal", ["vector.lanes=0"])
    names, (first, second), *_ = layer_bars([sample_run(blocks=2), sample_run(machine=free, blocks=2)])
    norm = names.index("transformer.encoder.blocks.0.norm")
    assert sum(first[norm].values()) > sum(second[norm].values()) == 0
    assert first[norm + 1] == second[norm + 1]
    assert len(layer_bars([sample_run(machine=free, blocks=2)]).names) == 8


def test_each_run_tells_of_its_own_layers() -> None:
    """Of two models, the layers of one are not those the other has no bar for."""
    small, large = sample_run(blocks=1), sample_run(blocks=60)
    other = replace(small, layers=tuple(replace(layer, name=f"other {layer.name}") for layer in small.layers))
    shown = layer_bars([large, other])
    for run, bars, left_out, cycles in zip([large, other], *shown[1:], strict=True):
        assert left_out == sum(layer.cycles > 0 for layer in run.layers) - sum(map(bool, bars))
        assert cycles == run.total_cycles - sum(sum(causes.values()) for causes in bars)
    none = {field: dict.fromkeys(getattr(small, field), 0) for field in ("cycles_by_cause", "dram_bytes")}
    idle = replace(small, layers=(), total_cycles=0, macs=0, **none)
    assert "not shown" not in layers_figure([idle, large]).axes[0].get_xlabel()


def test_layers_of_one_name_have_a_bar_each() -> None:
    run = sample_run(blocks=1)
    twins = replace(run, layers=tuple(replace(layer, name="same") for layer in run.layers))
    (bars,) = layer_bars([twins]).bars
    assert [sum(causes.values()) for causes in bars] == [layer.cycles for layer in run.layers if layer.cycles]


def test_only_several_runs_share_a_scale() -> None:
    run = sample_run(blocks=2)
    assert layers_figure([run]).axes[0].get_xlabel() == "thousand cycles"
    assert "same scale" in layers_figure([run], 10**6).axes[0].get_xlabel()


def test_a_run_of_nothing_has_no_bars() -> None:
    none = {field: dict.fromkeys(getattr(sample_run(), field), 0) for field in ("cycles_by_cause", "dram_bytes")}
    idle = replace(sample_run(), layers=(), total_cycles=0, macs=0, **none)
    assert layer_bars([idle]).names == []
    layers_figure([idle])
