"""``python -m benchmarks quality``: what each weight format does to the answers of trained networks, and what it gains.

Every figure of MiniLM, ViT-S/14 and EfficientNet-Lite0 comes from compiled programs, executed in the accelerator's own
integer arithmetic; Fashion-MNIST's 10000 pictures run through the interpreter, which is held equal to programs on the
first hundred. Calibration samples come from other sources than what is scored. int8 has requirements to meet.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from itertools import product
from pathlib import Path

from accel.atomic import write_bytes
from accel.reporting import Table, to_json, to_text
from benchmarks.quality_data import require_extra, tell
from benchmarks.quality_models import PROFILES, SUBJECTS
from benchmarks.quality_plots import write_plots
from benchmarks.quality_run import Quality, float_outputs, measure
from benchmarks.quality_tables import Scored, cost_table, missed, score_table

CODECS = ("int8", "int4", "vq:k=256,d=4", "ssvq:k=256,d=8", "ssvq:k=16,d=8")
MACHINES = ("edge64", "edge32", "u65-mid")
METHOD = "best"
WORKERS = 2
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the benchmark."""
    parser.add_argument("--models", nargs="+", choices=tuple(SUBJECTS), default=tuple(SUBJECTS), help="default: all")
    parser.add_argument("--codecs", nargs="+", metavar="CODEC", default=CODECS, help=f"default {' '.join(CODECS)}")
    parser.add_argument("--machines", nargs="+", metavar="MACHINE", default=MACHINES, help="default: three presets")
    parser.add_argument("--method", default=METHOD, help=f"of calibration (accel compress); default {METHOD}")
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"processes, one core each; default {WORKERS}")
    parser.add_argument("--json", action="store_true", help="print the tables as JSON")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="write plots (PNG, SVG) and tables there")


def main(options: argparse.Namespace) -> bool:
    """Measure, print the tables, write plots; whether int8 met every requirement."""
    require_extra(options.models)
    scored = measured(options.models, options.codecs, options.machines, options.method, options.workers)
    tables = [*map(score_table, scored), cost_table(scored)]
    print(to_json(tables) if options.json else "\n".join(map(to_text, tables)), end="")
    if options.output:
        _write(scored, tables, options.output)
    failures = [text for each in scored for text in missed(each)]
    for text in failures:
        tell(f"MISSED: {text}")
    return not failures


def _write(scored: Sequence[Scored], tables: Sequence[Table], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_bytes(folder / "quality.json", to_json(tables).encode())
    for path in write_plots(scored, folder):
        tell(f"wrote {path}")


def measured(
    models: Sequence[str], codecs: Sequence[str], machines: Sequence[str], method: str, workers: int
) -> list[Scored]:
    """Scores of all models in all formats; every pair is a job of its own."""
    begin = time.monotonic()
    pairs = list(product(models, codecs))
    found: dict[tuple[str, str], tuple[Mapping[str, float], Quality]] = {}
    with one_thread(), ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(_job, *pair, tuple(machines), method): pair for pair in pairs}
        for done in as_completed(running):
            found[running[done]] = done.result()
            tell(f"{len(found)} of {len(pairs)}: {' '.join(running[done])}, {time.monotonic() - begin:.0f} s")
    return [
        Scored(PROFILES[name], found[name, codecs[0]][0], tuple(found[name, codec][1] for codec in codecs))
        for name in models
    ]


def _job(name: str, codec: str, machines: Sequence[str], method: str) -> tuple[Mapping[str, float], Quality]:
    """What the float model scores, and the format."""
    subject = SUBJECTS[name]()
    wanted = float_outputs(subject)
    return subject.score(wanted, wanted), measure(subject, codec, method, machines, wanted)


@contextmanager
def one_thread() -> Iterator[None]:
    """Processes started meanwhile calculate on one thread each: there is one for every core."""
    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value
