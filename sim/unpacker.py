"""The decoder's front end: an unpacker fills an index FIFO and a sign FIFO, from which groups of codes are looked up.

These rules are exact; hardware has to reproduce them cycle for cycle. A tile is ``count`` vectors of the record stream
of a strip, from vector ``first`` on; P codes are looked up together.

- A strip is read in beats of ``input_bits``, counted from its start. A tile takes one beat after the other, from the
  one that holds the first bit of its first code on, even if it finds nothing of its own in some of them. A beat carries
  an index (the signs of a vector) if their last bit lies in it; what belongs to another tile is dropped. The bits of a
  code that straddles two beats wait in the unpacker and take no room in a FIFO.
- A FIFO entry is one vector: its index, or all its signs. Mask indices are stored, read and kept in every way like
  signs; below, "signs" means either. Codecs without them have no sign FIFO. Both FIFOs are empty
  when a tile begins: the last group of the tile before has taken what was left.
- A beat is accepted in a cycle in which each FIFO has room for all it carries; what groups took out in earlier cycles
  makes room, what one takes out in the same cycle does not yet. At most one beat is accepted a cycle; its entries can
  be taken from the next cycle on.
- Groups are P consecutive vectors, the last one the rest of the tile. A group begins in a cycle in which both FIFOs
  hold all its entries and the group before it is done. It takes the entries out and is looked up for c cycles: 1 with
  a copy of the codebook for each port, with banks the largest number of its codes that share a bank.
- A tile's time runs from the cycle in which its first group begins to the cycle after the last one of its last group.
  What lies before and behind (reading the beats of the first group, the pipeline of look-up and sign application)
  overlaps with the tile before or with its last blocks' way from DRAM, or is too short to matter, and is not charged.

With V(b) the first cycle in which beat b's entries can be taken, and B(g) the cycle in which group g begins::

    V(0) = 0      V(b) = max(V(b-1) + 1,  B(p-1) + 2)   p: fewest groups that make room for beat b; none: first term
    B(g) = max(B(g-1) + c(g-1),  V(b))                  b: first beat by which all entries of group g have come
    cycles = B(last) + c(last) - B(0)                   B(0) = V(b): no group before it

Of these cycles, one in which no group is looked up and the next one lacks an index (signs) counts as index (sign) FIFO
empty; it may count as both. No beat waits for a group that waits for it if each FIFO has ``least_depths``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sim.jit import jit, jit_entry

Integers = npt.NDArray[np.int64]
NEVER = -1  # in place of cycles: the FIFOs are too small for the tile ever to be decoded
FIGURES = ("cycles", "groups", "lookup_cycles", "index_empty", "sign_empty")  # columns of ``tile_figures``
CYCLES, GROUPS, LOOKUP_CYCLES, INDEX_EMPTY, SIGN_EMPTY = range(len(FIGURES))


class Front(NamedTuple):
    """Record format and hardware: ``side_bits`` of one vector, signs or masks, 0 without; depths in vectors."""

    code_bits: int
    side_bits: int
    vectors_per_record: int
    record_bits: int
    input_bits: int
    lookups: int
    index_depth: int
    sign_depth: int


@jit
def _indices_before(front: Front, bit: int) -> int:
    """Vectors of a strip whose index ends before ``bit``."""
    record, rest = divmod(bit, front.record_bits)
    return int(record * front.vectors_per_record + min(front.vectors_per_record, rest // front.code_bits))


@jit
def _signs_before(front: Front, bit: int) -> int:
    """Vectors of a strip whose signs end before ``bit``; without signs, whose index does."""
    if front.side_bits == 0:
        return _indices_before(front, bit)
    record, rest = divmod(bit, front.record_bits)
    signs = max(0, rest - front.vectors_per_record * front.code_bits)
    return int(record * front.vectors_per_record + signs // front.side_bits)


@jit
def _first_beat(front: Front, vector: int) -> int:
    """The beat that holds the first bit of a vector's code."""
    record, within = divmod(vector, front.vectors_per_record)
    return int((record * front.record_bits + within * front.code_bits) // front.input_bits)


@jit
def _arrived(front: Front, first: int, count: int, beats: int) -> tuple[int, int]:
    """Indices and signs of a tile that its first ``beats`` beats carry."""
    end = (_first_beat(front, first) + beats) * front.input_bits
    indices = min(max(_indices_before(front, end) - first, 0), count)
    return indices, min(max(_signs_before(front, end) - first, 0), count)


@jit
def _tile(front: Front, first: int, count: int, costs: Integers, begun: Integers, figures: Integers) -> None:
    """Fill ``figures`` of one tile. ``costs[g]``: cycles of group g, or empty for one each; ``begun``: scratch."""
    groups = -(-count // front.lookups)
    beats, visible, free, indices, signs = 0, -1, 0, 0, 0
    figures[:] = 0
    for g in range(groups):
        needed = min((g + 1) * front.lookups, count)
        index_at = sign_at = free
        while indices < needed or signs < needed:
            beats += 1
            more_indices, more_signs = _arrived(front, first, count, beats)
            excess = max(more_indices - front.index_depth, more_signs - front.sign_depth)
            gone = -(-max(excess, 0) // front.lookups)
            if gone > g:
                figures[CYCLES] = NEVER
                return
            visible = max(visible + 1, begun[gone - 1] + 2) if gone else visible + 1
            if indices < needed <= more_indices:
                index_at = max(free, visible)
            if signs < needed <= more_signs:
                sign_at = max(free, visible)
            indices, signs = more_indices, more_signs
        begun[g] = max(index_at, sign_at)
        if g > 0:
            figures[INDEX_EMPTY] += index_at - free
            figures[SIGN_EMPTY] += sign_at - free if front.side_bits else 0
        cost = costs[g] if len(costs) else 1
        figures[LOOKUP_CYCLES] += cost
        free = begun[g] + cost
    figures[CYCLES], figures[GROUPS] = free - begun[0], groups


@jit_entry
def _fill_figures(
    front: Front, first: Integers, count: Integers, costs: Integers, begun: Integers, figures: Integers
) -> None:
    at = 0
    for t in range(len(first)):
        groups = -(-count[t] // front.lookups)
        mine = costs[at : at + groups] if len(costs) else costs
        _tile(front, first[t], count[t], mine, begun, figures[t])
        at += groups


def tile_figures(front: Front, first: Integers, count: Integers, costs: Integers) -> Integers:
    """``FIGURES`` of tiles that begin at vector ``first[t]`` and have ``count[t]``: ``int64[tiles, figures]``.

    ``costs`` holds the cycles of all groups of all tiles one after another, or nothing if each takes one.
    """
    figures = np.empty((len(first), len(FIGURES)), np.int64)
    begun = np.empty(-(-int(count.max(initial=0)) // front.lookups), np.int64)
    _fill_figures(front, first, count, costs, begun, figures)
    return figures


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


@jit_entry
def least_depths(front: Front, first: int, count: int) -> tuple[int, int]:
    """The smallest index and sign FIFO that can decode a tile: what a beat finds and brings when all groups that could
    begin without it are gone."""
    index_depth = sign_depth = beats = gone = 0
    indices = signs = 0
    while indices < count or signs < count:
        beats += 1
        indices, signs = _arrived(front, first, count, beats)
        index_depth, sign_depth = max(index_depth, indices - gone), max(sign_depth, signs - gone)
        ready = min(indices, signs)
        gone = ready if ready == count else ready // front.lookups * front.lookups
    return index_depth, sign_depth
