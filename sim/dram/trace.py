"""A trace of 64-byte accesses through one DRAM channel: files of traces, and ``replay_trace`` with its figures."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from accel.dram import MAPPINGS, SCHEDULERS, DramStandard
from accel.errors import ConfigError, FormatError, SimError, listed, nearest
from sim.dram.traces import TRACE_ACCESS_BYTES, Accesses, Integers

ROW_HIT, ROUND_ROBIN = SCHEDULERS
MAX_OUTSTANDING = 4096
_ELEMENT = np.dtype("<i8")  # of a trace file: pairs of (0 read, 1 write; byte address)


@dataclass(frozen=True, slots=True)
class Replay:
    """What ``replay_trace`` measured; times in clocks of the DRAM.

    ``requests`` of 64 bytes make ``accesses`` of the device. ``row_hits``: accesses that needed no ACTIVATE of their
    own, of ``commands`` READs and WRITEs that issued before the last access was served. ``accepted``, ``done``: clocks
    of each access, in the order of the trace.
    """

    standard: DramStandard
    width_bits: int
    mapping: str
    scheduler: str
    outstanding: int
    requests: int
    accesses: int
    total_cycles: int
    commands: int
    row_hits: int
    activates: int
    precharges: int
    refreshes: int
    mean_read_latency_cycles: float | None
    accepted: Integers = field(repr=False, compare=False)
    done: Integers = field(repr=False, compare=False)

    @property
    def seconds(self) -> float:
        """Time of the whole trace."""
        return self.total_cycles * self.standard.timing.tck_ps * 1e-12

    @property
    def bandwidth_bytes_per_cycle(self) -> float:
        """Bytes a clock of the DRAM, on average."""
        return self.requests * TRACE_ACCESS_BYTES / self.total_cycles

    @property
    def bandwidth_bytes_per_second(self) -> float:
        """Bytes a second, on average."""
        return self.requests * TRACE_ACCESS_BYTES / self.seconds

    @property
    def peak_share(self) -> float:
        """Share of what the data bus could carry."""
        return self.bandwidth_bytes_per_second / self.standard.peak_bytes_per_second(self.width_bits)

    @property
    def row_hit_percent(self) -> float:
        """Row hits in a hundred READs and WRITEs."""
        return 100 * self.row_hits / self.commands if self.commands else 0.0


def read_trace(path: str | os.PathLike[str]) -> Accesses:
    """Operations and addresses of a trace file, not yet checked; raises ``FormatError``."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise FormatError(f"trace '{os.fspath(path)}': {error.strerror or error}") from error
    pair_bytes = 2 * _ELEMENT.itemsize
    if not data or len(data) % pair_bytes:
        raise FormatError(
            f"trace '{os.fspath(path)}': {len(data)} bytes; allowed: one or more pairs of little-endian 64-bit "
            f"integers (operation, byte address), {pair_bytes} bytes each"
        )
    pairs = np.frombuffer(data, _ELEMENT).astype(np.int64).reshape(-1, 2)
    return np.ascontiguousarray(pairs[:, 0]), np.ascontiguousarray(pairs[:, 1])


