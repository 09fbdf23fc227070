"""The other scheduler: transaction queues feed short command queues per bank, served round robin (as DRAMsim3's).

Each clock, in this order: a refresh that is due closes the open banks one by one and then refreshes, and nothing else
issues meanwhile; else the first bank, from the one behind the last served, that has a ready command issues it; then
one transaction, the first in order whose bank has room, moves to its bank's queue (8 entries). Within a bank's queue
the first entry whose next command is ready issues: an access that hits may overtake, an ACTIVATE or PRECHARGE is the
head's. PRECHARGE waits for queued hits of the open row, but not for more than 4 accesses of it.

Writes are posted. They move to the banks when all 32 places are taken, or when nothing waits to be read and 16 wait;
then all of them do. DRAMsim3 knows neither pseudo channels nor split ACTIVATEs; standards with those are refused. Not
modelled: it merges requests of the same address and answers reads from writes that wait.
"""

from __future__ import annotations

from sim.dram.banks import (
    access_ready,
    activate_ready,
    do_activate,
    do_precharge,
    do_read,
    do_refresh,
    do_write,
    precharge_ready,
)
from sim.dram.queues import serve, take_entry
from sim.dram.state import ACCESS, ACTIVATE, NEVER, NO_COMMAND, NOBODY, PRECHARGE, Controller
from sim.jit import jit

_RANK = 0


@jit
def accept(dram: Controller, clock: int, address: int, is_write: int) -> int:
    """Queue a transaction that arrives at ``clock``; returns its entry."""
    index, now = take_entry(dram, clock, address, is_write), dram.now
    if is_write:
        now.writes += 1
        if now.write_first == NOBODY:
            now.write_first = index
        else:
            dram.entries[now.write_last].next = index
        now.write_last = index
    else:
        now.reads += 1
        if now.read_first == NOBODY:
            now.read_first = index
        else:
            dram.entries[now.read_last].next = index
        now.read_last = index
    return index


