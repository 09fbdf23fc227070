"""The documentation site builds without a warning, holds what it should, and needs no network."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from accel.cli import VERBS, verb_name

ROOT = Path(__file__).parents[1]
pytest.importorskip("material", reason="the site is not built: pip install '.[docs]'")
# What a browser loads by itself, as opposed to links that a reader may follow.
LOADED = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` does, elsewhere."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stdout and not done.stderr
    return folder


class _Loads(HTMLParser):
    """Addresses a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in LOADED and values.get("rel") not in ("canonical", "next", "prev"):
            self.found.append(values.get(LOADED[tag]) or "")


def loads(html: str) -> list[str]:
    """Addresses that the page loads without being asked."""
    parser = _Loads()
    parser.feed(html)
    return parser.found


def test_nothing_is_loaded_from_other_servers(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        found = loads(page.read_text("utf-8"))
        assert any(address.endswith(".css") for address in found)
        assert not [address for address in found if re.match(r"(https?:)?//", address)], page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\((?!data:)[\"']?https?:|@import", sheet.read_text("utf-8")), sheet


def test_what_would_be_loaded_is_found() -> None:
    assert loads(
        '<link rel="stylesheet" href="https://x/y.css"><a href="https://z"></a><script src="//w"></script>'
    ) == [
        "https://x/y.css",
        "//w",
    ]


def test_every_command_is_in_the_manual(site: Path) -> None:
    manual = (site / "reference" / "commands.html").read_text("utf-8")
    assert all(f'id="accel-{verb_name(verb)}"' in manual for verb in VERBS)


def test_the_reference_has_the_docstrings(site: Path) -> None:
    import accel
    import sim

    page = letters(re.sub(r"<[^>]+>", "", (site / "reference" / "python.html").read_text("utf-8")))
    for function in (accel.load, accel.compile, accel.simulate, accel.execute, sim.instruction_times):
        assert letters(function.__doc__.partition("\n")[0]) in page, function


def letters(text: str) -> str:
    """Letters and digits alone: markup and spaces may differ."""
    return re.sub(r"\W", "", text)
