"""``python -m benchmarks accuracy``: trained compression at equal total bits, with its spread over seeds.

Every method of ``compiler.training`` starts from the same float model, tries as many learning rates and trains as
long; the codec of a level is the one of its family with the least weight error at that many bits, codebooks, signs,
masks and scales counted. A killed run goes on with the first cell it has not finished; cells are kept under
``DIR/cells``, so parts and methods may also run in several processes on one folder.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import torch

from accel.atomic import write_text
from accel.codecs import Codec, parse_codec
from benchmarks.accuracy_cells import TUNING_SEED, Cell, measured
from benchmarks.accuracy_methods import ABOVE, BELOW, LEVELS, METHODS, TRIALS, TUNED_ON, Method, Trial, chosen_codec
from benchmarks.accuracy_parts import PARTS, Part
from benchmarks.accuracy_plots import write_plots
from benchmarks.accuracy_report import read_page, write_report
from benchmarks.quality_data import require_extra, tell

SEEDS = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the benchmark."""
    parser.add_argument("--part", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="default: all")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=tuple(METHODS), help="default: all")
    parser.add_argument(
        "--levels",
        nargs="+",
        type=float,
        default=LEVELS,
        help=f"bits a weight, of codecs with {BELOW:g} to {ABOVE:g} times as many; default 1.5 1.25 1",
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"how many of every cell, from 0 on; default {SEEDS}")
    parser.add_argument("--report", action="store_true", help="measure nothing: tables and plots of kept cells")
    parser.add_argument(
        "--page",
        metavar="FILE.md",
        type=Path,
        help="put tables and plots into this page, too; what it says of parts that DIR has no cells of stays",
    )
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="where everything is kept")


def main(options: argparse.Namespace) -> bool:
    """Measure what is missing, then write tables, page and plots of all that is kept."""
    if not options.report:
        require_extra(options.part)
    if options.page is not None:
        read_page(options.page)  # refused now, not after hours
    torch.set_num_threads(1)  # where cores are shared, two are slower
    for name in () if options.report else options.part:
        _measure(PARTS[name](), [METHODS[method] for method in options.methods], options)
    found = write_report(options.output, options.page)
    wrote = write_plots(found, options.output)
    if options.page is not None:
        wrote += write_plots(found, options.page.parent, ("svg",))
    for path in wrote:
        tell(f"wrote {path}")
    return True


def _measure(part: Part, methods: Sequence[Method], options: argparse.Namespace) -> None:
    """All cells: trials first, then level by level and seed by seed, so that a run cut short has whole tables."""
    folder: Path = options.output
    begin = time.monotonic()
    tuning = PARTS[TUNED_ON.get(part.name, part.name)]()
    trials = {method.name: best_trial(tuning, METHODS[method.tuned_as], folder) for method in methods}
    for level, seed, method in product(options.levels, range(options.seeds), methods):
        if method.family is None or method.fixed_codec is not None:
            codec = method.fixed_codec
        else:
            codec = level_codec(part, method, level, folder)
        untrained = Cell(part.name, "", codec, seed if codec is not None and codec.codebook_shape else 0, None)
        for cell in (untrained, Cell(part.name, method.name, codec, seed, trials[method.name])):
            measured(cell, part, folder)
        tell(f"{part.name}: {level:g} bit, seed {seed}, {method.title}; {time.monotonic() - begin:.0f} s")


def best_trial(part: Part, method: Method, folder: Path) -> Trial:
    """The trial of ``method`` with the best validation score, at the highest level and a seed that is not scored."""
    codec = method.fixed_codec
    if method.family is not None and codec is None:
        codec = level_codec(part, method, LEVELS[0], folder)
    trials = TRIALS[part.name][method.learns]
    cells = [Cell(part.name, method.name, codec, TUNING_SEED, trial, tuning=True) for trial in trials]
    found = [measured(cell, part, folder)["scores"]["validation"] for cell in cells]
    for trial, score in zip(trials, found, strict=True):
        tell(f"{part.name}: {method.title}, rates {trial}: {score:.4f}")
    return trials[found.index(max(found))]


def level_codec(part: Part, method: Method, level: float, folder: Path) -> Codec:
    """``chosen_codec``, kept with everything it was chosen from."""
    assert method.family is not None
    path = folder / "choices" / f"{part.name}.{method.family.family}.{level:g}.json"
    if not path.exists():
        codec, tried = chosen_codec(method.family, level, part.compressed_weights)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps({"codec": str(codec), "bits_and_error": tried}, indent=1) + "\n")
    return parse_codec(json.loads(path.read_text())["codec"])
