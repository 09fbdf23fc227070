"""The requesters of the DRAM (fetch, store, load engines): what block each wants, since when, and who asks next."""

from __future__ import annotations

from accel.isa import BLOCK_BYTES
from sim.arrivals import retire
from sim.columns import GATHER, NOBODY, WEIGHTS
from sim.dram.state import Channels
from sim.jit import jit
from sim.memory import request_clock, room_since, send
from sim.queues import ready
from sim.state import FETCH, LOAD, MOVE_IN, MOVE_OUT, PER_BLOCK, STORE, UNKNOWN, State
from sim.tape import RING, record


@jit
def start_store(state: State) -> bool:
    """Start the next instruction of the store queue once the previous one has been granted its last block."""
    i = state.queues[STORE].head
    if i == NOBODY or state.movers[MOVE_OUT].active != NOBODY:
        return False
    at = ready(state, i)
    if at == UNKNOWN:
        return False
    _start(state, MOVE_OUT, i, at)
    return True


@jit
def start_load(state: State) -> bool:
    """Start the next instruction of the load queue, in order, on the engine that has been free for longest."""
    i, engine = state.queues[LOAD].head, _free_engine(state)
    if i == NOBODY or engine == NOBODY or _under_way(state, GATHER):
        return False
    at = ready(state, i)
    if at == UNKNOWN:
        return False
    if state.code[i].fence:
        if state.queues[LOAD].oldest != i:
            return False
        at = max(at, state.queues[LOAD].last_completed)
    if state.code[i].action == WEIGHTS:
        if _under_way(state, WEIGHTS):
            return False
        at = max(at, state.now.weights_asked)
    state.now.load_started = max(max(at, state.now.gather_asked), state.now.load_started)
    state.queues[LOAD].head = state.code[i].successor
    _start(state, engine, i, state.now.load_started)
    return True


@jit
def _free_engine(state: State) -> int:
    best = NOBODY
    for engine in range(MOVE_IN, len(state.movers)):
        if state.movers[engine].active != NOBODY:
            continue
        if best == NOBODY or state.movers[engine].request < state.movers[best].request:
            best = engine
    return best


@jit
def _under_way(state: State, action: int) -> bool:
    """Whether an engine works on such an instruction. No other LDW starts beside an LDW, which fills the ring in order,
    and none at all beside a GTH, whose indices a later load may overwrite."""
    for engine in range(MOVE_IN, len(state.movers)):
        i = state.movers[engine].active
        if i != NOBODY and state.code[i].action == action:
            return True
    return False


@jit
def _start(state: State, engine: int, i: int, at: int) -> None:
    """Start to move; an instruction without blocks (FIN; empty transfers) completes on the spot."""
    mover = state.movers[engine]
    mover.request = max(at, mover.request)
    state.times[i].started = mover.request
    if state.code[i].rows * state.code[i].row_bytes == 0:
        state.times[i].arrived = mover.request
        _all_asked(state, i)
    else:
        mover.active = i
        _begin_row(state, engine, 0)


@jit
def _all_asked(state: State, i: int) -> None:
    """All blocks of ``i`` have been asked for: its queue goes on, ``i`` completes when the last has come."""
    queue = state.code[i].queue
    state.times[i].asked = 1
    if queue == STORE:
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
    """Whose block is asked for next, at ``now.grant_time``: fetch first, then the engines in turns.

    Nobody whose request time is still unknown can be in time for this grant: such a request hangs on a block that has
    not been granted or served yet, and that takes at least a tick.
    """
    fetch = _since(state, dram, _fetch_request(state), _words_block(state), False)
    earliest = fetch
    for mover in range(MOVE_OUT, len(state.movers)):
        since = _since(state, dram, _move_request(state, mover), state.movers[mover].block, mover == MOVE_OUT)
        state.movers[mover].since = since
        if since != UNKNOWN and (earliest == UNKNOWN or since < earliest):
            earliest = since
    if earliest == UNKNOWN:
        return NOBODY
    state.now.grant_time = max(earliest, state.now.channel_free)
    if state.params.clock_ticks > 0:
        state.now.grant_time = (request_clock(state) - 1) * state.params.clock_ticks
    if fetch != UNKNOWN and fetch <= state.now.grant_time:
        return FETCH
    return _next_in_turn(state)


@jit
def _next_in_turn(state: State) -> int:
    """Of the engines whose request can be granted at ``now.grant_time``, the one that was granted (or started) longest
    ago; of equals the store engine, then the earlier instruction."""
    best = NOBODY
    for index in range(MOVE_OUT, len(state.movers)):
        mover = state.movers[index]
        if mover.since == UNKNOWN or mover.since > state.now.grant_time:
            continue
        earlier = best == NOBODY or mover.request < state.movers[best].request
        if not earlier and best != MOVE_OUT and mover.request == state.movers[best].request:
            earlier = mover.active < state.movers[best].active
        if earlier:
            best = index
    return int(best)


@jit
def grant_fetch(state: State, dram: Channels) -> bool:
    """Ask for the next block of instruction words; whether anybody may have waited for that."""
    now = state.now
    now.fetch_granted = now.grant_time
    now.next_fetch += 1
    state.words[now.next_fetch - 1].awaited = state.params.accesses
    return send(state, dram, FETCH, now.next_fetch - 1, NOBODY, _words_block(state) - 1, False)


@jit
def grant_move(state: State, dram: Channels, requester: int) -> bool:
    """Ask for the next block of the load or store instruction under way; whether anybody may have waited for that."""
    mover, now = state.movers[requester], state.now
    i, block, place = mover.active, mover.block, NOBODY
    mover.request = now.grant_time
    state.times[i].blocks += 1
    state.times[i].awaited += state.params.accesses
    if state.code[i].action == GATHER:
        now.gather_asked = now.grant_time
    if state.code[i].action == WEIGHTS:
        place = now.ring_requested
        slot = state.ring[place % state.params.ring_blocks]
        slot.arrival, slot.awaited = 0, state.params.accesses
        now.ring_requested += 1
        now.weights_asked = now.grant_time
        record(state, RING, i, now.grant_time, now.grant_time, 1, 0)
    more = _step_mover(state, requester)
    changed = send(state, dram, requester, i, place, block, requester == MOVE_OUT)
    if not more:
        mover.active = NOBODY
        _all_asked(state, i)
    return changed or not more


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
