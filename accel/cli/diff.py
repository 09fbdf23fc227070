"""What changed between two runs, for people and for continuous integration: exit code 1 past a tolerance.

Everything counted is compared: each metric with itself, each part of a total and each layer as a share of the first
run's total. Facts (versions, digests, keys of the machine) are told and do not count. --only-worse judges the
metrics, in the direction that their table calls worse, and shows what made those that are past the tolerance.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from accel.cli.options import add_json, print_json

if TYPE_CHECKING:
    from accel.reporting import Table
    from accel.run_changes import Change, Fact

HELP = "what changed between two runs; exit code 1 past a tolerance"
EXAMPLE = "accel diff main.run.json branch.run.json --tolerance 1%"
DIFFERENCE_SCHEMA = "accel.difference/1"
LAYERS_SHOWN = 12


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument("before", metavar="A.run.json", help="a run from accel sim, what changes refer to")
    parser.add_argument("after", metavar="B.run.json", help="another run")
    parser.add_argument(
        "--tolerance",
        metavar="X",
        type=tolerance,
        default=0.0,
        help="largest change that counts as none, as a share below 1 (0.01) or in per cent (1%%); default 0",
    )
    parser.add_argument(
        "--only-worse",
        action="store_true",
        help="judge metrics alone, and let those that got better pass; show only "
        "what got worse by more than the tolerance",
    )
    add_json(parser)


def tolerance(text: str) -> float:
    """``0.01`` or ``1%``: a share of at least 0, 1 or more of it only in per cent, as ``5`` may mean either."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: a share of at least 0, e.g. 0.01 or 1%")
    if share >= 1 and not text.endswith("%"):
        raise argparse.ArgumentTypeError(f"'{text}' without a unit; write {text}% or {share / 100:g}")
    return share


def run(arguments: argparse.Namespace) -> int:
    """Print what changed; exit code 1 if anything counted changed by more than the tolerance."""
    from accel.run import read_run
    from accel.run_changes import changed_facts, changes, past_tolerance

    before, after = read_run(arguments.before), read_run(arguments.after)
    facts, found = changed_facts(before, after), changes(before, after)
    past = past_tolerance(found, arguments.tolerance, only_worse=arguments.only_worse)
    verdict = _verdict(past, found, arguments.tolerance, arguments.only_worse)
    if arguments.json:
        print_json(_document(arguments, facts, found, past, verdict))
    else:
        shown = past if arguments.only_worse else [each for each in found if each.share]
        print(_text(arguments, facts, shown, past, verdict), end="")
    return 1 if past else 0


def _verdict(past: Sequence[Change], found: Sequence[Change], limit: float, only_worse: bool) -> str:
    from accel.run_changes import KINDS, METRIC

    if past and only_worse:
        named = [f"{each.name} {_extent(each, '+')}" for each in past if each.kind == METRIC]
        return f"worse by more than {limit:.3%}: {', '.join(named)}"
    if past:
        worst = max(past, key=lambda each: abs(each.share))
        where = f"{worst.name} ({KINDS[worst.kind].title.lower()}) by {_extent(worst).lstrip('-')}"
        return f"changed: {len(past)} of {len(found)} figures past {limit:.3%}, most {where}"
    if only_worse and any(each.exceeds(limit) for each in found):
        return f"no worse: no metric is worse by more than {limit:.3%} (what changed: accel diff without --only-worse)"
    if any(each.share for each in found):
        return f"same within {limit:.3%}: {len(found)} figures"
    return f"identical: {len(found)} figures"


def _extent(change: Change, sign: str = "") -> str:
    return f"{change.share:{sign}.3%}" if math.isfinite(change.share) else "from nothing"


