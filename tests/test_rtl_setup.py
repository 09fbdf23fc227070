"""Without the tools of hardware: a loud line on a developer's machine, a failure on CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
HARDWARE = "tests/test_rtl_verilog.py::test_ports_are_those_of_the_component"


def without_icarus(ci: bool) -> str:
    """What pytest says of a test of hardware where nothing but this interpreter's packages can be found."""
    environment = {name: value for name, value in os.environ.items() if name != "CI" and "PYTEST" not in name}
    environment |= {"PATH": "/nonexistent", **({"CI": "true"} if ci else {})}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", HARDWARE]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize(("ci", "verdict"), [(False, "1 skipped"), (True, "1 error")])
def test_missing_tools_are_told(ci: bool, verdict: str) -> None:
    out = without_icarus(ci)
    assert verdict in out, out
    assert "iverilog (apt-get install iverilog)" in out
    assert ("HARDWARE NOT TESTED: 1 tests skipped, missing: " in out) == (not ci)
