"""Random codecs and machines for tests of the whole chain, and models of random ``networks``, by hypothesis."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st
from networks import graphs

from accel.codecs import Codec, EncodedLayer, codes_shape, parse_codec
from accel.codecs.projection import Projection
from accel.graph import Graph, gemm_shape, weight_name
from accel.machine import Array, Decoder, Dram, Machine, Sram, Vector, load_machine
from accel.packed import Packed, Source, plain_parameters, weight_parameters

__all__ = ["CODECS", "Coding", "codings", "encode_randomly", "graphs", "machines", "pack_randomly", "uses_of_weights"]

CODECS = (
    *("int8", "int4", "vq:k=4,d=2", "vq:k=16,d=4", "vq:k=8,d=3", "ssvq:k=16,d=8", "ssvq:k=4,d=4", "ssvq:k=256,d=8"),
    *("mvq:k=4,d=4,nm=2:4", "mvq:k=16,d=8,nm=1:4", "mvq:k=8,d=6,nm=2:3", "mvq:k=1024,d=8,nm=2:4", "mvq:k=4,d=2,nm=1:2"),
    *("lr2vq:k=4,m=2,r=1", "lr2vq:k=16,m=8,r=3", "lr2vq:k=8,m=3,r=3"),
    *("rvq:k=4,d=2,stages=2", "rvq:k=16,d=4,stages=3", "rvq:k=32,d=3,stages=2"),
)


@dataclass(frozen=True)
class Coding:
    """How a model is compressed: codec, vector axis, one scale or one an output channel."""

    codec: str
    axis: str
    channel_scales: bool


def codings() -> st.SearchStrategy[Coding]:
    """Any codec along either axis with either kind of scale."""
    return st.builds(Coding, st.sampled_from(CODECS), st.sampled_from(("out", "in")), st.booleans())


def encode_randomly(shape: tuple[int, int], coding: Coding, rng: np.random.Generator) -> EncodedLayer:
    """A layer with random codes, signs, codebook and scales: every bit pattern, without any k-means."""
    codec: Codec = parse_codec(coding.codec)
    grid = codes_shape(codec, shape, coding.axis)
    codes = rng.integers(0, 1 << codec.code_bits, grid).astype(np.uint16)
    if not codec.codebook_entries:
        codes[codes == 1 << (codec.code_bits - 1)] = 0  # the integer symmetric codecs do not use
    book = random_codebook(codec, rng) if codec.codebook_entries else None
    scale = rng.uniform(0.01, 1, shape[0] if coding.channel_scales else 1).astype(np.float32)
    side = random_side(codec, grid, rng)
    return EncodedLayer(codec, shape, coding.axis, codes, side, book, scale, random_projection(codec, rng))


def random_codebook(codec: Codec, rng: np.random.Generator) -> np.ndarray:
    """Any legal codewords, as they are stored."""
    return rng.integers(0 if codec.has_signs else -127, 128, codec.codebook_shape).astype(np.int8)


def random_side(codec: Codec, grid: tuple[int, int], rng: np.random.Generator) -> np.ndarray | None:
    """Any signs or mask indices; ``None`` for codecs without."""
    if codec.mask is None:
        return rng.integers(0, 2, (*grid, codec.vector_length)).astype(np.bool_) if codec.has_signs else None
    indices = rng.integers(0, codec.mask.count, (*grid, codec.vector_length // codec.mask.group))
    return (indices[..., None] >> np.arange(codec.mask.index_bits) & 1).astype(np.bool_).reshape(*grid, -1)


def random_projection(codec: Codec, rng: np.random.Generator) -> Projection | None:
    """Any projection with a shift that leaves something of most sums; ``None`` for codecs without."""
    if codec.projection_shape is None:
        return None
    return Projection(rng.integers(-127, 128, codec.projection_shape).astype(np.int8), int(rng.integers(0, 10)))


def pack_randomly(graph: Graph, coding: Coding, seed: int = 0) -> Packed:
    """The graph with random compressed weights and parameters."""
    rng = np.random.default_rng(seed)
    layers = {n: encode_randomly(gemm_shape(graph.parameters[n]), coding, rng) for n in weight_parameters(graph)}
    plain = {n: rng.normal(size=graph.parameters[n]).astype(np.float32) for n in plain_parameters(graph)}
    plain |= {n: _factor(array, rng) for n, array in plain.items() if array.size == 1}
    return Packed(graph, layers, plain, Source("0" * 64))


def _factor(number: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A single number: mostly positive, as scalings are, sometimes negative, seldom 0."""
    sign = rng.choice([1, 1, 1, 1, -1, -1, 0])
    return (sign * (np.abs(number) + 0.1)).astype(np.float32)


def uses_of_weights(graph: Graph) -> dict[str, int]:
    """How many operators multiply by each weight."""
    names = [weight_name(op) for op in graph.weight_ops()]
    return {name: names.count(name) for name in names}


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Arrays of 4 to 64, memories from hopeless to ample, any speed of decoder, vector unit and DRAM."""
    side = st.sampled_from((4, 5, 8, 12, 16, 32, 64))
    model = draw(st.sampled_from(("pipelined", "pipelined", "scalesim", "stonne")))
    dataflow = "os" if model == "stonne" else draw(st.sampled_from(("ws", "os", "is")))
    array = Array(draw(side), draw(side), dataflow, model)
    activation = draw(st.sampled_from((1024, 1536, 2048, 3000, 4096, 8192, 16384, 1 << 18)))
    ring = draw(st.sampled_from((256, 320, 512, 1000, 2048, 8192, 1 << 20)))
    accumulators = max(64, 4 * array.columns * draw(st.sampled_from((1, 3, 16, 100, 512))))
    codebook, lookups = draw(st.sampled_from((64, 2048, 2048))), draw(st.sampled_from((1, 2, 4, 8)))
    buffers, banks = draw(st.sampled_from((1, 2, 2))), draw(st.sampled_from((0, 0, 1, 4)))
    decoder = Decoder(codebook, lookups, codebook_buffers=buffers, codebook_banks=banks)
    vector = Vector(draw(st.sampled_from((0, 1, 16, 64))))
    bandwidth, latency = draw(st.sampled_from((0.7, 2.0, 5.12, 16.0, 64.0))), draw(st.sampled_from((0, 10, 100)))
    dram = Dram("ideal", bandwidth_bytes_per_cycle=bandwidth, latency_cycles=latency)
    base = load_machine("edge64-ideal")
    return replace(base, array=array, sram=Sram(activation, ring, accumulators), decoder=decoder, vector=vector,
                   dram=dram)  # fmt: skip
