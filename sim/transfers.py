"""The three requesters of the DRAM (fetch, load, store): what block each wants, since when, and who asks next."""

from __future__ import annotations

from accel.isa import BLOCK_BYTES
from sim.arrivals import retire
from sim.columns import NOBODY, WEIGHTS
from sim.dram.state import Channels
from sim.jit import jit
from sim.memory import request_clock, room_since, send
from sim.queues import ready
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
        if state.queues[queue].oldest != i:
            return False
        at = max(at, state.queues[queue].last_completed)
    mover.request = max(at, mover.request)
    state.times[i].started = mover.request
    if state.code[i].rows * state.code[i].row_bytes == 0:
        state.times[i].arrived = mover.request
        _all_asked(state, i)
    else:
        mover.active = i
        _begin_row(state, requester, 0)
    return True


@jit
def _all_asked(state: State, i: int) -> None:
    """All blocks of ``i`` have been asked for: its queue goes on, ``i`` completes when the last has come."""
    queue = state.code[i].queue
    state.times[i].asked = 1
    state.queues[queue].head = state.code[i].successor
    retire(state, queue)


@jit
def _begin_row(state: State, requester: int, row: int) -> None:
    mover = state.movers[requester]
    instruction = state.code[mover.active]
    begin = instruction.address + row * instruction.stride
    mover.row = row
    mover.block = begin // BLOCK_BYTES
    mover.last_block = (begin + instruction.row_bytes - 1) // BLOCK_BYTES


@jit
def _since(state: State, dram: Channels, request: int, block: int, is_write: bool) -> int:
    """When a request for a block that stands since ``request`` finds room in the controller, too."""
    if request == UNKNOWN:
        return UNKNOWN
    room = room_since(state, dram, block, is_write)
    return UNKNOWN if room == UNKNOWN else max(request, room)


@jit
def _words_block(state: State) -> int:
    return int(state.params.instruction_address // BLOCK_BYTES + state.now.next_fetch)


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
def choose(state: State, dram: Channels) -> int:
    """Whose block is asked for next, at ``now.grant_time``: fetch first, then load and store in turns.

    Nobody whose request time is still unknown can be in time for this grant: such a request hangs on a block that has
    not been granted or served yet, and that takes at least a tick.
    """
    fetch = _since(state, dram, _fetch_request(state), _words_block(state), False)
    load = _since(state, dram, _move_request(state, MOVE_IN), state.movers[MOVE_IN].block, False)
    store = _since(state, dram, _move_request(state, MOVE_OUT), state.movers[MOVE_OUT].block, True)
    earliest = UNKNOWN
    for request in (fetch, load, store):
        if request != UNKNOWN and (earliest == UNKNOWN or request < earliest):
            earliest = request
    if earliest == UNKNOWN:
        return NOBODY
    now = max(earliest, state.now.channel_free)
    state.now.grant_time = now
    if state.params.clock_ticks > 0:
        now = state.now.grant_time = (request_clock(state) - 1) * state.params.clock_ticks
    if fetch != UNKNOWN and fetch <= now:
        return FETCH
    load_waits, store_waits = load != UNKNOWN and load <= now, store != UNKNOWN and store <= now
    if load_waits and (not store_waits or state.now.last_mover == MOVE_OUT):
        return MOVE_IN
    return MOVE_OUT


@jit
def grant_fetch(state: State, dram: Channels) -> None:
    """Ask for the next block of instruction words."""
    now = state.now
    now.fetch_granted = now.grant_time
    now.next_fetch += 1
    state.words[now.next_fetch - 1].awaited = state.params.accesses
    send(state, dram, FETCH, now.next_fetch - 1, NOBODY, _words_block(state) - 1, False)


@jit
def grant_move(state: State, dram: Channels, requester: int) -> bool:
    """Ask for the next block of the load or store instruction under way; whether it was its last."""
    mover, now = state.movers[requester], state.now
    i, block, place = mover.active, mover.block, NOBODY
    now.last_mover = requester
    mover.request = now.grant_time
    state.times[i].blocks += 1
    state.times[i].awaited += state.params.accesses
    if state.code[i].action == WEIGHTS:
        place = now.ring_requested
        slot = state.ring[place % state.params.ring_blocks]
        slot.arrival, slot.awaited = 0, state.params.accesses
        now.ring_requested += 1
    more = _step_mover(state, requester)
    send(state, dram, requester, i, place, block, requester == MOVE_OUT)
    if not more:
        mover.active = NOBODY
        _all_asked(state, i)
    return not more


@jit
def _step_mover(state: State, requester: int) -> bool:
    """Go to the next block, or row; whether there is one."""
    mover = state.movers[requester]
    if mover.block < mover.last_block:
        mover.block += 1
        return True
    if mover.row + 1 < state.code[mover.active].rows:
        _begin_row(state, requester, mover.row + 1)
        return True
    return False
