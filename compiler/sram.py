"""Fitting intervals into the SRAM: buffers by lifetime, staging areas into the gaps between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from accel.isa import BLOCK_BYTES
from compiler.steps import Buffer

RETRIES = 24  # restarts of a placement per ordering before something is spilled


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A resident buffer is alive from visit ``start`` to ``stop``, both included."""

    buffer: Buffer
    start: int
    stop: int


def aligned(size: int) -> int:
    """Rounded up to whole blocks, so that everything starts on one."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def fit(lifetimes: Sequence[Lifetime], capacity_bytes: int) -> tuple[dict[str, int], str | None]:
    """Addresses for all lifetimes, or those found and the buffer that never fits.

    Largest first, then longest-lived first; each time the buffer that found no room moves to the front of the queue
    and the placement starts again (what is awkward to place goes first).
    """
    for key in (_by_size, _by_duration):
        order = sorted(lifetimes, key=key)
        for _ in range(RETRIES):
            address, failed = _first_fit(order, capacity_bytes)
            if failed is None:
                return address, None
            order.insert(0, order.pop(failed))
    return address, order[0].buffer.name


def _by_size(life: Lifetime) -> tuple[int, int, str]:
    return -life.buffer.size_bytes, life.start, life.buffer.name


def _by_duration(life: Lifetime) -> tuple[int, int, str]:
    return life.start - life.stop, life.start, life.buffer.name


def _first_fit(order: Sequence[Lifetime], capacity_bytes: int) -> tuple[dict[str, int], int | None]:
    """Each lifetime at the lowest address free for all of it; second is the index of the first that does not fit."""
    starts, stops, lows, highs = (np.zeros(len(order), np.int64) for _ in range(4))
    address: dict[str, int] = {}
    for count, life in enumerate(order):
        size = aligned(life.buffer.size_bytes)
        overlap = (starts[:count] <= life.stop) & (stops[:count] >= life.start)
        taken = sorted(zip(lows[:count][overlap].tolist(), highs[:count][overlap].tolist(), strict=True))
        low = next(at for at, room in gaps(taken, capacity_bytes) if room >= size or room < 0)
        if low < 0:
            return address, count
        starts[count], stops[count], lows[count], highs[count] = life.start, life.stop, low, low + size
        address[life.buffer.name] = low
    return address, None


def gaps(taken: Sequence[tuple[int, int]], capacity_bytes: int) -> Iterator[tuple[int, int]]:
    """``(address, room)`` of free stretches between sorted intervals; ends with ``(-1, -1)``."""
    at = 0
    for low, high in taken:
        if low > at:
            yield at, low - at
        at = max(at, high)
    if capacity_bytes > at:
        yield at, capacity_bytes - at
    yield -1, -1


def pack(sizes: Sequence[int], holes: Sequence[tuple[int, int]]) -> list[int] | None:
    """An address for each size, largest placed first in the first gap with room; ``None`` when they do not fit."""
    free = [list(gap) for gap in holes]
    found = [0] * len(sizes)
    for slot in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        gap = next((gap for gap in free if gap[1] >= sizes[slot]), None)
        if gap is None:
            return None
        found[slot] = gap[0]
        gap[0] += sizes[slot]
        gap[1] -= sizes[slot]
    return found
