"""DeiT-tiny against the closed form: simulated cycles at 50 points of array size, bandwidth and codec.

The closed form knows no latency, no vector unit and no instruction stream; machines are set to match it (vector work
free, decoder fast enough, a weight ring that holds the next operator). Ours must lie between ``perfect`` (the whole
network is one max of compute and memory) and ``TOLERANCE`` times ``next`` (weights prefetched one operator ahead).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from accel.codecs import parse_codec
from accel.machine import Machine, load_machine
from accel.packed import Packed
from compiler import compile_model
from compiler.compress import compress
from compiler.frontend import LoadedModel, load_model
from sim import simulate

CLOSED_FORM = Path(__file__).parent.parent / "tests" / "data" / "roofline" / "deit_tiny_roofline.csv"
ARRAYS = (32, 64)
BANDWIDTHS = (1, 2, 4, 8, 16)  # bytes a cycle
FORMATS: Mapping[str, str] = MappingProxyType(  # codec: the closed form's name for it
    {
        "int8": "int8",
        "int4": "int4",
        "vq:k=256,d=4": "VQ 2.0b k256 d4",
        "ssvq:k=256,d=8": "SSVQ 2.0b k256 d8",
        "ssvq:k=16,d=8": "SSVQ 1.5b k16 d8",
    }
)
MATCHING = ("vector.lanes=0", "sram.weight_bytes=1048576", "decoder.lookups_per_cycle=8")
TOLERANCE = 1.03


@dataclass(frozen=True, slots=True)
class Point:
    """Cycles of one machine and codec: the closed form's two and ours."""

    array: int
    bandwidth: int
    codec: str
    perfect: int
    ours: int
    next: int

    @property
    def is_within(self) -> bool:
        """Whether ours is no faster than possible and as fast as one-operator look-ahead should be."""
        return self.perfect <= self.ours <= TOLERANCE * self.next


def matching_machine(array: int, bandwidth: float, *settings: str) -> Machine:
    """``edge64-ideal`` as the closed form sees it, with a square array of ``array`` rows."""
    square = (f"array.rows={array}", f"array.columns={array}")
    return load_machine("edge64-ideal", [*square, f"dram.bandwidth_bytes_per_cycle={bandwidth}", *MATCHING, *settings])


def compressed(model: LoadedModel, codec: str) -> Packed:
    """The model with one scale a tensor, as the closed form counts."""
    return compress(model.graph, model.weights, parse_codec(codec), scale="tensor").packed


def closed_form() -> dict[tuple[int, int, str, str], int]:
    """Cycles by array, bandwidth, format and overlap rule."""
    with CLOSED_FORM.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        (int(row["array"]), int(row["bytes_per_cycle"]), row["format"], row["overlap"]): int(row["cycles"])
        for row in rows
    }


def measure(packed: Mapping[str, Packed]) -> Iterator[Point]:
    """All points of the models in ``packed``, by codec; each is compiled once for an array."""
    expected = closed_form()
    for array in ARRAYS:
        for codec, model in packed.items():
            program = compile_model(model, matching_machine(array, BANDWIDTHS[0]))
            for bandwidth in BANDWIDTHS:
                ours = simulate(program, matching_machine(array, bandwidth)).total_cycles
                perfect, following = (expected[array, bandwidth, FORMATS[codec], o] for o in ("perfect", "next"))
                yield Point(array, bandwidth, codec, perfect, ours, following)


def main() -> bool:
    """Print the table; whether every point lies between the bounds."""
    model = load_model("deit_tiny")
    print(f"DeiT-tiny, cycles; required: perfect <= ours <= {TOLERANCE} x next")
    print(f"{'array':>5} {'B/cycle':>8} {'codec':<15}{'perfect':>10}{'ours':>10}{'next':>10}{'ours/next':>11}")
    met = True
    for point in measure({codec: compressed(model, codec) for codec in FORMATS}):
        met &= point.is_within
        figures = f"{point.perfect:>10}{point.ours:>10}{point.next:>10}{point.ours / point.next:>11.4f}"
        verdict = "" if point.is_within else "  MISSED"
        print(f"{point.array:>5} {point.bandwidth:>8} {point.codec:<15}{figures}{verdict}")
    print("every point is within the bounds" if met else "some points are outside the bounds")
    return met
