"""Every bin of ``decoder_coverage`` is met: one build of each kind of records, all code widths, places and stalls.

``pytest --log-cli-level=info`` shows the tables.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from decoder_coverage import Bin, fields, groups, met, reachable, strip_half, table
from decoder_runs import run_scenarios
from decoder_scenarios import Scenario, Stall, Stalls

from accel.codecs import parse_codec
from rtl.configuration import DecoderConfig
from rtl.layer import LayerPlan, StripPlan, strip_plan
from rtl.vectors import LayerVectors, random_layer

pytestmark = pytest.mark.rtl

# Codec, lookups a cycle, bits of the input, simulator: codes alone of 1 to 12 bits; superblocks of 1 to 7 bits and
# aligned records of 8; superblocks and aligned records beside masks; in wide beats, superblocks of odd numbers of half
# beats, the same beside masks and aligned records whose words have 80 and 48 bits, and codes alone.
BUILDS = [
    ("vq:k=4096,d=4", 2, 64, "verilator"),
    ("ssvq:k=256,d=8", 4, 64, "verilator"),
    ("mvq:k=16,d=8,nm=2:4", 2, 64, "icarus"),
    ("ssvq:k=16,d=8", 8, 128, "verilator"),
    ("mvq:k=32,d=4,nm=2:4", 2, 128, "icarus"),
    ("vq:k=8,d=4", 2, 128, "icarus"),
]


def places_layer(
    config: DecoderConfig, code_bits: int, size: int, visits: int, rng: np.random.Generator
) -> LayerVectors:
    """Tiles of ``size`` vectors, an odd number, that together begin at each place ``visits`` times or more."""
    tiles = config.input_bits
    strip = strip_plan(config, code_bits, tiles, size, size)
    strips = max(2, visits // math.gcd(code_bits, config.side_bits, tiles))
    return random_layer(config, LayerPlan(code_bits, strips, strip, strip), rng)


def strip_before(config: DecoderConfig, code_bits: int, name: str, vectors: int, straddling: bool) -> StripPlan:
    """Two tiles, the second a group of ``vectors`` vectors in two words, or in one; any if there is none."""
    for first in range(1, 130):
        strip = strip_plan(config, code_bits, 2, first, vectors)
        *_, last = groups(config, [LayerVectors(LayerPlan(code_bits, 1, strip, strip), b"", (), ())])
        if last.straddles(config, name) == straddling:
            break
    return strip


def ends_layer(
    config: DecoderConfig, code_bits: int, name: str, vectors: int, rng: np.random.Generator
) -> LayerVectors:
    """Strips that end with either kind of group of ``vectors`` vectors."""
    full, edge = (strip_before(config, code_bits, name, vectors, straddling) for straddling in (True, False))
    return random_layer(config, LayerPlan(code_bits, 2, full, edge), rng)


def ends(config: DecoderConfig, rng: np.random.Generator) -> Iterator[LayerVectors]:
    """Every width twice on end upwards, thus in both banks, then downwards: of every change of width there is one."""
    first, second, *others = [(name, count + 1) for name in fields(config) for count in range(config.lookups)]
    yield from (ends_layer(config, width, *kind, rng) for width in config.formats for kind in (first, second))
    for kind in others or [first]:
        yield from (ends_layer(config, width, *kind, rng) for width in reversed(config.formats))


def halves(config: DecoderConfig, rng: np.random.Generator) -> Iterator[LayerVectors]:
    """Strips whose codes, and side bits, end in either half of a beat and go to either half of a word."""
    for name in fields(config):
        for row in config.formats.values():
            sizes = {strip_half(config, row, name, size): size for size in range(1, 4 * config.input_bits)}
            for size in sizes.values() if row.kind == "superblock" else ():
                strip = strip_plan(config, row.code_bits, 1, size, size)
                yield random_layer(config, LayerPlan(row.code_bits, 2, strip, strip), rng)


def slower_than(config: DecoderConfig, code_bits: int) -> Stall:
    """An input that brings a beat in five times the time its vectors take."""
    vectors = config.input_bits / (code_bits + config.side_bits)
    return 1 - 0.2 / max(1, vectors / config.lookups), 1


def covering(config: DecoderConfig, seed: int) -> Iterator[Scenario]:
    """Output and input that stall, either at groups of every place; and every end of tiles and strips."""
    rng = np.random.default_rng(seed)
    layers = [places_layer(config, width, 1, 24, rng) for width in config.formats]
    yield Scenario("blocked", layers, Stalls(output=(0.6, 1)))
    for width in config.formats:
        layer = places_layer(config, width, 2 * config.lookups - 1, 10, rng)
        yield Scenario(f"starved_{width}", [layer], Stalls(stream=slower_than(config, width)))
    yield Scenario("ends", list(ends(config, rng)), Stalls((0.3, 4), output=(0.3, 4)))
    if config.halves:
        yield Scenario("halves", list(halves(config, rng)), Stalls((0.3, 4), output=(0.3, 4)))


@pytest.mark.parametrize(("codec", "lookups", "input_bits", "simulator"), BUILDS)
def test_every_bin_is_met(codec: str, lookups: int, input_bits: int, simulator: str, tmp_path: Path) -> None:
    config, found = DecoderConfig(parse_codec(codec), lookups, input_bits), Counter[Bin]()
    scenarios = list(covering(config, seed=1))
    seen = run_scenarios(config, scenarios, tmp_path, simulator)
    for scenario in scenarios:
        found += met(config, scenario.layers, seen[scenario.name])
    logging.getLogger(__name__).info("%s", table(config, found))
    assert not sorted(map(str, reachable(config) - found.keys())), table(config, found)
