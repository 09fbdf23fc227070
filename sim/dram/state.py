"""What a DRAM controller works on: records of integers for banks, groups, ranks (pseudo channels) and queue entries.

Times are clocks of the DRAM; -1: nobody. A controller is a tuple of views, so that several channels share the arrays.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from sim.dram.spacing import AddressBits, Spacing

NOBODY = -1
NEVER = 1 << 60
LONG_AGO = -(1 << 40)
Records = np.recarray[Any, np.dtype[np.record]]

# Commands; LPDDR5 only: ACTIVATE_SECOND completes a split ACTIVATE, SYNCHRONISE starts the data clock for an access.
NO_COMMAND, ACCESS, ACTIVATE, PRECHARGE, PRECHARGE_ALL, REFRESH, ACTIVATE_SECOND, SYNCHRONISE = range(8)

# ``active``: the entry whose ACTIVATE opened the row and that has not been served; no PRECHARGE may overtake it.
# ``*_ready``: the first clock at which timing between this bank's commands allows one. ``*_head``, ``*_tail``: this
# bank's waiting entries in the order of their arrival. ``deadline``: of the second half of a split ACTIVATE.
BANK = (
    *("group", "rank", "open_row", "active", "hits", "deadline", "activated"),
    *("activate_ready", "precharge_ready", "read_ready", "write_ready"),
    *("read_head", "read_tail", "write_head", "write_tail", "waiting"),
)
GROUP = ("activate_ready", "read_ready", "write_ready")
RANK = (
    *("activate_ready", "precharge_ready", "precharge_all_ready", "refresh_ready", "read_ready", "write_ready"),
    *("activate_0", "activate_1", "activate_2", "activate_3"),  # clocks of the last four ACTIVATEs
    *("open_banks", "active_banks", "refresh_due"),
)
# ``owner``, ``subject``, ``place``: what the request is for; the controller hands them back when it is served.
ENTRY = ("bank", "row", "address", "arrival", "age", "is_write", "owner", "subject", "place", "next")
REGISTERS = {
    "row_bus": 1,  # first clock at which a row command may issue
    "column_bus": 1,  # the same of column commands; both are one bus unless the standard has two
    "last_command": 0,
    "next_offer": 0,  # a request (of one block or more accesses) is taken each clock
    "command": NO_COMMAND,  # planned next, its entry, bank or rank, and its clock
    "target": NOBODY,
    "at": NEVER,
    "is_planned": 0,
    "write_mode": 0,
    "reads": 0,  # waiting in the queues
    "writes": 0,
    "free": 0,
    "age": 0,
    "active_head": NOBODY,  # entries being served by an ACTIVATE, in the order of those
    "next_refresh": 0,
    "refreshes_due": 0,
    "splits": 0,  # ACTIVATEs whose second half is due
    "data_clock_until": 0,
    "synchronised": NOBODY,  # the entry for which the data clock was just started; its access is the next command
    "round_robin": 0,  # dramsim3 scheduler
    "draining": 0,
    "read_first": NOBODY,
    "read_last": NOBODY,
    "write_first": NOBODY,
    "write_last": NOBODY,
    "done_owner": NOBODY,  # request served by the last command, and when its data have come
    "done_subject": 0,
    "done_place": 0,
    "done_at": 0,
    "accesses": 0,  # statistics
    "row_hits": 0,
    "activates": 0,
    "precharges": 0,
    "refreshes": 0,
}


class Controller(NamedTuple):
    """One channel. ``spacing`` and ``bits`` are records: tuples of so many numbers would be copied at every call."""

    spacing: Any
    bits: Any
    banks: Records
    groups: Records
    ranks: Records
    entries: Records
    now: Any


class Channels(NamedTuple):
    """The same arrays for all channels, which are the first axis."""

    spacing: Any
    bits: Any
    banks: Records
    groups: Records
    ranks: Records
    entries: Records
    now: Records


def new_channels(count: int, numbers: Spacing, bits: AddressBits) -> Channels:
    """``count`` idle channels before their first clock."""
    groups_per_rank, banks_per_group = 1 << bits.group_bits, 1 << bits.bank_bits
    ranks, every = 1 << bits.pseudo_channel_bits, np.arange(numbers.banks)
    banks = _records(BANK, (count, numbers.banks))
    banks["group"], banks["rank"] = every // banks_per_group, every // (groups_per_rank * banks_per_group)
    for name in ("open_row", "active", "deadline", "read_head", "read_tail", "write_head", "write_tail"):
        banks[name] = NOBODY
    rank = _records(RANK, (count, ranks))
    for name in ("activate_0", "activate_1", "activate_2", "activate_3"):
        rank[name] = LONG_AGO
    slots = numbers.read_slots + numbers.write_slots + numbers.banks * numbers.bank_slots
    entries = _records(ENTRY, (count, slots))
    entries["next"] = np.append(np.arange(1, slots), NOBODY)
    groups = _records(GROUP, (count, ranks * groups_per_rank))
    registers = _registers(count, numbers)
    return Channels(_constants(numbers), _constants(bits), banks, groups, rank, entries, registers)


def _constants(values: Spacing | AddressBits) -> Any:
    record = np.recarray(1, [(name, np.int64) for name in values._fields])
    record[0] = tuple(int(value) for value in values)
    return record[0]


def _records(names: tuple[str, ...], shape: tuple[int, int]) -> Records:
    records = np.recarray(shape, [(name, np.int64) for name in names])
    records.view(np.int64)[:] = 0
    return records


def _registers(count: int, numbers: Spacing) -> Records:
    registers = np.recarray(count, [(name, np.int64) for name in REGISTERS])
    registers[:] = tuple(REGISTERS.values())
    registers["next_refresh"] = numbers.refresh_interval
    return registers