def replay_trace(
    standard: DramStandard,
    width_bits: int,
    mapping: str,
    scheduler: str,
    writes: Integers,
    addresses: Integers,
    outstanding: int = 0,
) -> Replay:
    """Time a trace of 64-byte accesses (``writes``: 0 read, 1 write; ``addresses``: any byte of the 64).

    They are split into accesses of the device and offered in order, up to four a clock; ``outstanding`` limits how
    many accesses may be under way (0: no limit). Raises ``ConfigError`` for a channel that cannot be, ``SimError`` for
    a trace that does not fit it.
    """
    check_channel(standard, width_bits, mapping, scheduler, outstanding)
    _check_trace(writes, addresses, standard.capacity_bytes(width_bits))
    parts = TRACE_ACCESS_BYTES // standard.access_bytes(width_bits)
    steps = standard.access_bytes(width_bits) * np.arange(parts, dtype=np.int64)
    split = (addresses // TRACE_ACCESS_BYTES * TRACE_ACCESS_BYTES)[:, None] + steps
    return _replay(
        standard,
        width_bits,
        mapping,
        scheduler,
        outstanding,
        np.repeat(writes, parts),
        np.ascontiguousarray(split.ravel()),
    )


def _replay(
    standard: DramStandard,
    width_bits: int,
    mapping: str,
    scheduler: str,
    outstanding: int,
    writes: Integers,
    addresses: Integers,
) -> Replay:
    from sim.dram.replay import replay, replay_round_robin
    from sim.dram.spacing import address_bits, spacing
    from sim.dram.state import new_channels

    channels = new_channels(1, spacing(standard), address_bits(standard, width_bits, mapping))
    accepted, done = np.zeros(len(writes), np.int64), np.zeros(len(writes), np.int64)
    kernel = replay if scheduler == ROW_HIT else replay_round_robin
    kernel(channels, writes, addresses, np.zeros(outstanding, np.int64), accepted, done)
    now, reads = channels.now[0], writes == 0
    return Replay(
        standard=standard,
        width_bits=width_bits,
        mapping=mapping,
        scheduler=scheduler,
        outstanding=outstanding,
        requests=len(addresses) * standard.access_bytes(width_bits) // TRACE_ACCESS_BYTES,
        accesses=len(addresses),
        total_cycles=int(done.max()),
        commands=int(now.accesses),
        row_hits=int(now.row_hits),
        activates=int(now.activates),
        precharges=int(now.precharges),
        refreshes=int(now.refreshes),
        mean_read_latency_cycles=float((done - accepted)[reads].mean()) if reads.any() else None,
        accepted=accepted,
        done=done,
    )


def check_channel(standard: DramStandard, width_bits: int, mapping: str, scheduler: str, outstanding: int = 0) -> None:
    """Raise ``ConfigError`` for a channel that does not exist or that a scheduler does not know."""
    if width_bits not in standard.widths:
        allowed = listed(map(str, standard.widths))
        raise ConfigError(f"DRAM width {width_bits} bits; allowed for {standard.name}: {allowed}")
    for what, value, allowed_values in (("mapping", mapping, MAPPINGS), ("scheduler", scheduler, SCHEDULERS)):
        if value not in allowed_values:
            near = nearest(value, allowed_values)
            raise ConfigError(f"DRAM {what} '{value}'; allowed: {listed(allowed_values)}{near}")
    if not 0 <= outstanding <= MAX_OUTSTANDING:
        raise ConfigError(f"{outstanding} requests outstanding; allowed: 0 (no limit) to {MAX_OUTSTANDING}")
    unknown = [
        what
        for what, present in (
            ("pseudo channels", standard.pseudo_channels > 1),
            ("split ACTIVATEs", standard.timing.taad > 0),
        )
        if present
    ]
    if scheduler == ROUND_ROBIN and unknown:
        raise ConfigError(
            f"DRAM scheduler {scheduler} with {standard.name}: it knows no {' or '.join(unknown)}; allowed: {ROW_HIT}"
        )


def _check_trace(writes: Integers, addresses: Integers, capacity_bytes: int) -> None:
    """Raise ``SimError`` naming the first row that is wrong."""
    if not len(addresses):
        raise SimError("the trace is empty; allowed: one access or more")
    assert len(writes) == len(addresses), "one operation an address"
    for wrong, values, what, allowed in (
        ((writes != 0) & (writes != 1), writes, "operation", "0 (read) or 1 (write)"),
        ((addresses < 0) | (addresses >= capacity_bytes), addresses, "address", f"0 to {capacity_bytes - 1}"),
    ):
        if wrong.any():
            row = int(np.argmax(wrong))
            raise SimError(f"row {row} of the trace: {what} {values[row]}; allowed: {allowed}")
