"""Child processes with a bill: CPU seconds and peak memory of one command, whatever started it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# A child's peak counts the memory of the process that forked it, and one's own children are billed together. So a
# Python that imports nothing stands in between, waits for the one command and writes down what it cost.
_STEWARD = """
import os, sys
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w") as file:
    print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss, file=file)
sys.exit(os.waitstatus_to_exitcode(status) & 255)
"""
RSS_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True, slots=True)
class Bill:
    """What one command cost: user and system seconds, and the most memory it held (resident)."""

    cpu_seconds: float
    peak_bytes: int
    lines: tuple[str, ...]


class ChildError(Exception):
    """A command failed; the message says which, its exit code and its last words."""


def run(
    command: Sequence[str | Path], on_line: Callable[[str], None] | None = None, folder: Path | None = None
) -> Bill:
    """Run a command (its program as a path) to its end; ``on_line`` sees each line it prints, to stdout or stderr.

    Raises ``ChildError`` unless it ends with exit code 0.
    """
    words = [str(word) for word in command]
    with tempfile.NamedTemporaryFile("r") as bill:
        steward = [sys.executable, "-I", "-S", "-c", _STEWARD, bill.name, *words]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            steward, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder, env=environment
        )
        lines = []
        with process:
            for line in process.stdout or ():
                lines.append(line.rstrip("\n"))
                if on_line is not None:
                    on_line(lines[-1])
        if process.returncode:
            last = next((line for line in reversed(lines) if line.strip()), "it said nothing")
            raise ChildError(f"{' '.join(words)[:100]} … ended with exit code {process.returncode}: {last}")
        cpu, peak = bill.read().split()
    return Bill(float(cpu), int(peak) * RSS_UNIT_BYTES, tuple(lines))


def python(*arguments: str | Path, on_line: Callable[[str], None] | None = None) -> Bill:
    """``run`` for this Python."""
    return run([sys.executable, *arguments], on_line)
