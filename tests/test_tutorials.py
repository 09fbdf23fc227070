"""Tutorials do what they show: every block of shell is run, in order, and prints what the page says it prints.

On a page of ``docs/tutorials`` a block with ``title="FILE"`` is a file, a block ``sh`` is run by bash, and the block
``text`` right behind it is what that prints. A line ``…`` stands for any lines, a trailing ``…`` for the rest of a
line. Whole numbers must be right to the digit. Decimals may differ by 2 % or in their last digit, as k-means does
between processors, and digests in all digits.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "tutorials").glob("*.md"))
SOURCES = ("accel", "compiler", "sim", "rtl", "docs", "FORMATS.md")
# Pages that change the sources work in a copy of them. They get no new kernel for it, which takes half a minute to
# compile: numba is told to interpret.
IN_A_COPY = ("add_a_codec",)
MARKS = {"decoder_on_fpga": pytest.mark.rtl}

FENCE = re.compile(r"^```(\w+)(?: title=\"([^\"]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"(\d[\d,]*(?:\.\d+)?)")
PROGRESS = re.compile(r" *\d+% ")  # lines of long work, where the machine is slow
DIGEST = re.compile(r"[0-9a-f]{12,64}")
ANY = "…"
TOLERANCE = 0.02


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: its language, the file it is, and its text."""

    language: str
    title: str | None
    text: str


@dataclass(frozen=True)
class Step:
    """What a page has its reader do: save a file (``title``), or run ``text``, which prints ``shown`` if given."""

    title: str | None
    text: str
    shown: str | None = None


def blocks(page: str) -> list[Block]:
    """Fenced blocks of a page in order."""
    return [Block(language, title or None, text) for language, title, text in FENCE.findall(page)]


def steps(page: str) -> Iterator[Step]:
    """Files and commands of a page, in order; other blocks are only read."""
    found = blocks(page)
    for block, after in zip(found, [*found[1:], Block("", None, "")], strict=True):
        if block.title is not None or block.language == "sh":
            shown = after.text if block.title is None and after.language == "text" else None
            yield Step(block.title, block.text, shown)


def agree(shown: str, printed: str) -> bool:
    """Whether a line that is shown stands for one that is printed; spaces and rules of tables have any length."""
    wanted, words = shown.split(), printed.split()
    if wanted and wanted[-1] == ANY:
        wanted, words = wanted[:-1], words[: len(wanted) - 1]
    return len(wanted) == len(words) and all(map(_same_word, wanted, words))


def _same_word(shown: str, printed: str) -> bool:
    if shown == printed or (set(shown) == set(printed) == {"-"} and len(shown) > 1 and len(printed) > 1):
        return True
    if DIGEST.fullmatch(shown) and DIGEST.fullmatch(printed):
        return len(shown) == len(printed)
    parts = NUMBER.split(shown), NUMBER.split(printed)
    return len(parts[0]) == len(parts[1]) and all(
        a == b or (index % 2 == 1 and _near(a, b)) for index, (a, b) in enumerate(zip(*parts, strict=True))
    )


def _near(shown: str, printed: str) -> bool:
    """Decimals alike but for 2 % or a unit of the last digit shown."""
    whole, point, digits = shown.replace(",", "").partition(".")
    if not point or "." not in printed:
        return False
    a, b = float(f"{whole}.{digits}"), float(printed.replace(",", ""))
    return abs(a - b) <= max(TOLERANCE * abs(a), 1.001 * 10 ** -len(digits))


def difference(shown: str, printed: str) -> str | None:
    """The first lines shown that were not printed where they should be, or None."""
    chunks = [chunk.strip("\n").split("\n") for chunk in re.split(rf"^{ANY}$", f"{shown}\n", flags=re.MULTILINE)]
    lines = [line for line in printed.split("\n") if line.strip() and not PROGRESS.match(line)]
    at = 0
    for index, chunk in enumerate(chunks):
        wanted = [line for line in chunk if line.strip()]
        last = index == len(chunks) - 1
        starts = _starts(index == 0, last and bool(wanted), at, len(lines) - len(wanted))
        found = next((s for s in starts if s >= at and all(map(agree, wanted, lines[s : s + len(wanted)]))), None)
        if found is None:
            return "\n".join(wanted)
        at = found + len(wanted)
    return None


def _starts(first: bool, last: bool, at: int, end: int) -> range:
    """Lines at which a chunk may start: the first chunk at the first line, the last one where it ends with the last."""
    if first and last:
        return range(1) if end == 0 else range(0)
    if first:
        return range(min(end, 0) + 1)
    return range(end, end + 1) if last else range(at, end + 1)


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the commands ``accel`` and ``python`` of this environment: installed or a bare checkout."""
    folder = tmp_path_factory.mktemp("bin")
    for name, module in (("accel", "-m accel.cli "), ("python", "")):
        (folder / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {module}"$@"\n')
        (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize("page", [pytest.param(p, id=p.stem, marks=MARKS.get(p.stem, ())) for p in PAGES])
def test_tutorial(page: Path, tmp_path: Path, commands: Path) -> None:
    copied = page.stem in IN_A_COPY
    environment = os.environ | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(tmp_path if copied else ROOT),
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **({"NUMBA_DISABLE_JIT": "1"} if copied else {}),
    }
    if copied:
        _copy_sources(tmp_path)
    for step in steps(page.read_text("utf-8")):
        if step.title is not None:
            (tmp_path / step.title).write_text(step.text, "utf-8")
        else:
            _run(step, tmp_path, environment)


def _copy_sources(folder: Path) -> None:
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.png"))
        else:
            shutil.copy(ROOT / name, folder / name)


def _run(step: Step, folder: Path, environment: dict[str, str]) -> None:
    done = subprocess.run(
        ["bash", "-euc", step.text],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"exit code {done.returncode} of\n{step.text}\n{done.stdout}"
    if step.shown is not None:
        missing = difference(step.shown, done.stdout)
        assert missing is None, f"{step.text}\nshould print\n\n{missing}\n\nand printed\n\n{done.stdout}"


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a\nb\n", "a\nb\n"),
        ("…\nb\n", "a\nb\n"),
        ("a\n…\n", "a\nb\nc\n"),
        ("a\n…\nd\n", "a\nb\nc\nd\n"),
        ("a  1,000 …\n", "a 1,000 cycles\n"),
        ("name  -----\n", "name ---\n"),
        ("0.1912 1.23x\n", "0.1913 1.24x\n"),
        ("program 7e6b428ce61599ff\n", "program 0000000000000000\n"),
    ],
)
def test_what_is_shown_was_printed(shown: str, printed: str) -> None:
    assert difference(shown, printed) is None


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ("a\n", "a\nb\n"),
        ("b\n", "a\nb\n"),
        ("a\n…\nc\n", "a\nb\nc\nd\n"),
        ("a\n…\nb\n…\n", "a\nc\n"),
        ("1,000 cycles\n", "1,001 cycles\n"),
        ("k=16\n", "k=17\n"),
        ("0.191\n", "0.200\n"),
        ("a b\n", "a\n"),
        ("a b …\n", "a\n"),
    ],
)
def test_what_was_not_printed_is_noticed(shown: str, printed: str) -> None:
    assert difference(shown, printed) is not None


def test_pages_have_steps() -> None:
    assert len(PAGES) >= 6
    for page in PAGES:
        found = list(steps(page.read_text("utf-8")))
        assert sum(step.shown is not None for step in found) >= 2, page.name
