"""Names of points: whatever the cloud, no name lies over another, over a marker, a line or the frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox
from run_samples import sample_run

import accel
from accel.metrics import TRAFFIC
from accel.plots import log_axis, new_figure
from accel.point_labels import PointLabel, place_labels
from accel.roofline_plot import roofline_figure
from accel.run import LayerRun, Run

NAMES = ("fc1", "blocks.11.attention.qkv", "…patch_embeddings.projection", "8.output.dense")


def _notes(axes: Axes) -> list[Annotation]:
    return [text for text in axes.texts if isinstance(text, Annotation)]


def _letters(note: Annotation) -> Bbox:
    """Of the text alone; a line that leads to it may cross what it likes but letters."""
    renderer = note.figure.canvas.get_renderer()
    bbox, _, _ = note._get_layout(renderer)
    note.update_positions(renderer)
    x, y = note.get_transform().transform(note.get_position())
    return bbox.translated(x, y)


def _markers(axes: Axes) -> list[Bbox]:
    pixels = axes.figure.dpi / 72
    found = []
    for line in axes.lines:
        if line.get_marker() not in ("None", None):
            half = line.get_markersize() / 2 * pixels
            found += [
                Bbox.from_extents(x - half, y - half, x + half, y + half)
                for x, y in line.get_transform().transform(line.get_xydata())
            ]
    return found


def collisions(axes: Axes) -> list[tuple[str, str]]:
    """What is wrong with the labels of a plot, once it is drawn."""
    axes.figure.canvas.draw()
    notes = _notes(axes)
    boxes = [_letters(note) for note in notes]
    wrong = [
        (notes[i].get_text(), notes[j].get_text())
        for i in range(len(boxes)) for j in range(i) if boxes[i].overlaps(boxes[j])
    ]  # fmt: skip
    for note, box in zip(notes, boxes, strict=True):
        wrong += [(note.get_text(), "marker") for marker in _markers(axes) if box.overlaps(marker)]
        frame = axes.bbox
        if box.x0 < frame.x0 or box.x1 > frame.x1 or box.y0 < frame.y0 or box.y1 > frame.y1:
            wrong.append((note.get_text(), "frame"))
        if note.arrow_patch is not None:
            leader = note.arrow_patch.get_path().transformed(note.arrow_patch.get_transform())
            wrong += [
                (note.get_text(), f"line over {other.get_text()}")
                for other, letters in zip(notes, boxes, strict=True)
                if other is not note and leader.intersects_bbox(letters, filled=False)
            ]
    return wrong


def _cloud(points: list[tuple[float, float]], names: list[str]) -> Axes:
    axes = new_figure(5, 4).subplots()
    axes.plot(*zip(*points, strict=True), "s", markersize=6)
    axes.plot([1, 1e4], [1, 1e4], "-", color="black")
    for axis in (axes.xaxis, axes.yaxis):
        log_axis(axis)
    labels = [PointLabel(name, x, y) for (x, y), name in zip(points, names, strict=False)]
    assert len(place_labels(axes, labels, 8)) == len(_notes(axes)) <= 8
    return axes


decades = st.floats(0, 4).map(lambda exponent: 10**exponent)
clouds = st.lists(st.tuples(decades, decades, st.sampled_from(NAMES)), min_size=1, max_size=30)


@settings(max_examples=15)
@given(clouds)
def test_no_cloud_makes_labels_collide(cloud: list[tuple[float, float, str]]) -> None:
    axes = _cloud([(x, y) for x, y, _ in cloud], [name for _, _, name in cloud])
    assert collisions(axes) == [] and _notes(axes)


@pytest.mark.parametrize("spread", [0.001, 0.05, 0.3])
def test_dense_clouds(spread: float) -> None:
    random = np.random.default_rng(0)
    points = [(10 ** (2 + a), 10 ** (2 + b)) for a, b in random.normal(0, spread, (80, 2))]
    axes = _cloud(points, [f"{i}.attention.output.dense" for i in range(80)])
    assert collisions(axes) == [] and len(_notes(axes)) >= 3


def test_a_label_without_room_is_left_out() -> None:
    grid = [(10**x, 10**y) for x in np.linspace(0, 4, 40) for y in np.linspace(0, 4, 40)]
    axes = _cloud(grid, ["blocks.11.attention.qkv"] * len(grid[:20]))
    assert not _notes(axes)


def test_the_first_labels_are_drawn() -> None:
    axes = new_figure(5, 4).subplots()
    axes.plot([0, 1, 2], [0, 1, 2], "o")
    labels = [PointLabel(f"layer {i}", i, i) for i in (2, 0, 1)]
    assert place_labels(axes, labels, 2) == ("layer 2", "layer 0")


def _dense(run: Run, spread: float) -> Run:
    """The same run with layers of nearly one intensity."""
    random = np.random.default_rng(1)

    def moved(layer: LayerRun) -> LayerRun:
        weights = int(layer.macs / 100 * 10 ** random.normal(0, spread))
        return replace(layer, dram_bytes=dict.fromkeys(TRAFFIC, 0) | {"weights": weights})

    layers = tuple(map(moved, run.layers))
    total = dict.fromkeys(TRAFFIC, 0) | {"weights": sum(layer.dram_bytes["weights"] for layer in layers)}
    return replace(run, layers=layers, dram_bytes=total)


@pytest.mark.parametrize("spread", [0.0, 0.02, 0.5])
def test_rooflines_of_dense_networks(spread: float) -> None:
    run = _dense(sample_run(), spread)
    for axes in roofline_figure([run, run]).axes:
        assert collisions(axes) == [] and _notes(axes)


def test_a_roofline_of_a_real_network() -> None:
    run = accel.simulate("deit_tiny", "edge64", codec="int8")
    (axes,) = roofline_figure([run]).axes
    assert collisions(axes) == [] and len(_notes(axes)) >= 3
    costliest = max(run.layers, key=lambda layer: layer.cycles if layer.macs else 0)
    assert any(note.get_text().endswith(costliest.name.rpartition(".")[2]) for note in _notes(axes))


def test_the_check_itself_sees_collisions() -> None:
    axes = new_figure(5, 4).subplots()
    axes.plot([0.5, 0.52], [0.5, 0.5], "o")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    for x in (0.5, 0.52):
        axes.annotate("name", (x, 0.5), (3, 0), textcoords="offset points")
    assert {what for _, what in collisions(axes)} == {"name", "marker"}
