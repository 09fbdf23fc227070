"""Compare our figures with those of other simulators, and say whether they are as close as they must be."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from accel.cli.options import add_json, print_json
from accel.cli.progress import Report, progress

if TYPE_CHECKING:
    from accel.validation import Section

HELP = "our error against the reference simulators"
EXAMPLE = "accel validate"


def _dram(report: Report) -> Section:
    from sim.dram.validate import dram_section

    return dram_section(report)


def _systolic(report: Report) -> Section:
    from accel.systolic_reference import systolic_section

    return systolic_section()


def _pipeline(report: Report) -> Section:
    from accel.cli.pipeline_reference import pipeline_section

    return pipeline_section(report)


# Each runs one comparison, telling how far it is.
SECTIONS: tuple[Callable[[Report], Section], ...] = (_systolic, _dram, _pipeline)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("--all", action="store_true", help="also print every row")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the tables; exit code 1 when a bound is missed."""
    from accel.reporting import to_text
    from accel.validation import details, summary

    with progress() as report:
        sections = [section(report) for section in SECTIONS]
    if arguments.json:
        print_json([_document(section, every_row=arguments.all) for section in sections])
    else:
        tables = [table for each in sections for table in ([details(each)] if arguments.all else []) + [summary(each)]]
        print("\n".join(map(to_text, tables)), end="")
    return 0 if all(section.is_met for section in sections) else 1


def _document(section: Section, *, every_row: bool) -> dict[str, Any]:
    from accel.reporting import to_records
    from accel.validation import details, summary

    document = {"title": section.title, "is_met": section.is_met, "groups": to_records(summary(section))}
    return document | ({"rows": to_records(details(section))} if every_row else {})
