"""``accel diff``: nothing that changed is called the same, nothing that did not is called changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from cli_calls import refused
from hypothesis import given, settings
from hypothesis import strategies as st
from run_samples import sample_run

from accel.cli import main
from accel.cli.diff import tolerance
from accel.errors import FormatError
from accel.machine import load_machine
from accel.metrics import CAUSES, METRICS, TRAFFIC
from accel.reporting import metric_values
from accel.run import Run, read_run, run_to_document, write_run
from accel.run_changes import METRIC, Change, changed_facts, changes, past_tolerance

Captured = pytest.CaptureFixture[str]


def _diff(capsys: Captured, folder: Path, before: Run, after: Run, *options: str) -> tuple[int, str]:
    paths = [folder / name for name in ("a.run.json", "b.run.json")]
    for path, run in zip(paths, (before, after), strict=True):
        write_run(run, path)
    code = main(["diff", *map(str, paths), *options])
    return code, capsys.readouterr().out


def _slower(run: Run, cycles: int, cause: str = "drain") -> Run:
    """The same run with so many more cycles in its first layer."""
    first, *rest = run.layers
    by_cause = {**first.cycles_by_cause, cause: first.cycles_by_cause[cause] + cycles}
    first = replace(first, cycles=first.cycles + cycles, cycles_by_cause=by_cause)
    total = {**run.cycles_by_cause, cause: run.cycles_by_cause[cause] + cycles}
    return replace(run, layers=(first, *rest), total_cycles=run.total_cycles + cycles, cycles_by_cause=total)


def test_a_run_is_the_same_as_itself(capsys: Captured, tmp_path: Path) -> None:
    run = sample_run(blocks=1)
    code, out = _diff(capsys, tmp_path, run, run)
    assert (code, out.splitlines()[-1]) == (0, f"identical: {len(changes(run, run))} figures")
    assert "Facts" not in out and "Metrics" not in out


def test_one_cycle_is_told_and_a_tolerance_allows_it(capsys: Captured, tmp_path: Path) -> None:
    run = sample_run(blocks=1)
    code, out = _diff(capsys, tmp_path, run, _slower(run, 1))
    assert code == 1 and "+1 cycles" in out and "changed:" in out
    code, out = _diff(capsys, tmp_path, run, _slower(run, 1), "--tolerance", "1%")
    assert code == 0 and "+1 cycles" in out and "same within 1.000%" in out


@pytest.mark.parametrize(
    ("options", "code"), [(["--tolerance", "0.1"], 1), (["--tolerance", "0.1", "--only-worse"], 0)]
)
def test_changes_for_the_better_may_pass(options: list[str], code: int, capsys: Captured, tmp_path: Path) -> None:
    run = sample_run(blocks=1)
    assert _diff(capsys, tmp_path, _slower(run, run.total_cycles), run, *options)[0] == code
    assert _diff(capsys, tmp_path, run, _slower(run, run.total_cycles), *options)[0] == 1


def test_cycles_that_only_move_are_a_change(capsys: Captured, tmp_path: Path) -> None:
    """Totals alone would call these the same."""
    run = sample_run(blocks=1)
    slower = _slower(_slower(run, 5000, "drain"), -5000, "compute")
    assert slower.total_cycles == run.total_cycles
    code, out = _diff(capsys, tmp_path, run, slower, "--tolerance", "1%")
    assert code == 1 and "Cycles by cause" in out and "Metrics" not in out


def test_only_worse_shows_what_got_worse_past_the_tolerance_and_nothing_else(capsys: Captured, tmp_path: Path) -> None:
    run = sample_run(blocks=1)
    slower = _slower(_slower(run, run.total_cycles, "drain"), 1, "vector")
    code, out = _diff(capsys, tmp_path, run, slower, "--tolerance", "10%", "--only-worse", "--json")
    rows = {(row["kind"], row["name"]) for row in json.loads(out)["changes"] if row["past_tolerance"]}
    first = run.layers[0].name
    expected = {("metric", "total_cycles"), ("metric", "seconds"), ("metric", "utilisation")}
    assert code == 1 and rows == expected | {("cycles_by_cause", "drain"), ("layer_cycles", first)}
    code, out = _diff(capsys, tmp_path, run, slower, "--tolerance", "10%", "--only-worse")
    assert (
        code == 1
        and "worse by more than 10.000%: total_cycles +100." in out
        and "dram_bandwidth" not in out
        and "vector" not in out
    )
    code, out = _diff(capsys, tmp_path, slower, run, "--tolerance", "10%", "--only-worse")
    assert code == 0 and "no worse: no metric is worse by more than 10.000%" in out and "drain" not in out


def test_only_worse_does_not_mind_cycles_that_move(capsys: Captured, tmp_path: Path) -> None:
    """The total says whether the run got slower; less waiting for one thing is often more for another."""
    run = sample_run(blocks=1)
    moved = _slower(_slower(run, 5000, "drain"), -5001, "compute")
    assert _diff(capsys, tmp_path, run, moved, "--tolerance", "1%")[0] == 1
    code, out = _diff(capsys, tmp_path, run, moved, "--tolerance", "1%", "--only-worse")
    assert code == 0 and "Cycles by cause" not in out
    code, out = _diff(capsys, tmp_path, run, _slower(moved, 2), "--only-worse")
    assert code == 1 and "Cycles by cause" in out and "drain" in out and "compute" not in out


def test_everything_that_differs_is_named(capsys: Captured, tmp_path: Path) -> None:
    before = sample_run("int8", blocks=1)
    machine = load_machine("edge64-ideal", ["dram.bandwidth_bytes_per_cycle=2"])
    after = replace(sample_run("int4", machine, blocks=2), tool="9.9")
    facts = {fact.name: (fact.before, fact.after) for fact in changed_facts(before, after)}
    assert facts["codec"] == ("int8", "int4") and facts["accel version"][1] == "9.9"
    assert facts["dram.bandwidth_bytes_per_cycle"] == (5.12, 2)
    assert facts["layers"] == (5, 10) and "machine digest" in facts and "model" not in facts
    code, out = _diff(capsys, tmp_path, before, after)
    assert code == 1 and all(name in out for name in facts)


def test_layers_are_in_the_order_of_what_they_contribute(capsys: Captured, tmp_path: Path) -> None:
    _, out = _diff(capsys, tmp_path, sample_run("int8"), sample_run("int4"))
    table = out.partition("Layers by change of cycles")[2].partition("\n\n")[0]
    lost = [int(line.split()[5].replace(",", "")) for line in table.splitlines()[3:-1]]
    assert len(lost) == 12 and lost == sorted(lost) and lost[0] < 0
    assert "smaller changes not shown" in table


def test_json_has_every_figure(capsys: Captured, tmp_path: Path) -> None:
    before, after = sample_run("int8", blocks=1), sample_run("int4", blocks=1)
    code, out = _diff(capsys, tmp_path, before, after, "--tolerance", "0.5", "--json")
    document = json.loads(out)
    assert (code, document["same"], document["tolerance"]) == (1, False, 0.5)
    rows = {(row["kind"], row["name"]): row for row in document["changes"]}
    assert {name for kind, name in rows if kind == METRIC} == {
        name for name, value in metric_values(before).items() if value is not None
    }
    for kind, keys in (("cycles_by_cause", CAUSES), ("dram_bytes", TRAFFIC)):
        assert {name for each, name in rows if each == kind} == set(keys)
    cycles = rows[METRIC, "total_cycles"]
    assert cycles["difference"] == after.total_cycles - before.total_cycles
    assert cycles["share"] == cycles["relative"] == pytest.approx(after.total_cycles / before.total_cycles - 1)
    weights = rows["dram_bytes", "weights"]
    assert weights["relative"] == pytest.approx(-0.5)
    assert weights["share"] == pytest.approx(-before.dram_bytes["weights"] / 2 / before.dram_bytes_total)
    assert all(row["past_tolerance"] == (abs(row["share"]) > 0.5) for row in rows.values())


NUMBERS = st.none() | st.integers(-5, 5)


@settings(max_examples=60)
@given(st.sampled_from(list(METRICS)), NUMBERS, NUMBERS, st.floats(0, 2))
def test_only_equal_figures_are_within_no_tolerance(
    metric: str, before: int | None, after: int | None, limit: float
) -> None:
    change = Change(METRIC, metric, metric, before, after, before or 0)
    assert change.exceeds(0) == (before != after)
    assert set(past_tolerance([change], limit, only_worse=True)) <= set(past_tolerance([change], limit))
    if before and after is not None:
        assert change.exceeds(limit) == (abs(after - before) / abs(before) > limit)


@pytest.mark.parametrize("cycles", range(1000, 60_000, 1000))
def test_a_change_of_just_the_tolerance_is_within_it_in_cycles_and_seconds(cycles: int) -> None:
    before, after = cycles / 1e9, cycles * 1.01 / 1e9
    assert not Change(METRIC, "seconds", "seconds", before, after, before).exceeds(0.01)
    assert Change(METRIC, "seconds", "seconds", before, (cycles * 101 // 100 + 1) / 1e9, before).exceeds(0.01)


def test_what_only_one_run_has_got_no_worse() -> None:
    """Look-ups in banks, say: int8 has none."""
    change = Change(METRIC, "conflict_factor", "conflict_factor", None, 1.6, 0)
    assert past_tolerance([change], 0.01) and not past_tolerance([change], 0.01, only_worse=True)
    assert past_tolerance([Change(METRIC, "total_cycles", "total_cycles", 0, 1, 0)], 0.01, only_worse=True)


def test_layers_of_one_name_are_told_apart() -> None:
    run = sample_run(blocks=1)
    twins = replace(run, layers=tuple(replace(layer, name="same") for layer in run.layers))
    names = [each.name for each in changes(twins, twins) if each.kind == "layer_cycles"]
    assert names == ["same", "same#2", "same#3", "same#4", "same#5"]


MISTAKES = {
    "newer schema": ({"schema": "accel.run/9"}, "written by a newer version of accel"),
    "other file": ({"schema": "accel.comparison/2"}, "it is a comparison"),
    "text for a number": ({"layers": [{"macs": "many"}]}, "damaged"),
    "no number of joules": ({"energy_joules": {"dram": float("nan")}}, "damaged"),
    "infinitely long": ({"total_cycles": float("inf")}, "damaged"),
    "half a multiplication": ({"macs": 1.5}, "damaged"),
    "too much to count": ({"macs": 10**400}, "damaged"),
    "level without end": (
        {"occupancy": [{"memory": "weight", "capacity_bytes": 1, "cycles": [float("inf")], "held_bytes": [1]}]},
        "damaged",
    ),
    "memory of infinite size": (
        {"occupancy": [{"memory": "weight", "capacity_bytes": float("inf"), "cycles": [0], "held_bytes": [1]}]},
        "damaged",
    ),
    "no program": ({"program": None}, "damaged"),
    "no source": ({"program": {"source": None}}, "damaged"),
    "no description": ({"program": {"source": {"description": None}}}, "damaged"),
    "half a surrogate": ({"tool": "\ud800"}, "damaged"),
    "levels without cycles": (
        {"occupancy": [{"memory": "weight", "capacity_bytes": 1, "cycles": [], "held_bytes": [1]}]},
        "cycles must ascend",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_other_versions_and_damage_are_one_line(name: str, capsys: Captured, tmp_path: Path) -> None:
    change, expected = MISTAKES[name]
    good, bad = tmp_path / "good.run.json", tmp_path / "bad.run.json"
    write_run(sample_run(blocks=1), good)
    document = run_to_document(sample_run(blocks=1)) | change
    if "layers" in change:
        document["layers"] = [{**run_to_document(sample_run(blocks=1))["layers"][0], "macs": "many"}]
    bad.write_text(json.dumps(document))
    for argv in (["diff", str(good), str(bad)], ["diff", str(bad), str(good)], ["report", str(bad)]):
        assert main(argv) == 2
        out, err = capsys.readouterr()
        assert out == "" and err.count("\n") == 1 and expected in err and str(bad) in err


def test_causes_of_layers_add_up(tmp_path: Path) -> None:
    """Per layer and per cause: what a report stacks is what it counts."""
    document = run_to_document(sample_run(blocks=1))
    first, second, *others = document["layers"]
    moved = {**first, "cycles_by_cause": first["cycles_by_cause"] | {"compute": 0}}
    swapped = [
        {
            **first,
            "cycles_by_cause": first["cycles_by_cause"]
            | {"compute": first["cycles_by_cause"]["weight_dma"], "weight_dma": first["cycles_by_cause"]["compute"]},
        }
    ]
    for layers, expected in (
        ([moved, second, *others], r"cycles_by_cause of layer '.*qkv': sums to [0-9]+; expected"),
        ([*swapped, second, *others], r"cycles_by_cause.compute of layers: sums to"),
    ):
        (tmp_path / "bad.run.json").write_text(json.dumps(document | {"layers": layers}))
        with pytest.raises(FormatError, match=expected):
            read_run(tmp_path / "bad.run.json")


@pytest.mark.parametrize("text", ["-1", "x", "nan", "inf", "%"])
def test_tolerances(text: str, capsys: Captured) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["diff", "a", "b", f"--tolerance={text}"])
    assert "allowed: a share of at least 0, e.g. 0.01 or 1%" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "spellings"), [("5", "5% or 0.05"), ("1", "1% or 0.01"), ("2.5", "2.5% or 0.025")])
def test_a_tolerance_that_may_mean_per_cent_is_refused(text: str, spellings: str, capsys: Captured) -> None:
    assert f"'{text}' without a unit; write {spellings}" in refused(capsys, "diff", "a", "b", "--tolerance", text)


@pytest.mark.parametrize(("text", "share"), [("0", 0), ("0.999", 0.999), ("5%", 0.05), ("100%", 1), ("250 %", 2.5)])
def test_tolerances_that_are_clear(text: str, share: float) -> None:
    assert tolerance(text) == pytest.approx(share)
