"""The whole decoder in Amaranth's simulator: layers of every codec, decoded as ``accel.codecs`` decodes them."""

from __future__ import annotations

import dataclasses
from itertools import pairwise

import numpy as np
import pytest
from amaranth.sim import Simulator
from decoder_bench import Bus, Rates, packet_beats, random_layers, run_layers

from accel.codecs import parse_codec
from accel.errors import ConfigError
from rtl.configuration import DecoderConfig
from rtl.decoder import Decoder
from rtl.generate import DecoderRequest as Request
from rtl.generate import decoder_verilog
from rtl.layer import LayerPlan, strip_plan
from rtl.registers import register_map
from rtl.vectors import LayerVectors, OutputBeat, random_layer
from rtl.verilog import ports_of

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
    ("ssvq:k=256,d=8", 4, 128),
    ("vq:k=64,d=8", 4, 128),
    ("ssvq:k=16,d=8", 8, 128),
    ("ssvq:k=64,d=9", 4, 128),
    ("mvq:k=64,d=8,nm=2:4", 8, 128),
]


def config_of(spelling: str, lookups: int, input_bits: int = 64) -> DecoderConfig:
    return DecoderConfig(parse_codec(spelling), lookups, input_bits)


@pytest.mark.parametrize(("spelling", "lookups", "input_bits"), CODECS)
@pytest.mark.parametrize("rates", [Rates(), Rates(0.6, 0.8, 0.7)], ids=["free", "stalled"])
def test_layers_are_decoded_bit_exact(spelling: str, lookups: int, input_bits: int, rates: Rates) -> None:
    config = config_of(spelling, lookups, input_bits)
    layers = random_layers(config, seed=lookups)
    run = run_layers(config, layers, rates=rates)
    assert run.output == [beat for layer in layers for beat in layer.output]
    assert run.event_names(config) == {"layer_done"}
    assert run.registers["LAYERS_DONE"] == len(layers)
    assert run.registers["TILES_OUT"] == sum(strip.tiles for layer in layers for strip in layer.plan)
    assert run.registers["STATUS"] == 2  # room, nothing queued


def test_residual_codebooks_are_refused() -> None:
    with pytest.raises(ConfigError, match="codewords of several stages is not built in hardware; allowed: codecs"):
        config_of("rvq:k=16,d=8,stages=2", 2)


def outputs(layers: list[LayerVectors]) -> list[OutputBeat]:
    return [beat for layer in layers for beat in layer.output]


def test_unknown_width_is_drained_and_the_next_layer_decoded() -> None:
    """Its codebook and its packets are taken, nothing comes out, an event tells."""
    config = config_of("ssvq:k=16,d=8", 2)
    good = random_layers(config, 3)
    bad = random_layers(config, 4, 1)[0]
    told = LayerVectors(dataclasses.replace(bad.plan, code_bits=7), bad.codebook, bad.packets, ())
    layers = [good[0], told, good[1], good[2]]
    run = run_layers(config, layers)
    assert run.output == outputs(layers)
    assert run.event_names(config) == {"layer_done", "width"}
    assert run.registers["LAYERS_DONE"] == 4


