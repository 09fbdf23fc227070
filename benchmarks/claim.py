"""``python -m benchmarks claim``: "3x over int8 on DeiT-tiny", as a curve over bandwidth for four arrays.

Simulated, all of it: ``edge64-ideal`` with square arrays, one scale a tensor, the next operator's weights always fit on
chip. By default vector work is free and the decoder as fast as it needs to be, as papers count; then each of these is
charged in turn: the decoder, activations that spill, vector work.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.claim_findings import ARRAYS, CODECS, Bench, Findings
from benchmarks.claim_page import write_page
from benchmarks.quality_data import tell


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where to write."""
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, default=Path("docs"), help="default: docs")


def main(options: argparse.Namespace) -> bool:
    """Simulate, print the tables, write page, figure and CSV; whether 3x holds anywhere."""
    findings = Findings(Bench())
    for path in write_page(findings, options.output):
        tell(f"wrote {path}")
    return any(findings.holds_to(CODECS[0], array) for array in ARRAYS)
