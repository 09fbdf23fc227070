"""Decoders on FPGAs: what they take and how fast they run, placed with three seeds at a device's speed grades.

Of every shape the pipeline alone (``rtl.core``: streams and jobs) and the whole decoder (registers, planner, loader of
codebooks beside it). Required of the pipeline: the slowest seed's clock, and for some shapes at most ``LUT_FACTOR``
times the LUTs of a throw-away prototype without tiles, interleaved records or codebook loading.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from accel.cli.progress import progress
from accel.codecs import parse_codec
from accel.reporting import Column, Table, to_text
from rtl.configuration import DecoderConfig
from rtl.core import Core
from rtl.decoder import Decoder
from rtl.devices import Device, device_named
from rtl.fpga import measure
from rtl.fpga_report import FpgaReport
from rtl.verilog import to_verilog

LUT_FACTOR = 1.2
ECP5, UP5K, GOWIN, XC7 = "ecp5-25k", "up5k", "gw1nr-9", "xc7"


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder on a device; ``required_mhz`` of speed grades measured, and LUT4 of the prototype (0: none)."""

    codec: str
    lookups: int
    required_mhz: Mapping[str, int] = field(default_factory=lambda: {"6": 0, "8": 0})
    prototype_luts: int = 0
    device: str = ECP5

    @property
    def config(self) -> DecoderConfig:
        """What is built."""
        return DecoderConfig(parse_codec(self.codec), self.lookups)


SHAPES = (
    Shape("ssvq:k=256,d=8", 1, {"6": 175, "8": 230}, 488),
    Shape("ssvq:k=256,d=8", 2, {"6": 175, "8": 230}, 875),
    Shape("ssvq:k=256,d=16", 1, prototype_luts=550),
    Shape("ssvq:k=256,d=16", 2, prototype_luts=986),
    Shape("ssvq:k=256,d=8", 4, {"6": 160, "8": 210}),
    Shape("ssvq:k=16,d=8", 1, {"6": 200, "8": 0}),
    Shape("ssvq:k=16,d=8", 4, {"6": 160, "8": 210}),
    Shape("vq:k=256,d=4", 1, {"only": 45}, device=UP5K),  # of ssvq, the queues take more block RAMs than there are
    Shape("vq:k=256,d=8", 1, {"only": 45}, device=UP5K),
    Shape("ssvq:k=256,d=8", 1, {"C6/I5": 0}, device=GOWIN),
    Shape("ssvq:k=256,d=8", 1, {"none": 0}, device=XC7),
    Shape("ssvq:k=256,d=8", 2, {"none": 0}, device=XC7),
)


def pipeline(config: DecoderConfig, device: Device) -> Core:
    """The streams and what is between them, its queues in what the device has."""
    return Core(config, "distributed" if device.family.fabric.lut_memory else "block")


def decoder(config: DecoderConfig, device: Device) -> Decoder:
    """All of it."""
    return Decoder(config)


PARTS: Mapping[str, Callable[[DecoderConfig, Device], Any]] = {"pipeline": pipeline, "decoder": decoder}

_COLUMNS = (
    Column("device", "device"),
    Column("shape", "decoder"),
    Column("part", "part"),
    Column("luts", "LUT", "1", "count"),
    Column("flip_flops", "FF", "1", "count"),
    Column("block_rams", "block RAM", "1", "count"),
    Column("mhz", "grade: MHz of each seed"),
    Column("weights", "weights", "1/s"),
    Column("missed", "missed"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the benchmark."""
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS), help="what is placed")
    parser.add_argument("--devices", nargs="+", choices=(ECP5, UP5K, GOWIN, XC7), help="default: all")


def main(options: argparse.Namespace) -> bool:
    """Measure all shapes; whether every pipeline meets what is required of it."""
    chosen = [
        (part, shape)
        for part in options.parts
        for shape in SHAPES
        if (part == "pipeline" or shape.device == ECP5) and shape.device in (options.devices or shape.device)
    ]
    with progress() as report:
        rows = list(_rows(chosen, report))
    title = "Decoders on FPGAs, 64-bit input, seeds 1 to 3, no change after synthesis"
    print(to_text(Table(title, _COLUMNS, tuple(rows), _notes())), end="")
    return not any(row["missed"] for row in rows)


def _notes() -> tuple[str, ...]:
    titles = dict.fromkeys(f"{shape.device}: {device_named(shape.device).title}" for shape in SHAPES)
    wanted = f"missed: of what is required of a pipeline; LUT4 at most {LUT_FACTOR} times the prototype's"
    return (*titles, "weights/s: at the median of the first grade", wanted)


def _rows(chosen: list[tuple[str, Shape]], report: Callable[[float, float, str], None]) -> Iterator[dict[str, Any]]:
    for index, (part, shape) in enumerate(chosen):
        report(index, len(chosen), f"{shape.codec} x {shape.lookups}, {part}, {shape.device}")
        yield _row(shape, part, {grade: _measured(shape, part, grade) for grade in shape.required_mhz})


def _measured(shape: Shape, part: str, grade: str) -> FpgaReport:
    device = device_named(shape.device)
    verilog = to_verilog(PARTS[part](shape.config, device), part, fabric=device.family.fabric)
    return measure(verilog, device, top=part, speed=grade)


def _row(shape: Shape, part: str, reports: Mapping[str, FpgaReport]) -> dict[str, Any]:
    first = next(iter(reports.values()))
    median = first.fmax_median_mhz
    return {
        "device": shape.device,
        "shape": f"{shape.codec} x {shape.lookups}",
        "part": part,
        "luts": _luts(shape, first),
        **{name: first.resources[name] for name in ("flip_flops", "block_rams")},
        "mhz": "; ".join(f"{grade}: {_seeds(report)}" for grade, report in reports.items() if report.placements),
        "weights": median and median * 1e6 * shape.lookups * shape.config.vector_length,
        "missed": ", ".join(_missed(shape, reports)) if part == "pipeline" else None,
    }


def _luts(shape: Shape, report: FpgaReport) -> int:
    """On ECP5 without carry chains, as the prototype's were counted."""
    return report.cells["LUT4"] if shape.device == ECP5 else report.resources["luts"]


def _seeds(report: FpgaReport) -> str:
    return " ".join(f"{run.fmax_mhz:.0f}" for run in report.placements)


def _missed(shape: Shape, reports: Mapping[str, FpgaReport]) -> Iterator[str]:
    for grade, report in reports.items():
        if (report.fmax_worst_mhz or 0) < shape.required_mhz[grade]:
            yield f"{shape.required_mhz[grade]} MHz at grade {grade}"
    luts = _luts(shape, next(iter(reports.values())))
    if shape.prototype_luts and luts > LUT_FACTOR * shape.prototype_luts:
        yield f"{LUT_FACTOR * shape.prototype_luts:.0f} LUT4"
