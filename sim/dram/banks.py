"""What DRAM commands do to banks, groups and ranks: the JEDEC spacings, and nothing of scheduling."""

from __future__ import annotations

from sim.dram.state import NOBODY, Controller
from sim.jit import jit


@jit
def access_ready(dram: Controller, index: int, is_write: int) -> int:
    """First clock at which the open row of a bank may be read or written."""
    bank = dram.banks[index]
    group, rank = dram.groups[bank.group], dram.ranks[bank.rank]
    if is_write:
        return int(max(max(bank.write_ready, group.write_ready), rank.write_ready))
    return int(max(max(bank.read_ready, group.read_ready), rank.read_ready))


@jit
def activate_ready(dram: Controller, index: int) -> int:
    """First clock at which a closed bank may be opened: tRC, tRP, tRRD, tFAW, tRFC."""
    bank = dram.banks[index]
    return int(
        max(max(bank.activate_ready, dram.groups[bank.group].activate_ready), dram.ranks[bank.rank].activate_ready)
    )


@jit
def precharge_ready(dram: Controller, index: int) -> int:
    """First clock at which an open bank may be closed: tRAS, tRTP, tWR, tPPD."""
    bank = dram.banks[index]
    return int(max(bank.precharge_ready, dram.ranks[bank.rank].precharge_ready))


@jit
def do_read(dram: Controller, index: int, at: int) -> None:
    """READ of a bank at clock ``at``."""
    bank, numbers = dram.banks[index], dram.spacing
    group, rank = dram.groups[bank.group], dram.ranks[bank.rank]
    rank.read_ready = max(rank.read_ready, at + numbers.read_read_rank)
    rank.write_ready = max(rank.write_ready, at + numbers.read_write_rank)
    group.read_ready = max(group.read_ready, at + numbers.read_read_group)
    _hold_open(dram, index, at + numbers.read_precharge)


@jit
def do_write(dram: Controller, index: int, at: int) -> None:
    """WRITE of a bank at clock ``at``."""
    bank, numbers = dram.banks[index], dram.spacing
    group, rank = dram.groups[bank.group], dram.ranks[bank.rank]
    rank.write_ready = max(rank.write_ready, at + numbers.write_write_rank)
    rank.read_ready = max(rank.read_ready, at + numbers.write_read_rank)
    group.write_ready = max(group.write_ready, at + numbers.write_write_group)
    group.read_ready = max(group.read_ready, at + numbers.write_read_group)
    _hold_open(dram, index, at + numbers.write_precharge)


@jit
def _hold_open(dram: Controller, index: int, until: int) -> None:
    bank = dram.banks[index]
    rank = dram.ranks[bank.rank]
    bank.hits += 1
    bank.precharge_ready = max(bank.precharge_ready, until)
    rank.precharge_all_ready = max(rank.precharge_all_ready, until)


@jit
def do_activate(dram: Controller, index: int, row: int, at: int) -> None:
    """ACTIVATE of ``row`` at clock ``at``."""
    bank, numbers = dram.banks[index], dram.spacing
    group, rank = dram.groups[bank.group], dram.ranks[bank.rank]
    bank.open_row, bank.hits, bank.activated = row, 0, at
    bank.activate_ready = at + numbers.activate_activate_bank
    bank.read_ready, bank.write_ready = at + numbers.activate_read, at + numbers.activate_write
    bank.precharge_ready = max(bank.precharge_ready, at + numbers.activate_precharge)
    group.activate_ready = at + numbers.activate_activate_group
    rank.activate_0, rank.activate_1, rank.activate_2, rank.activate_3 = (
        rank.activate_1,
        rank.activate_2,
        rank.activate_3,
        at,
    )
    window = rank.activate_0 + numbers.four_activates
    rank.activate_ready = max(rank.activate_ready, max(at + numbers.activate_activate_rank, window))
    rank.precharge_all_ready = max(rank.precharge_all_ready, at + numbers.activate_precharge)
    rank.refresh_ready = max(rank.refresh_ready, at + numbers.activate_refresh)
    rank.open_banks += 1
    dram.now.activates += 1


@jit
def do_precharge(dram: Controller, index: int, at: int) -> None:
    """PRECHARGE of one bank."""
    bank, numbers = dram.banks[index], dram.spacing
    rank = dram.ranks[bank.rank]
    bank.open_row = NOBODY
    bank.activate_ready = max(bank.activate_ready, at + numbers.precharge_activate)
    rank.precharge_ready = at + numbers.precharge_precharge
    rank.precharge_all_ready = max(rank.precharge_all_ready, at + numbers.precharge_precharge)
    rank.refresh_ready = max(rank.refresh_ready, at + numbers.precharge_refresh)
    rank.open_banks -= 1
    dram.now.precharges += 1


@jit
def do_precharge_all(dram: Controller, index: int, at: int) -> None:
    """PRECHARGE of all banks of a rank."""
    rank, numbers = dram.ranks[index], dram.spacing
    for bank in range(len(dram.banks)):
        if dram.banks[bank].rank == index:
            dram.banks[bank].open_row = NOBODY
    rank.open_banks = 0
    rank.precharge_ready = at + numbers.precharge_precharge
    rank.activate_ready = max(rank.activate_ready, at + numbers.precharge_all_activate)
    rank.refresh_ready = max(rank.refresh_ready, at + numbers.precharge_refresh)
    dram.now.precharges += 1


@jit
def do_refresh(dram: Controller, index: int, at: int) -> None:
    """REFRESH of all (closed) banks of a rank."""
    rank, numbers = dram.ranks[index], dram.spacing
    rank.activate_ready = max(rank.activate_ready, at + numbers.refresh_activate)
    rank.precharge_all_ready = max(rank.precharge_all_ready, at + numbers.refresh_precharge)
    rank.refresh_ready = max(rank.refresh_ready, at + numbers.refresh_precharge)
    rank.refresh_due -= 1
    dram.now.refreshes_due -= 1
    dram.now.refreshes += 1


@jit
def fall_due(dram: Controller) -> None:
    """One refresh of every rank falls due at ``next_refresh``; no command issues before that clock any more."""
    now = dram.now
    at = now.next_refresh
    now.next_refresh += dram.spacing.refresh_interval
    for rank in range(len(dram.ranks)):
        dram.ranks[rank].refresh_due += 1
    now.refreshes_due += len(dram.ranks)
    advance(dram, at)


@jit
def advance(dram: Controller, clock: int) -> None:
    """No command issues before ``clock`` any more; the plan is void."""
    now = dram.now
    now.row_bus, now.column_bus = max(now.row_bus, clock), max(now.column_bus, clock)
    now.is_planned = 0


@jit
def skip_idle(dram: Controller, clock: int) -> None:
    """Pass over the refreshes of a long idle time before ``clock``, all but two; they leave all banks closed."""
    now, interval = dram.now, dram.spacing.refresh_interval
    passed = (clock - now.next_refresh) // interval - 2
    if passed <= 0 or now.reads + now.writes + now.refreshes_due > 0 or now.active_head != NOBODY:
        return
    now.next_refresh += passed * interval
    now.refreshes += passed * len(dram.ranks)
    for index in range(len(dram.ranks)):
        if dram.ranks[index].open_banks > 0:
            do_precharge_all(dram, index, now.next_refresh - interval)
