"""The three requesters of the DRAM channel (fetch, load, store): what block each wants, since when, and who gets it."""

from __future__ import annotations

from typing import Any

from accel.isa import BLOCK_BYTES
from sim.columns import WEIGHTS, Columns
from sim.dram import arrival, serve
from sim.jit import jit
from sim.params import Params
from sim.queues import complete, current, ready
from sim.state import FETCH, LOAD, MOVE_IN, MOVE_OUT, NOBODY, PER_BLOCK, STORE, UNKNOWN, State


@jit
def start_transfers(columns: Columns, state: State, requester: int, queue: int) -> bool:
    """Start the next instruction of the load or store queue once the previous one has been granted its last block.

    An instruction without blocks (FIN; empty transfers) completes on the spot.
    """
    moved = False
    while state.active[requester] == NOBODY:
        i = current(columns, state, queue)
        if i == NOBODY:
            break
        at = ready(columns, state, i)
        if at == UNKNOWN:
            break
        moved = True
        state.started[i] = state.request[requester] = max(at, state.request[requester])
        if columns.rows[i] * columns.row_bytes[i] == 0:
            complete(columns, state, i, state.started[i])
        else:
            state.active[requester] = i
            state.row[requester] = -1
            _next_row(columns, state, requester, i)
    return moved


@jit
def _next_row(columns: Columns, state: State, requester: int, i: int) -> None:
    state.row[requester] += 1
    begin = columns.address[i] + state.row[requester] * columns.stride[i]
    state.block[requester] = begin // BLOCK_BYTES
    state.last_block[requester] = (begin + columns.row_bytes[i] - 1) // BLOCK_BYTES


@jit
def _fetch_request(params: Params, columns: Columns, state: State, registers: Any) -> int:
    """When the next instruction block is asked for: whole blocks, at most ``fetch_ahead`` ahead of dispatch."""
    if registers.next_fetch >= len(state.fetch_arrival):
        return UNKNOWN
    awaited = (registers.next_fetch + 1) * PER_BLOCK - params.fetch_ahead - 1
    if awaited < 0:
        return int(registers.fetch_granted)
    if state.dispatched[awaited] == UNKNOWN:
        return UNKNOWN
    return int(max(registers.fetch_granted, state.dispatched[awaited]))


@jit
def _move_request(params: Params, columns: Columns, state: State, registers: Any, requester: int) -> int:
    """When load or store asks for its next block; weights also wait until the ring has room."""
    i = state.active[requester]
    if i == NOBODY:
        return UNKNOWN
    at = state.request[requester]
    if columns.action[i] == WEIGHTS and registers.ring_requested >= params.ring_blocks:
        if registers.ring_requested - params.ring_blocks >= registers.ring_freed:
            return UNKNOWN
        at = max(at, state.ring_freed[registers.ring_requested % params.ring_blocks])
    return int(at)


@jit
def choose(params: Params, columns: Columns, state: State, registers: Any) -> int:
    """Whose block is served next, at ``registers.grant_time``: fetch first, then load and store in turns.

    Nobody whose request time is still unknown can be in time for this grant: such a request hangs on a block that has
    not been granted yet, and service takes at least a tick.
    """
    fetch = _fetch_request(params, columns, state, registers)
    load = _move_request(params, columns, state, registers, MOVE_IN)
    store = _move_request(params, columns, state, registers, MOVE_OUT)
    earliest = UNKNOWN
    for request in (fetch, load, store):
        if request != UNKNOWN and (earliest == UNKNOWN or request < earliest):
            earliest = request
    if earliest == UNKNOWN:
        return NOBODY
    now = max(earliest, registers.channel_free)
    registers.grant_time = now
    if fetch != UNKNOWN and fetch <= now:
        return FETCH
    load_waits, store_waits = load != UNKNOWN and load <= now, store != UNKNOWN and store <= now
    if load_waits and (not store_waits or registers.last_mover == MOVE_OUT):
        return MOVE_IN
    return MOVE_OUT


@jit
def grant_fetch(params: Params, state: State, registers: Any) -> None:
    """Serve the next block of instruction words."""
    address = params.instruction_address + registers.next_fetch * BLOCK_BYTES
    end = serve(params, registers, registers.grant_time, address, False)
    state.fetch_arrival[registers.next_fetch] = arrival(params, end, False)
    registers.fetch_granted = registers.grant_time
    registers.next_fetch += 1


@jit
def grant_move(params: Params, columns: Columns, state: State, registers: Any, requester: int) -> None:
    """Serve the next block of the load or store instruction under way; its last block completes it."""
    i, is_write = state.active[requester], requester == MOVE_OUT
    end = serve(params, registers, registers.grant_time, state.block[requester] * BLOCK_BYTES, is_write)
    done = arrival(params, end, is_write)
    registers.last_mover = requester
    state.request[requester] = registers.grant_time
    state.blocks[i] += 1
    if columns.action[i] == WEIGHTS:
        state.ring_arrival[registers.ring_requested % params.ring_blocks] = done
        registers.ring_requested += 1
        registers.ring_arrived += 1
    if state.block[requester] < state.last_block[requester]:
        state.block[requester] += 1
    elif state.row[requester] + 1 < columns.rows[i]:
        _next_row(columns, state, requester, i)
    else:
        state.active[requester] = NOBODY
        complete(columns, state, i, done)


@jit
def move_all(columns: Columns, state: State) -> bool:
    """Start what can start in the load and store queues."""
    loads = start_transfers(columns, state, MOVE_IN, LOAD)
    stores = start_transfers(columns, state, MOVE_OUT, STORE)
    return loads or stores
