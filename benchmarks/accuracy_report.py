"""Where tables of trained compression go: files of their own, and a page that keeps what was not measured here."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from accel.atomic import write_text
from accel.errors import ConfigError, listed
from accel.reporting import Table, to_csv
from benchmarks.accuracy_page import Entry, Row, cell_table, entries, of_other_sources, read_rows, sections
from benchmarks.accuracy_parts import PROFILES
from benchmarks.quality_data import tell

BEGIN = "<!-- measured: `python -m benchmarks accuracy --page` replaces the sections below of the parts it measured -->"


def write_report(folder: Path, target: Path | None) -> list[Entry]:
    """``accuracy.csv`` and ``accuracy.md`` in ``folder``; the tables also into the page ``target``, below its mark."""
    rows = read_rows(folder)
    found, measured = entries(rows, folder), sections(rows, folder)
    for line in of_other_sources(rows):
        tell(line)
    write_text(folder / "accuracy.csv", to_csv(cell_table(found)))
    write_text(folder / "accuracy.md", "\n".join(measured.values()))
    if target is not None:
        _update(target, measured, cell_table(found))
    return found


@dataclass(frozen=True, slots=True)
class Page:
    """A page as it is: what stands ``above`` its mark, and by part the ``sections`` below and the ``cells`` of its CSV
    file, as texts."""

    above: str
    sections: Mapping[str, str]
    cells: Sequence[Row]


def read_page(path: Path) -> Page:
    """Raises ``ConfigError`` for a page that is missing, lacks the mark, or holds below it what is of no part."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"'{path}': {getattr(error, 'strerror', None) or 'no UTF-8 text'}") from error
    above, mark, below = text.partition(BEGIN)
    if not mark:
        raise ConfigError(f"'{path}' lacks the line {BEGIN}")
    return Page(above, _sections(below, path), _cells(path.with_suffix(".csv")))


def _update(target: Path, measured: Mapping[str, str], cells: Table) -> None:
    """Replace the sections and the rows of the parts in ``measured``; those of other parts stay as they are."""
    page, order = read_page(target), list(PROFILES)
    texts = {**page.sections, **measured}
    rows = [row for row in page.cells if row["part"] not in measured] + list(cells.rows)
    rows.sort(key=lambda row: order.index(row["part"]))  # stable: within a part they stay as they are
    write_text(target.with_suffix(".csv"), to_csv(Table(cells.title, cells.columns, tuple(rows))))
    write_text(target, "\n".join([f"{page.above}{BEGIN}\n", *(texts[part] for part in order if part in texts)]))


def _sections(text: str, source: Path) -> dict[str, str]:
    """What a page says of each part."""
    parts = {profile.title: part for part, profile in PROFILES.items()}
    before, *pieces = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    titles = [piece.partition("\n")[0].removeprefix("## ").strip() for piece in pieces]
    if before.strip():
        raise ConfigError(f"'{source}': text between the mark and the first section; allowed: above the mark")
    for title in titles:
        if title not in parts or titles.count(title) > 1:
            raise ConfigError(f"'{source}': section '{title}'; allowed below the mark, once each: {listed(parts)}")
    return {parts[title]: piece.rstrip("\n") + "\n" for title, piece in zip(titles, pieces, strict=True)}


def _cells(sheet: Path) -> list[Row]:
    """Rows of the page's CSV file; none before there is one."""
    if not sheet.exists():
        return []
    with sheet.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows: list[Row] = list(reader)
    known = {column.field for column in cell_table([]).columns}
    if unknown := sorted(set(reader.fieldnames or ()) - known):
        raise ConfigError(f"'{sheet}': columns {listed(unknown)}; allowed: {listed(sorted(known))}")
    for row in rows:
        if row["part"] not in PROFILES:
            raise ConfigError(f"'{sheet}': part '{row['part']}'; allowed: {listed(PROFILES)}; delete its rows")
    return rows
