"""Killed sweeps and workers, full disks and Ctrl-C: nothing computed is lost, doubled or computed twice."""

from __future__ import annotations

import multiprocessing
import resource
import signal
import subprocess
import time
from pathlib import Path

import pytest
from sweep_cases import SPEC, case_folder, command, environment, kept, rows_of, run, sweep, write_case

pytest.importorskip("pyarrow")

from accel.cli import main, sweep_pool

here = pytest.fixture(case_folder)

LONG = SPEC + "vector.lanes = { from = 1, to = 25, step = 1 }\n"
POINTS = 300  # of LONG


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
