"""Import a checkpoint that another tool compressed: its codes stay, its codewords are rounded to 8 bits."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.cli.options import (
    add_calibration,
    add_json,
    add_output,
    check_outputs,
    input_shape,
    non_negative_integer,
    print_json,
    say,
)
from accel.errors import ConfigError

if TYPE_CHECKING:
    from accel.cli.progress import Report
    from accel.packed import Packed
    from accel.reporting import Table
    from compiler.importers import Checkpoint
    from compiler.importers.assemble import Imported, Options
    from compiler.importers.encode import ImportReport

HELP = "import a checkpoint that another tool compressed"
EXAMPLE = "accel import resnet18_small_blocks.pth --arch resnet18 -o resnet18.vq.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a file (.safetensors, .pth, .pt, .bin, .mlpackage) or a folder of .safetensors files",
    )
    parser.add_argument(
        "--format", metavar="NAME", help="the tool's format, where it cannot be told (docs/importing.md)"
    )
    parser.add_argument(
        "--arch",
        metavar="MODEL",
        help="the graph: a built-in architecture, a model file (.onnx, .pt2) or zoo:NAME; without, every layer is a "
        "matrix product of its own",
    )
    parser.add_argument(
        "--input-shape",
        dest="input_shapes",
        metavar="NAME=1x3x224x224",
        type=input_shape,
        action="append",
        default=[],
        help="sizes of an input of the graph (repeatable)",
    )
    parser.add_argument(
        "--inexact",
        metavar="CODEC",
        help="code layers anew that no codec can hold as they are (default: refuse them)",
    )
    parser.add_argument(
        "--dense",
        metavar="CODEC",
        default="int8",
        help="codec of weights that the checkpoint has uncompressed (default int8)",
    )
    parser.add_argument(
        "--missing",
        metavar="SOURCE",
        default="error",
        help="parameters that the checkpoint lacks: error, random (shapes only), or model, its own (default error)",
    )
    parser.add_argument(
        "--seed", metavar="N", type=non_negative_integer, default=0, help="start of --missing random (default 0)"
    )
    add_calibration(parser)
    add_output(parser, "the packed file to write (*.vq.safetensors)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read, map, encode, write, and print one row a layer."""
    from accel.cli.progress import progress
    from accel.packed import write_packed
    from accel.reporting import to_records, to_text
    from compiler.importers import read_foreign
    from compiler.importers.source import files_within
    from compiler.quantise import candidate_methods

    inputs = (arguments.checkpoint, arguments.arch or "", arguments.calibrate or "")
    check_outputs([arguments.output], inputs, files_within(Path(arguments.checkpoint)))
    candidate_methods(arguments.calibration_method)
    options = _options(arguments)
    row, checkpoint = read_foreign(Path(arguments.checkpoint), arguments.format)
    facts = {
        "spec": Path(arguments.checkpoint).name,
        "description": f"imported ({row.name}: {row.doc})",
        "weights": f"from {Path(arguments.checkpoint).name}",
    }
    with progress() as report:
        result = _mapped(checkpoint, arguments, options, facts, report)
        packed, warnings = _calibrated(result.packed, arguments, report)
    notes = [*checkpoint.notes, *result.notes]
    write_packed(packed, arguments.output)
    say((*(f"note: {text}" for text in notes), *(f"warning: {text}" for text in warnings)))
    totals = _totals(result)
    table = _layers_table(result.reports, totals, row.name)
    if arguments.json:
        print_json({"format": row.name, "notes": notes, **totals, "layers": to_records(table)[:-1]})
    else:
        print(f"{arguments.checkpoint}: {row.name}, {row.doc}\n\n{to_text(table)}", end="")
    say(f"wrote {arguments.output} ({arguments.output.stat().st_size:,} bytes)")
    return 0


def _options(arguments: argparse.Namespace) -> Options:
    from accel.codecs import parse_codec
    from compiler.importers.assemble import Options

    if not arguments.arch and (arguments.input_shapes or arguments.missing != "error"):
        raise ConfigError("--input-shape and --missing describe the graph of --arch, which is not given")
    inexact = parse_codec(arguments.inexact) if arguments.inexact else None
    return Options(inexact, parse_codec(arguments.dense), arguments.missing, arguments.seed)


def _mapped(
    checkpoint: Checkpoint, arguments: argparse.Namespace, options: Options, facts: Mapping[str, str], report: Report
) -> Imported:
    from compiler.frontend import load_model
    from compiler.frontend.architectures import build_architecture, is_architecture
    from compiler.importers.assemble import import_bare, import_onto_architecture, import_onto_model

    if not arguments.arch:
        return import_bare(checkpoint, options, facts, report)
    shapes = dict(arguments.input_shapes) or None
    if is_architecture(arguments.arch):
        blueprint = build_architecture(arguments.arch, shapes)
        return import_onto_architecture(checkpoint, blueprint, options, arguments.checkpoint, facts, report)
    model = load_model(arguments.arch, input_shapes=shapes, progress=say)
    return import_onto_model(checkpoint, model, options, arguments.checkpoint, facts, report)


def _calibrated(packed: Packed, arguments: argparse.Namespace, report: Report) -> tuple[Packed, tuple[str, ...]]:
    """With the activation scales that ``--calibrate`` asks for, and warnings about them."""
    from accel.cli.compress import with_origin
    from accel.cli.tensors import calibration_samples
    from compiler.compress import calibrated

    if not arguments.calibrate:
        return packed, ()
    calibrating = calibration_samples(arguments.calibrate, packed.graph)
    result = calibrated(packed, calibrating.samples, arguments.calibration_method, report)
    return with_origin(result, calibrating.origin).packed, result.warnings


def _totals(result: Imported) -> dict[str, float]:
    weights = [row.shape[0] * row.shape[1] for row in result.reports]
    errors = [row.relative_error for row in result.reports]
    stored = sum(row.stored_bytes for row in result.reports)
    return {
        "weights": sum(weights),
        "bits_per_weight": 8 * stored / sum(weights),
        "relative_error": sum(w * e for w, e in zip(weights, errors, strict=True)) / sum(weights),
        "weight_bytes": stored,
    }


def _layers_table(reports: tuple[ImportReport, ...], totals: Mapping[str, float], name: str) -> Table:
    from accel.reporting import Column, Table

    columns = (
        Column("layer", "layer"),
        Column("form", name),
        Column("codec", "codec"),
        Column("shape", "out x reduction"),
        Column("bits_per_weight", "bits/weight", "bit"),
        Column("relative_error", "rounding error", "1", "scientific"),
        Column("bytes", "stored", "B", "kB"),
        Column("note", "remark"),
    )
    total = {
        "layer": "all",
        "bits_per_weight": totals["bits_per_weight"],
        "relative_error": totals["relative_error"],
        "bytes": totals["weight_bytes"],
        "note": "",
    }
    notes = (
        "rounding error: squared error over squared weights against the tool's own decode, averaged over weights in "
        "the last row",
        f"{totals['weights']:,} weights in {totals['weight_bytes']:,} bytes, codebooks and scales included",
    )
    return Table("Layers", columns, (*_rows(reports), total), notes)


def _rows(reports: tuple[ImportReport, ...]) -> Iterator[dict[str, Any]]:
    for row in reports:
        yield {
            "layer": row.name,
            "form": row.form,
            "codec": str(row.codec),
            "shape": f"{row.shape[0]}x{row.shape[1]}",
            "bits_per_weight": row.bits_per_weight,
            "relative_error": row.relative_error,
            "bytes": row.stored_bytes,
            "note": row.note,
        }
