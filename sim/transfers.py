"""The three requesters of the DRAM channel (fetch, load, store): what block each wants, since when, and who gets it."""

from __future__ import annotations

from accel.isa import BLOCK_BYTES
from sim.columns import NOBODY, WEIGHTS
from sim.dram_ideal import arrival, serve
from sim.jit import jit
from sim.queues import complete, ready
from sim.state import FETCH, MOVE_IN, MOVE_OUT, PER_BLOCK, UNKNOWN, State


@jit
def start_transfer(state: State, requester: int, queue: int) -> bool:
    """Start the next instruction of the load or store queue once the previous one has been granted its last block.

    An instruction without blocks (FIN; empty transfers) completes on the spot.
    """
    mover, i = state.movers[requester], state.queues[queue].head
    if mover.active != NOBODY or i == NOBODY:
        return False
    at = ready(state, i)
    if at == UNKNOWN:
        return False
    if state.code[i].fence:
        at = max(at, state.queues[queue].last_completed)
    mover.request = max(at, mover.request)
    state.times[i].started = mover.request
    if state.code[i].rows * state.code[i].row_bytes == 0:
        complete(state, i, mover.request)
    else:
        mover.active = i
        _begin_row(state, requester, 0)
    return True


@jit
def _begin_row(state: State, requester: int, row: int) -> None:
    mover = state.movers[requester]
    instruction = state.code[mover.active]
    begin = instruction.address + row * instruction.stride
    mover.row = row
    mover.block = begin // BLOCK_BYTES
    mover.last_block = (begin + instruction.row_bytes - 1) // BLOCK_BYTES


@jit
def _fetch_request(state: State) -> int:
    """When the next instruction block is asked for: whole blocks, at most ``fetch_ahead`` ahead of dispatch."""
    first = state.now.next_fetch * PER_BLOCK
    if first >= len(state.code):
        return UNKNOWN
    awaited = first + PER_BLOCK - state.params.fetch_ahead - 1
    if awaited < 0:
        return int(state.now.fetch_granted)
    dispatched = state.times[awaited].dispatched
    return UNKNOWN if dispatched == UNKNOWN else int(max(state.now.fetch_granted, dispatched))


@jit
def _move_request(state: State, requester: int) -> int:
    """When load or store asks for its next block; weights also wait until the ring has room."""
    mover, now = state.movers[requester], state.now
    if mover.active == NOBODY:
        return UNKNOWN
    displaced = now.ring_requested - state.params.ring_blocks
    if state.code[mover.active].action != WEIGHTS or displaced < 0:
        return int(mover.request)
    if displaced >= now.ring_freed:
        return UNKNOWN
    return int(max(mover.request, state.ring[displaced % state.params.ring_blocks].freed))


@jit
def choose(state: State) -> int:
    """Whose block is served next, at ``now.grant_time``: fetch first, then load and store in turns.

    Nobody whose request time is still unknown can be in time for this grant: such a request hangs on a block that has
    not been granted yet, and service takes at least a tick.
    """
    fetch, load, store = _fetch_request(state), _move_request(state, MOVE_IN), _move_request(state, MOVE_OUT)
    earliest = UNKNOWN
    for request in (fetch, load, store):
        if request != UNKNOWN and (earliest == UNKNOWN or request < earliest):
            earliest = request
    if earliest == UNKNOWN:
        return NOBODY
    now = max(earliest, state.now.channel_free)
    state.now.grant_time = now
    if fetch != UNKNOWN and fetch <= now:
        return FETCH
    load_waits, store_waits = load != UNKNOWN and load <= now, store != UNKNOWN and store <= now
    if load_waits and (not store_waits or state.now.last_mover == MOVE_OUT):
        return MOVE_IN
    return MOVE_OUT


@jit
def grant_fetch(state: State) -> None:
    """Serve the next block of instruction words."""
    now = state.now
    address = state.params.instruction_address + now.next_fetch * BLOCK_BYTES
    fetched = arrival(state, serve(state, now.grant_time, address, False), False)
    first = now.next_fetch * PER_BLOCK
    for i in range(first, min(first + PER_BLOCK, len(state.code))):
        state.times[i].fetched = fetched
    now.fetch_granted = now.grant_time
    now.next_fetch += 1


@jit
def grant_move(state: State, requester: int) -> None:
    """Serve the next block of the load or store instruction under way; its last block completes it."""
    mover, now, is_write = state.movers[requester], state.now, requester == MOVE_OUT
    i = mover.active
    done = arrival(state, serve(state, now.grant_time, mover.block * BLOCK_BYTES, is_write), is_write)
    now.last_mover = requester
    mover.request = now.grant_time
    state.times[i].blocks += 1
    if state.code[i].action == WEIGHTS:
        state.ring[now.ring_requested % state.params.ring_blocks].arrival = done
        now.ring_requested += 1
    if mover.block < mover.last_block:
        mover.block += 1
    elif mover.row + 1 < state.code[i].rows:
        _begin_row(state, requester, mover.row + 1)
    else:
        mover.active = NOBODY
        complete(state, i, done)
