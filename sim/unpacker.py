"""The time of the decoder's front end for the tiles of a strip, and what its cycles are spent on.

A strip runs through ``sim.front_end`` by itself, its beats always there and its output always taken: what is left of
both is timed elsewhere (the ring's arrivals, the array's shadow register). Tiles follow one another as in hardware:

- A tile's time runs from the end of the tile before to the end of its last group: the cycle of its issue, and those of
  its look-ups. A strip's first tile counts from the issue of its first group: what lies before (the way of the first
  beats, and of the weights to the array) overlaps with the strip before, or is too short to matter.
- A group is looked up for c cycles: 1 with a copy of the codebook for each port; with banks, which hardware does not
  have, the largest number of its codes that share a bank. The next group is issued no earlier.
- A cycle in which no group is looked up, and the next one lacks words of codes (of signs or masks), counts as index
  (sign) FIFO empty; it may count as both.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from accel.decoder_timing import TIMING
from sim.front_end import Times, decode
from sim.jit import jit_entry
from sim.words import CODES, INSIDE, SIDES, Flow

Integers = npt.NDArray[np.int64]
FIGURES = ("cycles", "groups", "lookup_cycles", "index_empty", "sign_empty")  # columns of ``tile_figures``


def tile_figures(flow: Flow, fifo_words: int) -> Integers:
    """``FIGURES`` of a strip's tiles: ``int64[tiles, figures]``; FIFOs must suffice (``sim.words.least_queue``)."""
    window = 1  # the output is always taken: how long weights are on their way does not matter, credits suffice for it
    times = decode(flow, window, TIMING._replace(word_queue=fifo_words))
    last = np.flatnonzero(flow.end != INSIDE)
    done = times.issued + flow.cost
    counted = (np.ones(len(done), np.int64), flow.cost, *(_lacking(flow, times, queue) for queue in (CODES, SIDES)))
    cycles = np.diff(done[last], prepend=times.issued[0])
    return np.stack([cycles, *(_by_tile(values, last) for values in counted)], axis=1)


def _by_tile(values: Integers, last: Integers) -> Integers:
    """Sums over the groups of each tile, of which ``last`` has the last ones."""
    sums: Integers = np.diff(np.cumsum(values)[last], prepend=0)
    return sums


def _lacking(flow: Flow, times: Times, queue: int) -> Integers:
    """Cycles each group but the first waits for words of one kind when the group before is done."""
    needs = flow.needs[:, queue]
    there = np.where(needs >= 0, times.taken[needs] + TIMING.beat_to_issue, 0)
    free = times.issued + flow.cost
    return np.append(0, np.maximum(there[1:] - free[:-1], 0))


@jit_entry
def _fill_cycles(
    codes: npt.NDArray[np.uint16], count: Integers, lookups: int, loads: Integers, cycles: Integers
) -> None:
    banks, at, group = len(loads), 0, 0
    for t in range(len(count)):
        end = at + count[t]
        while at < end:
            stop, most = min(at + lookups, end), 0
            for code in codes[at:stop]:
                loads[code % banks] += 1
                most = max(most, loads[code % banks])
            for code in codes[at:stop]:
                loads[code % banks] = 0
            cycles[group] = most
            group += 1
            at = stop


def bank_cycles(codes: npt.NDArray[np.uint16], count: Integers, lookups: int, banks: int) -> Integers:
    """Cycles of every group of tiles of ``count[t]`` consecutive codes: the most codes that one bank has to serve."""
    cycles = np.empty(int((-(-count // lookups)).sum()), np.int64)
    _fill_cycles(codes, count, lookups, np.zeros(banks, np.int64), cycles)
    return cycles
