"""How few bytes 8-bit weights can be brought to without vector quantisation, and what that leaves for it to gain.

A rung is one way to store the trained weights of a real network. Bytes are those of all convolution and GEMM weights
with scales and tables. Cycles are simulated; ``Rung.simulated`` says what stands in for what we do not build.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.codecs import Codec, EncodedLayer, parse_codec
from accel.codecs.integer import IntegerCodec
from accel.machine import Machine, load_machine
from accel.packed import Packed, weight_parameters
from benchmarks.children import ChildError
from benchmarks.peers_coreml import palettised
from benchmarks.peers_environments import Say
from benchmarks.peers_vela import lossless_bytes
from compiler import compile_model
from compiler.compress import Compression, compress
from compiler.frontend import LoadedModel
from sim import simulate

LADDER_MACHINE = "edge64"
TABLE_LOOKUPS = ("decoder.lookups_per_cycle=64", "decoder.input_bits=512")  # for palettes: a look-up is one weight
PALETTE_BITS = 4
SMALLEST = "ssvq:k=16,d=8"
TENSOR_LOSSLESS = "int8, one scale a tensor, lossless"  # the rung vector quantisation must be held against
MIN_WIDTH = 2  # of a signed integer of symmetric range
AS_STORED = "as stored"
BRACKET = "integers of the layer's whole bits above and below"


@dataclass(frozen=True, slots=True)
class Rung:
    """One row: bytes stored, DRAM bytes and cycles of one inference, the squared relative error of the weights.

    Where two programs bracket what cannot be simulated, ``cycles`` is the slower one's and ``cycles_at_best`` the
    faster one's, and ``dram_bytes`` the larger's. ``problem``: why another's tool could not be run.
    """

    name: str
    stored_bytes: int | None
    weights: int
    error: float | None = None
    dram_bytes: int | None = None
    cycles: int | None = None
    cycles_at_best: int | None = None
    simulated: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Ladder:
    """A network in every form; ``model`` is loaded with trained weights."""

    model: LoadedModel
    say: Say

    def rungs(self) -> Iterator[Rung]:
        """From raw int8 down."""
        channel = self._coded("int8")
        tensor = self._coded("int8", scale="tensor")
        yield (baseline := self._stored("int8, a scale a channel (the baseline)", channel))
        yield no_worse(self._lossless("the same through Arm's lossless code", channel), baseline)
        yield self._entropy("the same at its zeroth-order entropy", channel)
        yield self._lossless(TENSOR_LOSSLESS, tensor)
        four = self._coded("int4")
        yield (uncoded := self._stored("int4", four))
        yield no_worse(self._lossless("int4, lossless", four), uncoded)
        palette = self._coded(f"vq:k={2**PALETTE_BITS},d=1")
        uncoded = self._stored(
            "16-entry palettes, one a layer", palette, TABLE_LOOKUPS, "as stored; 64 look-ups a cycle"
        )
        yield uncoded
        yield no_worse(self._lossless("16-entry palettes, lossless", palette), uncoded)
        yield self._coreml()
        for codec in ("vq:k=256,d=4", "ssvq:k=256,d=8", SMALLEST):
            coded = self._coded(codec)
            yield self._stored(codec, coded)
        yield self._lossless(f"{codec}, decoded to int8, lossless (what Vela is given)", coded, timed=False)

    def _coded(self, codec: str, scale: Any = "channel") -> Compression:
        self.say(f"  {codec}, a scale a {scale}")
        return compress(self.model.graph, self.model.weights, parse_codec(codec), scale=scale)

    def _stored(
        self, name: str, coded: Compression, overrides: tuple[str, ...] = (), simulated: str = AS_STORED
    ) -> Rung:
        machine = load_machine(LADDER_MACHINE, overrides)
        cycles, dram_bytes = _timed(coded.packed, machine)
        return replace(_rung(name, coded, _bytes(coded)), dram_bytes=dram_bytes, cycles=cycles, simulated=simulated)

    def _lossless(self, name: str, coded: Compression, timed: bool = True) -> Rung:
        """Values int8 or less, through Arm's code, or as they are where that is smaller; tables and scales beside."""
        values, beside = _values(coded), _tables(coded)
        try:
            encoded = lossless_bytes(values, self.say)
        except ChildError as error:
            return Rung(name, None, 0, problem=str(error))
        sizes = {layer: min(size, values[layer].size) for layer, size in encoded.items()}
        rung = _rung(name, coded, sum(sizes.values()) + beside)
        if not timed:
            return rung
        bits = {layer: 8 * size / values[layer].size for layer, size in sizes.items()}
        machine = load_machine(LADDER_MACHINE)
        slow, fast = (_timed(_with_widths(coded.packed, bits, edge), machine) for edge in (math.ceil, math.floor))
        return replace(rung, dram_bytes=slow[1], cycles=slow[0], cycles_at_best=fast[0], simulated=BRACKET)

    def _entropy(self, name: str, coded: Compression) -> Rung:
        values = _values(coded)
        return _rung(name, coded, sum(map(_entropy_bytes, values.values())) + _tables(coded))

    def _coreml(self) -> Rung:
        name = f"Core ML Tools, {PALETTE_BITS}-bit palettes (its weight.bin)"
        floats = {each: _matrix(self.model.weights[each]) for each in weight_parameters(self.model.graph)}
        try:
            found = palettised(floats, PALETTE_BITS, self.say)
        except ChildError as error:
            return Rung(name, None, 0, problem=str(error))
        return Rung(name, found.stored_bytes, sum(each.size for each in floats.values()))


