"""Options of ``accel run --against``, and what they make of a run."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.cli.compress import load, model_files
from accel.cli.options import input_shape, non_negative_integer, output_file, positive_number
from accel.errors import ConfigError, SimError

if TYPE_CHECKING:
    from accel.cli.divergence import Comparison, Divergence
    from accel.program import Program

__all__ = ["add_against", "check_options", "draw", "judged", "missed", "model_files", "started"]


def add_against(parser: argparse.ArgumentParser) -> None:
    """``--against MODEL`` and what belongs to it."""
    parser.add_argument(
        "--against",
        metavar="MODEL",
        help="compare every stored tensor with this model in float (as accel compress takes it), or with the decoded "
        "weights of a *.vq.safetensors file in float, from which only the rounding of activations differs",
    )
    parser.add_argument(
        "--snr",
        metavar="DB",
        type=positive_number,
        help="signal to noise below which a tensor has diverged (default 20); if given, exit code 1 if one has",
    )
    parser.add_argument(
        "--drop",
        metavar="DB",
        type=positive_number,
        help="decibels below its inputs at which a tensor has diverged (default 15); likewise",
    )
    parser.add_argument("--plot", metavar="FILE", type=output_file, help="draw SNR by tensor (.png, .svg, .pdf)")
    parser.add_argument(
        "--input-shape",
        dest="input_shapes",
        metavar="NAME=1x3x224x224",
        type=input_shape,
        action="append",
        default=[],
        help="sizes of an input, where MODEL leaves them open (repeatable)",
    )
    parser.add_argument(
        "--seed", metavar="N", type=non_negative_integer, default=0, help="of random weights of MODEL (default 0)"
    )


def check_options(arguments: argparse.Namespace) -> None:
    """Raise ``ConfigError`` for options that need ``--against``, and for a plot that cannot be drawn."""
    from accel.plots import plot_format

    for name in ("snr", "drop", "plot"):
        if getattr(arguments, name) is not None and not arguments.against:
            raise ConfigError(f"--{name} {getattr(arguments, name)} without --against MODEL; allowed: only with it")
    if arguments.plot:
        plot_format(arguments.plot)


def started(program: Program, inputs: Mapping[str, Any], arguments: argparse.Namespace) -> Comparison | None:
    """The model of ``--against``, evaluated on ``inputs``; raises ``ModelError`` for one that does not fit."""
    if not arguments.against:
        return None
    from accel.cli.against import load_reference, reference_tensors
    from accel.cli.divergence import Comparison

    if not (program.calibrated or arguments.uncalibrated):
        raise SimError(f"--against {arguments.against}: the program of '{program.model}' is not calibrated; its values "
                       "mean nothing: compress or import with --calibrate")  # fmt: skip
    arguments.model = arguments.against
    reference = load_reference(arguments.against, program, lambda: load(arguments))
    comparison = Comparison(program, reference, reference_tensors(reference, program, inputs))
    comparison.take_inputs(inputs)
    return comparison


def judged(comparison: Comparison | None, arguments: argparse.Namespace) -> Divergence | None:
    """What the comparison found, by the limits given or the default ones."""
    from accel.cli.divergence import DROP_DB, SNR_DB

    if comparison is None:
        return None
    return comparison.result(arguments.snr or SNR_DB, arguments.drop or DROP_DB)


def missed(found: Divergence | None, arguments: argparse.Namespace) -> bool:
    """Whether a limit given explicitly is violated."""
    if found is None:
        return False
    below = arguments.snr is not None and any(row.found.snr < arguments.snr for row in found.rows)
    drops = (row.drop for row in found.rows if row.drop is not None)
    return below or (arguments.drop is not None and any(drop > arguments.drop for drop in drops))


def draw(found: Divergence, path: Path) -> None:
    """The plot of ``--plot``, written atomically."""
    from accel.cli.divergence_report import snr_points
    from accel.plots import write_figure
    from accel.snr_plot import snr_figure

    title = f"{found.reference}: {len(found.rows)} stored tensors against {found.weights}"
    write_figure(snr_figure(snr_points(found), found.snr_limit, title), path)
