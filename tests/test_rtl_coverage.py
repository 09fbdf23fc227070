"""Every bin of ``decoder_coverage`` is met: one build of each kind of records, all code widths, places and stalls.

``pytest --log-cli-level=info`` shows the tables.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from decoder_coverage import Bin, fields, groups, met, reachable, table
from decoder_runs import run_scenarios
from decoder_scenarios import Scenario, Stalls

from accel.codecs import parse_codec
from rtl.configuration import DecoderConfig
from rtl.layer import LayerPlan, strip_plan
from rtl.vectors import LayerVectors, random_layer

pytestmark = pytest.mark.rtl

# Codec, lookups a cycle, bits of the input, simulator: codes alone of 1 to 12 bits; superblocks of 1 to 7 bits and
# aligned records of 8; aligned records of 4 and 12 in wide beats; superblocks and aligned records beside masks.
BUILDS = [
    ("vq:k=4096,d=4", 2, 64, "verilator"),
    ("ssvq:k=256,d=8", 4, 64, "verilator"),
    ("ssvq:k=4096,d=4", 4, 128, "icarus"),
    ("mvq:k=16,d=8,nm=2:4", 2, 64, "icarus"),
]
TILES = 64  # of odd sizes: together they begin at every place there is


def strip_end(config: DecoderConfig, code_bits: int, vectors: int, name: str, straddling: bool) -> int:
    """Vectors of a last tile whose last group's fields lie in two words, or in one; any if there is no such."""
    for count in range(1, 130):
        strip = strip_plan(config, code_bits, TILES, vectors, count)
        *_, last = groups(config, [LayerVectors(LayerPlan(code_bits, 1, strip, strip), b"", (), ())])
        if last.straddles(config, name) == straddling:
            return count
    return 1


def covering_layer(config: DecoderConfig, code_bits: int, name: str, rng: np.random.Generator) -> LayerVectors:
    """Strips of many tiles of an odd number of vectors each, one group or two."""
    sizes = zip(rng.permutation([1, 3, 2 * config.lookups - 1]).tolist(), (True, False), strict=False)
    full, edge = (
        strip_plan(config, code_bits, TILES, size, strip_end(config, code_bits, size, name, straddling))
        for size, straddling in sizes
    )
    return random_layer(config, LayerPlan(code_bits, 3, full, edge), rng)


def covering(config: DecoderConfig, seed: int) -> Iterator[Scenario]:
    """All widths up and down again, so that each meets either bank; ends that stall together or one after the other."""
    rng = np.random.default_rng(seed)
    passes = ((fields(config)[0], config.formats), (fields(config)[-1], reversed(config.formats)))
    layers = [covering_layer(config, width, name, rng) for name, widths in passes for width in widths]
    for name, stalls in (
        ("mixed", Stalls((0.5, 10), (0.0, 1), (0.4, 6), (0.0, 1))),
        ("starved", Stalls((0.8, 3), (0.0, 1), (0.2, 2), (0.0, 1))),
        ("blocked", Stalls((0.0, 1), (0.0, 1), (0.5, 4), (0.0, 1))),
    ):
        yield Scenario(name, layers, stalls)


@pytest.mark.parametrize(("codec", "lookups", "input_bits", "simulator"), BUILDS)
def test_every_bin_is_met(codec: str, lookups: int, input_bits: int, simulator: str, tmp_path: Path) -> None:
    config, found = DecoderConfig(parse_codec(codec), lookups, input_bits), Counter[Bin]()
    scenarios = list(covering(config, seed=1))
    seen = run_scenarios(config, scenarios, tmp_path, simulator)
    for scenario in scenarios:
        found += met(config, scenario.layers, seen[scenario.name])
    logging.getLogger(__name__).info("%s", table(config, found))
    assert not sorted(map(str, reachable(config) - found.keys())), table(config, found)
