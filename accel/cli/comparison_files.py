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
    from accel.run import Run

CURVE_FILE = "speedup.png"


def write_comparison(folder: Path, results: Sequence[MachineResult], document: Mapping[str, Any], text: str) -> None:
    """Table as text and CSV, JSON, one run a format and machine, and plots."""
    from accel.atomic import write_text
    from accel.cli.comparison import comparison_table
    from accel.reporting import to_csv

    with created_folder(folder):
        write_text(folder / "table.txt", text)
        write_text(folder / "table.csv", to_csv(comparison_table(results)))
        write_text(folder / "comparison.json", json.dumps(document, indent=1) + "\n")
        _write_runs(folder, results)
        _write_plots(folder, results)


def _write_runs(folder: Path, results: Sequence[MachineResult]) -> None:
    from accel.run import write_run

    for result in results:
        for each in result.results:
            stem = f"{result.machine.name}.{re.sub('[^A-Za-z0-9]+', '-', each.codec)}"
            write_run(each.whole, folder / f"{stem}.run.json")
            write_run(each.gemm_only, folder / f"{stem}.gemm-only.run.json")


def _write_plots(folder: Path, results: Sequence[MachineResult]) -> None:
    from accel.cli.run_tables import dram_text
    from accel.plots import layers_figure, speedup_figure, traffic_figure, write_figure

    groups: dict[str, Mapping[str, Run]] = {
        f"{result.machine.name}, {dram_text(result.machine)}": {each.codec: each.whole for each in result.results}
        for result in results
    }
    write_figure(traffic_figure(groups), folder / "traffic.png")
    write_figure(speedup_figure([_panel(result) for result in results]), folder / CURVE_FILE)
    pairs = [each.whole for result in results for each in result.highlights]
    write_figure(layers_figure(pairs), folder / "layers.png")


def _panel(result: MachineResult) -> Any:
    """The curves of one machine; the best format's GEMM-only curve is drawn as a thin reference."""
    from accel.cli.comparison import WORTHWHILE_GAIN
    from accel.plots import Curve, SpeedupPanel

    best = result.best
    curves = [Curve(each.codec, result.bandwidths, result.speedup_curve(each)) for each in result.results]
    label = f"{best.codec}, GEMM-only"
    curves.append(Curve(label, result.bandwidths, result.gemm_speedup_curve(best), reference=True))
    program = best.whole.program
    return SpeedupPanel(
        title=f"{program.get('model')} on {result.machine.name}: whole network",
        curves=curves,
        own_bandwidth=result.machine.bandwidth_bytes_per_cycle,
        crossover=result.crossover.bandwidth,
        caption=f"crossover: above it {best.codec}, the fastest compressed format, gains less than {WORTHWHILE_GAIN}x",
    )