@jit
def tick(dram: Controller, clock: int) -> int:
    """All that happens at ``clock``; returns the next clock at which something can, without new transactions.

    ``now.done_owner`` tells whether a read was served.
    """
    now = dram.now
    now.done_owner = NOBODY
    if clock > 0 and clock % dram.spacing.refresh_interval == 0:
        now.refreshes_due += 1
        dram.ranks[_RANK].refresh_due += 1
    if now.refreshes_due > 0:
        _refresh_step(dram, clock)
    else:
        first = _issue_ready(dram, clock, NO_COMMAND)
        if first != NO_COMMAND and dram.spacing.dual_command:
            _issue_ready(dram, clock, first)
    if _move_transaction(dram):
        return clock + 1
    interval = dram.spacing.refresh_interval
    due = (clock // interval + 1) * interval
    return int(min(due, max(clock + 1, _refresh_earliest(dram) if now.refreshes_due > 0 else _earliest(dram))))


@jit
def _refresh_step(dram: Controller, clock: int) -> None:
    """Close the first open bank that may be closed, or refresh when none is open."""
    rank = dram.ranks[_RANK]
    for index in range(len(dram.banks)):
        if dram.banks[index].open_row != NOBODY and precharge_ready(dram, index) <= clock:
            do_precharge(dram, index, clock)
            return
    if rank.open_banks == 0 and rank.refresh_ready <= clock:
        do_refresh(dram, _RANK, clock)


@jit
def _refresh_earliest(dram: Controller) -> int:
    """First clock at which the refresh that is due can go on."""
    rank, earliest = dram.ranks[_RANK], NEVER
    for index in range(len(dram.banks)):
        if dram.banks[index].open_row != NOBODY:
            earliest = min(earliest, precharge_ready(dram, index))
    return int(rank.refresh_ready if rank.open_banks == 0 else earliest)


@jit
def _issue_ready(dram: Controller, clock: int, first: int) -> int:
    """Issue the next bank's ready command and return it; ``first``: the command already issued at this clock, whose
    kind (access or not) must differ."""
    now = dram.now
    for _ in range(len(dram.banks)):
        now.round_robin += 1
        if now.round_robin == len(dram.banks):
            now.round_robin = 0
        command, entry, _ = _first_ready(dram, now.round_robin, clock)
        if command == NO_COMMAND:
            continue
        if first == NO_COMMAND or (command == ACCESS) != (first == ACCESS):
            _issue(dram, now.round_robin, command, entry, clock)
        return int(command)
    return NO_COMMAND


@jit
def _first_ready(dram: Controller, index: int, clock: int) -> tuple[int, int, int]:
    """Command and entry of a bank that issue at ``clock``, or ``NO_COMMAND``; and when one could at the earliest."""
    bank = dram.banks[index]
    head, earliest = bank.read_head, NEVER
    if head == NOBODY:
        return NO_COMMAND, NOBODY, earliest
    if bank.open_row == NOBODY:
        at = activate_ready(dram, index)
        return (ACTIVATE if at <= clock else NO_COMMAND), head, at
    entry = head
    while entry != NOBODY:
        at, command = NEVER, ACCESS
        if dram.entries[entry].row == bank.open_row:
            if not _follows_read(dram, head, entry):
                at = access_ready(dram, index, dram.entries[entry].is_write)
        elif entry == head and _may_close(dram, index):
            at, command = precharge_ready(dram, index), PRECHARGE
        if at <= clock:
            return command, entry, at
        earliest = min(earliest, at)
        entry = dram.entries[entry].next
    return NO_COMMAND, NOBODY, earliest


@jit
def _follows_read(dram: Controller, entry: int, write: int) -> bool:
    """Whether a write waits for a read of its address that is queued before it."""
    if not dram.entries[write].is_write:
        return False
    while entry != write:
        if not dram.entries[entry].is_write and dram.entries[entry].address == dram.entries[write].address:
            return True
        entry = dram.entries[entry].next
    return False


@jit
def _may_close(dram: Controller, index: int) -> bool:
    bank = dram.banks[index]
    entry = bank.read_head
    while entry != NOBODY and dram.entries[entry].row != bank.open_row:
        entry = dram.entries[entry].next
    return bool(entry == NOBODY or bank.hits >= dram.spacing.row_hit_cap)


@jit
def _issue(dram: Controller, index: int, command: int, entry: int, clock: int) -> None:
    if command == ACTIVATE:
        do_activate(dram, index, dram.entries[entry].row, clock)
    elif command == PRECHARGE:
        do_precharge(dram, index, clock)
    else:
        _access(dram, index, entry, clock)


@jit
def _access(dram: Controller, index: int, entry: int, clock: int) -> None:
    """READ or WRITE; only reads are reported as served, writes were when they came."""
    bank, now = dram.banks[index], dram.now
    now.accesses += 1
    now.row_hits += bank.hits > 0
    if bank.read_head == entry:
        bank.read_head = dram.entries[entry].next
    else:
        previous = bank.read_head
        while dram.entries[previous].next != entry:
            previous = dram.entries[previous].next
        dram.entries[previous].next = dram.entries[entry].next
        if bank.read_tail == entry:
            bank.read_tail = previous
    bank.waiting -= 1
    if dram.entries[entry].is_write:
        do_write(dram, index, clock)
        serve(dram, entry, clock)
        now.done_owner = NOBODY
    else:
        do_read(dram, index, clock)
        serve(dram, entry, clock + dram.spacing.read_latency)


@jit
def _move_transaction(dram: Controller) -> bool:
    """Move the first transaction whose bank has room, of the queue being served."""
    now, numbers = dram.now, dram.spacing
    idle = now.reads == 0 and now.writes >= numbers.drain_writes
    if now.draining == 0 and (now.writes >= numbers.write_slots or idle):
        now.draining = now.writes
    previous, entry = NOBODY, now.write_first if now.draining > 0 else now.read_first
    while entry != NOBODY and dram.banks[dram.entries[entry].bank].waiting >= numbers.bank_slots:
        previous, entry = entry, dram.entries[entry].next
    if entry == NOBODY:
        return False
    following = dram.entries[entry].next
    if previous != NOBODY:
        dram.entries[previous].next = following
    if now.draining > 0:
        now.draining -= 1
        now.writes -= 1
        now.write_first = following if previous == NOBODY else now.write_first
        now.write_last = previous if following == NOBODY else now.write_last
    else:
        now.reads -= 1
        now.read_first = following if previous == NOBODY else now.read_first
        now.read_last = previous if following == NOBODY else now.read_last
    _queue_command(dram, entry)
    return True


@jit
def _queue_command(dram: Controller, index: int) -> None:
    entry = dram.entries[index]
    bank = dram.banks[entry.bank]
    entry.next = NOBODY
    if bank.read_head == NOBODY:
        bank.read_head = index
    else:
        dram.entries[bank.read_tail].next = index
    bank.read_tail = index
    bank.waiting += 1


@jit
def _earliest(dram: Controller) -> int:
    """First clock at which any bank has a ready command."""
    earliest = NEVER
    for index in range(len(dram.banks)):
        _, _, at = _first_ready(dram, index, -1)
        earliest = min(earliest, at)
    return earliest
