"""How simulation grows: decode steps (batch 1, one token) of 1 M to 1 B weights, each in processes of its own.

A step is a stack of equal linear layers whose product has one row. It goes through the real compiler and a real program
file; all layers share one matrix of zeros, since neither the compiler nor the clock looks at a weight's value.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accel.codecs import Codec, EncodedLayer, codes_shape, parse_codec
from accel.graph import Graph, GraphBuilder
from accel.machine import load_machine
from accel.packed import Packed, Source
from accel.program import read_program, write_program
from benchmarks.children import Bill, python

WIDTH = 1024
LAYERS = (1, 4, 16, 64, 256, 1024)  # 2**20 to 2**30 weights
CODECS_MEASURED = ("int8", "ssvq:k=16,d=8")
MACHINE, CHANNELS = "edge64", 4  # one channel of LPDDR4 x16 holds 512 MiB
MACHINE_LABEL = f"{MACHINE}, {CHANNELS} DRAM channels"
REPEATS = {1: 7, 4: 7, 16: 7, 64: 7, 256: 3}  # by layers, more of them once; the best counts: load only ever slows
FITTED_DECADES = 2
STYLES = ("s", "#0072B2", "--"), ("o", "#D55E00", ":")  # marker, colour and fitted line of each codec
CPU_SECONDS, PEAK_GB, EXPONENTS = 60.0, 2.0, (0.9, 1.1)  # required

_BUILD = "import sys; from benchmarks.scale import build; build(int(sys.argv[1]), sys.argv[2], sys.argv[3])"
_SIMULATE = "import sys; from benchmarks.scale import time_file; time_file(sys.argv[1], sys.argv[2], int(sys.argv[3]))"


@dataclass(frozen=True, slots=True)
class Point:
    """One decode step: what it moves, seconds inside ``simulate``, and what compiling and simulating cost in all."""

    weights: int
    instructions: int
    dram_bytes: int
    cycles: int
    seconds: float
    compilation: Bill
    simulation: Bill

    @property
    def is_within(self) -> bool:
        """Whether the whole process of the simulation stayed within the limits."""
        return self.simulation.cpu_seconds <= CPU_SECONDS and self.simulation.peak_bytes <= PEAK_GB * 1e9


def decode_step(layers: int, codec: Codec) -> Packed:
    """The packed model of a step: ``layers`` gemms of ``WIDTH`` x ``WIDTH``, one behind the other."""
    names = [f"linear{index}" for index in range(layers)]
    matrix = _zeros(codec)
    return Packed(_stack(names), {f"{name}.weight": matrix for name in names}, {}, Source("0" * 64))


def _stack(names: Sequence[str]) -> Graph:
    graph = GraphBuilder(f"decode step of {len(names)} layers")
    token = graph.input("token", (1, WIDTH))
    for name in names:
        token = graph.op("gemm", token, graph.parameter(f"{name}.weight", (WIDTH, WIDTH)), name=name)
    return graph.build(token)


def _zeros(codec: Codec) -> EncodedLayer:
    shape = (WIDTH, WIDTH)
    grid = codes_shape(codec, shape, "out")
    side = np.zeros((*grid, codec.layout.side_bits), np.bool_) if codec.layout.side_bits else None
    codebook = np.zeros(codec.codebook_shape, np.int8) if codec.codebook_shape else None
    return EncodedLayer(codec, shape, "out", np.zeros(grid, np.uint16), side, codebook, np.ones(1, np.float32))


def build(layers: int, codec: str, path: str) -> None:
    """Compile a step into a program file (run in a process of its own)."""
    from compiler import compile_model

    machine = load_machine(MACHINE, [f"dram.channels={CHANNELS}"])
    write_program(compile_model(decode_step(layers, parse_codec(codec)), machine), path)


def time_file(path: str, warm_up: str, repeats: int) -> None:
    """Print figures of a program file and the fewest seconds of simulating it, as JSON (run as a process)."""
    from sim import simulate

    simulate(read_program(warm_up))
    program, seconds = read_program(path), []
    for _ in range(repeats):
        start = time.process_time()
        run = simulate(program)
        seconds.append(time.process_time() - start)
    figures = {"instructions": len(program.words), "dram_bytes": run.dram_bytes_total, "cycles": run.total_cycles}
    print(json.dumps({**figures, "seconds": min(seconds)}))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the plot goes, and which codec."""
    parser.add_argument("-o", "--output", type=Path, default=Path("build/scale.png"), help="default: build/scale.png")
    parser.add_argument("--codec", choices=CODECS_MEASURED, help="one codec (default: all)")


