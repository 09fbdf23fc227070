"""The report as one HTML file: no network, no script but its own, and nothing from a file that is not escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING

from accel import __version__
from accel.cli.figures import FIGURES, Evidence, ReportFigure
from accel.cli.origin_tables import definitions_table, identity_table, machines_table
from accel.cli.run_tables import BREAKDOWNS, breakdown_table, layers_table, metrics_list, metrics_table
from accel.cli.run_verdict import run_verdicts
from accel.metrics import METRICS
from accel.reporting import Table, plain, run_labels
from accel.svg import svg_element

if TYPE_CHECKING:
    from markupsafe import Markup

    from accel.run import Run

_ABREAST = 2  # panels of a figure that has one a run
_TILES = ("total_cycles", "seconds", "dram_bytes_total", "energy_total", "utilisation", "dram_bandwidth")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure as ``<svg>`` elements; none if the evidence for it is missing."""

    row: ReportFigure
    images: tuple[Markup, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """One heading with what is under it. ``sorts``: readers can sort and filter its table."""

    id: str
    title: str
    figures: tuple[Drawn, ...] = ()
    tables: tuple[Table, ...] = ()
    sorts: bool = False
    paragraphs: tuple[str, ...] = ()


def html_page(evidence: Evidence) -> str:
    """The whole page, the same for the same evidence."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("accel.cli", "page"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["plain"] = plain
    script = _source("report.js")
    return environment.get_template("report.html").render(
        title=_title(evidence),
        tool=__version__,
        style=_markup(_source("report.css")),
        script=_markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        tiles=_tiles(evidence),
        sections=_shown(_sections(evidence)),
    )


def _source(name: str) -> str:
    return resources.files("accel.cli").joinpath("page", name).read_text("utf-8")


def _markup(text: str) -> Markup:
    """Text of our own that is HTML, CSS or script already."""
    from markupsafe import Markup

    return Markup(text)


def _title(evidence: Evidence) -> str:
    models = dict.fromkeys(str(run.program.get("model")) for run in evidence.runs)
    machines = dict.fromkeys(run.machine.name for run in evidence.runs)
    return f"{', '.join(models)} on {', '.join(machines)}"


def _tiles(evidence: Evidence) -> list[tuple[str, str, str]]:
    """Title, value with unit and definition of the figures that sum up a single run."""
    if len(evidence.runs) > 1:
        return []
    table = metrics_table(evidence.runs)
    shown = {column.key: column for column in table.columns if column.key in _TILES}
    values = [(METRICS[key], shown[key], table.rows[0][key]) for key in _TILES]
    return [
        (column.title, f"{column.cell(value)} {column.shown.unit if column.shown else ''}".strip(), metric.definition)
        for metric, column, value in values
    ]


def _shown(sections: Iterable[Section]) -> list[Section]:
    """Sections without the figures that cannot be drawn; a last one says how to get these."""
    shown, missing = [], dict[str, list[str]]()
    for section in sections:
        drawn = tuple(each for each in section.figures if each.images)
        for each in section.figures:
            if not each.images:
                missing.setdefault(each.row.missing, []).append(each.row.title)
        if drawn or section.tables:
            shown.append(replace(section, figures=drawn))
    paragraphs = tuple(f"{', '.join(titles)}: {reason}." for reason, titles in missing.items())
    return [*shown, Section("missing", "Not in this report", paragraphs=paragraphs)] if missing else shown


def _sections(evidence: Evidence) -> Iterator[Section]:
    runs = evidence.runs
    metrics = _filled(metrics_table(runs)) if len(runs) > 1 else metrics_list(runs[0])
    yield Section("summary", "Summary", tables=(*_comparison_tables(evidence), metrics),
                  paragraphs=_verdicts(evidence))  # fmt: skip
    yield Section("speedup", "Speed-up", tuple(_drawn(evidence, name) for name in ("bandwidth", "arrays")))
    for name, breakdown in zip(("cycles", "traffic", "energy"), BREAKDOWNS, strict=True):
        yield Section(name, breakdown.title, (_drawn(evidence, name),), (breakdown_table(runs, breakdown),))
    yield Section("roofline", "Roofline", (_drawn(evidence, "roofline"),))
    yield Section("timeline", "Timeline", (_drawn(evidence, "timeline"),))
    yield Section("occupancy", "Memories on chip", (_drawn(evidence, "occupancy"),))
    yield Section("layers", "Layers", (_drawn(evidence, "layers"),), (layers_table(evidence.detailed),), sorts=True)
    origins = (identity_table(runs), machines_table(runs))
    yield Section("origins", "What was run, on what", tables=origins, paragraphs=tuple(_notes(runs)))
    yield Section("definitions", "Definitions", tables=(definitions_table(),))


def _filled(table: Table) -> Table:
    """Without the columns in which no row has a value."""
    used = tuple(column for column in table.columns if any(row.get(column.key) is not None for row in table.rows))
    return replace(table, columns=used)


def _verdicts(evidence: Evidence) -> tuple[str, ...]:
    if evidence.comparison is None:
        return run_verdicts(evidence.runs)
    return tuple(str(machine["verdict"]) for machine in evidence.comparison["machines"])


def _comparison_tables(evidence: Evidence) -> tuple[Table, ...]:
    from accel.cli.comparison_tables import document_table

    return (document_table(evidence.comparison),) if evidence.comparison else ()


def _notes(runs: Sequence[Run]) -> Iterator[str]:
    """Remarks of compiler and simulator, each once, with the runs it belongs to."""
    owners: dict[str, list[str]] = {}
    for label, run in zip(run_labels(runs), runs, strict=True):
        for note in run.notes:
            owners.setdefault(note, []).append(label)
    for note, labels in owners.items():
        yield f"{note} ({'all runs' if len(labels) == len(runs) > 1 else ', '.join(labels)})"


def _drawn(evidence: Evidence, name: str) -> Drawn:
    row = FIGURES[name]
    if not row.drawable(evidence):
        return Drawn(row, ())
    runs = row.shown(evidence)
    step = _ABREAST if row.of_each_run else len(runs)
    pieces = [runs[i : i + step] for i in range(0, len(runs), step)]
    images = [
        svg_element(row.draw(evidence, piece), f"{name}{i}", f"{row.title}. {row.caption}")
        for i, piece in enumerate(pieces)
    ]
    return Drawn(row, tuple(map(_markup, images)))