def _document(
    arguments: argparse.Namespace, facts: Sequence[Fact], found: Sequence[Change], past: Sequence[Change], verdict: str
) -> dict[str, Any]:
    from accel import __version__
    from accel.metrics import METRICS

    marked = set(map(id, past))
    return {
        "schema": DIFFERENCE_SCHEMA,
        "tool": __version__,
        "before": arguments.before,
        "after": arguments.after,
        "tolerance": arguments.tolerance,
        "only_worse": arguments.only_worse,
        "same": not past,
        "verdict": verdict,
        "facts": [{"name": fact.name, "before": fact.before, "after": fact.after} for fact in facts],
        "changes": [
            {
                "kind": each.kind,
                "name": each.name,
                "unit": METRICS[each.metric].unit,
                "before": each.before,
                "after": each.after,
                "difference": each.difference,
                "relative": each.relative,
                "share": each.share if math.isfinite(each.share) else None,
                "past_tolerance": id(each) in marked,
            }
            for each in found
        ],
    }


def _text(
    arguments: argparse.Namespace, facts: Sequence[Fact], shown: Sequence[Change], past: Sequence[Change], verdict: str
) -> str:
    from accel.reporting import plain, to_text
    from accel.run_changes import METRIC

    parts: dict[str, list[Change]] = {}
    for each in shown:
        parts.setdefault(each.kind, []).append(each)
    tables = [_facts_table(facts)] if facts else []
    for kind, changed in parts.items():
        if kind != METRIC:
            changed.sort(key=lambda each: -abs(each.share))
        tables.append(_table(kind, changed, past))
    head = f"A: {plain(arguments.before)}\nB: {plain(arguments.after)}\n"
    return "\n".join([head, *map(to_text, tables), f"{plain(verdict)}\n"])


def _facts_table(facts: Sequence[Fact]) -> Table:
    from accel.reporting import Column, Table

    columns = (Column("name", "what differs"), Column("before", "A"), Column("after", "B"))
    return Table("Facts", columns, tuple({"name": f.name, "before": f.before, "after": f.after} for f in facts))


def _table(kind: str, changed: Sequence[Change], past: Sequence[Change]) -> Table:
    """Changed figures of one kind, largest first; the metrics in the order of their own table."""
    from accel.reporting import Column, Table
    from accel.run_changes import KINDS, METRIC

    whole = "change" if kind == METRIC else "of the total"
    columns = (
        Column("name", "metric" if kind == METRIC else "layer" if kind.startswith("layer") else "part"),
        *(Column(key, title) for key, title in (("before", "A"), ("after", "B"), ("difference", "B - A"))),
        *((Column("relative", "change", "1", "change"),) if kind != METRIC else ()),
        Column("share", whole, "1", "signed error"),
        Column("past", "past tolerance"),
    )
    marked = set(map(id, past))
    rows = [_row(each, id(each) in marked) for each in changed[:LAYERS_SHOWN]]
    for key in ("before", "after", "difference"):
        width = max(len(row[key]) for row in rows)
        rows = [row | {key: row[key].rjust(width)} for row in rows]
    rest = len(changed) - LAYERS_SHOWN
    notes = (f"{rest} smaller changes not shown (--json lists all)",) if rest > 0 else ()
    return Table(KINDS[kind].title, columns, tuple(rows), notes)


def _row(each: Change, is_past: bool) -> dict[str, Any]:
    return {
        "name": each.name,
        "before": _shown(each, each.before),
        "after": _shown(each, each.after),
        "difference": _shown(each, each.difference, "+"),
        "relative": each.relative,
        "share": each.share if math.isfinite(each.share) else None,
        "past": "yes" if is_past else "",
    }


def _shown(each: Change, value: float | None, sign: str = "") -> str:
    """A number with its unit, scaled as every report scales it; bytes and cycles to the last one."""
    from accel.metrics import METRICS
    from accel.reporting import STYLES

    if value is None:
        return "-"
    unit = METRICS[each.metric].unit
    style = STYLES["bytes" if unit == "B" else unit]
    return f"{value * style.factor:{sign}{style.spec}} {style.unit}".strip()
