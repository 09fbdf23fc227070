"""The DRAM behind the three requesters: one ideal channel, or banked channels with their controllers.

A block of 64 bytes is one access or several; channels take turns block by block. Reads arrive when their burst has
ended and the way back is gone; writes are posted: done when the controller has them, and reads of them are answered
from its queue, so that no order is lost.
"""

from __future__ import annotations

from accel.isa import BLOCK_BYTES
from sim.arrivals import land
from sim.dram.banks import advance, fall_due, skip_idle
from sim.dram.queues import channel, label
from sim.dram.rowhit import MERGED, accept, issue, plan
from sim.dram.state import ACCESS, NEVER, Channels, Controller
from sim.dram.state import NOBODY as NO_OWNER
from sim.jit import jit
from sim.state import FETCH, PER_BLOCK, UNKNOWN, State
from sim.tape import BURST, WORDS, record


@jit
def room_since(state: State, channels: Channels, block: int, is_write: bool) -> int:
    """Tick since which the controller of the block has room for it, ``UNKNOWN`` while it has none. Each channel takes a
    block a clock."""
    if state.params.clock_ticks == 0:
        return 0
    dram = channel(channels, block % state.params.channels)
    slots = dram.spacing.write_slots - dram.now.writes if is_write else dram.spacing.read_slots - dram.now.reads
    if slots < state.params.accesses:
        return UNKNOWN
    return int(max(dram.now.last_command, dram.now.next_offer) * state.params.clock_ticks)


@jit
def request_clock(state: State) -> int:
    """DRAM clock from which the request granted at ``now.grant_time`` can be served."""
    return int(-(-state.now.grant_time // state.params.clock_ticks)) + 1


@jit
def send(state: State, channels: Channels, requester: int, item: int, place: int, block: int, is_write: bool) -> bool:
    """Ask for a block at ``now.grant_time``; whether anybody may have waited for what came of it at once (all of an
    ideal memory, posted writes, reads of queued writes). See ``land`` for what ``item`` and ``place`` mean."""
    if state.params.clock_ticks == 0:
        end = state.now.grant_time + state.params.block_ticks
        state.now.channel_free = end
        _record_burst(state, requester, item, state.now.grant_time, end, BLOCK_BYTES, 0)
        return bool(land(state, requester, item, place, end if is_write else end + state.params.latency_ticks))
    return _send_banked(state, channels, requester, item, place, block, is_write)


@jit
def _send_banked(
    state: State, channels: Channels, requester: int, item: int, place: int, block: int, is_write: bool
) -> bool:
    params, clock, changed = state.params, request_clock(state), False
    dram = channel(channels, block % params.channels)
    address = block // params.channels * BLOCK_BYTES
    dram.now.next_offer = clock
    state.now.channel_free = state.now.grant_time
    _catch_up(dram, clock)
    advance(dram, clock)
    for access in range(params.accesses):
        entry = accept(dram, clock - 1, address + access * (BLOCK_BYTES // params.accesses), int(is_write))
        if entry != MERGED:
            label(dram, entry, NO_OWNER if is_write else requester, item, place)
        else:  # without a burst
            at, bytes_moved = clock * params.clock_ticks, BLOCK_BYTES // params.accesses
            _record_burst(state, requester, item, at, at, bytes_moved, block % params.channels * len(dram.ranks))
        if is_write or entry == MERGED:
            latency = 0 if is_write else params.latency_ticks
            changed |= land(state, requester, item, place, clock * params.clock_ticks + latency)
    return changed


@jit
def _catch_up(dram: Controller, clock: int) -> None:
    """An idle channel has refreshed without anybody looking: let it, up to ``clock``."""
    skip_idle(dram, clock)
    while True:
        plan(dram)
        if dram.now.next_refresh < clock and dram.now.next_refresh <= dram.now.at:
            fall_due(dram)
        elif dram.now.at < clock:
            issue(dram)
        else:
            break


@jit
def _record_burst(state: State, requester: int, item: int, begin: int, end: int, size: int, bus: int) -> None:
    if requester == FETCH:
        record(state, WORDS, item * PER_BLOCK, begin, end, size, bus)
    else:
        record(state, BURST, item, begin, end, size, bus)


@jit
def _record_access(state: State, dram: Controller, index: int) -> None:
    """Write down when the access that is planned has the data bus."""
    entry, numbers = dram.entries[dram.now.target], dram.spacing
    end = dram.now.at + (numbers.write_latency if entry.is_write else numbers.read_latency)
    begin, size = end - numbers.burst, BLOCK_BYTES // state.params.accesses
    bus = index * len(dram.ranks) + dram.banks[entry.bank].rank
    clock = state.params.clock_ticks
    _record_burst(state, entry.owner, entry.subject, begin * clock, end * clock, size, bus)


@jit
def next_event(state: State, channels: Channels) -> tuple[int, int]:
    """Clock and channel of the next command or refresh; ``NEVER`` when nothing waits in any controller."""
    best, at = 0, NEVER
    for index in range(state.params.channels):
        dram = channel(channels, index)
        if dram.now.reads + dram.now.writes == 0 and dram.now.active_head == NO_OWNER:
            continue
        plan(dram)
        event = min(dram.now.at, dram.now.next_refresh)
        if event < at:
            best, at = index, event
    return int(at), best


@jit
def step(state: State, channels: Channels, index: int) -> bool:
    """Let a refresh of the channel fall due, or issue its next command; whether that changed what others wait for."""
    dram = channel(channels, index)
    if dram.now.next_refresh <= dram.now.at:
        fall_due(dram)
        return False
    if dram.now.command == ACCESS:
        _record_access(state, dram, index)
    issue(dram)
    now = dram.now
    if now.done_owner == NO_OWNER:
        return False
    at = now.done_at * state.params.clock_ticks + state.params.latency_ticks
    return bool(land(state, now.done_owner, now.done_subject, now.done_place, at))
