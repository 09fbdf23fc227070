"""Other people's tools: what is installed of each, and a virtual environment of its own for each.

Environments are made on first use, from the package index, under ``$ACCEL_CACHE/peers`` (``~/.cache/accel/peers``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from benchmarks.children import Bill, ChildError

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool: its exact requirements, the tool itself first, and why those beside it are pinned."""

    name: str
    requirements: tuple[str, ...]
    reason: str

    @property
    def version(self) -> str:
        """Of the tool itself."""
        return self.requirements[0].partition("==")[2]


PEERS: Mapping[str, Peer] = MappingProxyType(
    {
        "vela": Peer(
            "Vela",
            ("ethos-u-vela==5.2.0", "numpy==2.4.6", "flatbuffers==25.12.19"),
            "estimates differ between its releases; the other two are what it came with",
        ),
        "scalesim": Peer(
            "SCALE-Sim",
            ("scalesim==3.0.0", "numpy==1.26.4"),
            "its newest numpy is 1: it turns arrays into scalars",
        ),
        "zigzag": Peer("ZigZag", ("zigzag-dse==3.9.1", "six==1.17.0"), "it needs six and does not say so"),
        "coreml": Peer(
            "Core ML Tools",
            ("coremltools==9.0", "numpy==2.3.5", "scikit-learn==1.9.1"),
            "its k-means is scikit-learn's, which it does not install",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Result:
    """What a peer made of a network: cycles of each layer it was given, and what finding them cost."""

    layer_cycles: tuple[int, ...]
    bill: Bill

    @property
    def cycles(self) -> int:
        """Of all layers, one after another."""
        return sum(self.layer_cycles)


def environment(peer: str, say: Say) -> Path:
    """The Python of an environment with exactly what ``PEERS`` lists; raises ``ChildError`` if pip cannot make it."""
    requirements = PEERS[peer].requirements
    root = Path(os.environ.get("ACCEL_CACHE") or Path.home() / ".cache" / "accel")
    folder = root / "peers" / requirements[0].replace("==", "-")
    python, complete = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join(requirements)
    if complete.exists() and complete.read_text() == wanted:
        return python
    say(f"installing {' '.join(requirements)} into {folder}, once")
    shutil.rmtree(folder, ignore_errors=True)
    for command in (
        [sys.executable, "-m", "venv", str(folder)],
        [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            last = done.stderr.strip().rpartition("\n")[2]
            raise ChildError(f"cannot install {requirements[0]} for Python {sys.version.split()[0]}: {last}")
    complete.write_text(wanted)
    return python


def announcer(mark: str, layers: int, say: Say) -> Callable[[str], None]:
    """A listener that counts lines with ``mark`` and tells of every tenth layer."""
    count = 0

    def hear(line: str) -> None:
        nonlocal count
        if mark in line:
            count += 1
            if count % 10 == 1:
                say(f"  layer {count} of {layers}")

    return hear
