"""Arrays on an axis: in order, never on top of each other, and the machine's own where it stands."""

from __future__ import annotations

import itertools
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_page import comparison

from accel.cli.array_axis import ArrayAxis
from accel.cli.curves import array_panels
from accel.errors import FormatError
from accel.speedup_plot import speedup_figure


def _document(**arrays: object) -> dict[str, object]:
    document = json.loads(json.dumps(comparison()))
    count = len(arrays["names"])  # type: ignore[arg-type]
    speedup = {"int8": [1.0] * count, "int4": [1 + i / 8 for i in range(count)]}
    document["machines"][0]["arrays"] |= {"speedup": speedup, **arrays}
    return document


def _multipliers(name: str) -> int:
    rows, columns = map(int, name.split("x"))
    return rows * columns


def _named(*names: str) -> dict[str, object]:
    sizes = [*map(_multipliers, names)]
    return {"names": list(names), "macs_per_cycle": sizes}


def test_shapes_of_as_many_multipliers_stand_side_by_side() -> None:
    (panel,) = array_panels(_document(**_named("16x16", "32x64", "64x32")))
    first, low, high = panel.curves[0].swept
    assert first == 256 and low < 2048 < high and low * high == pytest.approx(2048**2)
    assert panel.names == ("16x16", "32x64", "64x32")
    assert "side by side" in panel.order and "side by side" not in array_panels(comparison())[0].order


@pytest.mark.parametrize("own", ["32x128", "64x64", "128x32"])
def test_the_mark_of_the_machine_is_at_its_own_shape(own: str) -> None:
    document = _document(**_named("16x16", "32x128", "64x64", "128x32"))
    rows, columns = map(int, own.split("x"))
    document["machines"][0]["machine"]["array"] = {"rows": rows, "columns": columns}  # type: ignore[index]
    (panel,) = array_panels(document)
    assert panel.own == panel.curves[0].swept[panel.names.index(own)] and panel.own_text == own
    texts = [text.get_text() for text in speedup_figure([panel]).axes[0].texts]
    assert f"this machine: {own}" in texts and "crossover: 400 MAC/cycle" in texts


def test_a_crossover_stands_between_the_shapes_it_is_between() -> None:
    axis = ArrayAxis.of(["a", "b", "c", "d"], [1024, 2048, 2048, 4096])
    a, b, c, d = axis.places
    assert a < axis.place(1500) < b and c < axis.place(2100) < d and b < axis.place(2048) < c
    assert axis.place(512) == 512 and axis.place(8192) == 8192


@given(st.lists(st.integers(1, 2**20), min_size=1, max_size=12).map(sorted))
def test_places_ascend_and_are_apart(sizes: list[int]) -> None:
    axis = ArrayAxis.of([*map(str, range(len(sizes)))], sizes)
    assert all(b / a >= 2**0.4 * (1 - 1e-9) for a, b in itertools.pairwise(axis.places))
    crossings = [axis.place(size) for size in range(1, max(sizes) + 2, max(1, max(sizes) // 50))]
    assert crossings == sorted(crossings)


@pytest.mark.parametrize(
    "names",
    [
        ("16x16", "32x32", "64x64", "128x128"),
        ("32x128", "64x64", "128x32"),
        ("8x8", "16x16", "64x32", "32x64", "48x48", "64x64", "1024x256", "256x1024", "1024x1024"),
    ],
)
def test_names_of_arrays_do_not_collide(names: tuple[str, ...]) -> None:
    (panel,) = array_panels(_document(**_named(*sorted(names, key=_multipliers))))
    figure = speedup_figure([panel])
    figure.canvas.draw()
    labels = figure.axes[0].get_xticklabels()
    extents = [label.get_window_extent() for label in labels]
    if labels[0].get_rotation():
        height = labels[0].get_fontsize() * figure.dpi / 72
        assert all(b.x1 - a.x1 > height for a, b in itertools.pairwise(extents))  # lines of text at 45 degrees
    else:
        assert all(a.x1 < b.x0 for a, b in itertools.pairwise(extents))


def test_damaged_arrays_are_told() -> None:
    for broken in ({"macs_per_cycle": [4096, 256]}, {"names": ["a"]}, {"macs_per_cycle": [0, 4]}):
        document = json.loads(json.dumps(comparison()))
        document["machines"][0]["arrays"] |= broken
        with pytest.raises((ValueError, FormatError), match="ascending sizes"):
            array_panels(document)


@pytest.mark.parametrize(
    "sizes", [[], [math.nan, 2.0], [1.0, math.nan], [2.0, 1.0], [0.0, 1.0], [1.0, math.inf]], ids=str
)
def test_sizes_that_are_none_are_refused(sizes: list[float]) -> None:
    with pytest.raises(ValueError, match=r"^arrays: \d names of \d ascending sizes$"):
        ArrayAxis.of([*map(str, range(len(sizes)))], sizes)
