"""Replays a trace of requests: up to four are offered a clock, in order; the first that finds no room stops the rest.

Both kernels work on the first of the channels. They fill ``accepted`` and ``done``: clocks at which each request was
accepted, and served. A write is served when its WRITE issues (row-hit scheduler), or as soon as it is queued (dramsim3
scheduler). ``busy_until`` has an element for each request that may be under way at once (none: no limit).

Every loop ends: ``DramStandard`` refuses timing with which refreshes could pile up, so in each refresh interval, or
activation window where that is longer, at least one waiting request is served.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sim.dram import dramsim3 as round_robin
from sim.dram.banks import advance, fall_due
from sim.dram.queues import channel, label
from sim.dram.rowhit import MERGED, accept, issue, plan
from sim.dram.state import NEVER, NOBODY, Channels, Controller
from sim.jit import jit, jit_entry

OFFERS_PER_CLOCK = 4
Clocks = npt.NDArray[np.int64]


@jit_entry
def replay(
    channels: Channels, writes: Clocks, addresses: Clocks, busy_until: Clocks, accepted: Clocks, done: Clocks
) -> None:
    """The row-hit scheduler. A request offered at a clock can be served by a command of the next."""
    dram = channel(channels, 0)
    now = dram.now
    sent, served, clock, offers = 0, 0, -1, 0
    while served < len(writes):
        arrival = NEVER
        while sent < len(writes) and _has_room(dram, writes[sent]):
            place = _earliest_free(busy_until)
            at = _offer_clock(dram, clock, offers, busy_until[place] if place != NOBODY else 0)
            if at >= min(now.row_bus, now.column_bus):
                arrival = at + 1
                break
            offers = offers + 1 if at == clock else 1
            clock = at
            entry = accept(dram, at, addresses[sent], writes[sent])
            accepted[sent] = at
            if entry == MERGED:
                served += 1
                _finish(busy_until, done, sent, place, at + 1)
            else:
                label(dram, entry, sent, place, 0)
                _finish(busy_until, done, sent, place, NEVER)
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
                _finish(busy_until, done, now.done_owner, now.done_subject, now.done_at)


@jit
def _offer_clock(dram: Controller, clock: int, offers: int, free_at: int) -> int:
    """First clock at which the next request can be offered: not before that of the last offer (``clock``, at which
    ``offers`` were made), nor before ``free_at``; ``NEVER`` if that is unknown yet."""
    now = dram.now
    at = max(max(min(now.row_bus, now.column_bus) - 1, now.last_command), max(clock, free_at))
    return int(at + 1 if at == clock and offers >= OFFERS_PER_CLOCK else at)


@jit
def _earliest_free(busy_until: Clocks) -> int:
    """The element that is free first, ``NOBODY`` if there is no limit."""
    if len(busy_until) == 0:
        return NOBODY
    best = 0
    for place in range(len(busy_until)):
        if busy_until[place] < busy_until[best]:
            best = place
    return best


@jit
def _finish(busy_until: Clocks, done: Clocks, request: int, place: int, at: int) -> None:
    """Note when a request is served (``NEVER``: under way)."""
    done[request] = at
    if place != NOBODY:
        busy_until[place] = at


@jit
def _has_room(dram: Controller, is_write: int) -> bool:
    if is_write:
        return bool(dram.now.writes < dram.spacing.write_slots)
    return bool(dram.now.reads < dram.spacing.read_slots)


@jit_entry
def replay_round_robin(
    channels: Channels, writes: Clocks, addresses: Clocks, busy_until: Clocks, accepted: Clocks, done: Clocks
) -> None:
    """The scheduler of ``sim.dram.dramsim3``. A clock counts when it has passed, so requests are served a clock later,
    and what waits for that is offered in the clock after."""
    dram = channel(channels, 0)
    now = dram.now
    sent, served, clock = 0, 0, 0
    while served < len(writes):
        offers = 0
        while sent < len(writes) and offers < OFFERS_PER_CLOCK and _has_room(dram, writes[sent]):
            place = _earliest_free(busy_until)
            if place != NOBODY and busy_until[place] > clock:
                break
            label(dram, round_robin.accept(dram, clock, addresses[sent], writes[sent]), sent, place, 0)
            accepted[sent] = clock
            _finish(busy_until, done, sent, place, clock + 1 if writes[sent] else NEVER)
            served += writes[sent]
            sent += 1
            offers += 1
        following = round_robin.tick(dram, clock)
        if now.done_owner != NOBODY:
            served += 1
            _finish(busy_until, done, now.done_owner, now.done_subject, now.done_at + 1)
        if sent < len(writes):
            following = min(following, _next_offer(dram, writes[sent], clock, busy_until))
        clock = following


@jit
def _next_offer(dram: Controller, is_write: int, clock: int, busy_until: Clocks) -> int:
    place = _earliest_free(busy_until)
    free_at = busy_until[place] if place != NOBODY else 0
    return int(max(clock + 1, free_at)) if _has_room(dram, is_write) else NEVER