def no_worse(lossless: Rung, uncoded: Rung) -> Rung:
    """A compressor can leave weights as they are, so bits rounded up may not cost more than the uncoded ones."""
    if lossless.problem or lossless.cycles is None or lossless.dram_bytes is None:
        return lossless
    assert uncoded.cycles is not None and uncoded.dram_bytes is not None, "ours, always simulated"
    return replace(
        lossless,
        cycles=min(lossless.cycles, uncoded.cycles),
        dram_bytes=min(lossless.dram_bytes, uncoded.dram_bytes),
    )


def _matrix(weights: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return np.ascontiguousarray(weights.reshape(len(weights), -1), np.float32)


def _rung(name: str, coded: Compression, stored_bytes: int) -> Rung:
    sizes = [report.shape[0] * report.shape[1] for report in coded.reports]
    error = sum(report.relative_error * size for report, size in zip(coded.reports, sizes, strict=True)) / sum(sizes)
    return Rung(name, stored_bytes, sum(sizes), error)


def _bytes(coded: Compression) -> int:
    return sum(sum(report.bytes_by_kind.values()) for report in coded.reports)


def _tables(coded: Compression) -> int:
    """Scales and codebooks."""
    return sum(report.bytes_by_kind["scales"] + report.bytes_by_kind["codebooks"] for report in coded.reports)


def _values(coded: Compression) -> dict[str, npt.NDArray[np.int8]]:
    """int8 ``[out, reduction]`` of every layer: what a decoder that knows nothing of vectors would be given."""
    return {name: layer.codec.decode(layer) for name, layer in coded.packed.layers.items()}


def _entropy_bytes(values: npt.NDArray[np.int8]) -> int:
    """What no code reaches that sees one weight at a time."""
    counts = np.unique(values, return_counts=True)[1]
    shares = counts / values.size
    return int(np.ceil(-(counts * np.log2(shares)).sum() / 8))


def _timed(packed: Packed, machine: Machine) -> tuple[int, int]:
    """Cycles and DRAM bytes of one inference."""
    run = simulate(compile_model(packed, machine), machine)
    return run.total_cycles, run.dram_bytes_total


@cache
def _integer(width: int) -> Codec:
    """Integers of ``width`` bits: timing asks for nothing else, values are not meant."""
    names = {"__doc__": f"{width}-bit integers.", "family": f"int{width}", "width": width, "__slots__": ()}
    made: Callable[[], Codec] = type(f"Int{width}", (IntegerCodec,), names)
    return made()


def _with_widths(packed: Packed, bits: Mapping[str, float], whole: Callable[[float], int]) -> Packed:
    """Every layer as integers of its ``bits``, rounded to a ``whole`` number."""
    widths = {name: max(whole(size), MIN_WIDTH) for name, size in bits.items()}
    layers = {name: _as_integers(layer, widths[name]) for name, layer in packed.layers.items()}
    return replace(packed, layers=layers)


def _as_integers(layer: EncodedLayer, width: int) -> EncodedLayer:
    codes = np.zeros(layer.shape, np.uint16)
    return EncodedLayer(_integer(width), layer.shape, layer.vector_axis, codes, None, None, layer.scale)
