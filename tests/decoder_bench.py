"""A decoder in Amaranth's simulator: layers in, output beats out, with stalls on every side."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from amaranth.sim import Simulator

from rtl.configuration import DecoderConfig
from rtl.decoder import Decoder
from rtl.layer import LayerPlan, strip_plan
from rtl.registers import layer_values, register_map
from rtl.vectors import LayerVectors, OutputBeat, random_layer


def random_plan(config: DecoderConfig, rng: np.random.Generator, code_bits: int, most: int = 40) -> LayerPlan:
    """A layer of up to three strips of up to three tiles of up to ``most`` vectors."""
    tiles, strips = (int(rng.integers(1, 4)) for _ in range(2))
    sizes = [[int(rng.integers(1, most)) for _ in range(2)] for _ in range(2)]
    full, edge = (strip_plan(config, code_bits, tiles, size[0] if tiles > 1 else size[1], size[1]) for size in sizes)
    return LayerPlan(code_bits, strips, full if strips > 1 else edge, edge)


def random_layers(config: DecoderConfig, seed: int, count: int = 3, most: int = 40) -> list[LayerVectors]:
    rng = np.random.default_rng(seed)
    widths = [int(rng.choice(list(config.formats))) for _ in range(count)]
    return [random_layer(config, random_plan(config, rng, width, most), rng) for width in widths]


def packet_beats(packet: bytes, width: int) -> list[dict[str, int]]:
    """Beats of ``width`` bytes: signals of an AXI4-Stream."""
    beats = []
    for at in range(0, len(packet), width):
        part = packet[at : at + width]
        word = int.from_bytes(part, "little")
        beats.append({"tdata": word, "tkeep": (1 << len(part)) - 1, "tlast": int(at + width >= len(packet))})
    return beats


@dataclass
class Rates:
    """How likely a stream moves in a cycle."""

    stream: float = 1.0
    codebook: float = 1.0
    output: float = 1.0


@dataclass
class Run:
    """What came out: beats, the cycle of each, registers read at the end."""

    output: list[OutputBeat] = field(default_factory=list)
    cycles: list[int] = field(default_factory=list)
    registers: dict[str, int] = field(default_factory=dict)

    def event_names(self, config: DecoderConfig) -> set[str]:
        bits = register_map(config)["EVENTS"].unpack(self.registers["EVENTS"])
        return {name for name, value in bits.items() if value}


class Bus:
    """AXI4-Lite of a simulated decoder, one access at a time."""

    def __init__(self, ctx: Any, dut: Decoder, config: DecoderConfig) -> None:
        self.ctx, self.dut, self.map = ctx, dut, register_map(config)

    async def _handshake(self, channel: str, **values: int) -> None:
        for name, value in values.items():
            self.ctx.set(getattr(self.dut, f"s_axil_{name}"), value)
        valid = getattr(self.dut, f"s_axil_{channel}valid")
        self.ctx.set(valid, 1)
        await self.ctx.tick().until(getattr(self.dut, f"s_axil_{channel}ready"))
        self.ctx.set(valid, 0)

    async def write_at(self, offset: int, value: int, strobes: int = 15) -> int:
        """Returns BRESP."""
        await self._handshake("aw", awaddr=offset)
        await self._handshake("w", wdata=value, wstrb=strobes)
        return (await self._response("b", self.dut.s_axil_bresp))[0]

    async def read_at(self, offset: int) -> tuple[int, int]:
        """Returns RDATA and RRESP."""
        await self._handshake("ar", araddr=offset)
        data, response = await self._response("r", self.dut.s_axil_rdata, self.dut.s_axil_rresp)
        return data, response

    async def _response(self, channel: str, *signals: Any) -> tuple[int, ...]:
        ready, valid = (getattr(self.dut, f"s_axil_{channel}{name}") for name in ("ready", "valid"))
        self.ctx.set(ready, 1)
        values = await self.ctx.tick().sample(*signals).until(valid)
        self.ctx.set(ready, 0)
        return tuple(int(value) for value in values)

    async def write(self, name: str, value: int) -> None:
        assert await self.write_at(self.map[name].offset, value) == 0, name

    async def read(self, name: str) -> int:
        value, response = await self.read_at(self.map[name].offset)
        assert response == 0, name
        return value

    async def start(self, plan: LayerPlan) -> None:
        for name, value in layer_values(plan).items():
            await self.write(name, value)
        await self.write("START", 1)


async def send(ctx: Any, dut: Decoder, prefix: str, beats: Sequence[dict[str, int]], rate: float, seed: int) -> None:
    """Beats into a stream, as likely as ``rate`` in a cycle."""
    chance = random.Random(seed)
    for beat in beats:
        while chance.random() > rate:
            await ctx.tick()
        for name, value in beat.items():
            if hasattr(dut, prefix + name):
                ctx.set(getattr(dut, prefix + name), value)
        ctx.set(getattr(dut, f"{prefix}tvalid"), 1)
        await ctx.tick().until(getattr(dut, f"{prefix}tready"))
        ctx.set(getattr(dut, f"{prefix}tvalid"), 0)


async def receive(ctx: Any, dut: Decoder, config: DecoderConfig, run: Run, count: int, rate: float) -> None:
    """``count`` beats of the output; fails when nothing comes for long."""
    chance, cycle, heard = random.Random(7), 0, 0
    signals = [getattr(dut, f"m_axis_{name}") for name in ("tvalid", "tdata", "tkeep", "tlast")]
    while len(run.output) < count:
        ready = chance.random() <= rate
        ctx.set(dut.m_axis_tready, ready)
        _, _, valid, word, keep, last = await ctx.tick().sample(*signals)
        cycle += 1
        assert cycle - heard < 2000, f"nothing for long after {len(run.output)} of {count} beats"
        if valid and ready:
            heard = cycle
            assert keep & (keep + 1) == 0, "the bytes of a beat are its first ones"
            weights = word.to_bytes(config.output_bytes, "little")[: keep.bit_length()]
            run.output.append(OutputBeat(weights, bool(last)))
            run.cycles.append(cycle)


def run_layers(
    config: DecoderConfig,
    layers: Sequence[LayerVectors],
    *,
    rates: Rates | None = None,
    beats: Sequence[dict[str, int]] | None = None,
    codebook: Sequence[dict[str, int]] | None = None,
    expected: int | None = None,
    settle: int = 60,
) -> Run:
    """Decode ``layers``; ``beats``, ``codebook``: in place of what they hold. Waits for ``expected`` beats (default:
    all) and ``settle`` cycles more, then reads all registers."""
    dut, run, rates = Decoder(config), Run(), rates or Rates()
    width = config.input_bits // 8
    stream = [b for layer in layers for packet in layer.packets for b in packet_beats(packet, width)]
    books = [b for layer in layers for b in packet_beats(layer.codebook, 8)]
    count = sum(len(layer.output) for layer in layers) if expected is None else expected
    sim = Simulator(dut)
    sim.add_clock(1e-6)

    async def start(ctx: Any) -> None:
        bus = Bus(ctx, dut, config)
        for layer in layers:
            while not bus.map["STATUS"].unpack(await bus.read("STATUS"))["room"]:
                pass
            await bus.start(layer.plan)

    async def feed(ctx: Any) -> None:
        await send(ctx, dut, "s_axis_", stream if beats is None else beats, rates.stream, 1)

    async def load(ctx: Any) -> None:
        await send(ctx, dut, "s_axis_codebook_", books if codebook is None else codebook, rates.codebook, 2)

    async def finish(ctx: Any) -> None:
        await receive(ctx, dut, config, run, count, rates.output)
        await ctx.tick().repeat(settle)
        bus = Bus(ctx, dut, config)
        run.registers = {register.name: await bus.read(register.name) for register in bus.map.registers}

    sim.add_testbench(start, background=True)
    sim.add_testbench(feed, background=True)
    if config.has_codebook:
        sim.add_testbench(load, background=True)
    sim.add_testbench(finish)
    sim.run()
    return run
