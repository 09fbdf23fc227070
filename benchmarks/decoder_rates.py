"""What a decoder sustains: vectors a cycle and latency of builds, from the model that hardware is tested against."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from accel.codecs import parse_codec
from accel.codecs.records import RecordLayout
from rtl.configuration import DecoderConfig
from sim.front_end import Times, decode
from sim.words import Strip, flow_of, front_of

GROUPS = 1000  # of one strip
BUILDS = (
    ("ssvq:k=256,d=8", 4, 64),
    ("ssvq:k=16,d=8", 4, 64),
    ("vq:k=256,d=4", 8, 64),
    ("mvq:k=64,d=8,nm=2:4", 4, 64),
    ("int8", 8, 64),
    ("ssvq:k=256,d=8", 8, 128),
)


@dataclass(frozen=True, slots=True)
class Rate:
    """``bits_per_cycle``: of records, at full rate. ``vectors_per_cycle`` between a long strip's first and last group;
    ``bubbles``: cycles without a group between them; ``latency_cycles``: from the beat that completes a group to its
    weights."""

    codec: str
    lookups: int
    input_bits: int
    bits_per_cycle: int
    vectors_per_cycle: float
    bubbles: int
    latency_cycles: int


def strip_times(config: DecoderConfig, code_bits: int, vectors: list[int]) -> Times:
    """One strip of tiles of ``vectors``, with beats always there and the output always taken."""
    layout = RecordLayout(code_bits, config.vector_length, config.side_bits)
    front = front_of(layout, config.input_bits, config.lookups)
    return decode(flow_of([Strip(front, vectors, ends_layer=True)]), config.barrel_stages)


def bubbles(times: Times) -> int:
    """Cycles without a group between the first and the last one."""
    return int((np.diff(times.issued) - 1).sum())


def decoder_rates(builds: Iterable[tuple[str, int, int]] = BUILDS) -> list[Rate]:
    """A row for each ``(codec, lookups, input_bits)``, at the codec's own code width."""
    return [_rate(DecoderConfig(parse_codec(codec), *ports)) for codec, *ports in builds]


def _rate(config: DecoderConfig) -> Rate:
    vectors = GROUPS * config.lookups
    times = strip_times(config, config.codec.code_bits, [vectors])
    cycles = int(times.issued[-1] - times.issued[0]) + 1
    bits = config.lookups * (config.codec.code_bits + config.side_bits)
    ports = (config.lookups, config.input_bits)
    return Rate(str(config.codec), *ports, bits, vectors / cycles, bubbles(times), config.latency_cycles)
