"""What beats bring and groups need: the words of a strip's codes and side bits, counted before any cycle is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accel.codecs.records import RecordLayout
from accel.decoder_timing import TIMING, DecoderTiming
from accel.isa import BLOCK_BYTES

Integers = npt.NDArray[np.int64]
INSIDE, TILE_END, STRIP_END, LAYER_END = range(4)  # what a group is the last one of: values of ``Flow.end``
CODES, SIDES = range(2)  # columns
NO_BEAT = -1


class Front(NamedTuple):
    """Record format and ports: ``side_bits`` of one vector, signs or masks, 0 without."""

    code_bits: int
    side_bits: int
    vectors_per_record: int
    record_bits: int
    input_bits: int
    lookups: int


class Strip(NamedTuple):
    """Its format, the vectors of each tile, and whether it is the last strip of its layer."""

    front: Front
    vectors: Sequence[int]
    ends_layer: bool = False


class Flow(NamedTuple):
    """Strips in a row. ``written[b]``: words of codes and of side bits the first b beats begin; ``brings[b]``: 1 if
    beat b has such bits; ``gone[g]``: words that the first g groups are done with; ``needs[g]``: the beats that bring
    the last bits group g needs, or ``NO_BEAT``; ``cost[g]``: its cycles of look-ups; ``end[g]``: what it ends;
    ``last_beat[g]``: of its strip.

    ``arrival[b]``: the first cycle in which a beat is offered; ``ready``: whether the output is taken, over and over.
    """

    written: Integers
    brings: Integers
    gone: Integers
    needs: Integers
    cost: Integers
    end: Integers
    last_beat: Integers
    arrival: Integers
    ready: npt.NDArray[np.bool_]


def front_of(layout: RecordLayout, input_bits: int, lookups: int) -> Front:
    """The view kernels have of a layout and a decoder's ports."""
    bits = 8 * layout.record_bytes
    return Front(layout.code_bits, layout.side_bits, layout.vectors_per_record, bits, input_bits, lookups)


def flow_of(
    strips: Iterable[Strip],
    *,
    cost: Integers | None = None,
    arrival: Integers | None = None,
    ready: npt.NDArray[np.bool_] | None = None,
) -> Flow:
    """``strips`` one after the other; by default a cycle a group, beats always there, output always taken."""
    parts = [_strip_words(strip) for strip in strips]
    written, brings, gone, needs, end, last_beat = ([part[n] for part in parts] for n in range(6))
    beats, groups = _starts(written), sum(map(len, end))
    return Flow(
        _added_up(written),
        np.concatenate(brings),
        _added_up(gone),
        np.concatenate([np.where(need == NO_BEAT, NO_BEAT, need + at) for need, at in zip(needs, beats, strict=False)]),
        np.ones(groups, np.int64) if cost is None else cost,
        np.concatenate(end),
        np.concatenate([last + at for last, at in zip(last_beat, beats, strict=False)]),
        np.zeros(beats[-1], np.int64) if arrival is None else arrival,
        np.ones(1, np.bool_) if ready is None else ready,
    )


def _starts(parts: list[Integers]) -> list[int]:
    """Where each of ``parts``, which have a 0 of their own in front, begins, and where the last one ends."""
    return list(accumulate((len(part) - 1 for part in parts), initial=0))


def _added_up(parts: list[Integers]) -> Integers:
    """Counts that go on from one of ``parts`` to the next."""
    return np.cumsum(np.concatenate([parts[0][:1], *(np.diff(part, axis=0) for part in parts)]), axis=0)


def _strip_words(strip: Strip) -> tuple[Integers, ...]:
    front = strip.front
    ends, end = _groups(strip)
    edges = np.arange(beats_of(front, int(ends[-1])) + 1) * front.input_bits
    sizes = (len(edges), len(edges) - 1, len(ends) + 1, len(ends))
    written, brings, gone, needs = (np.empty((size, 2), np.int64) for size in sizes)
    for queue, bits in enumerate((front.code_bits, front.side_bits)):
        arrived = np.minimum(_bits_before(front, edges, queue), ends[-1] * bits)
        length = _word_bits(front, bits)
        written[:, queue] = begun = -(-arrived // length)
        brings[:, queue] = np.diff(arrived) > 0
        gone[:, queue] = np.append(0, ends * bits) // length
        gone[-1, queue] = begun[-1]
        needs[:, queue] = np.searchsorted(arrived, ends * bits) - 1 if bits else NO_BEAT
    return written, brings, gone, needs, end, np.full(len(end), len(edges) - 2)


def _word_bits(front: Front, bits: int) -> int:
    """Bits of a word of fields of ``bits``: those in a beat of aligned records; else a beat's length, side by side."""
    aligned = front.vectors_per_record == 1 and bits > 0
    return front.input_bits // front.record_bits * bits if aligned else front.input_bits


def _groups(strip: Strip) -> tuple[Integers, Integers]:
    """Vectors of a strip up to the end of each group, and what each group ends."""
    ends: list[int] = []
    kinds: list[int] = []
    start, lookups = 0, strip.front.lookups
    for count in strip.vectors:
        ends += [*range(start + lookups, start + count, lookups), start + count]
        start += count
        kinds += [INSIDE] * (len(ends) - len(kinds) - 1) + [TILE_END]
    kinds[-1] = LAYER_END if strip.ends_layer else STRIP_END
    return np.array(ends), np.array(kinds)


def beats_of(front: Front, vectors: int) -> int:
    """Beats of a strip of ``vectors``, padding to whole DRAM blocks included."""
    bits = -(-vectors // front.vectors_per_record) * front.record_bits
    return -(-bits // (8 * BLOCK_BYTES)) * 8 * BLOCK_BYTES // front.input_bits


def _bits_before(front: Front, at: Integers, queue: int) -> Integers:
    """Bits of codes (side bits) among the first ``at`` bits of a strip."""
    records, rest = np.divmod(at, front.record_bits)
    codes, sides = (front.vectors_per_record * bits for bits in (front.code_bits, front.side_bits))
    if queue == CODES:
        indices: Integers = records * codes + np.minimum(rest, codes)
        return indices
    signs: Integers = records * sides + np.maximum(rest - codes, 0)
    return signs


def least_queue(flow: Flow, timing: DecoderTiming = TIMING) -> int:
    """The shortest queues of words in which no beat waits for room that only a group which waits for it makes."""
    beats = np.arange(len(flow.arrival))
    issued = np.searchsorted(flow.needs.max(axis=1), beats)  # groups that can be issued before each beat
    level = flow.written[:-1] - flow.gone[issued]
    most = int(np.where(flow.brings, level, 0).max(initial=0))
    return most + 1 + timing.late_writes
