"""A decoder on its buses, with the drivers and sinks of cocotbext-axi: every scenario of a file is one test.

The file (``DECODER_SCENARIOS``, made by ``decoder_scenarios``) says what goes in, when all pauses or is reset, and what
must come out. What was seen at the pins is left in ``DECODER_SEEN``: how the ports stalled before each output beat.
"""

from __future__ import annotations

import json
import logging
import os
import random
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.task import Task
from cocotb.triggers import ClockCycles, FallingEdge, RisingEdge, Timer
from cocotbext.axi import AxiLiteBus, AxiLiteMaster, AxiStreamBus, AxiStreamSink, AxiStreamSource

SCENARIOS = json.loads(Path(os.environ["DECODER_SCENARIOS"]).read_text())
SEEN = Path(os.environ["DECODER_SEEN"])
SILENCE = 1500  # cycles without a beat anywhere after which nothing is thought to come
SETTLE = 60  # cycles from the last beat to the last of its effects on registers
BLOCKED, STARVED, BOTH = 1, 2, 4  # how ports stalled: see decoder_coverage
UNFINISHED: list[str] = []  # the scenario that runs, or that failed


def stalls(share: float, length: float, chance: random.Random) -> Iterator[bool]:
    """Whether a port pauses, cycle by cycle: ``share`` of the time, ``length`` cycles on end in the mean."""
    while True:
        cycles = 1 + int(chance.expovariate(1 / (length - 1))) if length > 1 else 1
        yield from repeat(chance.random() < share, cycles)


class Pins:
    """Watches the ports in the middle of every cycle, when all has settled: the rules of streams, counts, stalls."""

    # Outputs that must stay as they are until they are taken.
    STREAMS = (
        ("m_axis_t", ("data", "keep", "last")),
        ("s_axil_b", ("resp",)),
        ("s_axil_r", ("data", "resp")),
    )

    def __init__(self, dut: Any) -> None:
        self.dut, self.cycle = dut, 0
        self.streams = [
            (prefix, getattr(dut, f"{prefix}valid"), getattr(dut, f"{prefix}ready"), self._payload(prefix, names))
            for prefix, names in self.STREAMS
        ]
        self.input = (dut.s_axis_tvalid, dut.s_axis_tready)
        coded = hasattr(dut, "s_axis_codebook_tdata")
        self.codebook = (dut.s_axis_codebook_tvalid, dut.s_axis_codebook_tready) if coded else ()
        self.forget()

    def _payload(self, prefix: str, names: tuple[str, ...]) -> list[Any]:
        return [getattr(self.dut, prefix + name) for name in names]

    def forget(self) -> None:
        """Begin anew, as after a reset."""
        self.offered: dict[str, list[str]] = {}
        self.blocked = self.mask = 0
        self.heard = self.cycle
        self.masks: list[int] = []
        self.cycles: list[int] = []

    async def watch(self) -> None:
        while True:
            await FallingEdge(self.dut.clk)
            self.cycle += 1
            if self.dut.rst.value:
                self.forget()
                continue
            moved = {prefix: self._rules(prefix, *ports) for prefix, *ports in self.streams}
            self._count(*moved["m_axis_t"], *(bool(port.value) for port in self.input))

    def _rules(self, prefix: str, valid: Any, ready: Any, payload: list[Any]) -> tuple[bool, bool]:
        """Fails if an offer was withdrawn or changed; returns both sides of the handshake."""
        offers, takes = bool(valid.value), bool(ready.value)
        before, now = self.offered.pop(prefix, None), [str(port.value) for port in payload] if offers else None
        assert before is None or before == now, f"{prefix}: {before} became {now} before it was taken"
        if now and not takes:
            self.offered[prefix] = now
        return offers, takes

    def _count(self, offers: bool, takes: bool, given: bool, accepted: bool) -> None:
        blocked = offers and not takes
        self.blocked += blocked
        self.mask |= BLOCKED * blocked | STARVED * (accepted and not given and not offers)
        self.mask |= BOTH * (blocked and given and not accepted)
        if (given and accepted) or (self.codebook and all(port.value for port in self.codebook)):
            self.heard = self.cycle
        if offers and takes:
            self.heard = self.cycle
            self.masks.append(self.mask)
            self.cycles.append(self.cycle)
            self.mask = 0


