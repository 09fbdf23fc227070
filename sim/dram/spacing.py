"""From a DRAM standard to the numbers the controllers compare: how far apart commands must be, and where banks lie."""

from __future__ import annotations

from typing import NamedTuple

from accel.dram import AddressMap, DramStandard, DramTiming, address_map

READ_SLOTS, WRITE_SLOTS = 32, 32  # of the transaction queues
WRITE_HIGH, WRITE_LOW = 0.8, 0.2  # shares of the write queue: above, writes are drained; below, reads go on
BANK_SLOTS = 8  # of each bank's command queue (dramsim3 scheduler)
DRAIN_WRITES = 16  # with nothing to read, so many writes are worth draining (dramsim3 scheduler)
ROW_HIT_CAP = 4  # accesses after which an open row no longer protects its waiting hits (dramsim3 scheduler)


class Spacing(NamedTuple):
    """Clock cycles between commands (``x_y``: from x to y), and sizes.

    ``_rank``: to any bank of the pseudo channel; ``_group``: of the same bank group; ``_bank``: of the same bank.
    ``write_high``: writes queued that start a drain; ``write_low``: that end it. ``read_latency``,
    ``write_latency``: to the end of the burst, which takes ``burst``.
    """

    dual_command: bool
    activate_clocks: int
    split_deadline: int
    banks: int
    read_slots: int
    write_slots: int
    write_high: int
    write_low: int
    bank_slots: int
    drain_writes: int
    row_hit_cap: int
    read_read_rank: int
    read_read_group: int
    read_write_rank: int
    write_write_rank: int
    write_write_group: int
    write_read_rank: int
    write_read_group: int
    read_precharge: int
    write_precharge: int
    activate_activate_rank: int
    activate_activate_group: int
    activate_activate_bank: int
    four_activates: int
    activate_read: int
    activate_write: int
    activate_precharge: int
    activate_refresh: int
    precharge_activate: int
    precharge_all_activate: int
    precharge_precharge: int
    precharge_refresh: int
    refresh_activate: int
    refresh_precharge: int
    refresh_interval: int
    read_latency: int
    write_latency: int
    burst: int
    read_data_clock: int
    write_data_clock: int


def spacing(standard: DramStandard) -> Spacing:
    """Spacings of one channel. Times are counted from the first clock of a command, data sheets count from the last:
    one clock more from, and one less to, an ACTIVATE of two clocks."""
    t, late = standard.timing, standard.activate_clocks - 1
    written = t.cwl + t.burst
    return Spacing(
        dual_command=standard.dual_command,
        activate_clocks=standard.activate_clocks,
        split_deadline=t.taad,
        banks=standard.banks,
        read_slots=READ_SLOTS,
        write_slots=WRITE_SLOTS,
        write_high=int(WRITE_HIGH * WRITE_SLOTS) + 1,
        write_low=int(WRITE_LOW * WRITE_SLOTS),
        bank_slots=BANK_SLOTS,
        drain_writes=DRAIN_WRITES,
        row_hit_cap=ROW_HIT_CAP,
        read_read_rank=t.tccd_s,
        read_read_group=t.tccd_l,
        read_write_rank=t.read_to_write,
        write_write_rank=t.tccd_s,
        write_write_group=t.tccd_l,
        write_read_rank=written + t.twtr_s,
        write_read_group=t.write_to_read_group,
        read_precharge=t.trtp,
        write_precharge=written + t.twr,
        activate_activate_rank=t.trrd_s,
        activate_activate_group=t.trrd_l,
        activate_activate_bank=t.trc,
        four_activates=t.tfaw,
        activate_read=t.trcd_read + late,
        activate_write=t.trcd_write + late,
        activate_precharge=t.tras + late,
        activate_refresh=t.trc + late,
        precharge_activate=t.trp - late,
        precharge_all_activate=t.trp_all - late,
        precharge_precharge=t.tppd,
        precharge_refresh=t.trp,
        refresh_activate=t.trfc - late,
        refresh_precharge=t.trfc,
        refresh_interval=t.trefi,
        read_latency=t.cl + t.burst,
        write_latency=written,
        burst=t.burst,
        **_data_clock(t),
    )


def _data_clock(t: DramTiming) -> dict[str, int]:
    """Clocks after a read or write for which the data clock (LPDDR5's WCK) stays synchronised; 0: no such clock."""
    if not t.twck_post:
        return {"read_data_clock": 0, "write_data_clock": 0}
    return {"read_data_clock": t.cl + t.burst + t.twck_post, "write_data_clock": t.cwl + t.burst + t.twck_post}


class AddressBits(NamedTuple):
    """``accel.dram.AddressMap`` as shifts and widths of bits, for the kernels. The column may come in two pieces."""

    access_shift: int
    column_low: int
    column_low_bits: int
    column_high: int
    column_high_bits: int
    pseudo_channel: int
    pseudo_channel_bits: int
    group: int
    group_bits: int
    bank: int
    bank_bits: int
    row: int
    hashed: bool


def address_bits(standard: DramStandard, width_bits: int, mapping: str) -> AddressBits:
    """Shifts and widths of the fields of an address of one channel."""
    layout = address_map(standard, width_bits, mapping)
    places, shift = _places(layout)
    columns = [places[index] for index, (name, _) in enumerate(layout.pieces) if name == "column"]
    low, high = columns[0], columns[-1] if len(columns) > 1 else (0, 0)
    others = {name: places[index] for index, (name, _) in enumerate(layout.pieces) if name != "column"}
    return AddressBits(
        layout.access_bytes.bit_length() - 1,
        *low,
        *high,
        *others["pseudo_channel"],
        *others["group"],
        *others["bank"],
        row=shift,
        hashed=layout.hashed,
    )


def _places(layout: AddressMap) -> tuple[list[tuple[int, int]], int]:
    """``(shift, bits)`` of every piece, and the shift of the row."""
    places, shift = [], 0
    for _, bits in layout.pieces:
        places.append((shift, bits))
        shift += bits
    return places, shift
