"""Named traces of 64-byte accesses: the streams an accelerator makes, their worst cases, and probes of latency.

``TRACES`` is the one table; the reference cycle counts in ``accel/reference/dram.csv`` were measured on these.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

TRACE_ACCESS_BYTES = 64
MIB = 1 << 20
Integers = npt.NDArray[np.int64]
Accesses = tuple[Integers, Integers]  # writes (0: read, 1: write), byte addresses

_OTHER_BANK = 40960  # bytes from the start of a 64 MiB stretch to one in another bank, in all mappings


@dataclass(frozen=True, slots=True)
class NamedTrace:
    """One row of ``TRACES``; ``outstanding``: accesses that may be under way at once (0: no limit)."""

    name: str
    doc: str
    make: Callable[[], Accesses]
    outstanding: int = 0


def _reads(addresses: Integers) -> Accesses:
    return np.zeros(len(addresses), np.int64), addresses


def _sequence(size_bytes: int, base: int = 0, is_write: int = 0) -> Accesses:
    addresses = base + TRACE_ACCESS_BYTES * np.arange(size_bytes // TRACE_ACCESS_BYTES, dtype=np.int64)
    return np.full(len(addresses), is_write, np.int64), addresses


def _streams(parts: Sequence[tuple[int, int, int]], turns: int) -> Accesses:
    """Streams ``(is_write, base, bytes a turn)`` in turn, each from where it stopped."""
    writes = np.concatenate([np.full(size // TRACE_ACCESS_BYTES, is_write) for is_write, _, size in parts])
    firsts = np.concatenate([_sequence(size, base)[1] for _, base, size in parts])
    steps = np.concatenate([np.full(size // TRACE_ACCESS_BYTES, size) for _, _, size in parts])
    addresses = firsts + steps * np.arange(turns, dtype=np.int64)[:, None]
    return np.tile(writes.astype(np.int64), turns), addresses.reshape(-1)


def _mixed(pattern: Sequence[int], write_base: int, turns: int) -> Accesses:
    """A sequence of reads from 0 and one of writes, interleaved as ``pattern`` says (1: write)."""
    writes = np.tile(np.array(pattern, np.int64), turns)
    of_its_kind = np.where(writes == 1, np.cumsum(writes), np.cumsum(1 - writes)) - 1
    return writes, write_base * writes + TRACE_ACCESS_BYTES * of_its_kind


def _rows(count: int, pitch: int, size_bytes: int) -> Accesses:
    """``count`` rows of ``size_bytes``, ``pitch`` bytes apart."""
    return _reads((np.arange(count, dtype=np.int64)[:, None] * pitch + _sequence(size_bytes)[1]).reshape(-1))


def _random(count: int, size_bytes: int, seed: int) -> Accesses:
    """Reads all over ``size_bytes``, from Knuth's 64-bit linear congruential generator."""
    multiplier, increment, mask = 6364136223846793005, 1442695040888963407, (1 << 64) - 1
    states = itertools.accumulate(range(count), lambda state, _: (multiplier * state + increment) & mask, initial=seed)
    drawn = np.fromiter((state >> 33 for state in itertools.islice(states, 1, None)), np.int64, count)
    return _reads(TRACE_ACCESS_BYTES * (drawn % (size_bytes // TRACE_ACCESS_BYTES)))


def _two(codes: int, activations: int, offset: int, turns: int) -> Callable[[], Accesses]:
    return partial(_streams, ((0, 0, codes), (0, 64 * MIB + offset, activations)), turns)


_WRITES = 128 * MIB + 2 * _OTHER_BANK
_ROWS = (
    NamedTrace("a1_seq_read_1MB", "1 MiB read in order", partial(_sequence, MIB)),
    NamedTrace("a2_seq_read_16MB", "16 MiB read in order", partial(_sequence, 16 * MIB)),
    NamedTrace("a3_seq_write_1MB", "1 MiB written in order", partial(_sequence, MIB, is_write=1)),
    NamedTrace("b1_2stream_64_64_sameBank", "two streams, 64 B in turn, rows of one bank", _two(64, 64, 0, 16384)),
    NamedTrace("b2_2stream_64_64_offBank", "the same, banks apart", _two(64, 64, _OTHER_BANK, 16384)),
    NamedTrace("b3_2stream_256_1024_sameBank", "256 B of codes, 1 KiB of activations", _two(256, 1024, 0, 4096)),
    NamedTrace("b4_2stream_256_1024_offBank", "the same, banks apart", _two(256, 1024, _OTHER_BANK, 4096)),
    NamedTrace("b5_2stream_4K_4K_sameBank", "two streams, 4 KiB in turn, rows of one bank", _two(4096, 4096, 0, 256)),
    NamedTrace("c1_rand64_read_256MB", "random reads in 256 MiB", partial(_random, 65536, 256 * MIB, seed=1)),
    NamedTrace(
        "d1_rw70_30_64B",
        "seven reads, three writes, mixed",
        partial(_mixed, (0, 0, 0, 1, 0, 0, 1, 0, 0, 1), _WRITES, 6554),
    ),
    NamedTrace(
        "d2_rw70_30_4K",
        "28 KiB of reads, then 12 KiB of writes",
        partial(_streams, ((0, 0, 28672), (1, _WRITES, 12288)), 102),
    ),
    NamedTrace("d3_rw50_50_64B", "a read, a write", partial(_mixed, (0, 1), _WRITES, 16384)),
    NamedTrace("e1_rows192_pitch4K", "rows of 192 B, 4 KiB apart", partial(_rows, 8192, 4096, 192)),
    NamedTrace("e2_rows192_pitch192", "the same, packed", partial(_rows, 8192, 192, 192)),
    NamedTrace("e3_rows64_pitch4K", "rows of 64 B, 4 KiB apart", partial(_rows, 16384, 4096, 64)),
    NamedTrace("e4_rows1K_pitch8K", "rows of 1 KiB, 8 KiB apart", partial(_rows, 1024, 8192, 1024)),
    NamedTrace("g1_dep_seq", "256 KiB, one access at a time", partial(_sequence, 256 * 1024), 1),
    NamedTrace("g2_dep_rand", "random reads, one at a time", partial(_random, 4096, 256 * MIB, seed=7), 1),
)
TRACES: Mapping[str, NamedTrace] = MappingProxyType({row.name: row for row in _ROWS})
