"""Decoders on AXI buses of others (cocotbext-axi) in two simulators: bit for bit what ``accel.codecs`` decodes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from decoder_runs import run_scenarios
from decoder_scenarios import MAKERS

from accel.codecs import parse_codec
from accel.errors import ConfigError
from rtl.configuration import DecoderConfig

pytestmark = pytest.mark.rtl

ALL = tuple(MAKERS)
CODED = ("streams", "switches", "book_faults")
# Codec, lookups a cycle, bits of the input, simulator, what happens.
ROWS = [
    ("ssvq:k=16,d=8", 2, 64, "icarus", ALL),
    ("vq:k=64,d=4", 4, 64, "icarus", ALL),
    ("mvq:k=64,d=8,nm=2:4", 4, 64, "icarus", CODED),
    ("lr2vq:k=16,m=18,r=4", 2, 64, "icarus", CODED),
    ("ssvq:k=16,d=9", 2, 64, "icarus", CODED),
    ("ssvq:k=16,d=16", 1, 64, "icarus", CODED),
    ("vq:k=64,d=8", 8, 128, "icarus", CODED),
    ("int8", 8, 64, "icarus", ("streams", "faults", "starving")),
    ("int4", 4, 128, "icarus", ("streams",)),
    ("ssvq:k=256,d=8", 4, 64, "verilator", ALL),
]


@pytest.mark.parametrize(("codec", "lookups", "input_bits", "simulator", "makers"), ROWS)
def test_decoder_on_its_buses(
    codec: str, lookups: int, input_bits: int, simulator: str, makers: tuple[str, ...], tmp_path: Path
) -> None:
    config = DecoderConfig(parse_codec(codec), lookups, input_bits)
    scenarios = [scenario for name in makers for scenario in MAKERS[name](config, seed=lookups)]
    assert run_scenarios(config, scenarios, tmp_path, simulator).keys() == {row.name for row in scenarios}


def random_config(chance: random.Random) -> DecoderConfig:
    """Any decoder that can be built, of small codebooks, which load fast."""
    while True:
        k, d = 1 << chance.randint(1, 6), chance.choice([4, 8, 9, 16, 18])
        family = chance.choice([f"vq:k={k},d={d}", f"ssvq:k={k},d={d}", f"mvq:k={k},d=8,nm=2:4", "int8", "int4"])
        try:
            return DecoderConfig(parse_codec(family), chance.choice([1, 2, 4, 8]), chance.choice([64, 128]))
        except ConfigError:
            continue


@pytest.mark.parametrize("seed", (1, 9, 13))
def test_random_decoder(seed: int, tmp_path: Path) -> None:
    config = random_config(random.Random(seed))
    rows = [row for maker in (MAKERS["streams"], MAKERS["switches"]) for row in maker(config, seed)]
    chosen = [row for row in rows if row.name in ("bursts", "resets", "switches_stalled")]
    assert run_scenarios(config, chosen, tmp_path).keys() == {row.name for row in chosen}
