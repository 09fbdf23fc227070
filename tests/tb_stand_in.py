"""The stand-in against a list of words: every read under random stalls, while other addresses are written."""

from __future__ import annotations

import os
import random
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge
from rtl_stand_in import BITS, LATENCY, WORDS

HOT = 16  # addresses at either end of the table: few enough that most reads find something written
CYCLES = int(os.environ.get("STAND_IN_CYCLES", "2000"))
WRONG_AT = int(os.environ.get("STAND_IN_WRONG_AT", "-1"))  # a cycle in which the bench expects nonsense


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reads_what_was_written(dut: Any) -> None:
    """Words and sums arrive ``LATENCY`` enabled cycles after their address."""
    words, pending = [0] * WORDS, [0] * LATENCY
    dut.rst.value, dut.write_enable.value, dut.enable.value = 0, 0, 0
    Clock(dut.clk, 10, "ns").start()
    await FallingEdge(dut.clk)  # the first rising edge comes before any input has a value
    for cycle in range(CYCLES):
        write, read, data = (random.randrange(limit) for limit in (HOT, HOT, 1 << BITS))
        write, read = (address + (WORDS - HOT) * (cycle & 1) for address in (write, read))
        writing, enable = random.random() < 0.8 and write != read, random.random() < 0.7
        dut.write_enable.value, dut.write_address.value, dut.write_data.value = writing, write, data
        dut.enable.value, dut.read_address.value = enable, read
        await FallingEdge(dut.clk)
        if enable:
            pending = [words[read], *pending[:-1]]
        if writing:
            words[write] = data
        if cycle > LATENCY:
            assert int(dut.word.value) == pending[1] + (cycle == WRONG_AT), f"word of cycle {cycle}"
            assert int(dut.total.value) == (pending[2] & 255) + (pending[2] >> 8 & 255), f"sum of cycle {cycle}"


@cocotb.test(timeout_time=1, timeout_unit="ms")
async def reset_leaves_the_table(dut: Any) -> None:
    """Nothing but registers is reset."""
    Clock(dut.clk, 10, "ns").start()
    dut.rst.value = 1
    await FallingEdge(dut.clk)
    dut.rst.value = 0
    await FallingEdge(dut.clk)
