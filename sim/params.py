"""Machine to the plain integers kernels take: the only bridge between the two."""

from __future__ import annotations

from typing import NamedTuple

from accel.isa import BLOCK_BYTES, QUEUE_DEPTH
from accel.machine import Machine

TICKS = 1 << 20  # ticks per cycle: fine enough for the block time of any bandwidth, coarse enough for 2**43 cycles
FETCH_AHEAD = 32  # instructions fetched or requested ahead of dispatch


class Params(NamedTuple):
    """Times in ticks; ``lanes`` 0 makes vector work free; ``instruction_address``: where the instruction words lie."""

    block_ticks: int
    latency_ticks: int
    lookups: int
    lanes: int
    ring_blocks: int
    queue_depth: int
    fetch_ahead: int
    instruction_address: int


def machine_params(machine: Machine, dram_bytes: int) -> Params:
    """Parameters of ``machine``; instruction words are taken to follow the program's ``dram_bytes``."""
    return Params(
        block_ticks=max(1, round(BLOCK_BYTES / machine.bandwidth_bytes_per_cycle * TICKS)),
        latency_ticks=machine.dram.latency_cycles * TICKS,
        lookups=machine.decoder.lookups_per_cycle,
        lanes=machine.vector.lanes,
        ring_blocks=machine.sram.weight_bytes // BLOCK_BYTES,
        queue_depth=QUEUE_DEPTH,
        fetch_ahead=FETCH_AHEAD,
        instruction_address=-(-dram_bytes // BLOCK_BYTES) * BLOCK_BYTES,
    )
