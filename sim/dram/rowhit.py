"""The default scheduler: first-ready, first-come, with row-hit protection (FR-FCFS; as Ramulator 2.1's FRFCFS-RowHit).

``plan`` finds the next command without issuing it, ``issue`` issues it. One command a clock (two, a column then a row
command, where the standard has two buses). The rules:

- Reads and writes wait in queues of their own (32 each). Writes are served when more than 80 % of theirs is full or
  nothing is left to read, until less than 20 % is full and something is to be read.
- Of all commands that waiting requests of the served queue need next, the earliest possible one issues; of equals the
  one whose request arrived first. A request leaves its queue when its ACTIVATE issues; it is served before anything
  else can be, and no PRECHARGE may overtake it.
- A bank's row is not closed for a request that did not arrive before every waiting hit of that row.
- Refresh: due every tREFI; requests already activated are served, then all banks are closed and the rank refreshed.
- LPDDR5: the second half of an ACTIVATE issues when nothing else can, or at its deadline; no other ACTIVATE comes
  between. A read or write whose data clock has stopped is preceded by a synchronising CAS.
- A read of an address whose write is still queued is answered from the queue, a second write to it merges with it.
"""

from __future__ import annotations

from typing import NamedTuple

from sim.dram.banks import (
    access_ready,
    activate_ready,
    do_activate,
    do_precharge,
    do_precharge_all,
    do_read,
    do_refresh,
    do_write,
    precharge_ready,
)
from sim.dram.queues import is_queued_write, link, serve, take_entry, unlink
from sim.dram.state import (
    ACCESS,
    ACTIVATE,
    ACTIVATE_SECOND,
    NEVER,
    NO_COMMAND,
    NOBODY,
    PRECHARGE,
    PRECHARGE_ALL,
    REFRESH,
    SYNCHRONISE,
    Controller,
)
from sim.jit import jit

# Of commands possible at the same clock, the lowest urgency value issues.
FORCED, ACTIVATED, REFRESHING, WAITING, DEFERRED = range(5)
MERGED = -2


class Candidate(NamedTuple):
    """A command that could issue at clock ``at``; of equals the least ``urgency``, then the least ``age``."""

    at: int
    urgency: int
    age: int
    command: int
    target: int


@jit
def accept(dram: Controller, clock: int, address: int, is_write: int) -> int:
    """Queue a request that arrives at ``clock``; returns its entry, or ``MERGED`` if a queued write answers it."""
    if is_queued_write(dram, address):
        return MERGED
    index = take_entry(dram, clock, address, is_write)
    link(dram, index)
    dram.now.is_planned = 0
    return index


@jit
def plan(dram: Controller) -> None:
    """Find the next command: ``now.command``, ``now.target``, ``now.at`` (``NEVER`` when nothing waits)."""
    now = dram.now
    if now.is_planned:
        return
    now.is_planned = 1
    if now.synchronised != NOBODY:
        now.command, now.target, now.at = ACCESS, now.synchronised, now.column_bus
        return
    column = _served_next(dram)
    row = Candidate(NEVER, DEFERRED, 0, NO_COMMAND, NOBODY)
    forced = now.splits > 0 and _deadline(dram) <= now.row_bus
    taken = column.at <= now.column_bus and not dram.spacing.dual_command
    if now.refreshes_due > 0:
        row = _refresh_step(dram)
    elif not (forced or taken):
        _choose_mode(dram)
        column, row = _best_waiting(dram, column)
    best = column if _is_before(column, row) or (dram.spacing.dual_command and column.at <= row.at) else row
    if now.splits > 0:
        best = _with_second_half(dram, best)
    now.command, now.target, now.at = best.command, best.target, best.at
    if best.command == ACCESS and _needs_data_clock(dram, best.at):
        _synchronise_first(dram)


@jit
def _needs_data_clock(dram: Controller, at: int) -> bool:
    return bool(dram.spacing.read_data_clock > 0 and at >= dram.now.data_clock_until)


