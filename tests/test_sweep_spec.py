"""The spec of a sweep: what axes span, which points follow, and what is refused, in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from accel.errors import ConfigError
from accel.machine import load_machine
from accel.sweep.axes import expand_braces, parse_axes
from accel.sweep.points import Point, base_machines, grid, machine_digest, machine_document, machine_of
from accel.sweep.search import rounds
from accel.sweep.spec import SweepSpec, load_spec

HEAD = 'models = ["deit_tiny"]\ncodecs = ["int8"]\n'


def spec_of(folder: Path, text: str, head: str = HEAD) -> SweepSpec:
    path = folder / "spec.toml"
    path.write_text(head + text)
    return load_spec(str(path))


def refused(folder: Path, text: str, head: str = HEAD) -> str:
    with pytest.raises(ConfigError) as caught:
        spec_of(folder, text, head)
    message = str(caught.value)
    assert message.startswith(f"sweep '{folder / 'spec.toml'}': ") and "\n" not in message
    return message


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ([3, 1, 3], [3, 1]),
        ({"from": 1, "to": 10, "step": 4}, [1, 5, 9]),
        ({"from": 1, "to": 9, "step": 4}, [1, 5, 9]),
        ({"from": 16, "to": 128, "factor": 2}, [16, 32, 64, 128]),
        ({"from": 1, "to": 100, "points": 3}, [1, 50, 100]),
        ({"from": 1, "to": 100, "points": 3, "scale": "log"}, [1, 10, 100]),
        ({"from": 1, "to": 2, "points": 9}, [1, 2]),
        ({"from": 5, "to": 5, "step": 1}, [5]),
    ],
)
def test_ranges_are_lists(value: object, expected: list[int]) -> None:
    (axis,) = parse_axes({"vector.lanes": value})
    assert [choice for (choice,) in axis.choices] == expected
    assert all(type(choice) is int for (choice,) in axis.choices)


def test_log_ranges_end_exactly_where_they_should() -> None:
    (axis,) = parse_axes({"clock.hz": {"from": 1e9, "to": 3e9, "points": 7, "scale": "log"}})
    assert axis.choices[0] == (1e9,) and axis.choices[-1] == (3e9,) and len(axis.choices) == 7


def test_keys_with_and_without_quotes_are_the_same() -> None:
    quoted, nested = parse_axes({"dram.latency_cycles": [1]}), parse_axes({"dram": {"latency_cycles": [1]}})
    assert quoted == nested


def test_keys_that_move_together() -> None:
    (axis,) = parse_axes({"array.rows, array.columns, sram.accumulator_bytes": [[8, 16, 4096], 32768]})
    assert axis.choices == ((8, 16, 4096), (32768, 32768, 32768))


def test_braces_are_expanded_as_a_shell_does() -> None:
    assert expand_braces("vq:k={16,256},d={4,8}") == ["vq:k=16,d=4", "vq:k=16,d=8", "vq:k=256,d=4", "vq:k=256,d=8"]
    assert expand_braces("int8") == ["int8"]


def test_the_grid_is_the_product(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, '[axes]\nvector.lanes = [1, 2]\narray.dataflow = ["ws", "os"]\n')
    points = list(grid(spec))
    assert len(points) == spec.grid_points == 4
    assert points[1] == Point("deit_tiny", "int8", "edge64", (("vector.lanes", 1), ("array.dataflow", "os")))
    machine = machine_of(machine_document(points[1], base_machines(spec)))
    assert machine == load_machine("edge64", ["vector.lanes=1", "array.dataflow=os"])


def test_the_digest_of_a_machine_is_that_of_its_numbers() -> None:
    point, bases = Point("m", "int8", "edge64"), base_machines(SweepSpec(("m",), ("edge64",), ("int8",)))
    document = machine_document(point, bases)
    assert machine_digest(document) == machine_digest({**document, "description": "another"})
    other = machine_document(Point("m", "int8", "edge64", (("clock.hz", 2e9),)), bases)
    assert machine_digest(document) != machine_digest(other)
    assert bases == base_machines(SweepSpec(("m",), ("edge64",), ("int8",))), "settings must not leak into the base"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("sede = 1", "unknown key 'sede'; allowed: models, machines, codecs, keep, batch, seed"),
        ("sede = 1", "did you mean 'seed'?"),
        ("[axes]\ndram.latency = [1]", "did you mean 'dram.latency_cycles'?"),
        ("[axes]\nvector.lanes = []", "axis 'vector.lanes' has no values"),
        ("[axes]\nvector.lanes = [1.5]", "axis 'vector.lanes': 1.5; allowed: whole numbers"),
        ("[axes]\nvector.lanes = [true]", "axis 'vector.lanes': True; allowed: whole numbers"),
        ("[axes]\nclock.hz = [nan]", "axis 'clock.hz': nan; allowed: numbers"),
        ("[axes]\nvector.lanes = 4", "axis 'vector.lanes' = 4; allowed: a list of values, or a range"),
        ("[axes]\nvector.lanes = { from = 1, too = 4 }", "unknown key 'too'; allowed: from, to, step"),
        ("[axes]\nvector.lanes = { from = 1 }", "'to' is missing"),
        ("[axes]\nvector.lanes = { from = 4, to = 1, step = 1 }", "from = 4 to = 1"),
        ("[axes]\nvector.lanes = { from = 0, to = 1, factor = 2 }", "numbers above 0"),
        ("[axes]\nvector.lanes = { from = 1, to = 9, step = 0 }", "step = 0; allowed: a number above 0"),
        ("[axes]\nvector.lanes = { from = 1, to = 9, points = 1 }", "points = 1; allowed: a whole number from 2 on"),
        ("[axes]\nvector.lanes = { from = 1, to = 9 }", "a grid needs step, factor or points"),
        ("[axes]\narray.dataflow = { from = 1, to = 9 }", "allowed: a list of texts"),
        ('[axes]\n"array.rows, array.columns" = [[1, 2, 3]]', "[1, 2, 3]; allowed: one value, or a list of 2"),
        ('[axes]\narray.rows = [1]\n"array.rows, array.columns" = [1]', "array.rows: the key is on two axes"),
        ("[axes]\nclock.hz = { from = 1, to = 1e9, step = 1 }", "allowed: at most 100000"),
        ("[axes]\nclock.hz = { from = 1e-300, to = 1e300, step = 1e-320 }", "inf values; allowed: at most 100000"),
        ("[axes]\nclock.hz = { from = 1e-300, to = 1e300, factor = 2.0 }", "inf values; allowed: at most 100000"),
        (f"[axes]\nclock.hz = {{ from = 1, to = 2, points = 1{'0' * 400} }}", "allowed: a whole number from 2 on"),
        (f"[axes]\nclock.hz = [1{'0' * 400}]", "allowed: numbers"),
        (f"[axes]\narray.rows = [{2**63}]", f"a number of 19 digits; allowed: up to {2**63 - 1}"),
        (
            "[search]\nmethod = 'tpe'\npoints = 9\n[objectives]\nspeedup = 'maximize'",
            "objective 'speedup': a point alone has none, so nothing could be learned",
        ),
        ("[search]\nmethod = 'TPE'", "[search] method = 'TPE'; allowed: grid, random, tpe"),
        ("[search]\nmethod = 'random'", "points is missing; allowed: 1 to"),
        ("[search]\npoints = 3", "allowed for method = grid: none"),
        ("[objectives]\nlatency = 'minimize'", "unknown objective 'latency'; allowed: total_cycles, seconds"),
        ("[objectives]\nseconds = 'least'", "[objectives] seconds = 'least'; allowed: minimize, maximize"),
        ("[objectives]", "[objectives] is empty"),
        ("[objectives]\naccuracy = 'maximize'", "names no table of accuracies"),
        ("accuracy = 'none.csv'", "none.csv': No such file"),
        ("machines = []", "machines is empty: the sweep has no points"),
        ("batch = 0", "batch = 0; allowed: 1 to 1024"),
        ("models = 3", "Cannot overwrite a value"),
    ],
)
def test_bad_specs_are_refused_in_one_line(tmp_path: Path, text: str, part: str) -> None:
    assert part in refused(tmp_path, text + "\n")


def test_missing_files_and_keys(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml': no such file"):
        load_spec(str(tmp_path / "none.toml"))
    assert "key 'codecs' is missing" in refused(tmp_path, "", 'models = ["deit_tiny"]\n')
    assert "unknown family 'vqq'" in refused(tmp_path, "", 'models = ["deit_tiny"]\ncodecs = ["vqq:k=2"]\n')


def test_too_large_a_grid_is_refused_before_it_is_made(tmp_path: Path) -> None:
    axes = "vector.lanes = { from = 1, to = 4000, step = 1 }\ndram.latency_cycles = { from = 1, to = 4000, step = 1 }\n"
    assert "a grid of 16,000,000 points" in refused(tmp_path, f"[axes]\n{axes}")


def test_accuracies_are_looked_up_by_model_then_by_codec(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("model,codec,accuracy\n,int8,70\ndeit_tiny,int8,72.1\n,vq:k=4,d=4,60\n".replace(
        "vq:k=4,d=4", '"vq:k=4,d=4"'))  # fmt: skip
    spec = spec_of(tmp_path, "accuracy = 'a.csv'\n")
    assert spec.accuracy_of("deit_tiny", "int8") == 72.1 and spec.accuracy_of("other", "int8") == 70
    assert spec.accuracy_of("deit_tiny", "int4") is None
    assert spec.objectives["accuracy"] == "maximize"


def test_models_of_accuracies_are_spelled_as_in_the_spec(tmp_path: Path) -> None:
    """A file beside the spec is found from anywhere, in the list of models and in the table."""
    (tmp_path / "net.onnx").write_text("")
    (tmp_path / "a.csv").write_text("model,codec,accuracy\nnet.onnx,int8,72.1\n")
    spec = spec_of(tmp_path, "accuracy = 'a.csv'\n", 'models = ["net.onnx"]\ncodecs = ["int8"]\n')
    assert spec.accuracy_of(*spec.models, *spec.codecs) == 72.1


@pytest.mark.parametrize(
    ("table", "part"),
    [
        ("codec,acc\nint8,1\n", "columns codec, acc; allowed: codec, accuracy"),
        ("codec,accuracy\nint8,good\n", "line 2: accuracy 'good'; allowed: a number"),
        ("codec,accuracy\nint8,1\nint8,2\n", "line 3: int8 for the second time"),
        ("codec,accuracy\nint9,1\n", "unknown family 'int9'"),
    ],
)
def test_bad_accuracies_are_refused(tmp_path: Path, table: str, part: str) -> None:
    (tmp_path / "a.csv").write_text(table)
    assert part in refused(tmp_path, "accuracy = 'a.csv'\n")


SEARCH = """
[axes]
dram.latency_cycles = { from = 1, to = 1000, scale = "log" }
vector.lanes = [1, 2, 4]
array.dataflow = ["ws", "os"]
[search]
method = "%s"
points = 40
at_a_time = 8
[objectives]
seconds = "minimize"
"""


def asked(spec: SweepSpec) -> list[list[Point]]:
    """All a search asks for, when a latency of 1 were best and ``os`` impossible."""
    search, found = rounds(spec), []
    points = next(search, None)
    while points is not None:
        found.append(points)
        settings = [dict(point.settings) for point in points]
        answers = [None if s["array.dataflow"] == "os" else [float(s["dram.latency_cycles"])] for s in settings]
        try:
            points = search.send(answers)
        except StopIteration:
            break
    return found


@pytest.mark.parametrize("method", ["random", "tpe"])
def test_a_search_asks_for_the_same_again(tmp_path: Path, method: str) -> None:
    pytest.importorskip("optuna")
    spec = spec_of(tmp_path, SEARCH % method)
    batches = asked(spec)
    assert batches == asked(spec)
    assert sum(map(len, batches)) == 40 and len(batches) == (1 if method == "random" else 5)
    latencies = [dict(point.settings)["dram.latency_cycles"] for batch in batches for point in batch]
    assert all(isinstance(each, int) and 1 <= each <= 1000 for each in latencies)


def test_tpe_learns_from_what_it_is_told(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    first, *_, last = asked(spec_of(tmp_path, SEARCH % "tpe"))
    means = [sum(dict(p.settings)["dram.latency_cycles"] for p in batch) / len(batch) for batch in (first, last)]
    assert means[1] < means[0]
