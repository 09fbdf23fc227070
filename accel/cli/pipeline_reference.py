"""DeiT-tiny against the closed form of ``accel/reference/pipeline.csv``: cycles of whole networks, and their bytes.

The closed form knows no latency, no vector unit and no instruction stream; machines are set to match it (vector work
free, decoder fast enough, a weight ring that holds the next operator). Ours must lie between its ``perfect`` (the whole
network is one max of compute and memory) and ``TOLERANCE`` times its ``next`` (weights prefetched one operator ahead).
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

from accel.codecs import parse_codec
from accel.machine import Machine, load_machine
from accel.validation import Bound, Comparison, Group, Section

if TYPE_CHECKING:
    from accel.packed import Packed

MODEL = "deit_tiny"
MATCHING = ("vector.lanes=0", "sram.weight_bytes=1048576", "decoder.lookups_per_cycle=8")
TOLERANCE = 1.03
CYCLES, BYTES = Bound(mean=0.005, largest=TOLERANCE - 1), Bound(mean=0.01, largest=0.01)


@dataclass(frozen=True, slots=True)
class ReferencePoint:
    """One row: cycles by both overlap rules, and DRAM bytes without instructions."""

    array: int
    bytes_per_cycle: int
    codec: str
    perfect_cycles: int
    next_cycles: int
    dram_bytes: int


@dataclass(frozen=True, slots=True)
class Point:
    """A reference point and our figures for it."""

    reference: ReferencePoint
    cycles: int
    dram_bytes: int

    @property
    def is_within(self) -> bool:
        """Whether ours is no faster than possible and as fast as one-operator look-ahead should be."""
        return self.reference.perfect_cycles <= self.cycles <= TOLERANCE * self.reference.next_cycles

    @property
    def nearest_cycles(self) -> int:
        """What of the closed form's interval is nearest to our cycles."""
        return min(max(self.cycles, self.reference.perfect_cycles), self.reference.next_cycles)


def pipeline_reference_points() -> Iterator[ReferencePoint]:
    """All rows, in the order of the file."""
    text = (resources.files("accel") / "reference" / "pipeline.csv").read_text(encoding="utf-8")
    for row in csv.DictReader(text.splitlines()):
        codec = row.pop("codec")
        yield ReferencePoint(codec=codec, **{name: int(value) for name, value in row.items()})


def matching_machine(array: int, bandwidth: float, *settings: str) -> Machine:
    """``edge64-ideal`` as the closed form sees it, with a square array of ``array`` rows."""
    square = (f"array.rows={array}", f"array.columns={array}")
    return load_machine("edge64-ideal", [*square, f"dram.bandwidth_bytes_per_cycle={bandwidth}", *MATCHING, *settings])


def compressed(codec: str) -> Packed:
    """The network with one scale a tensor, as the closed form counts."""
    from compiler.compress import compress
    from compiler.frontend import load_model

    model = load_model(MODEL)
    return compress(model.graph, model.weights, parse_codec(codec), scale="tensor").packed


def measure(packed: Mapping[str, Packed]) -> Iterator[Point]:
    """Our figures for every point; the models in ``packed``, by codec, are compiled once for an array."""
    from compiler import compile_model
    from sim import simulate

    programs = {}
    for point in pipeline_reference_points():
        key, machine = (point.array, point.codec), matching_machine(point.array, point.bytes_per_cycle)
        if key not in programs:
            programs[key] = compile_model(packed[point.codec], machine)
        run = simulate(programs[key], machine)
        yield Point(point, run.total_cycles, run.dram_bytes_total - run.dram_bytes["instructions"])


def pipeline_section(report: Callable[[float, float, str], None]) -> Section:
    """Errors of cycles (towards the closed form's interval) and bytes; ``report`` is told of every codec."""
    codecs = list(dict.fromkeys(point.codec for point in pipeline_reference_points()))
    packed = {}
    for done, codec in enumerate(codecs):
        report(done, len(codecs), f"{MODEL} {codec}")
        packed[codec] = compressed(codec)
    points = list(measure(packed))
    groups = [
        Group(f"{MODEL} {codec}: cycles outside [perfect, next]", CYCLES, _cycles(points, codec)) for codec in codecs
    ]
    groups += [Group(f"{MODEL} {codec}: DRAM bytes", BYTES, _bytes(points, codec)) for codec in codecs]
    return Section("Whole network on ideal DRAM against a closed form", tuple(groups))


def _cycles(points: list[Point], codec: str) -> tuple[Comparison, ...]:
    return tuple(
        Comparison(_case(point.reference), point.cycles, point.nearest_cycles)
        for point in points
        if point.reference.codec == codec
    )


def _bytes(points: list[Point], codec: str) -> tuple[Comparison, ...]:
    first = next(point for point in points if point.reference.codec == codec)
    return (Comparison(codec, first.dram_bytes, first.reference.dram_bytes),)


def _case(point: ReferencePoint) -> str:
    return f"{point.codec} {point.array}x{point.array} {point.bytes_per_cycle} B/cycle"