@jit
def _synchronise_first(dram: Controller) -> None:
    """The planned access takes this clock and the next, which the second half of an ACTIVATE may not wait for."""
    now = dram.now
    if now.splits > 0 and _deadline(dram) <= now.at + 1:
        now.command, now.target = ACTIVATE_SECOND, _split_bank(dram)
    else:
        now.command = SYNCHRONISE


@jit
def _is_before(a: Candidate, b: Candidate) -> bool:
    if a.at != b.at:
        return bool(a.at < b.at)
    if a.urgency != b.urgency:
        return bool(a.urgency < b.urgency)
    return bool(a.age < b.age)


@jit
def _served_next(dram: Controller) -> Candidate:
    """The access of an activated request: the oldest of the earliest, of equals the first activated."""
    best = Candidate(NEVER, DEFERRED, 0, NO_COMMAND, NOBODY)
    index = dram.now.active_head
    while index != NOBODY:
        entry = dram.entries[index]
        if dram.banks[entry.bank].open_row != NOBODY:
            at = max(access_ready(dram, entry.bank, entry.is_write), dram.now.column_bus)
            found = Candidate(at, ACTIVATED, entry.arrival, ACCESS, index)
            if _is_before(found, best):
                best = found
        index = entry.next
    return best


@jit
def _refresh_step(dram: Controller) -> Candidate:
    """What the refresh that is due first needs: all banks closed, then itself."""
    rank = 0
    while dram.ranks[rank].refresh_due == 0:
        rank += 1
    state, bus = dram.ranks[rank], dram.now.row_bus
    if state.open_banks == 0:
        return Candidate(max(bus, state.refresh_ready), REFRESHING, 0, REFRESH, rank)
    if state.active_banks == 0:
        return Candidate(max(bus, state.precharge_all_ready), REFRESHING, 0, PRECHARGE_ALL, rank)
    return Candidate(NEVER, DEFERRED, 0, NO_COMMAND, NOBODY)


@jit
def _choose_mode(dram: Controller) -> None:
    """Turn to writes, or back to reads."""
    now, numbers = dram.now, dram.spacing
    if now.write_mode:
        if now.writes <= numbers.write_low and now.reads > 0:
            now.write_mode = 0
    elif now.writes >= numbers.write_high or now.reads == 0:
        now.write_mode = 1


@jit
def _best_waiting(dram: Controller, column: Candidate) -> tuple[Candidate, Candidate]:
    """The best column command (``column`` or better) and the best row command of the queue being served."""
    now = dram.now
    row = Candidate(NEVER, DEFERRED, 0, NO_COMMAND, NOBODY)
    if (now.writes if now.write_mode else now.reads) == 0:
        return column, row
    for index in range(len(dram.banks)):
        bank = dram.banks[index]
        head = bank.write_head if now.write_mode else bank.read_head
        if head == NOBODY:
            continue
        if bank.open_row == NOBODY:
            found = _opening(dram, index, head)
            if _is_before(found, row):
                row = found
            continue
        hit = head
        while hit != NOBODY and dram.entries[hit].row != bank.open_row:
            hit = dram.entries[hit].next
        if hit != NOBODY:
            at = max(access_ready(dram, index, now.write_mode), now.column_bus)
            found = Candidate(at, WAITING, dram.entries[hit].age, ACCESS, hit)
            if _is_before(found, column):
                column = found
        if hit != head and bank.active == NOBODY:
            found = _closing(dram, index, head, hit)
            if _is_before(found, row):
                row = found
    return column, row


@jit
def _opening(dram: Controller, index: int, head: int) -> Candidate:
    if dram.now.splits > 0:
        return Candidate(NEVER, DEFERRED, 0, NO_COMMAND, NOBODY)
    at = max(activate_ready(dram, index), dram.now.row_bus)
    return Candidate(at, WAITING, dram.entries[head].age, ACTIVATE, head)


@jit
def _closing(dram: Controller, index: int, head: int, hit: int) -> Candidate:
    if hit != NOBODY and dram.entries[head].arrival >= dram.entries[hit].arrival:
        return Candidate(NEVER, DEFERRED, 0, NO_COMMAND, NOBODY)
    at = max(precharge_ready(dram, index), dram.now.row_bus)
    return Candidate(at, WAITING, dram.entries[head].age, PRECHARGE, index)


