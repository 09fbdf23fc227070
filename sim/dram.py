"""The DRAM channel: blocks are served one at a time. The one place that knows how long a block takes.

``serve`` is given the block's address and direction; the ideal channel ignores both, a banked one will not.
"""

from __future__ import annotations

from typing import Any

from sim.jit import jit
from sim.params import Params


@jit
def serve(params: Params, registers: Any, at: int, address: int, is_write: bool) -> int:
    """Serve the block at byte ``address`` from tick ``at`` on; returns the tick at which its service ends."""
    end: int = at + params.block_ticks
    registers.channel_free = end
    return end


@jit
def arrival(params: Params, service_end: int, is_write: bool) -> int:
    """When the requester has its data (reads), or the block is written (writes)."""
    if is_write:
        return service_end
    return service_end + params.latency_ticks
