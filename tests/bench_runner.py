"""cocotb benches (``tb_*.py``) run from pytest: one build a design and simulator, failures in cocotb's own words."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest import mock
from xml.etree import ElementTree

from accel.cache import cache_folder
from rtl import tools

TIMESCALE = ("1ns", "1ps")  # without it Icarus counts in seconds, and cocotb refuses clocks of nanoseconds
SHOWN_CHARACTERS = 3000

# Simulator -> tools it takes, arguments of its build. Widths and unused bits are a matter of linters: netlists and
# Amaranth's Verilog are full of them. -O2 must not go to -CFLAGS (rtl.tools sets it where it pays).
SIMULATORS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "icarus": (("iverilog", "vvp"), ()),
    "verilator": (("verilator", "g++", "make"), ("-Wno-fatal", "-Wno-lint", "-Wno-style")),
}


class BenchError(AssertionError):
    """A bench failed, or could not be built or run; the message is the simulator's or cocotb's."""


@dataclass(frozen=True, slots=True)
class BenchResult:
    """The cocotb tests that passed, and the simulator's log."""

    passed: tuple[str, ...]
    log: Path


def run_bench(
    verilog_sources: Sequence[Path],
    toplevel: str,
    bench_module: str,
    folder: Path,
    *,
    simulator: str = "icarus",
    parameters: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    build_arguments: Sequence[str] = (),
    only: str | None = None,
    seed: int = 0,
) -> BenchResult:
    """Run all cocotb tests of ``bench_module`` (or those whose name ends in ``only``) on module ``toplevel``.

    ``parameters``: of the module, at build time. ``environment``: variables the bench reads. ``folder`` takes log and
    results. Raises ``BenchError`` when a test fails or none ran, and ``ToolError`` for a missing simulator.
    """
    needed, usual = SIMULATORS[simulator]
    tools.require(needed)
    arguments = (*usual, *build_arguments)
    with mock.patch.dict(os.environ, {**tools.tool_environment(), **(environment or {})}):
        build = _built(verilog_sources, toplevel, simulator, dict(parameters or {}), arguments)
        return _run(build, toplevel, bench_module, folder, simulator, only, seed)


def _built(
    sources: Sequence[Path], toplevel: str, simulator: str, parameters: Mapping[str, object], arguments: Sequence[str]
) -> Path:
    """The folder of a finished build: kept in the cache under a digest of all that decides it, made once."""
    texts = [path.read_text() for path in sources]
    version = tools.tool_version(SIMULATORS[simulator][0][0])
    digest = hashlib.sha256(
        json.dumps([texts, toplevel, simulator, version, parameters, arguments], default=str).encode()
    ).hexdigest()[:24]
    folder = cache_folder("rtl") / "benches" / digest
    with _locked(folder):
        if not (folder / "done").exists():
            _build(folder, sources, toplevel, simulator, parameters, arguments)
            (folder / "done").touch()
    return folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Workers of xdist that want the same build wait for the first of them."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _build(
    folder: Path,
    sources: Sequence[Path],
    toplevel: str,
    simulator: str,
    parameters: Mapping[str, object],
    arguments: Sequence[str],
) -> None:
    from cocotb_tools.runner import get_runner

    log = folder / "build.log"
    try:
        get_runner(simulator).build(
            sources=list(sources),
            hdl_toplevel=toplevel,
            parameters=parameters,
            build_args=list(arguments),
            build_dir=folder,
            timescale=TIMESCALE,
            always=True,
            log_file=log,
        )
    except (RuntimeError, SystemExit) as error:
        raise BenchError(f"{simulator} cannot build {toplevel}:\n{_tail(log)}") from error


def _run(
    build: Path, toplevel: str, bench_module: str, folder: Path, simulator: str, only: str | None, seed: int
) -> BenchResult:
    from cocotb_tools.runner import get_runner

    folder.mkdir(parents=True, exist_ok=True)
    results, log = (folder / f"{bench_module}.{simulator}.{suffix}" for suffix in ("xml", "log"))
    with contextlib.suppress(RuntimeError, SystemExit):  # the results, or their absence, tell what happened
        get_runner(simulator).test(
            hdl_toplevel=toplevel,
            hdl_toplevel_lang="verilog",
            test_module=bench_module,
            build_dir=build,
            test_dir=folder,
            results_xml=str(results.resolve()),
            test_filter=rf"\.{re.escape(only)}$" if only else None,
            seed=seed,
            timescale=TIMESCALE if simulator == "icarus" else None,
            log_file=log,
        )
    return BenchResult(_passed(results, log), log)


def _passed(results: Path, log: Path) -> tuple[str, ...]:
    """Names of the tests in cocotb's results; raises ``BenchError`` unless there are some and all passed."""
    if not results.exists():
        raise BenchError(f"the simulation ended without results:\n{_tail(log)}")
    cases = list(ElementTree.parse(results).getroot().iter("testcase"))
    failures = [text for case in cases for text in _failure(case)]
    if failures or not cases:
        raise BenchError("\n\n".join(failures) or f"no test was run:\n{_tail(log)}")
    return tuple(str(case.get("name")) for case in cases if case.find("skipped") is None)


def _failure(case: ElementTree.Element) -> Iterator[str]:
    for kind in ("failure", "error"):
        if (found := case.find(kind)) is not None:
            said = found.get("message") or found.get("error_msg") or ""
            yield f"{case.get('name')}: {said}\n{(found.text or '')[-SHOWN_CHARACTERS:]}"


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-SHOWN_CHARACTERS:] if log.exists() else "(no log)"