@jit
def _split_bank(dram: Controller) -> int:
    """The bank whose second half of an ACTIVATE is due (there is at most one)."""
    for index in range(len(dram.banks)):
        if dram.banks[index].deadline != NOBODY:
            return index
    return NOBODY


@jit
def _deadline(dram: Controller) -> int:
    return int(dram.banks[_split_bank(dram)].deadline)


@jit
def _with_second_half(dram: Controller, best: Candidate) -> Candidate:
    index, bus = _split_bank(dram), dram.now.row_bus
    deadline = dram.banks[index].deadline
    if bus < best.at:
        return Candidate(bus, DEFERRED, 0, ACTIVATE_SECOND, index)
    if deadline <= best.at:
        return Candidate(max(bus, deadline), FORCED, 0, ACTIVATE_SECOND, index)
    return best


@jit
def issue(dram: Controller) -> None:
    """Issue the planned command; ``now.done_owner`` tells whether it served a request."""
    now = dram.now
    at, command, target = now.at, now.command, now.target
    now.done_owner, now.is_planned, now.last_command = NOBODY, 0, at
    if command == ACCESS:
        _access(dram, target, at)
        return
    now.row_bus, now.column_bus = at + 1, max(now.column_bus, at + 1)
    if command == ACTIVATE:
        _activate(dram, target, at)
    elif command == SYNCHRONISE:
        now.synchronised = target
    elif command == ACTIVATE_SECOND:
        _activate_second(dram, target)
    elif command == PRECHARGE:
        do_precharge(dram, target, at)
    elif command == PRECHARGE_ALL:
        do_precharge_all(dram, target, at)
    elif command == REFRESH:
        do_refresh(dram, target, at)


@jit
def _access(dram: Controller, index: int, at: int) -> None:
    """READ or WRITE."""
    entry, now, numbers = dram.entries[index], dram.now, dram.spacing
    now.synchronised = NOBODY
    now.column_bus = at + 1
    now.row_bus = max(now.row_bus, at) if numbers.dual_command else at + 1
    if dram.banks[entry.bank].active == index:
        _leave_active(dram, index)
    else:
        unlink(dram, index)
        now.row_hits += 1
    now.accesses += 1
    if entry.is_write:
        do_write(dram, entry.bank, at)
        now.data_clock_until = max(now.data_clock_until, at + numbers.write_data_clock)
        serve(dram, index, at)
    else:
        do_read(dram, entry.bank, at)
        now.data_clock_until = max(now.data_clock_until, at + numbers.read_data_clock)
        serve(dram, index, at + numbers.read_latency)


@jit
def _activate(dram: Controller, index: int, at: int) -> None:
    entry, now, numbers = dram.entries[index], dram.now, dram.spacing
    bank = dram.banks[entry.bank]
    unlink(dram, index)
    do_activate(dram, entry.bank, entry.row, at)
    bank.active = index
    dram.ranks[bank.rank].active_banks += 1
    now.row_bus = at + numbers.activate_clocks
    _join_active(dram, index)
    if numbers.split_deadline > 0:
        bank.open_row, bank.deadline = NOBODY, at + numbers.split_deadline
        now.splits += 1


@jit
def _activate_second(dram: Controller, index: int) -> None:
    bank = dram.banks[index]
    bank.open_row, bank.deadline = dram.entries[bank.active].row, NOBODY
    dram.now.splits -= 1


@jit
def _join_active(dram: Controller, index: int) -> None:
    last = dram.now.active_head
    if last == NOBODY:
        dram.now.active_head = index
        return
    while dram.entries[last].next != NOBODY:
        last = dram.entries[last].next
    dram.entries[last].next = index


@jit
def _leave_active(dram: Controller, index: int) -> None:
    entry = dram.entries[index]
    bank = dram.banks[entry.bank]
    bank.active = NOBODY
    dram.ranks[bank.rank].active_banks -= 1
    if dram.now.active_head == index:
        dram.now.active_head = entry.next
        return
    previous = dram.now.active_head
    while dram.entries[previous].next != index:
        previous = dram.entries[previous].next
    dram.entries[previous].next = entry.next
