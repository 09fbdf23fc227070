"""The event kernel: all queues advance as far as times are known, then the DRAM channel serves one block, and so on.

Only the channel needs events in global time order, to arbitrate; everything else is a recurrence of maxima over times
that are already known. Each turn serves one block, so a run is bounded by the blocks of its program; when nobody can ask
for a block any more, it is over or deadlocked. Time is int64 ticks (``TICKS`` per cycle).

How the timing rules are read where they leave room:

- Fetch counts whole blocks of four instructions against its limit of 32. Instruction words lie behind the program's
  DRAM area, and an instruction block's traffic belongs to the layer of its first instruction.
- The k-th token popped is the k-th pushed (``columns``). Tokens are not limited in number.
- An instruction without blocks to move, like FIN, completes when it has started and all before it are complete.
  Configuration completes in order too, so its tokens follow the results of earlier instructions of its queue.
- The shadow register's order is program order of the compute queue: a tile of DEC may be decoded before its GEM is
  dispatched, but not before the tiles of a GMS that stands in between have begun to stream.
- With signs a tile's stream position rounds up to whole records, without to whole bytes (as ``accel.tiles`` has it).
- A fence waits for the latest completion among all earlier instructions of the compute queue.
- VBT and VWN never set: one repetition, a window of one tap.
- Causes. Of equal constraints, the tile's decode binds before the fence, the fence before tokens, tokens (load,
  decode, compute, vector, store) before dispatch. A wait charged to data or tokens is ``dependency`` up to the dispatch
  of the waiting instruction. A chain of waits is followed through VEC and STA; a token from decode is ``decode``.
  In the tail (no tile left to stream) whatever is not vector work or a transfer is ``drain``.
"""

from __future__ import annotations

from typing import Any

from sim.array import advance_compute, advance_decode
from sim.causes import charge_tail
from sim.columns import Columns
from sim.jit import jit
from sim.params import Params
from sim.queues import advance_vector, dispatch
from sim.state import FETCH, NOBODY, State
from sim.transfers import choose, grant_fetch, grant_move, move_all

DONE, STALLED = range(2)


@jit
def run(params: Params, columns: Columns, state: State, registers: Any) -> int:
    """Run to the end; returns ``DONE`` or ``STALLED`` (``state.head`` tells where each queue stands)."""
    settle(params, columns, state, registers)
    requester = choose(params, columns, state, registers)
    while requester != NOBODY:
        if requester == FETCH:
            grant_fetch(params, state, registers)
        else:
            grant_move(params, columns, state, registers, requester)
        settle(params, columns, state, registers)
        requester = choose(params, columns, state, registers)
    if state.head.sum() < len(columns.action):
        return STALLED
    charge_tail(columns, state, registers.stream_end)
    return DONE


@jit
def settle(params: Params, columns: Columns, state: State, registers: Any) -> None:
    """Advance every queue until no more times can be known without another block from DRAM."""
    moved = True
    while moved:
        moved = dispatch(params, columns, state, registers)
        moved |= move_all(columns, state)
        moved |= advance_vector(columns, state)
        while advance_decode(params, columns, state, registers):
            moved = True
        while advance_compute(columns, state, registers):
            moved = True
