"""Random layers and what a decoder must make of them, by the codecs' own ``decode``: stimulus for benches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from accel.codecs import Codec, EncodedLayer, parse_codec
from accel.codecs.masks import Mask
from accel.codecs.records import RecordLayout, SideBits, pack_records
from accel.isa import BLOCK_BYTES
from rtl.configuration import DecoderConfig
from rtl.layer import LayerPlan, StripPlan

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class OutputBeat:
    """A beat of ``m_axis``: ``weights`` holds the bytes that ``tkeep`` marks."""

    weights: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class LayerVectors:
    """A layer as bytes: its codebook (empty without), a packet for each strip, and the beats that come out."""

    plan: LayerPlan
    codebook: bytes
    packets: tuple[bytes, ...]
    output: tuple[OutputBeat, ...]


def random_layer(config: DecoderConfig, plan: LayerPlan, rng: np.random.Generator) -> LayerVectors:
    """A layer of random codes, side bits and codewords; padding of blocks is random too: nobody may read it."""
    codec = _codec_of(config, plan.code_bits)
    codebook = _random_codebook(codec, rng)
    strips = [_random_strip(config, codec, codebook, strip, rng) for strip in plan]
    book = b"" if codebook is None else codebook.tobytes()
    return LayerVectors(
        plan, book, tuple(packet for packet, _ in strips), tuple(b for _, beats in strips for b in beats)
    )


def _codec_of(config: DecoderConfig, code_bits: int) -> Codec:
    """The build's codec with as many codewords as ``code_bits`` can tell apart; the decoder sees codebooks folded."""
    codec: Codec = config.codec
    if not config.has_codebook:
        return codec
    if codec.projection_shape:
        return parse_codec(f"vq:k={1 << code_bits},d={codec.vector_length}")
    smaller: Codec = replace(cast(Any, codec), k=1 << code_bits)
    return smaller


def _random_codebook(codec: Codec, rng: np.random.Generator) -> npt.NDArray[np.int8] | None:
    if not codec.codebook_entries:
        return None
    return rng.integers(0 if codec.has_signs else -127, 128, (codec.codebook_entries, codec.vector_length), np.int8)


def _random_strip(
    config: DecoderConfig,
    codec: Codec,
    codebook: npt.NDArray[np.int8] | None,
    strip: StripPlan,
    rng: np.random.Generator,
) -> tuple[bytes, list[OutputBeat]]:
    count = strip.total_vectors
    codes = rng.integers(0, 1 << codec.code_bits, count, np.uint16)
    if codebook is None:
        codes[codes == 1 << (codec.code_bits - 1)] = 0  # the one integer that is not allowed
    side = _random_side(codec, count, rng)
    records = pack_records(codes, side, RecordLayout(codec.code_bits, codec.vector_length, config.side_bits))
    padding = rng.integers(0, 256, -len(records) % BLOCK_BYTES, np.uint8)
    weights = _decoded(codec, codes, side, codebook)
    return records.tobytes() + padding.tobytes(), _output(config, strip, weights)


def _random_side(codec: Codec, count: int, rng: np.random.Generator) -> SideBits | None:
    if codec.mask is None:
        return rng.integers(0, 2, (count, codec.vector_length)).astype(bool) if codec.has_signs else None
    return _random_masks(codec.mask, (count, codec.vector_length // codec.mask.group), rng)


def _random_masks(mask: Mask, shape: tuple[int, int], rng: np.random.Generator) -> SideBits:
    indices = rng.integers(0, mask.count, shape)
    bits = indices[:, :, None] >> np.arange(mask.index_bits) & 1
    return bits.astype(bool).reshape(shape[0], -1)


def _decoded(
    codec: Codec, codes: npt.NDArray[np.uint16], side: SideBits | None, codebook: npt.NDArray[np.int8] | None
) -> npt.NDArray[np.int8]:
    """``int8[vectors, d]`` by the codec, as a matrix one vector high."""
    shape = (codec.vector_length, len(codes))
    beside = None if side is None else side[None]
    layer = EncodedLayer(codec, shape, "out", codes[None], beside, codebook, np.ones(1, np.float32))
    return codec.decode(layer).T


def _output(config: DecoderConfig, strip: StripPlan, weights: npt.NDArray[np.int8]) -> list[OutputBeat]:
    beats, start = [], 0
    for tile in range(strip.tiles):
        end = start + (strip.last_vectors if tile == strip.tiles - 1 else strip.vectors)
        for at in range(start, end, config.lookups):
            stop = min(at + config.lookups, end)
            beats.append(OutputBeat(weights[at:stop].tobytes(), stop == end))
        start = end
    return beats