def main(arguments: argparse.Namespace) -> bool:
    """Print a table a codec and plot both; whether limits and slopes are met."""
    codecs = (arguments.codec,) if arguments.codec else CODECS_MEASURED
    print(f"Decode steps of {WIDTH}x{WIDTH} layers on {MACHINE_LABEL}; all seconds are CPU seconds of one core")
    series = {codec: _table(codec) for codec in codecs}
    _plot(series, arguments.output)
    limits = all(point.is_within for points in series.values() for point in points)
    exponents = {codec: fit(points)[0] for codec, points in series.items()}
    for codec, exponent in exponents.items():
        print(f"{codec}: seconds grow as bytes moved to the power {exponent:.3f} (last {FITTED_DECADES} decades)")
    linear = all(EXPONENTS[0] <= exponent <= EXPONENTS[1] for exponent in exponents.values())
    weights = LAYERS[-1] * WIDTH**2
    print(f"{_verdict(limits)}: {weights:,} weights within {CPU_SECONDS:g} CPU seconds and {PEAK_GB:g} GB of memory")
    print(f"{_verdict(linear)}: exponent between {EXPONENTS[0]} and {EXPONENTS[1]}")
    return limits and linear


def _verdict(met: bool) -> str:
    return "PASS" if met else "FAIL"


_HEADER = (
    f"{'weights':>14}{'instr.':>8}{'DRAM MB':>10}{'cycles':>13}{'simulate s':>12}{'ns/byte':>9}"
    f"{'process s':>11}{'peak MB':>9}{'compile s':>11}{'peak MB':>9}"
)


def _table(codec: str) -> list[Point]:
    """Measure and print one codec's steps, each as soon as it is known."""
    print(f"\n{codec}\n{_HEADER}", flush=True)
    points = []
    for point in _measure(codec):
        print(_line(point), flush=True)
        points.append(point)
    return points


def _line(point: Point) -> str:
    megabytes, rate = point.dram_bytes / 1e6, point.seconds / point.dram_bytes * 1e9
    step = f"{point.weights:>14,}{point.instructions:>8}{megabytes:>10.1f}{point.cycles:>13,}"
    bills = (point.simulation, point.compilation)
    costs = "".join(f"{bill.cpu_seconds:>11.1f}{bill.peak_bytes / 1e6:>9.0f}" for bill in bills)
    return f"{step}{point.seconds:>12.4f}{rate:>9.2f}{costs}"


def _measure(codec: str) -> Iterator[Point]:
    """Every step of ``codec``, smallest first; compiled in one process, simulated in another."""
    with tempfile.TemporaryDirectory(prefix="accel-scale-") as folder:
        warm_up, program = Path(folder, "warm-up.prog.safetensors"), Path(folder, "step.prog.safetensors")
        python("-c", _BUILD, "1", codec, warm_up)
        python("-c", _SIMULATE, warm_up, warm_up, "1")  # fills the kernel cache
        for layers in LAYERS:
            print(f"{codec}: {layers} layers of {LAYERS[-1]}", file=sys.stderr)
            compilation = python("-c", _BUILD, str(layers), codec, program)
            simulation = python("-c", _SIMULATE, program, warm_up, str(REPEATS.get(layers, 1)))
            figures = json.loads(simulation.lines[-1])
            yield Point(layers * WIDTH**2, compilation=compilation, simulation=simulation, **figures)


def fitted(points: Sequence[Point]) -> list[Point]:
    """The points of the last ``FITTED_DECADES`` of bytes moved."""
    return [point for point in points if point.dram_bytes * 10**FITTED_DECADES >= points[-1].dram_bytes]


def fit(points: Sequence[Point]) -> tuple[float, float]:
    """Exponent and factor of ``seconds = factor * bytes ** exponent``: least squares of the logarithms, over the
    points that are ``fitted``."""
    logs = np.log([[point.dram_bytes, point.seconds] for point in fitted(points)])
    exponent, offset = np.polyfit(logs[:, 0], logs[:, 1], 1)
    return float(exponent), math.exp(offset)


def _plot(series: Mapping[str, Sequence[Point]], path: Path) -> None:
    """Seconds against bytes moved, both logarithmic, with the lines over what they were fitted to."""
    from matplotlib.figure import Figure

    from accel.plots import log_axis, write_figure

    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    for (codec, points), (marker, colour, dash) in zip(series.items(), STYLES[: len(series)], strict=True):
        exponent, factor = fit(points)
        moved = np.array([point.dram_bytes for point in fitted(points)])
        every = [point.dram_bytes for point in points], [point.seconds for point in points]
        axes.plot(*every, marker, color=colour, label=f"{codec}, measured")
        axes.plot(
            moved, factor * moved**exponent, dash, color=colour, label=f"fitted: bytes to the power {exponent:.3f}"
        )
    for axis in (axes.xaxis, axes.yaxis):
        log_axis(axis)
    axes.set(xlabel="DRAM bytes moved by the step", ylabel="CPU seconds in simulate()")
    axes.set_title(f"Decode steps of 1 M to {LAYERS[-1] * WIDTH**2 / 1e9:.2f} G weights on {MACHINE_LABEL}")
    axes.grid(alpha=0.4)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_figure(figure, path)
    print(f"wrote {path}", file=sys.stderr)
