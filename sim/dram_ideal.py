"""The DRAM channel: blocks are served one at a time. The one place that knows how long a block takes.

``serve`` is given the block's address and direction; the ideal channel ignores both, a banked one will not.
"""

from __future__ import annotations

from sim.jit import jit
from sim.state import State


@jit
def serve(state: State, at: int, address: int, is_write: bool) -> int:
    """Serve the block at byte ``address`` from tick ``at`` on; returns the tick at which its service ends."""
    state.now.channel_free = at + state.params.block_ticks
    return int(state.now.channel_free)


@jit
def arrival(state: State, service_end: int, is_write: bool) -> int:
    """When the requester has its data (reads), or the block is written (writes)."""
    return service_end if is_write else service_end + state.params.latency_ticks
