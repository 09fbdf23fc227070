"""Pareto fronts: nobody beats what is on them, and their plot says what its axes show."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from sweep_cases import SPEC, case_folder, run, write_case

pytest.importorskip("pyarrow")

from accel.errors import ConfigError
from accel.sweep.columns import OBJECTIVE_COLUMNS, columns
from accel.sweep.pareto import on_front, pareto_mask
from accel.sweep.plot import fronts_figure

here = pytest.fixture(case_folder)

costs = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), max_size=30)


@given(costs)
def test_the_front_is_what_nobody_beats(rows: list[tuple[int, int, int]]) -> None:
    def beats(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
        return all(x <= y for x, y in zip(a, b, strict=True)) and a != b

    array = np.array(rows, np.float64).reshape(-1, 3)
    assert pareto_mask(array).tolist() == [not any(beats(other, row) for other in rows) for row in rows]


def test_fronts_are_of_one_model_and_need_every_figure() -> None:
    rows = [{"model": "a", "x": 1, "y": 1}, {"model": "a", "x": 2, "y": 2}, {"model": "b", "x": 9, "y": 1}]
    rows += [{"model": "a", "x": 0, "y": None}]
    assert on_front(rows, {"x": "minimize", "y": "maximize"}) == [True, True, True, False]
    assert on_front(rows, {"x": "minimize", "y": "minimize"}) == [True, False, True, False]


def test_fronts_as_json_and_plot(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "a.csv").write_text('codec,accuracy\nint8,0.9\n"vq:k=4,d=4",0.5\n')
    write_case(here, "accuracy = 'a.csv'\n" + SPEC)
    rows = run(here, "--json", "--plot", str(here / "front.svg"))
    (front,) = json.loads(capsys.readouterr().out)["fronts"].values()
    assert {row["point"] for row in front} == {row["point"] for row in rows if row["pareto"]}
    assert {row["codec"] for row in front} == {"int8", "vq:k=4,d=4"} and front[0]["accuracy"] in (0.9, 0.5)
    figure = fronts_figure(rows, {"seconds": "minimize", "sram_bytes": "minimize", "accuracy": "maximize"})
    labels = {axes.get_xlabel() + "|" + axes.get_ylabel() for axes in figure.axes}
    assert "time of a run [ms], less is better|memory on chip [KiB], less is better" in labels and len(figure.axes) == 3
    assert (here / "front.svg").read_bytes().startswith(b"<?xml")
    with pytest.raises(ConfigError, match="two or more"):
        fronts_figure(rows, {"seconds": "minimize"})


def _fronts(*objectives: str) -> Figure:
    rows = [
        {"model": "m", "codec": "int8", "status": "done", "machine": "edge64", "pareto": True}
        | {name: (i + 1) * 10.0**j for j, name in enumerate(objectives)}
        for i in range(12)
    ]
    return fronts_figure(rows, dict.fromkeys(objectives, "minimize"))


def test_axes_of_fronts_say_what_they_show_in_the_units_and_keys_of_the_product() -> None:
    figure = _fronts("seconds", "machine.decoder.lookups_per_cycle", "sram_bytes")
    shown = [(axes.get_xlabel().split(",")[0], axes.get_ylabel().split(",")[0]) for axes in figure.axes]
    time, memory = "time of a run [ms]", "memory on chip [KiB]"
    assert shown == [(time, "decoder.lookups_per_cycle"), (time, memory)]  # two inputs have no panel
    assert {axes.get_title() for axes in figure.axes} == {"m on edge64: 12 points"}
    assert len(_fronts("multipliers", "sram_bytes").axes) == 1


def test_objectives_are_columns_of_numbers() -> None:
    kinds = {name: kind for name, kind, *_ in columns()}
    assert all(kinds[name] in (int, float) for name in OBJECTIVE_COLUMNS)
