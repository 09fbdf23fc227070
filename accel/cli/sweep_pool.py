"""Who does the work of a sweep: this process, processes beside it, or the workers of a Dask cluster.

Each is a context that yields ``run(tasks)``, which in turn yields tasks and results in whatever order they are done.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, Any

from accel.cli.options import say
from accel.cli.sweep_work import Result, Task, packed_path, work
from accel.errors import ToolError

if TYPE_CHECKING:
    from distributed import Client

Done = tuple[Task, list[Result]]
Run = Callable[[Sequence[Task]], Iterator[Done]]
MOST_DEATHS = 3  # of local workers, one after the other, without a result between them
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 60.0  # how long a sweep waits for a cluster that has lost all workers
_RESUME = "results so far are kept: sweep again to go on"


@contextlib.contextmanager
def pool(workers: int, scheduler: str | None) -> Iterator[Run]:
    """The Dask cluster at ``scheduler``, or ``workers`` local processes: one is this process itself."""
    if scheduler is not None:
        with _cluster(scheduler) as run:
            yield run
    elif workers == 1:
        yield _here
    else:
        with contextlib.closing(_Processes(workers)) as processes:
            yield processes.run


def _here(tasks: Sequence[Task]) -> Iterator[Done]:
    for task in tasks:
        yield task, work(task)


class _Processes:
    """Local processes; those that die are replaced, and what they were doing is done again."""

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._executor = self._new()

    def _new(self) -> ProcessPoolExecutor:
        # Spawned, not forked: Numba's and faiss' threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._workers, mp_context=context, initializer=_die_with_parent)

    def run(self, tasks: Sequence[Task]) -> Iterator[Done]:
        """Raises ``ToolError`` when workers keep dying."""
        left, deaths = list(tasks), 0
        while left:
            try:
                futures = {self._executor.submit(work, task): task for task in left}  # refused if one died meanwhile
                for future in as_completed(futures):
                    result = future.result()
                    deaths = 0
                    left.remove(futures[future])
                    yield futures[future], result
            except BrokenProcessPool as error:
                deaths += 1
                if deaths == MOST_DEATHS:
                    raise ToolError(f"{deaths} times workers died at once (out of memory?); {_RESUME}") from error
                say("a worker died; going on with new ones")
                self._executor = self._new()

    def close(self) -> None:
        """Let go of work that nobody has begun, and of the processes."""
        self._executor.shutdown(wait=True, cancel_futures=True)


def _die_with_parent() -> None:
    """A worker whose sweep was killed has nobody to work for, yet would wait for tasks for ever; Ctrl-C is the
    sweep's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _cluster(address: str) -> Iterator[Run]:
    """A Dask cluster; raises ``ToolError`` if it cannot be reached, has no workers, or loses them all."""
    try:
        from distributed import Client
    except ImportError as error:
        raise ToolError("--scheduler needs Dask; pip install 'accel-codesign[sweep]'") from error
    _quiet()
    try:
        client = Client(address, timeout=CONNECT_SECONDS)
    except (OSError, ValueError, TypeError) as error:  # unreachable; not an address
        raise ToolError(f"--scheduler {address}: no Dask scheduler answers there in {CONNECT_SECONDS:g} s") from error
    with client:
        _check_workers(client, address)
        yield lambda tasks: _on_cluster(client, address, tasks)


def _quiet() -> None:
    """Dask logs losses that it makes good by itself, with tracebacks; what cannot be made good is raised."""
    import logging

    for name in ("distributed", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _check_workers(client: Client, address: str) -> None:
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
    except TimeoutError as error:
        raise ToolError(
            f"--scheduler {address}: no workers after {CONNECT_SECONDS:g} s; start some: dask worker {address}"
        ) from error


def _on_cluster(client: Client, address: str, tasks: Sequence[Task]) -> Iterator[Done]:
    contents = {key: _sent(client, key) for key in dict.fromkeys(task.packed for task in tasks)}
    futures = {client.submit(work, task, contents[task.packed], pure=False): task for task in tasks}
    try:
        for future in _completed(client, address, list(futures)):
            yield futures.pop(future), _result(future, address)
    finally:
        client.cancel(list(futures))


def _sent(client: Client, key: str) -> Any:
    """A packed file, as a task that hands on its bytes: should the worker that has it die, another gets it."""
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sending large graph")
        return client.submit(bytes, packed_path(key).read_bytes(), key=f"accel-packed-{key}")


def _completed(client: Client, address: str, futures: list[Any]) -> Iterator[Any]:
    """Futures as they are done; raises ``ToolError`` if there has been nobody to do them for long."""
    from distributed import wait

    left, seen = set(futures), time.monotonic()
    while left:
        with contextlib.suppress(TimeoutError):
            done = wait(list(left), timeout=CONNECT_SECONDS, return_when="FIRST_COMPLETED").done
            left -= done
            yield from done
        if client.status == "running" and client.scheduler_info(n_workers=-1)["workers"]:
            seen = time.monotonic()
        elif time.monotonic() - seen > IDLE_SECONDS:
            raise ToolError(f"--scheduler {address}: no workers for {IDLE_SECONDS:g} s; {_RESUME}")


def _result(future: Future[list[Result]], address: str) -> list[Result]:
    from concurrent.futures import CancelledError

    from accel.errors import AccelError

    try:
        return future.result()
    except AccelError:
        raise
    except (CancelledError, OSError) as error:
        raise ToolError(f"--scheduler {address}: lost; {_RESUME}") from error
    except Exception as error:  # whatever a worker's Python raised: accel missing, or a worker killed again and again
        raise ToolError(
            f"--scheduler {address}: a worker failed: {type(error).__name__}: {error}; {_RESUME}"
        ) from error
