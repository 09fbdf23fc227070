"""How fast the timing kernel is: a DeiT-tiny-like int8 program, the kernel after warm-up, and its first compilation."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

import numpy as np

from accel.isa import BLOCK_BYTES, Instruction, encode_program
from accel.machine import load_machine
from sim.params import machine_params
from sim.timing import time_words

REPEATS = 7
KERNEL_SECONDS, COMPILATION_SECONDS = 0.05, 20.0  # required
TOKENS, WIDTH, BLOCKS, TILE = 197, 192, 12, 64
# (reduction, outputs) of the GEMMs of a transformer block; the patch embedding and the head come on top.
BLOCK_SHAPES = ((WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH))
SHAPES = ((768, WIDTH), *BLOCK_SHAPES * BLOCKS, (WIDTH, 1000))
_COMPILE = "from benchmarks.simulate import kernel_seconds; kernel_seconds()"


def deit_program() -> list[Instruction]:
    """Every weight layer as LDW, DEC, GEM and a VEC that waits for it; all in int8."""
    program: list[Instruction] = []
    for reduction, outputs in SHAPES:
        strips = -(-outputs // TILE)
        blocks = sum(reduction * min(TILE, outputs - TILE * strip) for strip in range(strips)) // BLOCK_BYTES
        kind = {"code_bits": 8, "vector_length": 1}
        tile = {"tile_rows": TILE, "tile_columns": TILE}
        region = {"rows": reduction, "columns": outputs, "groups_per_tile": 1, "passes": 1, "release": 1}
        gemm = {"rows": TOKENS, "columns": outputs, "chunk": 512, "groups_per_tile": 1}
        vector = {"rows": TOKENS, "columns": outputs}
        program += [
            Instruction("LDW", {"blocks": blocks, **kind}),
            Instruction("DEC", {**kind, **tile, **region}),
            Instruction("GMO", {"reduction": reduction, **tile}),
            Instruction("GEM", gemm, pop=("vector",) if program else (), push=("vector",)),
            Instruction("VEC", vector, pop=("compute",), push=("compute",)),
        ]
    return [*program, Instruction("FIN")]


def kernel_seconds() -> tuple[float, int, int]:
    """Seconds to time the program once, its blocks and its cycles."""
    program = deit_program()
    words, layer = encode_program(program), np.arange(len(program), dtype=np.int32) // 5
    params = machine_params(load_machine("edge64-ideal"), 1 << 24)
    start = time.perf_counter()
    timing = time_words(words, layer, len(SHAPES) + 1, params)
    seconds = time.perf_counter() - start
    return seconds, int(timing.traffic.sum()) // BLOCK_BYTES, timing.total_cycles


def first_compilation_seconds() -> float:
    """Seconds of the first simulation ever: a new process with an empty cache, start-up included."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", _COMPILE], check=True, env={**os.environ, "ACCEL_CACHE": folder})
        return time.perf_counter() - start


def main() -> bool:
    """Print kernel milliseconds, blocks a second and the seconds of the first compilation; whether both are met."""
    kernel_seconds()
    runs = [kernel_seconds() for _ in range(REPEATS)]
    seconds = sorted(run[0] for run in runs)[REPEATS // 2]
    _, blocks, cycles = runs[0]
    print(f"DeiT-tiny-like program: {len(deit_program())} instructions, {blocks} blocks, {cycles} cycles")
    print(f"kernel, median of {REPEATS}: {seconds * 1e3:.1f} ms, {blocks / seconds / 1e6:.2f} M blocks/s")
    compilation = first_compilation_seconds()
    print(f"first simulation ever (compilation in a fresh cache): {compilation:.1f} s")
    met = seconds < KERNEL_SECONDS and compilation < COMPILATION_SECONDS
    print(f"{'meets' if met else 'MISSES'} {KERNEL_SECONDS * 1e3:.0f} ms and {COMPILATION_SECONDS:.0f} s")
    return met
