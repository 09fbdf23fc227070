"""Sweeps on a Dask cluster of real processes: workers that die cost time, nothing else; no cluster costs seconds."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sweep_cases import SPEC, command, environment, rows_of, sweep, write_case

pytest.importorskip("pyarrow")
distributed = pytest.importorskip("distributed")

POINTS = 600
LONG = SPEC + "vector.lanes = { from = 1, to = 50, step = 1 }\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts processes of a cluster, whose workers know no file of ours, and ends them."""
    processes: list[subprocess.Popen[str]] = []

    def begin(*words: str) -> subprocess.Popen[str]:
        run = [sys.executable, "-m", "distributed.cli." + words[0], *words[1:]]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "text": True}
        processes.append(subprocess.Popen(run, env=environment(tmp_path / "theirs"), cwd=tmp_path, **quiet))
        return processes[-1]

    yield begin
    for process in processes:
        process.kill()
        process.wait()


def cluster(start: Start, workers: int) -> tuple[str, list[subprocess.Popen[str]]]:
    """Address of a scheduler, and its workers: single processes, so that a killed one stays dead."""
    address = f"tcp://127.0.0.1:{(port := free_port())}"
    start("dask_scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard")
    options = ("--no-nanny", "--nthreads", "1", "--no-dashboard", "--host", "127.0.0.1")
    started = [start("dask_worker", address, *options) for _ in range(workers)]
    limit = time.monotonic() + 60
    while True:
        try:
            with distributed.Client(address, timeout=2, set_as_default=False) as client:
                if workers:
                    client.wait_for_workers(workers, timeout=60)
                return address, started
        except OSError:
            assert time.monotonic() < limit, "the scheduler did not start"


def test_a_worker_that_is_killed_midway_loses_and_doubles_nothing(tmp_path: Path, start: Start) -> None:
    spec = write_case(tmp_path, LONG)
    alone = sweep(tmp_path / "alone", spec, "-o", tmp_path / "alone.parquet", "--workers", "1")
    assert alone.returncode == 0, alone.stderr
    address, workers = cluster(start, 3)
    words = command(spec, "-o", tmp_path / "r.parquet", "--scheduler", address)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words, env=environment(tmp_path / "ours"), **pipes)
    store = tmp_path / "ours" / "sweep" / "results.sqlite"
    while (known := results_in(store)) < 64:
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    workers[0].send_signal(signal.SIGKILL)
    assert known < POINTS, "killed too late to tell"
    _, error = process.communicate(timeout=240)
    assert process.returncode == 0 and f"{POINTS} simulated now" in error, error
    assert "Traceback" not in error
    assert rows_of(tmp_path / "r.parquet") == rows_of(tmp_path / "alone.parquet")
    assert results_in(store) == POINTS


def results_in(store: Path) -> int:
    import sqlite3
    from contextlib import closing

    if not store.is_file():
        return 0
    try:
        with closing(sqlite3.connect(store, timeout=30)) as connection:
            return int(connection.execute("SELECT count(*) FROM found WHERE value LIKE '%status%'").fetchone()[0])
    except sqlite3.OperationalError:  # its table is not made yet
        return 0


@pytest.mark.parametrize(
    "address",
    [f"tcp://127.0.0.1:{free_port()}", "nobody-knows-this-host.invalid:8786", "x://y"],
    ids=["nobody listens", "no such host", "no protocol"],
)
def test_an_unreachable_scheduler_is_one_line(tmp_path: Path, address: str) -> None:
    begun = time.monotonic()
    done = sweep(tmp_path / "ours", write_case(tmp_path), "-o", tmp_path / "r.parquet", "--scheduler", address)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith(f"accel: --scheduler {address}: no Dask scheduler answers there")
    assert not (tmp_path / "r.parquet").exists() and time.monotonic() - begun < 60


def test_a_scheduler_without_workers_is_one_line(tmp_path: Path, start: Start) -> None:
    address, _ = cluster(start, 0)
    done = sweep(tmp_path / "ours", write_case(tmp_path), "-o", tmp_path / "r.parquet", "--scheduler", address)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert f"no workers after 5 s; start some: dask worker {address}" in done.stderr
