"""Decoders on an FPGA: what they take and how fast they run, placed with three seeds at two speed grades.

Of every shape the pipeline alone (``rtl.core``: streams and jobs) and the whole decoder (registers, planner, loader of
codebooks beside it). Required of the pipeline: the slowest seed's clock, and for some shapes at most ``LUT_FACTOR``
times the LUTs of a throw-away prototype without tiles, interleaved records or codebook loading.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from accel.cli.progress import progress
from accel.codecs import parse_codec
from accel.reporting import Column, Table, to_text
from rtl.configuration import DecoderConfig
from rtl.core import Core
from rtl.decoder import Decoder
from rtl.devices import device_named
from rtl.fpga import measure
from rtl.fpga_report import FpgaReport
from rtl.verilog import to_verilog

LUT_FACTOR = 1.2
GRADES = ("6", "8")
PARTS: dict[str, Callable[[DecoderConfig], Any]] = {"pipeline": Core, "decoder": Decoder}


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder; ``required_mhz`` by speed grade, and LUT4 of the prototype (0: none)."""

    codec: str
    lookups: int
    required_mhz: tuple[int, int]
    prototype_luts: int = 0

    @property
    def config(self) -> DecoderConfig:
        """What is built."""
        return DecoderConfig(parse_codec(self.codec), self.lookups)


SHAPES = (
    Shape("ssvq:k=256,d=8", 1, (175, 230), 488),
    Shape("ssvq:k=256,d=8", 2, (175, 230), 875),
    Shape("ssvq:k=256,d=16", 1, (0, 0), 550),
    Shape("ssvq:k=256,d=16", 2, (0, 0), 986),
    Shape("ssvq:k=256,d=8", 4, (160, 210)),
    Shape("ssvq:k=16,d=8", 1, (200, 0)),
    Shape("ssvq:k=16,d=8", 4, (160, 210)),
)

_COLUMNS = (
    Column("shape", "decoder"),
    Column("part", "part"),
    Column("luts", "LUT4", "1", "count"),
    Column("flip_flops", "FF", "1", "count"),
    Column("block_rams", "DP16KD", "1", "count"),
    *(Column(f"mhz{grade}", f"grade {grade}: each seed, MHz") for grade in GRADES),
    Column("missed", "missed"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the benchmark."""
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS), help="what is placed")
    parser.add_argument("--device", default="ecp5-25k", help="of the ECP5 family (default ecp5-25k)")


def main(options: argparse.Namespace) -> bool:
    """Measure all shapes; whether every pipeline meets what is required of it."""
    with progress() as report:
        rows = list(_rows(options, report))
    title = f"Decoders on {device_named(options.device).title}, 64-bit input, seeds 1 to 3, no change after synthesis"
    notes = [f"required of pipelines: see SHAPES; LUT4 at most {LUT_FACTOR} times the prototype's"]
    print(to_text(Table(title, _COLUMNS, tuple(rows), tuple(notes))), end="")
    return not any(row["missed"] for row in rows)


def _rows(options: argparse.Namespace, report: Callable[[float, float, str], None]) -> Iterator[dict[str, Any]]:
    total = len(SHAPES) * len(options.parts)
    for index, (part, shape) in enumerate((part, shape) for part in options.parts for shape in SHAPES):
        report(index, total, f"{shape.codec} x {shape.lookups}, {part}")
        yield _row(shape, part, [_measured(shape, part, options.device, grade) for grade in GRADES])


def _measured(shape: Shape, part: str, device_name: str, grade: str) -> FpgaReport:
    device = device_named(device_name)
    verilog = to_verilog(PARTS[part](shape.config), part, fabric=device.family.fabric)
    return measure(verilog, device, top=part, speed=grade)


def _row(shape: Shape, part: str, reports: list[FpgaReport]) -> dict[str, Any]:
    cells = reports[0].cells
    speeds = {
        f"mhz{grade}": " ".join(f"{run.fmax_mhz:.0f}" for run in report.placements)
        for grade, report in zip(GRADES, reports, strict=True)
    }
    return {
        "shape": f"{shape.codec} x {shape.lookups}",
        "part": part,
        "luts": cells["LUT4"],
        "flip_flops": cells["TRELLIS_FF"],
        "block_rams": cells.get("DP16KD", 0),
        **speeds,
        "missed": ", ".join(_missed(shape, reports)) if part == "pipeline" else None,
    }


def _missed(shape: Shape, reports: list[FpgaReport]) -> Iterator[str]:
    for grade, required, report in zip(GRADES, shape.required_mhz, reports, strict=True):
        if (report.fmax_worst_mhz or 0) < required:
            yield f"{required} MHz at grade {grade}"
    if shape.prototype_luts and reports[0].cells["LUT4"] > LUT_FACTOR * shape.prototype_luts:
        yield f"{LUT_FACTOR * shape.prototype_luts:.0f} LUT4"
