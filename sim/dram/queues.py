"""Requests in a controller: accepted with their place in the banks, kept per bank in order of arrival, unlinked."""

from __future__ import annotations

from sim.dram.state import NOBODY, Channels, Controller
from sim.jit import jit, jit_inline


@jit_inline
def channel(channels: Channels, index: int) -> Controller:
    """One of the channels."""
    return Controller(
        channels.spacing,
        channels.bits,
        channels.banks[index],
        channels.groups[index],
        channels.ranks[index],
        channels.entries[index],
        channels.now[index],
    )


@jit
def locate(dram: Controller, address: int) -> tuple[int, int]:
    """Bank (counted over groups and pseudo channels) and row of a byte address: ``accel.dram.AddressMap.locate``."""
    bits = dram.bits
    access = address >> bits.access_shift
    rank = access >> bits.pseudo_channel & (1 << bits.pseudo_channel_bits) - 1
    group = access >> bits.group & (1 << bits.group_bits) - 1
    bank = access >> bits.bank & (1 << bits.bank_bits) - 1
    row = access >> bits.row
    if bits.hashed:
        column = access >> bits.column_low & (1 << bits.column_low_bits) - 1
        column |= (access >> bits.column_high & (1 << bits.column_high_bits) - 1) << bits.column_low_bits
        rank ^= column & (1 << bits.pseudo_channel_bits) - 1
        column >>= bits.pseudo_channel_bits
        group ^= column & (1 << bits.group_bits) - 1
        column >>= bits.group_bits
        bank ^= column & (1 << bits.bank_bits) - 1
        row ^= column >> bits.bank_bits
    return ((rank << bits.group_bits | group) << bits.bank_bits) | bank, row


@jit
def take_entry(dram: Controller, clock: int, address: int, is_write: int) -> int:
    """A free entry, filled with a request that arrives at ``clock``."""
    now = dram.now
    index = now.free
    entry = dram.entries[index]
    now.free = entry.next
    entry.bank, entry.row = locate(dram, address)
    entry.address, entry.arrival, entry.is_write = address, clock, is_write
    entry.age = now.age
    now.age += 1
    entry.next = NOBODY
    return int(index)


@jit
def label(dram: Controller, index: int, owner: int, subject: int, place: int) -> None:
    """Say what the request is for."""
    entry = dram.entries[index]
    entry.owner, entry.subject, entry.place = owner, subject, place


@jit
def link(dram: Controller, index: int) -> None:
    """Put an entry at the end of its bank's list."""
    entry = dram.entries[index]
    bank = dram.banks[entry.bank]
    if entry.is_write:
        dram.now.writes += 1
        if bank.write_head == NOBODY:
            bank.write_head = index
        else:
            dram.entries[bank.write_tail].next = index
        bank.write_tail = index
        return
    dram.now.reads += 1
    if bank.read_head == NOBODY:
        bank.read_head = index
    else:
        dram.entries[bank.read_tail].next = index
    bank.read_tail = index


@jit
def before(dram: Controller, head: int, index: int) -> int:
    """The entry before ``index`` in the list from ``head`` on, ``NOBODY`` if it is the head itself."""
    previous = NOBODY
    while head != index:
        previous, head = head, dram.entries[head].next
    return previous


@jit
def unlink(dram: Controller, index: int) -> None:
    """Take an entry out of its bank's list."""
    entry = dram.entries[index]
    bank = dram.banks[entry.bank]
    if entry.is_write:
        dram.now.writes -= 1
        previous = before(dram, bank.write_head, index)
        if previous == NOBODY:
            bank.write_head = entry.next
        else:
            dram.entries[previous].next = entry.next
        if bank.write_tail == index:
            bank.write_tail = previous
    else:
        dram.now.reads -= 1
        previous = before(dram, bank.read_head, index)
        if previous == NOBODY:
            bank.read_head = entry.next
        else:
            dram.entries[previous].next = entry.next
        if bank.read_tail == index:
            bank.read_tail = previous
    entry.next = NOBODY


@jit
def is_queued_write(dram: Controller, address: int) -> bool:
    """Whether a write to ``address`` waits: a read gets its data from the queue, another write merges with it."""
    if dram.now.writes == 0:
        return False
    bank, _ = locate(dram, address)
    index = dram.banks[bank].write_head
    while index != NOBODY:
        if dram.entries[index].address == address:
            return True
        index = dram.entries[index].next
    return False


@jit
def serve(dram: Controller, index: int, done_at: int) -> None:
    """The request of an entry is served at ``done_at``; the entry is free again."""
    entry, now = dram.entries[index], dram.now
    now.done_owner, now.done_subject, now.done_place, now.done_at = entry.owner, entry.subject, entry.place, done_at
    entry.next = now.free
    now.free = index
