"""Data arrive, in any order: instruction words, blocks of the weight ring, the last byte of a load or store."""

from __future__ import annotations

from sim.columns import NOBODY
from sim.jit import jit
from sim.params import TICKS
from sim.state import FETCH, LOAD, MOVE_OUT, PER_BLOCK, STORE, State


@jit
def land(state: State, requester: int, item: int, place: int, at: int) -> bool:
    """One access has arrived (or been written) at tick ``at``; whether anybody may have waited for just that.

    ``item``: the block of instruction words, or the instruction that moves the data; ``place``: the block of the ring.
    """
    if requester == FETCH:
        return _land_words(state, item, at)
    changed = place != NOBODY and _land_in_ring(state, place, at)
    times = state.times[item]
    times.arrived = max(times.arrived, at)
    times.awaited -= 1
    queue = STORE if requester == MOVE_OUT else LOAD
    return retire(state, queue) or changed


@jit
def _land_words(state: State, block: int, at: int) -> bool:
    words = state.words[block]
    words.arrival = max(words.arrival, at)
    words.awaited -= 1
    if words.awaited > 0:
        return False
    first = block * PER_BLOCK
    for i in range(first, min(first + PER_BLOCK, len(state.code))):
        state.times[i].fetched = words.arrival
    return True


@jit
def _land_in_ring(state: State, place: int, at: int) -> bool:
    """Blocks count as arrived when all before them are: the decoder reads the ring in order."""
    now, blocks = state.now, state.params.ring_blocks
    slot = state.ring[place % blocks]
    slot.arrival = max(slot.arrival, at)
    slot.awaited -= 1
    while now.ring_arrived < now.ring_requested and state.ring[now.ring_arrived % blocks].awaited == 0:
        arrived = state.ring[now.ring_arrived % blocks]
        now.ring_latest = arrived.arrival = max(arrived.arrival, now.ring_latest)
        now.ring_arrived += 1
    return bool(now.ring_arrived >= now.ring_wanted)


@jit
def retire(state: State, queue: int) -> bool:
    """Complete, in order, what has been asked for to the end and has arrived; whether anything completed."""
    oldest = state.queues[queue].oldest
    while state.queues[queue].oldest != NOBODY:
        i = state.queues[queue].oldest
        if state.times[i].asked == 0 or state.times[i].awaited > 0:
            break
        done = state.times[i].arrived + state.code[i].cycles * TICKS  # of LDC: the codebook is folded
        state.queues[queue].last_completed = max(state.queues[queue].last_completed, done)
        state.times[i].completed = state.queues[queue].last_completed
        state.queues[queue].oldest = state.code[i].successor
    return bool(state.queues[queue].oldest != oldest)
