"""CPU time and peak memory of simulating a whole network: Accel, SCALE-Sim and ZigZag side by side, in one run.

SCALE-Sim models what Accel's array does (same array, same dataflow), so it is what the requirement is about. A full run
takes about half an hour, 6 GB of memory and 3 GB of disk, nearly all of it SCALE-Sim's. Every figure is of a process of
its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from accel.machine import IDEAL, Machine, load_machine
from accel.program import read_program
from benchmarks.children import Bill, ChildError, python
from benchmarks.peers_scalesim import SCALESIM_KIB, scalesim
from benchmarks.peers_zigzag import ZIGZAG_MACHINE, zigzag
from benchmarks.workloads import network_layers

NETWORKS = ("resnet18", "deit_tiny")
PEERS = ("scalesim", "zigzag")
MACHINE: str = "edge32"
OVERRIDES = ("dram.standard=DDR4-2400", "dram.bandwidth_bytes_per_cycle=0")  # banked; 0: the standard has its own
REPEATS = 7
CPU_RATIO, PEAK_MB = 1000.0, 500.0  # required: the faster SCALE-Sim over ours, warm; ours in any row

_SIMULATE = "import sys; from benchmarks.simulators import simulate_often; simulate_often(sys.argv[1])"


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; ``tool`` is also what the requirement looks for."""

    tool: str
    what: str
    cycles: int
    cpu_seconds: float
    peak_bytes: int


def simulate_often(path: str) -> None:
    """Print cycles of a program file and the median CPU seconds of ``simulate`` (run in a process of its own)."""
    from sim import simulate

    program, seconds = read_program(path), []
    cycles = simulate(program).total_cycles  # loads the kernel
    for _ in range(REPEATS):
        start = time.process_time()
        simulate(program)
        seconds.append(time.process_time() - start)
    print(json.dumps({"cycles": cycles, "seconds": statistics.median(seconds)}))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What can be left out."""
    parser.add_argument("--only", choices=PEERS, help="compare with one peer (default: both)")
    parser.add_argument("--network", choices=NETWORKS, help="one network (default: both)")


def main(arguments: argparse.Namespace) -> bool:
    """Print a table a network; whether every requirement that could be judged is met."""
    machine = load_machine(MACHINE, OVERRIDES)
    print(_caption(machine))
    peers = (arguments.only,) if arguments.only else PEERS
    networks = (arguments.network,) if arguments.network else NETWORKS
    try:
        verdicts = [_compare(network, peers, machine) for network in networks]
    except ChildError as error:
        print(f"benchmarks simulators: {error}", file=sys.stderr)
        return False
    return all(verdicts)


def _caption(machine: Machine) -> str:
    size = f"{machine.array.rows}x{machine.array.columns} {machine.array.dataflow}"
    settings = " ".join(["-m", MACHINE, *(f"--set {override}" for override in OVERRIDES)])
    return f"""One int8 inference, 224x224. CPU seconds (user + system) and peak resident memory of whole processes.
Accel      {settings}
           {size}, {_dram(machine)}. The whole network, vector work included, from its instructions:
           every DRAM block, weight tile and stall. warm: median of {REPEATS} calls of simulate(); commands: accel
           compile and accel sim, start-up included.
SCALE-Sim  {size}, 3 x {SCALESIM_KIB} KiB SRAM. Convolutions and matrix products only, layer by layer; DRAM never
           stalls (CALC mode: bandwidth is a result). Its command line always writes traces, and that time is
           included; API: the same without traces.
