"""Where tables of trained compression go: files of their own, and a page that keeps what was not measured here."""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
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


def _update(target: Path, measured: Mapping[str, str], cells: Table) -> None:
    """Replace the sections and the rows of the parts in ``measured``; those of other parts stay as they are."""
    above, mark, below = target.read_text().partition(BEGIN)
    if not mark:
        raise ConfigError(f"'{target}' lacks the line {BEGIN}")
    texts = {**_sections(below, target), **measured}
    sheet, order = target.with_suffix(".csv"), list(PROFILES)
    rows = [row for row in _rows(sheet) if row["part"] not in measured] + list(cells.rows)
    rows.sort(key=lambda row: order.index(row["part"]))  # stable: within a part they stay as they are
    write_text(target, "\n".join([f"{above}{BEGIN}\n", *(texts[part] for part in order if part in texts)]))
    write_text(sheet, to_csv(Table(cells.title, cells.columns, tuple(rows))))


def _sections(text: str, source: Path) -> dict[str, str]:
    """What a page says of each part; raises ``ConfigError`` for a heading of none."""
    parts = {profile.title: part for part, profile in PROFILES.items()}
    _, *pieces = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    found = {piece.partition("\n")[0].removeprefix("## "): piece.rstrip("\n") + "\n" for piece in pieces}
    for title in found.keys() - parts.keys():
        raise ConfigError(f"'{source}': section '{title}' is of no part; allowed: {listed(parts)}; delete or rename it")
    return {parts[title]: piece for title, piece in found.items()}


def _rows(sheet: Path) -> list[Row]:
    """The cells of the page, as texts; none before there is a page."""
    if not sheet.exists():
        return []
    rows: list[Row] = list(csv.DictReader(sheet.read_text().splitlines()))
    for row in rows:
        if row.get("part") not in PROFILES:
            raise ConfigError(f"'{sheet}': part '{row.get('part')}'; allowed: {listed(PROFILES)}; delete its rows")
    return rows
