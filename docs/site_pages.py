"""Hook of mkdocs.yml: pages that are not files of docs/, but the repository's own documents and the manual of the
command line, so that nothing is written twice."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
# Page of the site: document of the repository. README.md would be taken for the index of its folder.
DOCUMENTS = {
    "measurements.md": "README.md",
    "FORMATS.md": "FORMATS.md",
    "ISA.md": "ISA.md",
    "CONTRIBUTING.md": "CONTRIBUTING.md",
    "DECISIONS.md": "DECISIONS.md",
    "CHANGELOG.md": "CHANGELOG.md",
}
COMMANDS = "reference/commands.md"
HELP_COLUMNS = 100


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    for page, document in DOCUMENTS.items():
        files.append(File.generated(config, page, content=site_links((ROOT / document).read_text("utf-8"))))
    files.append(File.generated(config, COMMANDS, content=commands_markdown()))
    return files


def site_links(text: str) -> str:
    """A document of the repository with its links as the site has them: those into docs/ lead beside the page, those
    to sources, which the site does not hold, are their text alone. README's title is the site's, so that
    page has another."""
    text = re.sub(r"\A# Accel$", "# Measurements and validation", text, flags=re.MULTILINE)
    text = re.sub(r"\]\(docs/", "](", text)
    return re.sub(r"\[([^\]]+)\]\((?:accel|benchmarks)/[^)]*\)", r"`\1`", text)


def commands_markdown() -> str:
    """What ``--help`` prints of every verb, a chapter each."""
    os.environ["COLUMNS"] = str(HELP_COLUMNS)
    from accel.cli import build_parser

    chapters = (f"## {parser.prog}\n\n```text\n{parser.format_help()}```\n" for parser in _parsers(build_parser()))
    return "# Commands\n\nWhat `accel VERB --help` says.\n\n" + "\n".join(chapters)


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """A parser and those of its verbs, in order."""
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                yield from _parsers(verb)
