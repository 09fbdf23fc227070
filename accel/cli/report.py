"""Report one run, or compare several with the first: what it cost, and what bounds each layer."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.cli.options import check_outputs, output_file, say
from accel.cli.trace_options import window_cycles
from accel.errors import ConfigError, listed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from accel.cli.figures import Evidence
    from accel.run import Run
    from accel.timeline import Timeline

HELP = "tables, plots and a page of runs, or what differs between them"
EXAMPLE = "accel report int8.run.json ssvq.run.json --format html -o report.html --plot roofline=roofline.svg"
# The names in ``FIGURES``, which takes longer to import.
FIGURE_NAMES = ("bandwidth", "arrays", "traffic", "cycles", "energy", "layers", "roofline", "timeline", "occupancy")
_CURVES, _TIMELINE = ("bandwidth", "arrays"), ("timeline",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "runs", metavar="RUN.json", nargs="+", help="runs from accel sim; changes are against the first"
    )
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--format", choices=("text", "csv", "json", "html"), default="text", help="default text")
    form.add_argument("--json", dest="format", action="store_const", const="json", help="the same as --format json")
    parser.add_argument("-o", "--output", metavar="FILE", type=output_file, help="write there instead of to stdout")
    parser.add_argument(
        "--plot",
        dest="plots",
        metavar="[FIGURE=]FILE",
        type=plot_file,
        action="append",
        default=[],
        help=f"draw a figure of the page as .png, .svg or .pdf (repeatable): {', '.join(FIGURE_NAMES)}; without "
        "FIGURE=, cycles by cause: layers of one run, or totals of several",
    )
    parser.add_argument(
        "--curves", metavar="FILE", help="comparison.json of accel compare: what the figures bandwidth and arrays show"
    )
    parser.add_argument(
        "--trace",
        dest="traces",
        metavar="FILE",
        action="append",
        default=[],
        help="timeline from accel sim --trace: what the figure timeline shows (repeatable, one of each run)",
    )
    parser.add_argument(
        "--trace-window",
        metavar="FROM:TO",
        type=window_cycles,
        help="only these cycles of the figure timeline (default: all that is in the files)",
    )


def plot_file(text: str) -> tuple[str, Path]:
    """``FIGURE=FILE``, or ``FILE`` alone: no figure is named ``""``."""
    name, equals, path = text.partition("=")
    if equals and name in FIGURE_NAMES:
        return name, output_file(path)
    if equals and name.isalnum():
        raise argparse.ArgumentTypeError(f"no figure '{name}'; allowed: {', '.join(FIGURE_NAMES)}")
    return "", output_file(text)


def run(arguments: argparse.Namespace) -> int:
    """Print, write or draw the report."""
    from accel.atomic import write_text
    from accel.run import read_run

    _check_arguments(arguments)
    runs = [read_run(path) for path in arguments.runs]
    evidence = _evidence(arguments, runs)
    text, figures = _content(arguments, evidence), _figures(arguments, evidence)
    for figure, path in figures:
        _write(figure, path)
    if arguments.output:
        write_text(arguments.output, text)
        say(f"wrote {arguments.output}")
    else:
        print(text, end="")
    return 0


def _check_arguments(arguments: argparse.Namespace) -> None:
    plots = [path for _, path in arguments.plots]
    inputs = [*arguments.runs, *arguments.traces, *filter(None, [arguments.curves])]
    check_outputs([arguments.output, *plots], inputs)
    if plots:
        _check_formats(plots)
    if arguments.curves:
        _check_shown(arguments, f"--curves {arguments.curves}", _CURVES)
    if arguments.traces:
        _check_shown(arguments, f"--trace {arguments.traces[0]}", _TIMELINE)
    elif arguments.trace_window:
        raise ConfigError("--trace-window is about the files of --trace, which are not given")


def _check_formats(plots: Sequence[Path]) -> None:
    """Raise ``ConfigError`` for a suffix no figure can be written in, before any work."""
    from accel.plots import plot_format

    for path in plots:
        plot_format(path)


def _check_shown(arguments: argparse.Namespace, option: str, figures: Sequence[str]) -> None:
    """Raise ``ConfigError`` for evidence that neither the page nor a plot would show."""
    if arguments.format != "html" and not {name for name, _ in arguments.plots} & set(figures):
        plots = " or ".join(f"{name}=FILE" for name in figures)
        raise ConfigError(f"{option}: nothing shows it; allowed with --format html or --plot {plots}")


def _evidence(arguments: argparse.Namespace, runs: Sequence[Run]) -> Evidence:
    """Raises ``ConfigError`` if curves or timelines are of something that none of the runs is of."""
    from accel.cli.figures import Evidence

    timelines: tuple[tuple[Run, Timeline], ...] = ()
    if arguments.traces:
        from accel.cli.timelines import timelines_of

        timelines = timelines_of(runs, arguments.traces, arguments.trace_window)
    return Evidence(tuple(runs), _comparison(arguments, runs), timelines=timelines)


def _comparison(arguments: argparse.Namespace, runs: Sequence[Run]) -> dict[str, Any] | None:
    from accel.cli.curves import read_comparison

    if not arguments.curves:
        return None
    document, models = read_comparison(arguments.curves), {str(run.program.get("model")) for run in runs}
    if document["model"] not in models:
        raise ConfigError(f"--curves {arguments.curves}: of model '{document['model']}'; runs of {listed(models)}")
    return document


def _content(arguments: argparse.Namespace, evidence: Evidence) -> str:
    if arguments.format == "html":
        from accel.cli.page import html_page

        return html_page(evidence)
    runs = evidence.runs
    return report_text(runs) if arguments.format == "text" else _data(runs, arguments.format)


def _figures(arguments: argparse.Namespace, evidence: Evidence) -> list[tuple[Figure, Path]]:
    """Every figure drawn, and the file it goes to."""
    return [(_figure(evidence, name), path) for name, path in arguments.plots]


def _figure(evidence: Evidence, name: str) -> Figure:
    from accel.cli.figures import FIGURES
    from accel.plots import comparison_figure

    runs = evidence.runs
    if not name and len(runs) > 1:
        return comparison_figure(runs)
    row = FIGURES[name or "layers"]
    if not row.drawable(evidence):
        raise ConfigError(f"--plot {row.name}: {row.missing}")
    return row.figure(evidence)


def _write(figure: Figure, path: Path) -> None:
    from accel.plots import write_figure

    write_figure(figure, path)
    say(f"wrote {path}")


def print_report(runs: Sequence[Run]) -> None:
    """The text report on stdout."""
    print(report_text(runs), end="")


def _data(runs: Sequence[Run], form: str) -> str:
    from accel.cli.origin_tables import identity_table
    from accel.cli.run_tables import flat_table, run_tables
    from accel.reporting import run_labels, to_csv, to_json

    if form == "csv":
        return to_csv(flat_table(runs))
    metrics, *others = (*run_tables(runs), identity_table(runs))
    remarks = [f"{label}: {note}" for label, run in zip(run_labels(runs), runs, strict=True) for note in run.notes]
    return to_json([replace(metrics, notes=(*metrics.notes, *remarks)), *others])


def report_text(runs: Sequence[Run]) -> str:
    """What was run on what, then every table; metrics of a single run with their definitions."""
    from accel.cli.run_tables import metrics_text, run_tables
    from accel.reporting import run_labels, to_text

    heads = [run_heading(label, run) for label, run in zip(run_labels(runs), runs, strict=True)]
    metrics, *others = run_tables(runs)
    first = metrics_text(runs[0]) if len(runs) == 1 else to_text(metrics)
    return "\n".join(["\n".join(heads) + "\n", first, *map(to_text, others)])


def run_heading(label: str, run: Run) -> str:
    """Everything needed to say what a run is: model, weights, codec, machine, tool; then its notes."""
    from accel.cli.run_tables import dram_text, run_weights, weights_text

    machine, program = run.machine, run.program
    lines = [
        f"{label}: {program.get('model')}, {weights_text(run_weights(run))}; codec {program.get('codec')}",
        f"  machine {machine.name}: {machine.array.label} at {machine.clock.hz / 1e6:g} MHz, {dram_text(machine)}",
        f"  program {str(program.get('digest'))[:16]}, simulated by accel {run.tool}",
        *(f"  note: {note}" for note in run.notes),
    ]
    return "\n".join(lines)
