"""How many points of DeiT-tiny ``accel sweep`` simulates a second, by local processes that are warm."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

from accel.cli.sweep_pool import Run, pool
from accel.cli.sweep_run import Sweep
from accel.energy import DEFAULT_ENERGY
from accel.sweep.axes import parse_axes
from accel.sweep.results import write_results
from accel.sweep.spec import SweepSpec
from accel.sweep.store import Store

POINTS_A_SECOND, WORKERS = 50.0, 2  # required
CODECS = ("int8", "int4", "ssvq:k=16,d=8", "ssvq:k=256,d=8")
TIMING = {"vector.lanes": [32, 64, 128], "decoder.input_bits": [128, 256, 512]}
# What each sweep varies beside: memory and its speed, or what every point needs a program of its own for.
SWEEPS = {
    "ideal DRAM, 16 bandwidths": ("edge64-ideal", {"dram.bandwidth_bytes_per_cycle": [*range(1, 17)]}),
    "LPDDR4, timed bank by bank": ("edge64", {"dram.latency_cycles": [*range(30, 62, 2)]}),
    "ideal DRAM, 16 programs a codec": ("edge64-ideal", {"sram.weight_bytes": [*range(16384, 81920, 4096)]}),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """How many processes."""
    parser.add_argument("--workers", type=int, default=WORKERS, help=f"local processes (default {WORKERS})")


def main(arguments: argparse.Namespace) -> bool:
    """Print points a second of each sweep; whether the first two, which share programs, are fast enough."""
    print(f"DeiT-tiny, {arguments.workers} processes, load before: {os.getloadavg()[0]:.2f}")
    with pool(arguments.workers, None) as execute:
        rates = [_rate(name, execute, arguments.workers) for name in SWEEPS]
    met = min(rates[:2]) >= POINTS_A_SECOND
    print(f"{'PASS' if met else 'FAIL'}: {POINTS_A_SECOND:g} points a second where points share programs")
    return met


def _rate(name: str, execute: Run, workers: int) -> float:
    """Points a second, results kept and written; the store is new, compressed models and processes are warm."""
    machine, axes = SWEEPS[name]
    spec = SweepSpec(("deit_tiny",), (machine,), CODECS, parse_axes({**TIMING, **axes}))
    warm_up = SweepSpec(("deit_tiny",), (machine,), CODECS, parse_axes({"vector.lanes": [*range(1, 65)]}))
    folder = tempfile.TemporaryDirectory(prefix="accel-sweep-")
    with folder as where, Store(Path(where, "results.sqlite")) as store:
        print(f"{name}: warming up", file=sys.stderr)
        Sweep(warm_up, store, execute, DEFAULT_ENERGY, _silent).explore()
        sweep = Sweep(spec, store, execute, DEFAULT_ENERGY, _silent)
        start, cpu = time.perf_counter(), time.process_time()
        write_results(sweep.explore(), {}, Path(where, "results.parquet"))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    rate = sweep.computed / seconds
    alone = f"; {sweep.computed / cpu:.1f} a CPU second" if workers == 1 else ""
    print(f"{name}: {sweep.computed} points in {seconds:.1f} s: {rate:.1f} a second{alone}", flush=True)
    return rate


def _silent(done: float, total: float, what: str) -> None:
    pass
