"""The codebook loader: bytes of every codeword length into codewords, at its rate; broken packets and the next one."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.sim import Simulator
from decoder_bench import packet_beats

from accel.codecs import parse_codec
from rtl.codebook_loader import CodebookLoader, unit_bytes
from rtl.configuration import DecoderConfig

pytestmark = pytest.mark.rtl
LENGTHS = (4, 8, 9, 16, 18)


def load(
    length: int, packets: list[bytes], rate: float, idle_beats: tuple[int, ...] = ()
) -> tuple[list[Any], int, int]:
    """The codewords (bytes, last), errors, and cycles until the last codeword; ``idle_beats``: packets with an empty
    last beat behind them."""
    dut = CodebookLoader(DecoderConfig(parse_codec(f"vq:k=64,d={length}")))
    sim, chance, found, errors, cycles = Simulator(dut), random.Random(1), [], [0], [0]
    sim.add_clock(1e-6)
    beats = []
    for number, packet in enumerate(packets):
        beats += packet_beats(packet, 8)
        if number in idle_beats:
            beats[-1]["tlast"] = 0
            beats.append({"tdata": 0, "tkeep": 0, "tlast": 1})

    async def feed(ctx: Any) -> None:
        for beat in beats:
            while chance.random() > rate:
                await ctx.tick()
            ctx.set(dut.beat.payload, {"data": beat["tdata"], "keep": beat["tkeep"], "last": beat["tlast"]})
            ctx.set(dut.beat.valid, 1)
            await ctx.tick().until(dut.beat.ready)
            ctx.set(dut.beat.valid, 0)

    async def read(ctx: Any) -> None:
        quiet = cycle = 0
        word = dut.codeword
        while quiet < 50:
            ready = chance.random() <= rate
            ctx.set(word.ready, ready)
            _, _, valid, weights, last, error = await ctx.tick().sample(
                word.valid, word.p.weights, word.p.last, dut.error_partial
            )
            quiet, cycle = (0 if valid else quiet + 1), cycle + 1
            errors[0] += error
            if valid and ready:
                found.append((weights.to_bytes(length, "little"), bool(last)))
                cycles[0] = cycle

    sim.add_testbench(feed, background=True)
    sim.add_testbench(read)
    sim.run()
    return found, errors[0], cycles[0]


def codewords(packet: bytes, length: int) -> list[tuple[bytes, bool]]:
    return [(packet[at : at + length], at + length == len(packet)) for at in range(0, len(packet), length)]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("rate", [1.0, 0.6])
def test_codewords_of_every_length(length: int, rate: float) -> None:
    rng = random.Random(length)
    packets = [rng.randbytes(length * count) for count in (1, 2, 3, 16, 7)]
    found, errors, cycles = load(length, packets, rate)
    assert found == [word for packet in packets for word in codewords(packet, length)]
    assert errors == 0
    if rate == 1.0:
        assert cycles <= sum(-(-len(p) // unit_bytes(length)) for p in packets) + 4


@pytest.mark.parametrize("length", LENGTHS)
def test_broken_packets_end_a_codebook_each(length: int) -> None:
    """Cut within a codeword, cut within a unit, with an empty last beat; whole ones between them."""
    rng = random.Random(length)
    whole = [rng.randbytes(length * 4) for _ in range(3)]
    packets = [whole[0], whole[1][: 3 * length + 1], whole[1], whole[2][: 2 * length - 1], whole[2], whole[0][:1]]
    found, errors, _ = load(length, packets, 0.8)
    assert errors == 3 and sum(last for _, last in found) == len(packets)
    ends = [number for number, (_, last) in enumerate(found) if last]
    for packet, end in ((0, ends[0]), (2, ends[2]), (4, ends[4])):
        assert found[end - 3 : end + 1] == codewords(packets[packet], length)


def test_empty_last_beat() -> None:
    packet = random.Random(2).randbytes(64)
    found, errors, _ = load(8, [packet, packet], 1.0, idle_beats=(0,))
    assert errors == 1 and [last for _, last in found] == [False] * 8 + [True] + [False] * 7 + [True]
    assert [word for word, _ in found[9:]] == [word for word, _ in codewords(packet, 8)]
