"""Tools of others: what is told when one is missing, fails or hangs, and that nothing of it outlives the call."""

from __future__ import annotations

import re
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from accel.errors import ToolError
from rtl import tools

PYTHON = "python-for-tests"
ORPHAN = """
import os, pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], preexec_fn=os.setpgrp)
pathlib.Path("child").write_text(str(child.pid))
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def python_as_a_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row for the interpreter, whatever its file is called."""
    row = replace(tools.TOOLS["iverilog"], command=PYTHON)
    monkeypatch.setattr(tools, "TOOLS", {**tools.TOOLS, PYTHON: row})
    locate = tools.locate
    monkeypatch.setattr(tools, "locate", lambda name: sys.executable if name == PYTHON else locate(name))


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("name", tools.TOOLS)
def test_missing_tool_says_how_to_install_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tools, "tool_environment", lambda: {"PATH": "/nonexistent"})
    with pytest.raises(ToolError, match=rf"^{re.escape(name)} is not installed: (pip|apt-get) install \S+"):
        tools.require([name])


def test_missing_package_says_how_to_install_it() -> None:
    with pytest.raises(ToolError, match=r"^no_such_hdl is not installed: pip install 'accel-codesign\[rtl\]'$"):
        tools.require_package("no_such_hdl")


def test_output_goes_to_the_log(tmp_path: Path) -> None:
    log = tools.run_tool(PYTHON, ["-c", "print('done')"], tmp_path, log="a.log")
    assert (log, log.read_text()) == (tmp_path / "a.log", "done\n")


def test_failure_shows_the_last_lines_and_where_the_log_is(tmp_path: Path) -> None:
    script = "import sys; print('1\\n2\\n\\n3\\n4'); sys.exit(7)"
    with pytest.raises(ToolError) as caught:
        tools.run_tool(PYTHON, ["-c", script], tmp_path, log="a.log")
    assert str(caught.value) == f"{PYTHON} failed (exit code 7): 2 | 3 | 4; log: {tmp_path / 'a.log'}"


def test_silent_failure_is_told(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"exit code 1\): it printed nothing; log: "):
        tools.run_tool(PYTHON, ["-c", "raise SystemExit(1)"], tmp_path, log="a.log")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells processes by /proc")
def test_nothing_outlives_a_timeout(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=rf"^{PYTHON} did not end within 3 s; log: "):
        tools.run_tool(PYTHON, ["-c", ORPHAN], tmp_path, log="a.log", timeout_seconds=3)
    pid = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not is_running(pid):
            return
        time.sleep(0.05)
    pytest.fail("the child of the child runs on")


@pytest.mark.rtl
def test_versions_are_numbers() -> None:
    found = {name: tools.tool_version(name) for name in tools.TOOLS if name != PYTHON}
    assert all(version[0].isdigit() for version in found.values()), found


PROOF = """
[tasks]
right
wrong
[options]
mode bmc
depth 4
[engines]
smtbmc yices
[script]
read_verilog -formal top.v
prep -top top
[file top.v]
module top(input clk);
  reg [2:0] count = 0;
  always @(posedge clk) count <= count == 5 ? 0 : count + 1;
  always @* {assertion}
endmodule
"""


@pytest.mark.rtl
@pytest.mark.parametrize(("assertion", "fails"), [("assert(count < 6);", False), ("assert(count < 2);", True)])
def test_proofs(assertion: str, fails: bool, tmp_path: Path) -> None:
    job = tmp_path / "proof.sby"
    job.write_text(PROOF.replace("{assertion}", assertion))
    if fails:
        with pytest.raises(ToolError, match=r"yowasp-sby failed .*FAIL"):
            tools.run_sby(job, "wrong")
    else:
        assert "DONE (PASS" in tools.run_sby(job, "right").read_text()
