"""A sweep's results are those of single simulations, kept by content: nothing is computed twice, lost or doubled."""

from __future__ import annotations

import json
import multiprocessing
import resource
import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from strategies import Coding, pack_randomly
from sweep_cases import ROOT, SPEC, command, environment, rows_of, sweep, write_case
from tiny_models import attention, cnn

pytest.importorskip("pyarrow")

import accel
from accel.cli import main, sweep_pool
from accel.errors import ConfigError, FormatError
from accel.machine import KEYS, load_machine
from accel.metrics import METRICS
from accel.sweep.columns import OBJECTIVE_COLUMNS, RESULTS_SCHEMA, columns, columns_markdown, sram_bytes
from accel.sweep.pareto import on_front, pareto_mask
from accel.sweep.plot import fronts_figure
from accel.sweep.results import read_results, write_results
from accel.sweep.spec import load_spec
from accel.sweep.store import Store
from compiler import compile_model
from compiler.dependence import compiled_part

EXAMPLE = ROOT / "docs" / "deit_tiny_sweep.toml"
STORE = Path("sweep", "results.sqlite")
LONG = SPEC + "vector.lanes = { from = 1, to = 25, step = 1 }\n"
POINTS = 300  # of LONG


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a spec, which is also the store's."""
    monkeypatch.setenv("ACCEL_CACHE", environment(tmp_path / "cache")["ACCEL_CACHE"])
    write_case(tmp_path)
    return tmp_path


def run(folder: Path, *more: str) -> list[dict[str, object]]:
    """Sweep in this process; the rows."""
    assert main(["sweep", str(folder / "spec.toml"), "-o", str(folder / "r.parquet"), "--workers", "1", *more]) == 0
    return rows_of(folder / "r.parquet")


