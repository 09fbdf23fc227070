"""The folder ``accel compare`` writes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.cli.options import created_folder

if TYPE_CHECKING:
    from accel.cli.comparison import MachineResult
    from accel.cli.figures import Evidence

CURVE_FILE = "speedup.png"
PAGE_FILE = "report.html"
PLOTS = {"traffic": "traffic.png", "bandwidth": CURVE_FILE, "arrays": "arrays.png", "layers": "layers.png"}


def write_comparison(folder: Path, results: Sequence[MachineResult], document: Mapping[str, Any], text: str) -> None:
    """Table as text and CSV, JSON, one run a format and machine, plots, and the page that holds all of it."""
    from accel.atomic import write_text
    from accel.cli.comparison_tables import comparison_table
    from accel.cli.figures import Evidence
    from accel.cli.page import html_page
    from accel.reporting import to_csv

    with created_folder(folder):
        write_text(folder / "table.txt", text)
        write_text(folder / "table.csv", to_csv(comparison_table(results)))
        write_text(folder / "comparison.json", json.dumps(document, indent=1) + "\n")
        _write_runs(folder, results)
        runs = tuple(each.whole for result in results for each in result.results)
        highlights = tuple(each.whole for result in results for each in result.highlights)
        evidence = Evidence(runs, document, highlights)
        _write_plots(folder, evidence)
        write_text(folder / PAGE_FILE, html_page(evidence))


def _write_runs(folder: Path, results: Sequence[MachineResult]) -> None:
    from accel.run import write_run

    for result in results:
        for each in result.results:
            stem = f"{result.machine.name}.{re.sub('[^A-Za-z0-9]+', '-', each.codec)}"
            write_run(each.whole, folder / f"{stem}.run.json")
            write_run(each.gemm_only, folder / f"{stem}.gemm-only.run.json")


def _write_plots(folder: Path, evidence: Evidence) -> None:
    from accel.cli.figures import FIGURES
    from accel.plots import write_figure

    for name, file in PLOTS.items():
        if FIGURES[name].drawable(evidence):
            write_figure(FIGURES[name].figure(evidence), folder / file)