class Bench:
    """All drivers around one decoder."""

    def __init__(self, dut: Any, scenario: dict[str, Any]) -> None:
        logging.getLogger(f"cocotb.{dut._name}").setLevel(logging.ERROR)  # else every frame is a line
        self.dut, self.scenario, self.pins = dut, scenario, Pins(dut)
        ports = (dut.clk, dut.rst)
        self.bus = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axil"), *ports)
        self.stream = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), *ports)
        self.output = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), *ports)
        self.sources = {"stream": (self.stream, scenario["packets"])}
        if hasattr(dut, "s_axis_codebook_tdata"):
            books = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis_codebook"), *ports)
            self.sources["codebook"] = (books, scenario["books"])
        self.lanes, self.begun = len(dut.m_axis_tkeep), 0
        self._pause()

    def _pause(self) -> None:
        write, read = self.bus.write_if, self.bus.read_if
        channels = (write.aw_channel, write.w_channel, write.b_channel, read.ar_channel, read.r_channel)
        ports = {name: (source,) for name, (source, _) in self.sources.items()} | {
            "output": (self.output,),
            "bus": channels,
        }
        for name, paused in ports.items():
            for port in paused:
                chance = random.Random(random.random())
                port.set_pause_generator(stalls(*self.scenario["stalls"][name], chance))

    async def reset(self) -> None:
        """What is on its way is lost, on both sides."""
        await RisingEdge(self.dut.clk)
        self.dut.rst.value = 1
        await ClockCycles(self.dut.clk, 4)
        for port in (self.output, *(source for source, _ in self.sources.values())):
            port.clear()
        self.dut.rst.value = 0
        await ClockCycles(self.dut.clk, 1)

    async def start(self) -> None:
        """Tell the decoder of all layers, while there is room for them."""
        status, mask = self.scenario["room"]
        for writes in self.scenario["writes"]:
            while not await self.read(status) & mask:
                pass
            for offset, value in writes:
                answer = await self.bus.write(offset, value.to_bytes(4, "little"))
                assert answer.resp == 0, f"write of {value} to {offset:#x}: {answer.resp}"

    async def read(self, offset: int) -> int:
        answer = await self.bus.read(offset, 4)
        assert answer.resp == 0, f"read at {offset:#x}: {answer.resp}"
        return int.from_bytes(answer.data, "little")

    def send(self) -> None:
        """Everything at once: pauses and the decoder decide when it moves."""
        for source, frames in self.sources.values():
            for frame in frames:
                source.send_nowait(bytes.fromhex(frame))

    async def finish(self, starting: Task[None]) -> None:
        """Until all is in and out and quiet, or nothing has moved for long."""
        wanted = len(self.scenario["output"])
        while not starting.done() or len(self.pins.masks) < wanted or not self._idle():
            await ClockCycles(self.dut.clk, 20)
            silent = self.pins.cycle - self.pins.heard
            assert silent < SILENCE, f"nothing for long after {len(self.pins.masks)} of {wanted} beats"
        await ClockCycles(self.dut.clk, SETTLE)

    def _idle(self) -> bool:
        return all(source.idle() for source, _ in self.sources.values())


def beats_of(frames: list[Any], lanes: int) -> Iterator[tuple[bytes, bool]]:
    """Kept bytes of each beat, and whether it ended a frame."""
    for frame in frames:
        for at in range(0, len(frame.tdata), lanes):
            keep = frame.tkeep[at : at + lanes]
            assert keep == sorted(keep, reverse=True), f"TKEEP {keep}: the bytes of a beat are its first ones"
            yield bytes(frame.tdata[at : at + sum(keep)]), at + lanes == len(frame.tdata)


def check_output(scenario: dict[str, Any], found: list[tuple[bytes, bool]]) -> None:
    """Every beat: its bytes (of those after an error only how many), TKEEP and TLAST."""
    for number, ((wanted, last, known), (weights, ends)) in enumerate(zip(scenario["output"], found, strict=False)):
        right = bytes.fromhex(wanted)
        same = weights == right if known else len(weights) == len(right)
        assert same and ends == last, (
            f"beat {number} is {weights.hex()} last {ends}, expected {wanted if known else len(right)} last {last}"
        )
    assert len(found) == len(scenario["output"]), f"{len(found)} beats, expected {len(scenario['output'])}"


async def check_registers(bench: Bench) -> None:
    """What must be there, and counters against what was counted at the pins."""
    scenario, pins = bench.scenario, bench.pins
    for name, offset, value in scenario["registers"]:
        found = await bench.read(offset)
        assert found == value, f"{name} is {found:#x}, expected {value:#x}"
    busy, starved, blocked = [await bench.read(offset) for offset in scenario["counters"]]
    assert blocked == pins.blocked, f"BLOCKED_CYCLES is {blocked}, the output was not taken in {pins.blocked} cycles"
    span = pins.cycles[-1] - pins.cycles[0] if scenario["seamless"] else 0
    assert span <= busy <= pins.cycle - bench.begun, f"BUSY_CYCLES is {busy}"
    least, most = scenario["starved"]
    assert least <= starved <= min(most, busy), f"STARVED_CYCLES is {starved}, expected {least} to {most}"


def leave(name: str, masks: list[int], found: list[tuple[bytes, bool]]) -> None:
    seen = json.loads(SEEN.read_text()) if SEEN.exists() else {}
    SEEN.write_text(json.dumps({**seen, name: masks}))
    SEEN.with_name(f"{name}.weights").write_bytes(b"".join(weights for weights, _ in found))


@cocotb.test(timeout_time=20, timeout_unit="ms")
@cocotb.parametrize(scenario=[cocotb.Param(row, name=row["name"]) for row in SCENARIOS])
async def decodes(dut: Any, scenario: dict[str, Any]) -> None:
    """Nothing is run behind the first failure: what is broken may do nothing, slowly."""
    assert not UNFINISHED, f"not run after {UNFINISHED[0]}"
    UNFINISHED.append(scenario["name"])
    dut.rst.value = 0
    bench = Bench(dut, scenario)
    Clock(dut.clk, 10, "ns").start()
    await Timer(1, "ns")  # Icarus wants a change of inputs before it evaluates `always @*`
    await bench.reset()
    watcher = cocotb.start_soon(bench.pins.watch())
    for cycles in scenario["resets"]:
        bench.send()
        starting = cocotb.start_soon(bench.start())
        await ClockCycles(dut.clk, cycles)
        starting.cancel()
        await bench.reset()
    bench.begun = bench.pins.cycle
    bench.send()
    await bench.finish(cocotb.start_soon(bench.start()))
    found = list(beats_of([bench.output.recv_nowait(compact=False) for _ in range(bench.output.count())], bench.lanes))
    check_output(scenario, found)
    await check_registers(bench)
    leave(scenario["name"], bench.pins.masks, found)
    watcher.cancel()
    UNFINISHED.clear()
