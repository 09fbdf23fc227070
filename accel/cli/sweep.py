"""Explore designs: simulate a model on many machines and in many formats, and print the Pareto front.

What has been simulated once is never simulated again: run the same command to go on after an interruption, or add to
the spec and run it again. docs/sweep.md has an example.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.cli.options import add_json, check_outputs, energy_table, output_file, positive_integer, print_json, say
from accel.errors import ConfigError, ToolError

if TYPE_CHECKING:
    from accel.sweep.spec import SweepSpec

HELP = "explore designs: many machines and formats, cached and resumable"
EXAMPLE = "accel sweep docs/deit_tiny_sweep.toml -o results.parquet --plot front.png"
STORE_FILE = "results.sqlite"
SUFFIX = ".parquet"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("spec", metavar="SPEC.toml", help="what to explore (FORMATS.md, Sweep)")
    parser.add_argument(
        "-o", "--output", metavar="FILE.parquet", type=output_file, required=True, help="a row for every point"
    )
    parser.add_argument(
        "--workers", metavar="N", type=positive_integer, help="local processes (default: as many as there are cores)"
    )
    parser.add_argument("--scheduler", metavar="ADDRESS", help="a Dask scheduler to work for it, e.g. tcp://host:8786")
    parser.add_argument("--plot", metavar="FILE", type=output_file, help="draw the fronts (.png, .svg, .pdf)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Explore, write the results and the plot, print the front."""
    write = _writer(arguments.output)
    from accel.cli.progress import progress
    from accel.cli.sweep_pool import pool
    from accel.cli.sweep_run import Sweep
    from accel.cli.sweep_tables import document, fronts_text, summary
    from accel.sweep.spec import load_spec
    from accel.sweep.store import Store

    spec = load_spec(arguments.spec)
    check_outputs([arguments.output, arguments.plot], [arguments.spec, *spec.files])
    _check_suffixes(arguments, spec)
    energy = energy_table(spec.energy)
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(Store(_store_path()))
        execute = stack.enter_context(pool(arguments.workers or _cores(), arguments.scheduler))
        report = stack.enter_context(progress())
        sweep = Sweep(spec, store, execute, energy, report, lambda rows: write(rows, spec, False))
        try:
            rows = sweep.explore()
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(f"{len(sweep.results):,} results are kept; the same command goes on") from stop
    write(rows, spec, True)
    if arguments.plot:
        from accel.plots import write_figure
        from accel.sweep.plot import fronts_figure

        write_figure(fronts_figure(rows, spec.objectives), arguments.plot)
        say(f"wrote {arguments.plot}")
    if arguments.json:
        print_json(document(rows, spec))
    else:
        print(fronts_text(rows, spec), end="")
    say(f"wrote {arguments.output} ({summary(rows)}; {sweep.computed:,} simulated now)")
    return 0


def _check_suffixes(arguments: argparse.Namespace, spec: SweepSpec) -> None:
    """Raise ``ConfigError`` before any work for a file whose name promises another format, and a plot of nothing."""
    if arguments.output.suffix.lower() != SUFFIX:
        raise ConfigError(
            f"-o {arguments.output}: suffix '{arguments.output.suffix}'; allowed: {SUFFIX} (Apache Parquet)"
        )
    if arguments.plot:
        from accel.plots import plot_format
        from accel.sweep.plot import plotted_pairs

        plot_format(arguments.plot)
        plotted_pairs(spec.objectives)


def _writer(path: Path) -> Any:
    """Writes rows to ``path``; raises ``ToolError`` at once, before any work, without the library it takes."""
    try:
        from accel.sweep.results import write_results
    except ImportError as error:
        raise ToolError("accel sweep needs pyarrow; pip install 'accel-codesign[sweep]'") from error

    def write(rows: Sequence[Mapping[str, Any]], spec: SweepSpec, complete: bool) -> None:
        write_results(rows, {"complete": complete, "objectives": dict(spec.objectives)}, path)

    return write


def _store_path() -> Path:
    from accel.cache import cache_folder

    return cache_folder("sweep") / STORE_FILE


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
