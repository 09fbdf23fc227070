"""What the start bank of a stream is worth: for two streams at every distance, and for networks."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np

import compiler.build
from accel.codecs import parse_codec
from accel.dram import DRAM_STANDARDS
from accel.isa import Instruction, encode_program
from accel.machine import Machine, load_machine
from compiler import compile_model
from compiler.banks import NO_TURNS, bank_turns
from compiler.compress import compress
from compiler.frontend import load_model
from sim import simulate
from sim.params import channels_of, machine_params
from sim.timing import time_words

STANDARD, WIDTH_BITS = "DDR4-3200", 64
MAPPINGS = ("colLow", "bgLow")
STREAM_BYTES, STREAMS_APART = 1 << 17, 1 << 26
NETWORKS, CODECS = ("resnet18", "deit_small"), ("int8", "ssvq:k=16,d=8")
WORTH = 1.8  # at least what a bad distance must cost with column-low mapping


def machine_with(mapping: str) -> Machine:
    """edge64 beside a DIMM of that mapping."""
    overrides = [
        f"dram.standard={STANDARD}",
        f"dram.data_width_bits={WIDTH_BITS}",
        f"dram.mapping={mapping}",
        "dram.load_engines=2",
    ]
    return load_machine("edge64", overrides)


def two_streams(machine: Machine, distance_bytes: int) -> int:
    """Cycles to load two streams at once, the second ``distance_bytes`` behind a place in the first one's bank."""
    starts = (0, STREAMS_APART + distance_bytes)
    program = [Instruction("LDA", {"address": at, "rows": 1, "row_bytes": STREAM_BYTES}) for at in starts]
    words = encode_program([*program, Instruction("FIN")])
    params = machine_params(machine, 2 * STREAMS_APART)
    return time_words(words, np.zeros(3, np.int32), 1, params, channels_of(machine)).total_cycles


def print_distances() -> bool:
    """A row a mapping; whether column-low streams pay for a bad distance."""
    row_bytes = DRAM_STANDARDS[STANDARD].row_bytes(WIDTH_BITS)
    worst_case = 0.0
    for mapping in MAPPINGS:
        machine = machine_with(mapping)
        cycles = [two_streams(machine, banks * row_bytes) for banks in range(DRAM_STANDARDS[STANDARD].banks)]
        worst = max(cycles) / min(cycles)
        worst_case = max(worst_case, worst)
        print(f"{STANDARD} x{WIDTH_BITS} {mapping}: two streams of {STREAM_BYTES} B, cycles at 0, 1, … rows' distance:")
        print(f"  {cycles}\n  worst over best: {worst:.2f}x")
    return worst_case >= WORTH


def print_networks() -> None:
    """Cycles of networks whose buffers follow one another, and begin in chosen banks."""
    print(f"networks on {STANDARD} x{WIDTH_BITS} colLow, cycles with buffers in a row / in chosen banks")
    machine = machine_with("colLow")
    for name in NETWORKS:
        model = load_model(name)
        for codec in CODECS:
            packed = compress(model.graph, model.weights, parse_codec(codec)).packed
            cycles = []
            for turns in (NO_TURNS, bank_turns(machine)):
                with patch.object(compiler.build, "bank_turns", lambda _, turns=turns: turns):
                    cycles.append(simulate(compile_model(packed, machine)).total_cycles)
            print(f"  {name:12} {codec:16} {cycles[0]:>10,} / {cycles[1]:>10,}  {cycles[0] / cycles[1]:.3f}x")


def main() -> bool:
    """Print both; whether the worst distance of two streams costs what it should with column-low mapping."""
    met = print_distances()
    print_networks()
    print(f"{'meets' if met else 'MISSES'} {WORTH}x between the worst and the best distance of two streams")
    return met