def strip_outputs(config: DecoderConfig, layer: LayerVectors) -> list[list[OutputBeat]]:
    """The output of a layer, strip by strip."""
    counts = [
        (strip.tiles - 1) * -(-strip.vectors // config.lookups) + -(-strip.last_vectors // config.lookups)
        for strip in layer.plan
    ]
    ends = np.cumsum([0, *counts]).tolist()
    return [list(layer.output[start:end]) for start, end in pairwise(ends)]


@pytest.mark.parametrize(("beats", "event"), [(-1, "packet_early"), (-5, "packet_early"), (3, "packet_late")])
@pytest.mark.parametrize("rates", [Rates(), Rates(0.7, 1.0, 0.6)], ids=["free", "stalled"])
def test_packet_of_wrong_length_costs_its_strip_at_most(beats: int, event: str, rates: Rates) -> None:
    config = config_of("ssvq:k=256,d=8", 1)
    strip = strip_plan(config, 8, 2, 20, 9)
    layer = random_layer(config, LayerPlan(8, 3, strip, strip), np.random.default_rng(1))
    packets = list(layer.packets)
    packets[1] = packets[1][: 8 * beats] if beats < 0 else packets[1] + bytes(8 * beats)
    stream = [beat for packet in packets for beat in packet_beats(packet, 8)]
    run = run_layers(config, [layer], rates=rates, beats=stream)
    assert run.event_names(config) == {"layer_done", event}
    wanted = strip_outputs(config, layer)
    size = len(wanted[0])
    found = [run.output[at : at + size] for at in range(0, 3 * size, size)]
    assert found[0] == wanted[0] and found[2] == wanted[2]
    assert [beat.last for beat in found[1]] == [beat.last for beat in wanted[1]]
    if event == "packet_late":
        assert found[1] == wanted[1]


@pytest.mark.parametrize(
    ("change", "event"),
    [
        (lambda book: book + bytes(8), "codebook_overflow"),
        (lambda book: book[:-1], "codebook_partial"),
        (lambda book: book[:-1] + b"\x80", "codeword_range"),
    ],
)
def test_broken_codebook_is_told_and_the_next_one_is_right(change: object, event: str) -> None:
    config = config_of("ssvq:k=16,d=8", 2)
    plan = LayerPlan(4, 1, strip_plan(config, 4, 1, 9, 9), strip_plan(config, 4, 1, 9, 9))
    layers = [random_layer(config, plan, np.random.default_rng(seed)) for seed in range(2)]
    books = [beat for book in (change(layers[0].codebook), layers[1].codebook) for beat in packet_beats(book, 8)]  # type: ignore[operator]
    run = run_layers(config, layers, codebook=books)
    assert run.event_names(config) == {"layer_done", event}
    assert run.output[5:] == list(layers[1].output)


@pytest.mark.parametrize(("spelling", "lookups"), [("ssvq:k=256,d=8", 4), ("vq:k=256,d=8", 1), ("int8", 8)])
def test_layers_follow_without_a_pause(spelling: str, lookups: int) -> None:
    """With all there ahead of time, and input and output equally fast, at most two cycles are lost between layers."""
    config = config_of(spelling, lookups)
    bits = min(6, config.codec.code_bits) if config.has_codebook else config.codec.code_bits
    strip = strip_plan(config, bits, 4, 32 * lookups, 32 * lookups)  # longer than writing registers and codebook takes
    plan = LayerPlan(bits, 2, strip, strip)
    layers = [random_layer(config, plan, np.random.default_rng(seed)) for seed in range(4)]
    run = run_layers(config, layers)
    assert run.output == outputs(layers)
    size = len(layers[0].output)
    gaps = [run.cycles[at] - run.cycles[at - 1] - 1 for at in range(size, 4 * size, size)]
    assert max(gaps) <= 2, gaps


def test_bus_and_registers() -> None:
    config = config_of("ssvq:k=16,d=8", 1)
    dut, registers = Decoder(config), register_map(config)
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def bench(ctx: object) -> None:
        bus = Bus(ctx, dut, config)
        for register in registers.registers:
            assert await bus.read_at(register.offset) == (register.reset, 0), register.name
            refused = 2 * (register.access == "RO")
            assert await bus.write_at(register.offset, 0) == refused, register.name
        for offset in set(range(0, 128, 4)) - {register.offset for register in registers.registers}:
            assert (await bus.read_at(offset))[1] == 2 and await bus.write_at(offset, 0) == 2
        for register in registers.of("layer", "plain"):
            mask = sum(field.mask for field in register.fields)
            await bus.write(register.name, 0xFFFFFFFF)
            assert await bus.read(register.name) == mask
            assert await bus.write_at(register.offset, 0, strobes=7) == 2
            assert await bus.read(register.name) == mask
        await bus.write("IRQ_ENABLE", registers["EVENTS"].pack(start_overrun=1))
        room = True
        while room:
            await bus.write("START", 1)
            room = bool(registers["STATUS"].unpack(await bus.read("STATUS"))["room"])
        queued = registers["STATUS"].unpack(await bus.read("STATUS"))
        assert queued["busy"] and queued["layers"] >= 2
        assert not ctx.get(dut.irq)  # type: ignore[attr-defined]
        await bus.write("START", 1)
        assert registers["STATUS"].unpack(await bus.read("STATUS"))["layers"] == queued["layers"]
        await bus.write("START", 1)
        assert registers["EVENTS"].unpack(await bus.read("EVENTS"))["start_overrun"] == 1
        assert ctx.get(dut.irq)  # type: ignore[attr-defined]
        await bus.write("EVENTS", registers["EVENTS"].pack(start_overrun=1))
        assert registers["EVENTS"].unpack(await bus.read("EVENTS"))["start_overrun"] == 0
        await bus.read("EVENTS")
        assert not ctx.get(dut.irq)  # type: ignore[attr-defined]
        assert await bus.read("BUSY_CYCLES") > 100
        await bus.write("CONTROL", 1)
        assert await bus.read("BUSY_CYCLES") < 40

    sim.add_testbench(bench)
    sim.run()


def test_requests_become_hardware() -> None:
    text = decoder_verilog(Request("ssvq:k=16,d=8", 2, 64, max_entries=64))
    ports = {port.name: port.width for port in ports_of(text)}
    assert ports["m_axis_tdata"] == 128 and ports["s_axis_codebook_tkeep"] == 8
    assert "s_axis_codebook_tdata" not in {port.name for port in ports_of(decoder_verilog(Request("int8", 8)))}
