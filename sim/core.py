"""The event kernel: all queues advance as far as times are known, then the DRAM channel serves one block, and so on.

Only the channel needs events in global time order, to arbitrate; everything else is a recurrence of maxima over times
that are already known. Each turn serves one block, so a run is bounded by the blocks of its program; when nobody can
ask for a block any more, it is over or deadlocked. Time is int64 ticks (``TICKS`` per cycle).

How the timing rules are read where they leave room:

- Loads start in order, each on the engine that has been free for longest, and not before the loads that started
  earlier; while they move data they take turns with the store engine. Completion is in order, whatever arrives first.
  Two loads of the same bytes with no use of them in between are not ordered; the static checker refuses them.
- Fetch counts whole blocks of four instructions against its limit of 32. Instruction words lie behind the program's
  DRAM area, and an instruction block's traffic belongs to the layer of its first instruction.
- The k-th token popped is the k-th pushed (``columns``). Tokens are not limited in number.
- An instruction without blocks to move, like FIN, completes when it has started and all before it are complete.
  Configuration completes in order too, so its tokens follow the results of earlier instructions of its queue.
- The shadow register's order is program order of the compute queue: a tile of DEC may be decoded before its GEM is
  dispatched, but not before the tiles of a GMS that stands in between have begun to stream.
- With signs a tile's stream position rounds up to whole records, without to whole bytes, at the end of a strip to whole
  records (as ``accel.tiles`` has it).
- A fence waits for the latest completion among all earlier instructions of the compute queue.
- VBT and VWN never set: one repetition, a window of one tap.
- Causes. Of equal constraints, the tile's decode binds before the fence, the fence before tokens, tokens (load,
  decode, compute, vector, store) before dispatch. A wait charged to data or tokens is ``dependency`` up to the dispatch
  of the waiting instruction. A chain of waits is followed through VEC and STA; a token from decode is ``decode``.
  In the tail (no tile left to stream) whatever is not vector work or a transfer is ``drain``.
"""

from __future__ import annotations

from sim.array import advance_compute
from sim.causes import charge_tail
from sim.columns import NOBODY
from sim.decoder import advance_decode
from sim.dram.state import NEVER, Channels
from sim.jit import jit, jit_entry
from sim.memory import next_event, request_clock, step
from sim.queues import advance_vector, dispatch
from sim.state import FETCH, State
from sim.tape import is_full
from sim.transfers import choose, grant_fetch, grant_move, start_load, start_store

DONE, STALLED, PAUSED = range(3)


@jit_entry
def run(state: State, dram: Channels) -> int:
    """Run to the end; returns ``DONE``, ``STALLED`` (``state.queues`` tells where each queue stands), or ``PAUSED`` to
    be called again once the tape has been taken."""
    changed = True
    while True:
        if changed:
            settle(state)
        if is_full(state):
            return PAUSED
        requester, (at, channel) = choose(state, dram), next_event(state, dram)
        if at != NEVER and (requester == NOBODY or at < request_clock(state)):
            changed = step(state, dram, channel)
        elif requester == NOBODY:
            break
        else:
            changed = _grant(state, dram, requester)
    for queue in range(len(state.queues)):
        if state.queues[queue].oldest != NOBODY:
            return STALLED
    charge_tail(state, state.now.stream_end)
    return DONE


@jit
def _grant(state: State, dram: Channels, requester: int) -> bool:
    """Ask for the block; whether anybody may have waited for that."""
    if requester == FETCH:
        return grant_fetch(state, dram)
    return grant_move(state, dram, requester)


@jit
def settle(state: State) -> None:
    """Advance every queue until no more times can be known without another block from DRAM."""
    moved = True
    while moved and not is_full(state):
        moved = dispatch(state)
        moved |= start_load(state)
        moved |= start_store(state)
        moved |= advance_vector(state)
        moved |= advance_decode(state)
        moved |= advance_compute(state)
