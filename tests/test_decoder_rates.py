"""Builds whose records come as fast as they are looked up issue a group every cycle; exceptions are listed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest

from accel.codecs import parse_codec
from accel.decoder_timing import TIMING
from accel.errors import ConfigError
from benchmarks.decoder_rates import bubbles, decoder_rates, strip_times
from rtl.configuration import INPUT_BITS, LOOKUPS, VECTOR_LENGTHS, DecoderConfig
from sim.front_end import decode
from sim.words import Strip, flow_of, front_of

CODECS = (
    *(f"{family}:k=4096,d={d}" for family in ("vq", "ssvq") for d in VECTOR_LENGTHS),
    *("mvq:k=4096,d=8,nm=2:4", "mvq:k=4096,d=16,nm=4:16", "int8", "int4"),
)
# Superblocks of so many words that codes of the next one find no room while the side bits of this one are awaited:
# (code bits, side bits, look-ups), all at 64 bits. Each wants 60 or more bits of 64 a cycle, or 42 and 46.
EXCEPTIONS = {(12, 9, 2), (12, 11, 2), (11, 4, 4)}


def rate_matched(lookups: int, input_bits: int) -> Iterator[DecoderConfig]:
    """Builds of all codecs and code widths whose average demand the input meets."""
    for codec in map(parse_codec, CODECS):
        widths = range(1, codec.code_bits + 1) if codec.codebook_entries else (codec.code_bits,)
        for width in widths:
            asked = replace(cast(Any, codec), k=1 << width) if codec.codebook_entries else codec
            try:
                config = DecoderConfig(asked, lookups, input_bits)
            except ConfigError:
                continue
            if lookups * (width + config.side_bits) <= input_bits:
                yield config


@pytest.mark.parametrize("input_bits", INPUT_BITS)
@pytest.mark.parametrize("lookups", LOOKUPS)
def test_no_bubbles_inside_and_between_tiles(lookups: int, input_bits: int) -> None:
    found = set()
    for config in rate_matched(lookups, input_bits):
        for tiles in ([64 * lookups] * 4, [200 * lookups], [37 * lookups + 1] * 5, [5] * 9):
            if bubbles(strip_times(config, config.codec.code_bits, tiles)):
                found.add((config.codec.code_bits, config.side_bits, lookups))
    assert found == {row for row in EXCEPTIONS if row[2] == lookups and input_bits == 64}


def test_stated_rates_are_those_of_the_look_ups() -> None:
    for row in decoder_rates():
        assert (row.vectors_per_cycle, row.bubbles) == (row.lookups, 0), row
        assert row.latency_cycles in (13, 14, 15)


def test_latency_is_constant() -> None:
    """Whatever the beats' pauses: weights come a fixed number of cycles after their group's issue."""
    config = DecoderConfig(parse_codec("ssvq:k=256,d=8"), 4, 64)
    front = front_of(config.codec.layout, 64, 4)
    flow = flow_of([Strip(front, [40, 24], ends_layer=True)])
    slow = flow._replace(arrival=np.cumsum(np.random.default_rng(0).integers(1, 9, len(flow.arrival))))
    times = decode(slow, window := 3)
    assert set((times.left - times.issued).tolist()) == {TIMING.issue_to_output(window)}
    assert set((times.issued - times.taken[: len(times.issued)]).tolist()) == {TIMING.beat_to_issue}
