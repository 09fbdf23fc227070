"""What one GEMM costs: the array alone, by closed form, and a one-layer network, simulated with its memory."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from accel.cli.options import DEFAULT_MACHINE, add_json, add_overrides, print_json
from accel.errors import AccelError
from accel.systolic import ARRAY_MODELS, DATAFLOWS, ArrayCost, GemmShape, gemm_cost

if TYPE_CHECKING:
    from accel.codecs import Codec
    from accel.machine import Machine
    from accel.packed import Packed
    from accel.run import Run

HELP = "what one GEMM costs on a machine"
EXAMPLE = "accel gemm 197x192x576 --codec ssvq:k=16,d=8 -m edge32 --dataflow os"

# What is simulated in seconds; beyond it the closed form stands alone.
MOST_WEIGHTS, MOST_ACTIVATION_BYTES, MOST_FOLDS = 1 << 24, 1 << 28, 1 << 23


def gemm_shape(text: str) -> GemmShape:
    """``MxKxN``, each size at least 1 and no larger than an instruction can name."""
    from accel.isa import BY_MNEMONIC

    fields = {"M": ("GEM", "rows"), "K": ("GMO", "reduction"), "N": ("GEM", "columns")}
    words = text.split("x")
    if len(words) != len(fields) or not all(word.isascii() and word.isdigit() and word.strip("0") for word in words):
        raise argparse.ArgumentTypeError(f"'{text}'; allowed: MxKxN, three sizes of at least 1, e.g. 197x192x576")
    for (name, (mnemonic, field)), word in zip(fields.items(), words, strict=True):
        limit = BY_MNEMONIC[mnemonic].field(field).limit
        if len(word) > len(str(limit)) or int(word) >= limit:
            raise argparse.ArgumentTypeError(f"{name} = {word}; allowed: below {limit}, what {mnemonic}.{field} holds")
    return GemmShape(*map(int, words))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of the verb."""
    shape = "M rows of K activations times a K x N weight matrix"
    parser.add_argument("shape", metavar="MxKxN", type=gemm_shape, help=shape)
    parser.add_argument("--codec", metavar="CODEC", required=True, help="format of the weights (accel codecs)")
    parser.add_argument(
        "-m",
        "--machine",
        metavar="MACHINE",
        default=DEFAULT_MACHINE,
        help=f"a built-in machine (accel machines) or a TOML path (default {DEFAULT_MACHINE})",
    )
    add_overrides(parser)
    flows = "; ".join(f"{flow.name}: {flow.doc}" for flow in DATAFLOWS.values())
    parser.add_argument("--dataflow", choices=tuple(DATAFLOWS), help=f"{flows} (default: the machine's)")
    models = "; ".join(f"{model.name}: {model.doc}" for model in ARRAY_MODELS.values())
    parser.add_argument("--array-model", choices=tuple(ARRAY_MODELS), help=f"{models} (default: the machine's)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the cost."""
    from accel.codecs import parse_codec
    from accel.machine import load_machine

    codec = parse_codec(arguments.codec)
    chosen = {"array.dataflow": arguments.dataflow, "array.model": arguments.array_model}
    overrides = [*arguments.overrides, *(f"{key}={value}" for key, value in chosen.items() if value)]
    machine = load_machine(arguments.machine, overrides)
    cost = measure(arguments.shape, codec, machine)
    if arguments.json:
        print_json(cost.document())
    else:
        print(cost.text())
    return 0


@dataclass(frozen=True, slots=True)
class GemmReport:
    """``simulated`` is ``None`` where only the closed form, ``array``, is known; ``notes`` then say why."""

    shape: GemmShape
    codec: Codec
    machine: Machine
    array: ArrayCost
    simulated: Run | None
    notes: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """JSON values; what a simulation would have to tell is null where there is none."""
        run = self.simulated
        return {
            **asdict(self.shape),
            "codec": str(self.codec),
            "machine": self.machine.name,
            "array": f"{self.machine.array.rows}x{self.machine.array.columns}",
            "dataflow": self.machine.array.dataflow,
            "array_model": self.machine.array.model,
            "macs": self.shape.macs,
            "folds": self.array.folds,
            "compute_cycles": self.array.cycles,
            "total_cycles": run and run.total_cycles,
            "dram_bytes": run and dict(run.dram_bytes),
            "dram_bytes_total": run and run.dram_bytes_total,
            "utilisation": run and run.utilisation,
            "cycles_by_cause": run and dict(run.cycles_by_cause),
            "notes": list(self.notes),
        }

    def text(self) -> str:
        """A heading, one figure a line with its unit, what bounds it, and notes."""
        shape, machine = self.shape, self.machine
        heading = f"GEMM {shape.m}x{shape.k}x{shape.n}, {self.codec} weights, on {machine.name}: {machine.array.label}"
        return "\n".join([heading, *_lines(self), *(f"note: {note}" for note in self.notes)])


def measure(shape: GemmShape, codec: Codec, machine: Machine) -> GemmReport:
    """Closed form and, where the machine can run it and it is not too much to simulate, a simulation."""
    array = gemm_cost(shape, machine.array_shape)
    report = GemmReport(shape, codec, machine, array, None, ())
    too_much = _too_much(shape, array)
    if too_much:
        return replace(report, notes=(f"not simulated: {too_much}",))
    try:
        run = _simulated(shape, codec, machine)
    except AccelError as error:
        return replace(report, notes=(f"not simulated: {error}",))
    notes = run.notes
    if run.total_cycles < report.array.cycles:
        notes += (
            "fewer cycles than the array alone by its closed form: the compiler cut the output rows into even parts",
        )
    return replace(report, simulated=run, notes=notes)


def _too_much(shape: GemmShape, array: ArrayCost) -> str:
    """What makes a simulation take too long, or nothing."""
    amounts = {
        "weights": (shape.k * shape.n, MOST_WEIGHTS),
        "bytes of activations": (shape.m * (shape.k + shape.n), MOST_ACTIVATION_BYTES),
        "folds": (array.folds, MOST_FOLDS),
    }
    return next((f"{size:,} {what}; allowed: {most:,}" for what, (size, most) in amounts.items() if size > most), "")


def _simulated(shape: GemmShape, codec: Codec, machine: Machine) -> Run:
    from compiler import compile_model
    from sim import simulate

    return simulate(compile_model(_packed(shape, codec), machine))


def _packed(shape: GemmShape, codec: Codec) -> Packed:
    """A network of this one layer with random weights, always the same, in exactly this codec."""
    import numpy as np

    from accel.graph import GraphBuilder
    from compiler.compress.model import compress

    builder = GraphBuilder(f"gemm {shape.m}x{shape.k}x{shape.n}")
    weight = builder.parameter("weight", (shape.n, shape.k))
    graph = builder.build(builder.op("gemm", builder.input("input", (shape.m, shape.k)), weight))
    values = np.random.default_rng(0).standard_normal((shape.n, shape.k), np.float32)
    return compress(graph, {weight: values}, codec, keep=[(weight, codec)]).packed


def _lines(report: GemmReport) -> Iterator[str]:
    figures = list(_figures(report))
    wide = max(len(value) for _, value, _ in figures)
    yield from (f"  {name:22}{value:>{wide}} {unit}".rstrip() for name, value, unit in figures)
    if report.simulated is not None:
        yield _bound(report.simulated)


def _figures(report: GemmReport) -> Iterator[tuple[str, str, str]]:
    """Name, value and unit of every line."""
    from accel.metrics import CAUSES, TRAFFIC
    from accel.reporting import metric_column

    def shown(metric: str, value: float, style: str = "") -> tuple[str, str]:
        column = metric_column(metric, "", style)
        return column.cell(value), column.shown.unit if column.shown else ""

    yield "work", *shown("macs", report.shape.macs)
    yield "folds", f"{report.array.folds:,}", ""
    yield "array alone", *shown("total_cycles", report.array.cycles)
    run = report.simulated
    if run is None:
        return
    yield "memory included", *shown("total_cycles", run.total_cycles)
    yield from (("  " + cause, *shown("total_cycles", n)) for cause in CAUSES if (n := run.cycles_by_cause[cause]))
    yield "utilisation", *shown("utilisation", run.utilisation, "share")
    yield "DRAM", *shown("dram_bytes_total", run.dram_bytes_total, "kB")
    yield from (("  " + kind, *shown("dram_bytes_total", n, "kB")) for kind in TRAFFIC if (n := run.dram_bytes[kind]))


def _bound(run: Run) -> str:
    """The cause most cycles were spent on, in words."""
    from accel.metrics import CAUSES
    from accel.reporting import dominant

    cause, share = dominant(run.cycles_by_cause)
    return f"Bound by {cause}, {100 * share:.0f} % of the cycles: {CAUSES[cause]}."
