"""Replays a trace of requests: up to four are offered a clock, in order; one that finds no room stops the rest."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sim.dram import dramsim3 as round_robin
from sim.dram.banks import advance, fall_due
from sim.dram.queues import label
from sim.dram.rowhit import MERGED, accept, issue, plan
from sim.dram.state import NEVER, NOBODY, Controller
from sim.jit import jit, jit_entry

OFFERS_PER_CLOCK = 4


@jit
def _offer_clock(dram: Controller, clock: int, offers: int, released: int) -> int:
    """First clock at which the next request can be offered; a command a clock later can serve it.

    ``clock``: of the last offer, and ``offers`` how many it was; ``released``: room or a completion awaited till then.
    """
    now = dram.now
    at = max(max(min(now.row_bus, now.column_bus) - 1, now.last_command), max(clock, released))
    return int(at + 1 if at == clock and offers >= OFFERS_PER_CLOCK else at)


@jit_entry
def replay(dram: Controller, writes: npt.NDArray[np.int64], addresses: npt.NDArray[np.int64], outstanding: int) -> int:
    """Clock at which the last request is served; ``outstanding`` limits how many are under way (0: no limit)."""
    sent, served, end = 0, 0, 0
    clock, offers, released = -1, 0, 0
    now = dram.now
    while served < len(writes):
        arrival = NEVER
        while sent < len(writes) and _has_room(dram, writes[sent]) and not 0 < outstanding <= sent - served:
            at = _offer_clock(dram, clock, offers, released)
            if at >= min(now.row_bus, now.column_bus):
                arrival = at + 1
                break
            offers = offers + 1 if at == clock else 1
            clock = at
            entry = accept(dram, at, addresses[sent], writes[sent])
            if entry == MERGED:
                served += 1
                end = max(end, at + 1)
            else:
                label(dram, entry, sent, 0, 0)
            sent += 1
        plan(dram)
        if now.next_refresh <= min(now.at, arrival):
            fall_due(dram)
        elif arrival <= now.at:
            advance(dram, arrival)
        else:
            issue(dram)
            if now.done_owner != NOBODY:
                served += 1
                end = max(end, now.done_at)
                released = max(released, now.done_at) if outstanding > 0 else released
    return end


@jit
def _has_room(dram: Controller, is_write: int) -> bool:
    if is_write:
        return bool(dram.now.writes < dram.spacing.write_slots)
    return bool(dram.now.reads < dram.spacing.read_slots)


@jit_entry
def replay_round_robin(
    dram: Controller, writes: npt.NDArray[np.int64], addresses: npt.NDArray[np.int64], outstanding: int
) -> int:
    """The same with the scheduler of ``sim.dram.dramsim3``: clocks until the last request is served.

    A clock counts when it has passed, and what waits for a completion is offered in the clock after it.
    """
    sent, served, end, clock, released = 0, 0, 0, 0, 0
    while served < len(writes):
        offers = 0
        while sent < len(writes) and offers < OFFERS_PER_CLOCK and _has_room(dram, writes[sent]):
            if outstanding > 0 and (outstanding <= sent - served or clock < released):
                break
            label(dram, round_robin.accept(dram, clock, addresses[sent], writes[sent]), sent, 0, 0)
            if writes[sent]:
                served += 1
                end, released = max(end, clock + 2), max(released, clock + 2)
            sent += 1
            offers += 1
        following = round_robin.tick(dram, clock)
        if dram.now.done_owner != NOBODY:
            served += 1
            end, released = max(end, dram.now.done_at + 1), max(released, dram.now.done_at + 1)
        if sent < len(writes):
            following = min(following, _next_offer(dram, writes[sent], clock, released, outstanding > 0))
        clock = following
    return end


@jit
def _next_offer(dram: Controller, is_write: int, clock: int, released: int, limited: bool) -> int:
    if limited:
        return max(clock + 1, released) if released > clock else NEVER
    return clock + 1 if _has_room(dram, is_write) else NEVER
