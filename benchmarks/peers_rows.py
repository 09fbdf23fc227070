"""What each tool says of a network: a row each, ours first."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from accel.codecs import parse_codec
from accel.machine import Machine, load_machine
from accel.systolic import ArrayShape, GemmShape, gemm_cost
from benchmarks.children import ChildError, python
from benchmarks.peers_environments import PEERS, Result
from benchmarks.peers_kept import kept
from benchmarks.peers_scalesim import scalesim
from benchmarks.peers_vela import vela
from benchmarks.peers_zigzag import zigzag
from benchmarks.quality_data import tell
from benchmarks.workloads import Layer, network_layers
from compiler.compress import Compression, compress
from compiler.frontend import LoadedModel, load_model

BANDWIDTH = 8  # B/cycle, as of ZigZag's TPU-like machine; 32x32 multipliers likewise
MACHINE = "edge32"
OVERRIDES = (f"dram.bandwidth_bytes_per_cycle={BANDWIDTH}", "sram.activation_bytes=4194304")
ARRAY_ONLY = "vector.lanes=0"


@dataclass(frozen=True, slots=True)
class Row:
    """What one tool says of one network; ``None`` where it says nothing, ``problem`` where it could not be run."""

    network: str
    tool: str
    what: str
    layers: int | None = None
    cycles: int | None = None
    weight_bytes: int | None = None
    dram_bytes: int | None = None
    cpu_seconds: float | None = None
    peak_bytes: int | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Network:
    """A network as peers get it: all layers, and each distinct shape once with how often it occurs."""

    name: str
    coded: Compression
    layers: tuple[Layer, ...]
    counts: Counter[Layer]

    def total(self, result: Result) -> int:
        """Cycles of all layers, from those of the distinct ones."""
        return sum(cycles * count for cycles, count in zip(result.layer_cycles, self.counts.values(), strict=True))


def tool_rows(name: str, peers: Sequence[str]) -> Iterator[Row]:
    model = load_model(name, progress=tell)
    network = _network(name, model)
    machine = load_machine(MACHINE, OVERRIDES)
    for what, overrides in (("whole network", ()), ("array only: vector work free", (ARRAY_ONLY,))):
        yield _kept(network, what, partial(_ours, network, what, (*OVERRIDES, *overrides)))
    yield _closed_form(network, machine)
    for peer in peers:
        tell(f"{name}: {PEERS[peer].name}")
        try:
            yield _kept(network, PEERS[peer].name, partial(TOOLS[peer], network, machine))
        except ChildError as error:
            yield Row(name, PEERS[peer].name, "-", problem=str(error))


def _kept(network: Network, what: str, measure: Callable[[], Row]) -> Row:
    (fields,) = kept(f"{network.name} {what}", lambda: [asdict(measure())])
    return Row(**fields)


def _network(name: str, model: LoadedModel) -> Network:
    layers = network_layers(model.graph)
    coded = compress(model.graph, model.weights, parse_codec("int8"))
    return Network(name, coded, layers, Counter(replace(layer, name="", weights="") for layer in layers))


# --- ours ------------------------------------------------------------------------------------------------------------


def _ours(network: Network, what: str, overrides: Sequence[str]) -> Row:
    """The commands a user would type, each a process of its own.

    The first simulation of an installation compiles our kernels, so one that is not billed comes first: a bill must
    not depend on what was run on this machine before.
    """
    settings = [word for override in overrides for word in ("--set", override)]
    with tempfile.TemporaryDirectory(prefix="accel-peers-") as folder:
        packed, program, run = (Path(folder, f"net.{kind}") for kind in ("vq.safetensors", "prog.safetensors", "json"))
        python("-m", "accel.cli", "compress", network.name, "--codec", "int8", "-o", packed)
        commands = (("compile", packed, "-m", MACHINE, *settings, "-o", program), ("sim", program, "-o", run))
        for command in commands:
            python("-m", "accel.cli", *command)
        bills = [python("-m", "accel.cli", *command) for command in commands]
        document = json.loads(run.read_text())
    return Row(
        network.name,
        "Accel",
        what,
        len(network.layers),
        document["total_cycles"],
        sum(report.bytes_by_kind["weights"] for report in network.coded.reports),
        document["dram_bytes_total"],
        sum(bill.cpu_seconds for bill in bills),
        max(bill.peak_bytes for bill in bills),
    )


def _closed_form(network: Network, machine: Machine) -> Row:
    """``accel.systolic`` with SCALE-Sim's rules, counted as SCALE-Sim does: the index of a layer's last cycle."""
    array = ArrayShape(machine.array.rows, machine.array.columns, machine.array.dataflow, "scalesim")
    cycles = sum(gemm_cost(_gemm(layer), array).cycles - 1 for layer in network.layers)
    return Row(network.name, "Accel", "closed form of SCALE-Sim's array, compute only", len(network.layers), cycles)


def _gemm(layer: Layer) -> GemmShape:
    reduction = layer.kernel_height * layer.kernel_width * layer.channels
    return GemmShape(layer.out_height * layer.out_width, reduction, layer.filters)


# --- theirs ----------------------------------------------------------------------------------------------------------


def _vela(network: Network, machine: Machine) -> Row:
    result = vela(network.layers, _int8(network), BANDWIDTH, tell)
    return Row(
        network.name, PEERS["vela"].name, result.what, len(network.layers),
        result.cycles, result.encoded_bytes, result.dram_bytes, result.bill.cpu_seconds, result.bill.peak_bytes,
    )  # fmt: skip


def _int8(network: Network) -> dict[str, npt.NDArray[np.int8]]:
    """Its weights in the shapes of the graph."""
    packed = network.coded.packed
    shapes = packed.graph.parameters
    return {name: layer.codec.decode(layer).reshape(shapes[name]) for name, layer in packed.layers.items()}


def _scalesim(network: Network, machine: Machine) -> Row:
    result = scalesim(tuple(network.counts), machine, False, tell)
    return _distinct(network, "scalesim", "compute only; API, no traces", result)


def _zigzag(network: Network, machine: Machine) -> Row:
    return _distinct(network, "zigzag", "least latency of the mappings searched", zigzag(tuple(network.counts), tell))


def _distinct(network: Network, peer: str, what: str, result: Result) -> Row:
    return Row(
        network.name, PEERS[peer].name, what, len(network.counts), network.total(result), None, None,
        result.bill.cpu_seconds, result.bill.peak_bytes,
    )  # fmt: skip


TOOLS: dict[str, Callable[[Network, Machine], Row]] = {"vela": _vela, "scalesim": _scalesim, "zigzag": _zigzag}
