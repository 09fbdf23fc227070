"""The whole decoder in Amaranth's simulator: layers of every codec, decoded as ``accel.codecs`` decodes them."""

from __future__ import annotations

import pytest
from decoder_bench import Rates, random_layers, run_layers

from accel.codecs import parse_codec
from rtl.configuration import DecoderConfig

pytestmark = pytest.mark.rtl

CODECS = [
    ("ssvq:k=256,d=8", 1, 64),
    ("ssvq:k=16,d=8", 4, 64),
    ("vq:k=256,d=4", 2, 64),
    ("ssvq:k=64,d=9", 2, 64),
    ("ssvq:k=16,d=16", 1, 64),
    ("mvq:k=64,d=8,nm=2:4", 4, 64),
    ("lr2vq:k=64,m=18,r=4", 2, 64),
    ("int8", 8, 64),
    ("int4", 8, 64),
    ("vq:k=64,d=8", 4, 128),
    ("ssvq:k=16,d=8", 2, 128),
]


def config_of(spelling: str, lookups: int, input_bits: int = 64) -> DecoderConfig:
    return DecoderConfig(parse_codec(spelling), lookups, input_bits)


@pytest.mark.parametrize(("spelling", "lookups", "input_bits"), CODECS)
@pytest.mark.parametrize("rates", [Rates(), Rates(0.6, 0.8, 0.7)], ids=["free", "stalled"])
def test_layers_are_decoded_bit_exact(spelling: str, lookups: int, input_bits: int, rates: Rates) -> None:
    config = config_of(spelling, lookups, input_bits)
    layers = random_layers(config, seed=hash((lookups, input_bits)) & 0xFF)
    run = run_layers(config, layers, rates=rates)
    assert run.output == [beat for layer in layers for beat in layer.output]
    assert run.event_names(config) == {"layer_done"}
    assert run.registers["LAYERS_DONE"] == len(layers)
    assert run.registers["TILES_OUT"] == sum(strip.tiles for layer in layers for strip in layer.plan)
    assert run.registers["STATUS"] == 2  # room, nothing queued