def kept(cache: Path) -> int:
    """Results in the store; what it holds of packed models not counted."""
    try:
        with closing(sqlite3.connect(cache / STORE, timeout=30)) as connection:
            return int(connection.execute("SELECT count(*) FROM found WHERE value LIKE '%status%'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0


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


@pytest.mark.parametrize("graph", [attention, cnn])
def test_programs_depend_on_nothing_but_the_compiled_part(graph) -> None:
    """Every other key of the machine may change, and the program stays the same to the bit."""
    base = load_machine("edge64", ["array.rows=8", "array.columns=8", "sram.activation_bytes=4096"])
    packed = pack_randomly(graph(), Coding("vq:k=4,d=4", "out", False))
    program = compile_model(packed, base)
    others = {
        "clock.hz": "2e9", "decoder.codebook_banks": "4", "decoder.input_bits": "256", "decoder.fifo_words": "99",
        "vector.lanes": "3", "dram.latency_cycles": "7", "dram.load_engines": "2", "dram_timing.cl": "50",
        "dram_timing.trcd_read": "50",
    }  # fmt: skip
    for key, value in others.items():
        machine = load_machine("edge64", [f"{k}={v}" for k, v in (*_settings(base), (key, value))])
        assert compiled_part(machine) == compiled_part(base), key
        again = compile_model(packed, machine)
        assert bytes(again.words) == bytes(program.words) and bytes(again.image) == bytes(program.image), key
    changed = ("array", "sram", "decoder.codebook_bytes", "decoder.codebook_buffers", "decoder.lookups_per_cycle")
    dram = ("dram.standard", "dram.data_width_bits", "dram.channels", "dram.mapping", "dram.bandwidth_bytes_per_cycle")
    left = [key for key in KEYS if not key.startswith((*changed, *dram, "dram_timing")) and key not in others]
    assert not left, f"say of {left} whether programs depend on them"


def _settings(machine: object) -> list[tuple[str, object]]:
    return [(key, value) for key, value in machine.flat().items() if key.partition(".")[0] in ("array", "sram")]


@pytest.mark.parametrize(
    "setting", ["array.dataflow=os", "sram.weight_bytes=32768", "decoder.lookups_per_cycle=2", "dram.channels=2"]
)
def test_what_programs_depend_on_tells_machines_apart(setting: str) -> None:
    assert compiled_part(load_machine("edge64", [setting])) != compiled_part(load_machine("edge64"))


def test_memory_on_chip_counts_every_copy_of_the_codebook() -> None:
    machine = load_machine("edge64")
    fixed = 262144 + 65536 + 131072
    assert sram_bytes(machine) == fixed + 8192 * 2 * 4
    assert sram_bytes(load_machine("edge64", ["decoder.codebook_banks=8"])) == fixed + 8192 * 2
    assert sram_bytes(load_machine("edge64", ["decoder.codebook_buffers=1"])) == fixed + 8192 * 4


def test_the_store_keeps_the_first_value_and_all_of_a_batch_or_none(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "store.sqlite"
    with Store(path) as store, Store(path) as other:
        store.put({"a": 1, "b": {"x": [1.5]}})
        other.put({"a": 2, "c": 3})
        assert store.get(["a", "b", "c", "d"]) == {"a": 1, "b": {"x": [1.5]}, "c": 3}
        with pytest.raises(TypeError):
            store.put({"e": 1, "f": object()})
        assert store.get(["e"]) == {}
        assert len(store.get(map(str, range(2000)))) == 0


def test_a_store_that_is_none_is_named(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_text("no database " * 100)
    with pytest.raises(FormatError, match=r"store\.sqlite': file is not a database; what was kept so far is safe"):
        Store(path)


def test_results_say_what_their_columns_mean(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "r.parquet"
    write_results([{"point": 0, "total_cycles": 3, "pareto": True}], {"complete": True}, path)
    document, (row,) = read_results(path)
    assert document["schema"] == "accel.sweep/1" and document["complete"] is True
    assert row["total_cycles"] == 3 and row["pareto"] is True and row["seconds"] is None
    schema = pq.read_schema(path)
    assert schema.names == [name for name, *_ in columns()] and len(set(schema.names)) == len(schema.names)
    for name, metric in METRICS.items():
        assert schema.field(name).metadata[b"unit"].decode() == metric.unit
        assert schema.field(name).metadata[b"definition"].decode() == metric.definition


def test_files_that_are_no_results_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "r.parquet"
    with pytest.raises(FormatError, match=r"no such file"):
        read_results(path)
    path.write_bytes(b"PAR1")
    with pytest.raises(FormatError, match="not a whole Parquet file"):
        read_results(path)
    pq.write_table(pa.table({"a": [1]}), path)
    with pytest.raises(FormatError, match=r"this version reads 'accel.sweep/1'"):
        read_results(path)
    metadata = {"accel": json.dumps({"schema": "accel.sweep/9"})}
    pq.write_table(pa.table({"a": [1]}).replace_schema_metadata(metadata), path)
    with pytest.raises(FormatError, match="written by a newer version of accel"):
        read_results(path)


def test_every_row_is_what_simulating_alone_gives(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run(here)
    assert [row["point"] for row in rows] == list(range(12)) and {row["status"] for row in rows} == {"done"}
    assert "12 points; 12 simulated now" in capsys.readouterr().err
    for row in rows:
        settings = {key.removeprefix("machine."): value for key, value in row.items() if key.startswith("machine.")}
        overrides = [f"{key}={value}" for key, value in settings.items() if value is not None]
        machine = load_machine("edge64-ideal", overrides)
        alone = accel.simulate(str(here / "model.onnx"), machine, codec=row["codec"])
        assert row["total_cycles"] == alone.total_cycles and row["seconds"] == alone.seconds
        assert row["energy_total"] == alone.energy_total and row["dram_bytes_total"] == alone.dram_bytes_total
        assert row["cycles_by_cause.compute"] == alone.cycles_by_cause["compute"]
        assert row["dram_bytes.weights"] == alone.dram_bytes["weights"] and row["sram_bytes"] == sram_bytes(machine)
        pair = next(r for r in rows if r["codec"] == "int8" and r["machine_digest"] == row["machine_digest"])
        assert row["speedup"] == pair["total_cycles"] / row["total_cycles"]
    objectives = ("seconds", "energy_total", "sram_bytes")
    assert [row["pareto"] for row in rows] == on_front(rows, dict.fromkeys(objectives, "minimize"))


def test_only_what_is_new_is_simulated(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(here)
    assert run(here) == first and "12 points; 0 simulated now" in capsys.readouterr().err
    write_case(here, SPEC.replace("to = 4, factor", "to = 8, factor"))
    assert len(run(here)) == 16 and "16 points; 4 simulated now" in capsys.readouterr().err
    (here / "energy.toml").write_text("[energy]\ndram.ideal = { pj_per_bit = 1 }\n")
    write_case(here, "energy = 'energy.toml'\n" + SPEC)
    cheaper = run(here)
    assert "12 points; 12 simulated now" in capsys.readouterr().err
    assert all(a["energy_total"] < b["energy_total"] for a, b in zip(cheaper, first, strict=True))


def test_impossible_points_are_recorded_with_their_reason(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_case(here, SPEC.replace("[8, 16]", "[1, 8, 4096]"))
    rows = run(here)
    refused = {row["point"]: row["reason"] for row in rows if row["status"] == "refused"}
    assert len(rows) == 18 and len(refused) == 9 and "18 points, 9 of them refused" in capsys.readouterr().err
    assert sum("machine key array.rows = 4096; allowed: 1 to 1024" in reason for reason in refused.values()) == 6
    assert sum("vectors" in reason for reason in refused.values()) == 3, "vectors of 4 do not fit one column"
    assert all(row["total_cycles"] is None and not row["pareto"] for row in rows if row["status"] == "refused")
    assert all(row["machine.array.rows"] in (1, 4096) for row in rows if row["status"] == "refused")


def test_a_sweep_without_a_possible_point_is_a_bad_spec(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_case(here, SPEC.replace("[8, 16]", "[4096]"))
    assert main(["sweep", str(here / "spec.toml"), "-o", str(here / "r.parquet"), "--workers", "1"]) == 2
    error = capsys.readouterr().err
    assert "not one of 6 points is possible; the first: machine key array.rows = 4096" in error
    assert error.count("\n") == 1 and not (here / "r.parquet").exists()


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


def test_tpe_finds_the_best_corner_and_repeats_itself(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("optuna")
    search = '[search]\nmethod = "tpe"\npoints = 30\nat_a_time = 10\n[objectives]\nseconds = "minimize"\n'
    write_case(here, SPEC + search)
    rows = run(here)
    assert len({row["machine_digest"] + str(row["codec"]) for row in rows}) == len(rows) <= 12
    assert run(here) == rows and "; 0 simulated now" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["energy.toml", "a.csv", "model.onnx"])
def test_no_input_is_overwritten(here: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    (here / "energy.toml").write_text("[energy]\ndram.ideal = { pj_per_bit = 1 }\n")
    (here / "a.csv").write_text("codec,accuracy\nint8,0.9\n")
    write_case(here, "energy = 'energy.toml'\naccuracy = 'a.csv'\n" + SPEC)
    before = (here / name).read_bytes()
    assert main(["sweep", str(here / "spec.toml"), "-o", str(here / name), "--workers", "1"]) == 2
    assert "which would be lost" in capsys.readouterr().err and (here / name).read_bytes() == before


def test_workers_that_die_between_two_rounds_are_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool that broke while nothing was under way refuses the next task: it is no reason to give up."""
    monkeypatch.setattr(sweep_pool, "work", len)
    with sweep_pool.pool(2, None) as run:
        assert sorted(found for _, found in run(["a", "bb"])) == [1, 2]
        first, *_ = multiprocessing.active_children()
        first.kill()
        first.join(20)
        time.sleep(0.5)  # the pool notices
        assert list(run(["ccc"])) == [("ccc", 3)]


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["-o", "none/r.parquet"], "folder 'none' does not exist"),
        (["-o", "r.parquet", "--plot", "f.bmp"], "suffix '.bmp'; allowed: .png, .svg, .pdf"),
        (["-o", "r.parquet", "--workers", "0"], "allowed: a whole number of at least 1"),
        (["-o", "spec.toml"], "is the input"),
        (["-o", "r.csv"], "-o r.csv: suffix '.csv'; allowed: .parquet"),
        (["-o", "r.parquet", "--plot", "f.jpg"], "suffix '.jpg'; allowed: .png, .svg, .pdf"),
    ],
)
def test_bad_arguments(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], part: str
) -> None:
    monkeypatch.chdir(here)
    try:
        code = main(["sweep", "spec.toml", *arguments])
    except SystemExit as error:
        code = error.code
    assert code == 2 and part in capsys.readouterr().err


def test_what_cannot_be_written_is_told_before_any_work(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def work(*_: object) -> None:
        raise AssertionError("the sweep began")

    monkeypatch.setattr("accel.cli.sweep_run.Sweep.explore", work)
    write_case(here, SPEC + "\n[objectives]\ntotal_cycles = 'minimize'\n")
    for output, plot, part in (("r.parquet", "f.png", "one objective"), ("r.csv", "f.png", "suffix '.csv'")):
        assert main(["sweep", str(here / "spec.toml"), "-o", str(here / output), "--plot", str(here / plot)]) == 2
        assert part in capsys.readouterr().err


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


def test_an_interrupted_sweep_says_what_is_kept(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work, rows = sweep_pool.work, len(run(here))
    write_case(here, SPEC.replace("8, 16", "8, 16, 32"))

    def interrupted(task: object) -> object:
        if interrupted.calls:  # type: ignore[attr-defined]
            raise KeyboardInterrupt
        interrupted.calls = 1  # type: ignore[attr-defined]
        return work(task)  # type: ignore[arg-type]

    interrupted.calls = 0  # type: ignore[attr-defined]
    monkeypatch.setattr(sweep_pool, "work", interrupted)
    capsys.readouterr()
    command = ["sweep", str(here / "spec.toml"), "-o", str(here / "r.parquet"), "--workers", "1"]
    assert main(command) == 130
    last = capsys.readouterr().err.splitlines()[-1]
    before = kept(here / "cache")
    assert last.startswith("accel: interrupted: ") and last.endswith(" results are kept; the same command goes on")
    assert rows < int(last.split()[2]) < rows * 3 // 2
    monkeypatch.setattr(sweep_pool, "work", work)
    assert main(command) == 0 and kept(here / "cache") > before


def test_objectives_are_columns_of_numbers() -> None:
    kinds = {name: kind for name, kind, *_ in columns()}
    assert all(kinds[name] in (int, float) for name in OBJECTIVE_COLUMNS)


def test_formats_and_the_example_are_fresh() -> None:
    formats, guide = (ROOT / "FORMATS.md").read_text(), (ROOT / "docs" / "sweep.md").read_text()
    assert columns_markdown() in formats, "put the output of accel.sweep.columns.columns_markdown into FORMATS.md"
    assert formats.count(f"`{RESULTS_SCHEMA}`") >= 2
    assert (EXAMPLE.read_text()) in guide, "put docs/deit_tiny_sweep.toml into docs/sweep.md"
    assert load_spec(str(EXAMPLE)).grid_points == int(guide.partition("note: of ")[2].partition(" points")[0])


# --- what goes wrong in the middle --------------------------------------------------------------------------------


def begun(process: subprocess.Popen[bytes], cache: Path, least: int = 1) -> int:
    """Results kept once there are some; the process must still be at work then."""
    limit = time.monotonic() + 240
    while (count := kept(cache)) < least:
        assert process.poll() is None and time.monotonic() < limit, "the sweep ended before it could be disturbed"
        time.sleep(0.01)
    return count


def start(spec: Path, folder: Path, *more: str) -> subprocess.Popen[bytes]:
    words = command(spec, "-o", folder / "killed.parquet", *more)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(words, env=environment(folder / "cache"), **quiet)


@pytest.fixture(scope="module")
def long_spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_case(tmp_path_factory.mktemp("long"), LONG)


@pytest.fixture(scope="module")
def undisturbed(long_spec: Path) -> list[dict[str, object]]:
    """What the long sweep finds when nothing goes wrong."""
    output = long_spec.parent / "r.parquet"
    done = sweep(long_spec.parent / "cache", long_spec, "-o", output, "--workers", "1")
    assert done.returncode == 0, done.stderr
    return rows_of(output)


def finish(spec: Path, folder: Path, expected: list[dict[str, object]]) -> None:
    """Sweeping again simulates the rest, and only that; rows are those of a sweep nobody disturbed."""
    known = kept(folder / "cache")
    assert 0 < known < POINTS
    done = sweep(folder / "cache", spec, "-o", folder / "r.parquet", "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert f"{POINTS} points; {POINTS - known} simulated now" in done.stderr
    assert rows_of(folder / "r.parquet") == expected and kept(folder / "cache") == POINTS


@pytest.mark.parametrize("least", [1, 128])
def test_a_killed_sweep_goes_on_where_it_was(
    tmp_path: Path, long_spec: Path, undisturbed: list[dict[str, object]], least: int
) -> None:
    process = start(long_spec, tmp_path, "--workers", "1")
    known = begun(process, tmp_path / "cache", least)
    process.kill()
    assert process.wait() == -signal.SIGKILL and kept(tmp_path / "cache") >= known
    finish(long_spec, tmp_path, undisturbed)


def test_a_killed_worker_is_replaced_and_orphans_end(
    tmp_path: Path, long_spec: Path, undisturbed: list[dict[str, object]]
) -> None:
    psutil = pytest.importorskip("psutil")
    process = start(long_spec, tmp_path, "--workers", "2")
    begun(process, tmp_path / "cache")
    first, *_ = workers_of(psutil.Process(process.pid))
    first.kill()
    begun(process, tmp_path / "cache", 96)
    workers = workers_of(psutil.Process(process.pid))
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=20)
    assert workers and not alive, "workers outlive their sweep"
    finish(long_spec, tmp_path, undisturbed)


def workers_of(process: object) -> list[object]:
    return [child for child in process.children() if "spawn_main" in " ".join(child.cmdline())]


def test_a_full_disk_is_said_and_survived(
    tmp_path: Path, long_spec: Path, undisturbed: list[dict[str, object]]
) -> None:
    limit = 1 << 18  # bytes of any file: the store outgrows it half-way

    def small_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    output = tmp_path / "r.parquet"
    done = sweep(tmp_path / "cache", long_spec, "-o", output, "--workers", "1", preexec_fn=small_files)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("accel: results kept in '")
    assert "what was kept so far is safe" in done.stderr and "Traceback" not in done.stderr
    assert not output.exists()
    finish(long_spec, tmp_path, undisturbed)


def test_a_store_that_cannot_be_made_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "file").write_text("")
    monkeypatch.setenv("ACCEL_CACHE", str(here / "file"))
    assert main(["sweep", str(here / "spec.toml"), "-o", str(here / "r.parquet"), "--workers", "1"]) == 2
    assert "ACCEL_CACHE chooses another folder" in capsys.readouterr().err
