"""``python -m benchmarks peers``: the same networks through Vela, SCALE-Sim, ZigZag and Core ML Tools, beside ours.

Two questions: do other tools, given the same layers, find the same cycles, at what cost? And how small do 8-bit weights
get without vector quantisation, so that our baseline is not made of straw? A peer that cannot be installed or run is
listed with its reason. The page says what may be compared with what. What was measured is kept until a whole run has
ended well, so a killed run goes on where it ended.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from benchmarks.peers_kept import drop_kept, kept
from benchmarks.peers_ladder import Ladder, Rung
from benchmarks.peers_page import write_page
from benchmarks.peers_rows import TOOLS, tool_rows
from benchmarks.quality_data import tell
from compiler.frontend import load_model

NETWORKS = ("resnet18", "deit_tiny", "zoo:vit_s14")
LADDERS = ("zoo:vit_s14", "zoo:efficientnet_lite0")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be left out, and where to write."""
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=NETWORKS, help="default: all")
    parser.add_argument("--ladders", nargs="*", choices=LADDERS, default=LADDERS, help="default: all")
    parser.add_argument("--peers", nargs="*", choices=tuple(TOOLS), default=tuple(TOOLS), help="default: all")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, default=Path("docs"), help="default: docs")


def main(options: argparse.Namespace) -> bool:
    """Measure, print, write the page and CSV files; whether every peer could be run."""
    rows = [row for name in options.networks for row in tool_rows(name, options.peers)]
    ladders = {name: _rungs(name) for name in options.ladders}
    for path in write_page(rows, ladders, options.output):
        tell(f"wrote {path}")
    rungs = [rung for ladder in ladders.values() for rung in ladder]
    failed = any(each.problem for each in (*rows, *rungs))
    if not failed:
        drop_kept()
    return not failed


def _rungs(name: str) -> list[Rung]:
    tell(f"{name}: weights in every form")
    fields = kept(
        f"{name} ladder", lambda: [asdict(rung) for rung in Ladder(load_model(name, progress=tell), tell).rungs()]
    )
    return [Rung(**each) for each in fields]
