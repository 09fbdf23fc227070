"""Timing diagrams of the decoder's streams as WaveJSON (wavedrom.com), recorded from a simulation of the hardware."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from rtl.configuration import DecoderConfig
from rtl.decoder import BUS, Decoder
from rtl.layer import LayerPlan, strip_plan
from rtl.registers import layer_values, register_map
from rtl.tools import require_package
from rtl.vectors import random_layer

STREAMS = ("s_axis", "m_axis")
_BEFORE, _AFTER = 2, 3  # cycles shown before the first beat comes and after the last has left
_BLOCKED = slice(4, 7)  # cycles of the output, from its first, in which it is not taken


def stream_waves(config: DecoderConfig) -> dict[str, Any]:
    """A strip of twelve groups comes in and goes out, with the output blocked for a while."""
    width = min(config.formats)
    strip = strip_plan(config, width, 2, 6 * config.lookups, 6 * config.lookups)
    layer = random_layer(config, LayerPlan(width, 1, strip, strip), np.random.default_rng(0))
    rows = _record(config, layer.plan, layer.codebook, layer.packets[0], len(layer.output))
    times = [t for t, row in enumerate(rows) if row["s_axis_tvalid"] or row["m_axis_tvalid"]]
    shown = rows[max(0, times[0] - _BEFORE) : times[-1] + 1 + _AFTER]
    signal: list[Any] = [{"name": "clk", "wave": "p" + "." * (len(shown) - 1)}]
    for stream in STREAMS:
        names = [name for name in shown[0] if name.startswith(f"{stream}_")]
        signal += [{}, [stream, *(_lane(name, stream, shown) for name in names)]]
    return {"signal": signal, "head": {"text": f"{config.codec}, {config.lookups} vectors a cycle", "tick": 0}}


def drawn(wave_json: str) -> str:
    """The diagram as an SVG file. Raises ``ToolError`` without WaveDrom."""
    require_package("wavedrom")
    import wavedrom

    return f"{wavedrom.render(wave_json).tostring()}\n"


def _lane(name: str, stream: str, rows: Sequence[Mapping[str, int]]) -> dict[str, Any]:
    values = [row[name] if row[f"{stream}_tvalid"] or name.endswith(("valid", "ready")) else None for row in rows]
    if name.endswith(("tdata", "tkeep")):
        return {"name": name, **_bus_wave(values)}
    symbols = ["x" if value is None else str(value) for value in values]
    return {"name": name, "wave": symbols[0] + "".join("." if a == b else b for a, b in pairwise(symbols))}


def _bus_wave(values: Sequence[int | None]) -> dict[str, Any]:
    """Every beat a box with its lowest digits."""
    wave, data, before = "", [], object()
    for value in values:
        wave += "." if value == before else "x" if value is None else "="
        if value != before and value is not None:
            data.append(f"{value & 0xFFFF:x}")
        before = value
    return {"wave": wave, "data": data}


def _record(config: DecoderConfig, plan: LayerPlan, codebook: bytes, packet: bytes, beats: int) -> list[dict[str, int]]:
    """The streams' signals in every cycle, once registers and codebook are written."""
    from amaranth.sim import Simulator

    dut = Decoder(config)
    rows: list[dict[str, int]] = []
    sim = Simulator(dut)
    sim.add_clock(1e-6)
    names = [name for stream in STREAMS for name in _signals(stream)]

    async def bench(ctx: Any) -> None:
        await _prepare(ctx, dut, config, plan, codebook)
        size, at, taken, quiet = config.input_bits // 8, 0, 0, 0
        started = None
        while quiet < _AFTER:
            offered = packet[at : at + size] if len(rows) >= _BEFORE else b""
            ctx.set(dut.s_axis_tvalid, int(bool(offered)))
            ctx.set(dut.s_axis_tdata, int.from_bytes(offered, "little"))
            ctx.set(dut.s_axis_tlast, int(at + size >= len(packet)))
            ctx.set(dut.m_axis_tready, int(started is None or len(rows) - started not in range(*_BLOCKED.indices(99))))
            _, _, *values = await ctx.tick().sample(*(getattr(dut, name) for name in names))
            row = dict(zip(names, map(int, values), strict=True))
            rows.append(row)
            started = len(rows) if started is None and row["m_axis_tvalid"] else started
            at += size * (row["s_axis_tvalid"] & row["s_axis_tready"])
            quiet += taken == beats
            taken += row["m_axis_tvalid"] & row["m_axis_tready"]
        ctx.set(dut.s_axis_tvalid, 0)

    sim.add_testbench(bench)
    sim.run()
    return rows


def _signals(stream: str) -> list[str]:
    kinds = ("tvalid", "tready", "tdata", *(("tkeep",) if stream == "m_axis" else ()), "tlast")
    return [f"{stream}_{kind}" for kind in kinds]


async def _prepare(ctx: Any, dut: Decoder, config: DecoderConfig, plan: LayerPlan, codebook: bytes) -> None:
    registers = register_map(config)
    ctx.set(getattr(dut, f"{BUS}bready"), 1)
    ctx.set(getattr(dut, f"{BUS}wstrb"), 15)
    for name, value in {**layer_values(plan), "START": 1}.items():
        await _send(ctx, dut, f"{BUS}aw", {"addr": registers[name].offset})
        await _send(ctx, dut, f"{BUS}w", {"data": value})
        await ctx.tick().until(getattr(dut, f"{BUS}bvalid"))
    for at in range(0, len(codebook), 8):
        part = codebook[at : at + 8]
        values = {"data": int.from_bytes(part, "little"), "keep": (1 << len(part)) - 1, "last": at + 8 >= len(codebook)}
        await _send(ctx, dut, "s_axis_codebook_t", values)
    await ctx.tick().repeat(40)


async def _send(ctx: Any, dut: Decoder, prefix: str, values: Mapping[str, int]) -> None:
    for name, value in values.items():
        ctx.set(getattr(dut, prefix + name), value)
    ctx.set(getattr(dut, f"{prefix}valid"), 1)
    await ctx.tick().until(getattr(dut, f"{prefix}ready"))
    ctx.set(getattr(dut, f"{prefix}valid"), 0)