ZigZag     its own {ZIGZAG_MACHINE}: 32x32, 2 MiB SRAM, 8 B/cycle. The layers SCALE-Sim gets; an analytical latency with
           DRAM bandwidth. Its time is the search for good mappings, which the other two do not do."""


def _dram(machine: Machine) -> str:
    dram = machine.dram
    ideal = f"ideal DRAM, {dram.bandwidth_bytes_per_cycle:g} B/cycle"
    return ideal if dram.standard == IDEAL else f"{dram.standard} x{dram.data_width_bits} DRAM"


def _compare(network: str, peers: Sequence[str], machine: Machine) -> bool:
    """Measure one network and print its rows, each as soon as it is known."""
    print(f"\n{network:<40}{'cycles':>12}{'CPU s':>10}{'peak MB':>10}{'x warm':>10}{'x commands':>12}", flush=True)
    own = _own_rows(network)
    rows = []
    for row in itertools.chain(own, _peer_rows(network, peers, machine)):
        rows.append(row)
        ratios = [row.cpu_seconds / mine.cpu_seconds for mine in own]
        costs = f"{row.cycles:>12,}{row.cpu_seconds:>10.3f}{row.peak_bytes / 1e6:>10.0f}"
        print(f"{row.tool:<10} {row.what:<29}{costs}{ratios[0]:>10,.0f}{ratios[1]:>12,.2f}", flush=True)
    return _judge(rows)


def _judge(rows: Sequence[Row]) -> bool:
    peak_mb = max(row.peak_bytes for row in rows if row.tool == "Accel") / 1e6
    met = peak_mb <= PEAK_MB
    print(f"{_verdict(met)}: Accel holds at most {peak_mb:.0f} MB; required: {PEAK_MB:g} MB")
    theirs = [row.cpu_seconds for row in rows if row.tool == "SCALE-Sim"]
    if theirs:
        ratio = min(theirs) / rows[0].cpu_seconds
        met &= ratio >= CPU_RATIO
        print(f"{_verdict(ratio >= CPU_RATIO)}: SCALE-Sim takes {ratio:,.0f}x as much CPU; required: {CPU_RATIO:g}x")
    return met


def _verdict(met: bool) -> str:
    return "PASS" if met else "FAIL"


def _peer_rows(network: str, peers: Sequence[str], machine: Machine) -> Iterator[Row]:
    from compiler.frontend import load_model

    layers = network_layers(load_model(network).graph)
    if "scalesim" in peers:
        for traces, what in ((True, "command line, writes traces"), (False, "API, no traces")):
            _say(f"SCALE-Sim, {what}: {network}, {len(layers)} layers (minutes)")
            result = scalesim(layers, machine, traces, _say)
            yield Row("SCALE-Sim", what, result.cycles, result.bill.cpu_seconds, result.bill.peak_bytes)
    if "zigzag" in peers:
        _say(f"ZigZag: {network}, {len(layers)} layers (a minute or more)")
        result = zigzag(layers, _say)
        yield Row("ZigZag", "mapping search", result.cycles, result.bill.cpu_seconds, result.bill.peak_bytes)


def _own_rows(network: str) -> tuple[Row, Row]:
    """Accel warm, then its two commands."""
    with tempfile.TemporaryDirectory(prefix="accel-simulators-") as folder:
        packed, program = Path(folder, "net.vq.safetensors"), Path(folder, "net.prog.safetensors")
        _accel("compress", network, "--codec", "int8", "--scale", "tensor", "-o", packed)
        settings = [word for override in OVERRIDES for word in ("--set", override)]
        compilation = _accel("compile", packed, "-m", MACHINE, *settings, "-o", program)
        python("-c", _SIMULATE, program)  # fills the kernel cache
        warm = python("-c", _SIMULATE, program)
        simulation = _accel("sim", program)
    figures = json.loads(warm.lines[-1])
    seconds = compilation.cpu_seconds + simulation.cpu_seconds
    peak_bytes = max(compilation.peak_bytes, simulation.peak_bytes)
    return (
        Row("Accel", "simulate(), warm", figures["cycles"], figures["seconds"], warm.peak_bytes),
        Row("Accel", "commands: compile + sim", figures["cycles"], seconds, peak_bytes),
    )


def _accel(*arguments: str | Path) -> Bill:
    return python("-m", "accel.cli", *arguments)


def _say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)
