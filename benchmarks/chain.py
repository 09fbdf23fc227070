"""Every built-in network on four machines: seconds to compile, to prove and to simulate, and what it comes to.

The requirement is on compilation alone: ``COMPILE_SECONDS`` at most. A network a machine is too small for is refused
with one line, which is printed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from accel.check import check_compiled
from accel.codecs import parse_codec
from accel.errors import CompileError
from accel.machine import Machine, load_machine
from accel.packed import Packed
from compiler import compile_model
from compiler.compress import compress
from compiler.frontend import load_model
from compiler.frontend.architectures import ARCHITECTURES
from sim import check_weights, simulate

MACHINES = ("edge64", "edge32", "u65-mid", "ecp5")
CODECS_MEASURED = ("int8", "ssvq:k=16,d=8")
COMPILE_SECONDS = 20.0

T = TypeVar("T")


def main() -> bool:
    """Print the table; whether every compilation met the limit."""
    print(f"seconds of one core; at most {COMPILE_SECONDS:g} to compile")
    columns = f"{'compile':>9}{'prove':>8}{'simulate':>10}{'instructions':>14}{'cycles':>13}{'DRAM bytes':>13}"
    print(f"{'network':<22}{'codec':<16}{'machine':<9}{columns}")
    slowest = 0.0
    for name in ARCHITECTURES:
        model = load_model(name)
        for codec in CODECS_MEASURED:
            packed = compress(model.graph, model.weights, parse_codec(codec), scale="tensor").packed
            for machine in MACHINES:
                print(f"{name:<22}{codec:<16}{machine:<9}", end="", flush=True)
                slowest = max(slowest, _row(packed, load_machine(machine)))
    met = slowest <= COMPILE_SECONDS
    print(f"slowest compilation: {slowest:.1f} s, {'meets' if met else 'MISSES'} the requirement")
    return met


def _row(packed: Packed, machine: Machine) -> float:
    """Finish one row; seconds of the compilation."""
    try:
        program, compile_s = _timed(lambda: compile_model(packed, machine))
    except CompileError as error:
        print(f"  refused: {error}")
        return 0.0
    _, prove_s = _timed(lambda: check_compiled(program))
    check_weights(program)
    run, simulate_s = _timed(lambda: simulate(program))
    seconds = f"{compile_s:>9.2f}{prove_s:>8.2f}{simulate_s:>10.2f}"
    print(f"{seconds}{len(program.words):>14}{run.total_cycles:>13}{run.dram_bytes_total:>13}")
    return compile_s


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.process_time()
    result = work()
    return result, time.process_time() - start
