"""The decoder, cycle for cycle as hardware has it, from beats taken to groups issued and weights handed over.

Words. A strip is read in beats of ``input_bits``. Its codes, and its side bits (signs or masks), are put side by side
in words as long as a beat, or, of aligned records, of as many bits as a beat has of them; padding goes nowhere. A
beat may fill up a word, begin one, or both. A group, ``lookups`` consecutive vectors of a tile or the rest of it,
needs the beats that hold its bits; it is done with words that hold no bits of later groups of its strip. Where a
group spans two words at most and beats have at most 128 bits, this is what ``rtl`` builds; else what it would build.

Rules, of cycles c, with the constants of ``accel.decoder_timing`` (here as numbers):

- One beat a cycle is taken, from the cycle on in which it is offered, if each queue it writes to has room: at most 12
  of the words of beats taken up to c - 3 remain after the groups issued up to c - 2.
- Jobs (strips) wait; the one of a strip counts 3 cycles after the last beat of the strip before was taken, and its
  first tile begins once the tile before has given its last group. A layer's first strip waits a cycle for its codebook.
- A tile gives a group a cycle, from the cycle after it began, unless the placer stands. The placer has three stages; a
  group enters the last one only with credit: at most 13 groups have entered it and not left the output, both counted up
  to c - 3 (a group counts as entered a cycle ahead).
- A group in the last stage is issued when its words come from beats taken up to c - 3 and the group before is done:
  with a copy of the codebook for each port, after one cycle. Its weights are offered a fixed number of cycles later, or
  in the cycle after those before were taken.

The kernel steps through cycles but keeps no queues: what a register holds follows from when things happened.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accel.decoder_timing import TIMING, DecoderTiming
from sim.jit import jit, jit_entry
from sim.words import LAYER_END, TILE_END, Flow

Integers = npt.NDArray[np.int64]
SETTLE = 32  # cycles before the first beat, in which groups run up to where they wait for it
LONG_AGO = -(1 << 40)
# Registers. Counts: beats taken, groups given by tiles, entered (placed), issued; of them, those known of in the cycle
# at hand. Flags: a group in the skid buffer and each stage of the placer, a tile that gives groups. Then what the next
# tile begins, when a tile, and a layer, last began, and when the look-ups are free.
(TAKEN, GIVEN, ENTERED, ISSUED, TAKEN_SEEN, ENTERED_SEEN, ISSUED_SEEN, LEFT_SEEN,
 KEPT, WAITING, STEPPED, PLACED, TILE, NEXT, TILE_BEGUN, LAYER_BEGUN, FREE) = range(17)  # fmt: skip
REGISTERS = 17


class Times(NamedTuple):
    """When beats were taken, and groups placed, issued, offered and handed over; cycle 0: the first beat may come."""

    taken: Integers
    placed: Integers
    issued: Integers
    shown: Integers
    left: Integers

    @property
    def starved(self) -> int:
        """Cycles in which a placed group was not issued; with copies of the codebook, for want of words."""
        return int((self.issued - np.maximum(self.placed, 0)).sum())

    @property
    def blocked(self) -> int:
        """Cycles in which weights were offered and not taken."""
        return int((self.left - self.shown).sum())


def decode(flow: Flow, window: int, timing: DecoderTiming = TIMING) -> Times:
    """Run ``flow`` through a decoder with barrels of ``window`` stages; its queues must suffice (``least_queue``)."""
    beats, groups = len(flow.arrival), len(flow.end)
    times = Times(*(np.zeros(size, np.int64) for size in (beats, groups, groups, groups, groups)))
    now = np.zeros(REGISTERS, np.int64)
    now[NEXT] = LAYER_END
    now[[TILE_BEGUN, LAYER_BEGUN, FREE]] = LONG_AGO
    _run(flow, timing, timing.issue_to_output(window), times, now)
    return times


@jit_entry
def _run(flow: Flow, timing: Any, latency: int, times: Times, now: Integers) -> None:
    cycle = -SETTLE
    while now[ISSUED] < len(flow.end) or now[TAKEN] < len(flow.arrival):
        _look_back(timing, times, now, cycle)
        has_credit = now[ENTERED_SEEN] - now[LEFT_SEEN] < timing.output_queue - timing.late_credits
        taken = _takes_beat(flow, timing, now, cycle)
        issued = _issues(flow, timing, times, now, cycle)
        given = now[TILE] and not now[KEPT]
        _begin_tile(flow, timing, times, now, cycle, given)
        if taken:
            times.taken[now[TAKEN]] = cycle
            now[TAKEN] += 1
        if issued:
            _leave(flow, latency, times, now, cycle)
        _place(times, now, cycle, given, has_credit)
        cycle += 1


@jit
def _look_back(timing: Any, times: Times, now: Integers, cycle: int) -> None:
    """Count what flags in registers know of: counters are registers, and flags are computed from them."""
    late = cycle - 1 - timing.flag
    while now[TAKEN_SEEN] < now[TAKEN] and times.taken[now[TAKEN_SEEN]] <= late - timing.split:
        now[TAKEN_SEEN] += 1
    while now[ISSUED_SEEN] < now[ISSUED] and times.issued[now[ISSUED_SEEN]] <= late:
        now[ISSUED_SEEN] += 1
    while now[ENTERED_SEEN] < now[ENTERED] and times.placed[now[ENTERED_SEEN]] <= late:
        now[ENTERED_SEEN] += 1
    while now[LEFT_SEEN] < now[ISSUED] and times.left[now[LEFT_SEEN]] <= late - 1:
        now[LEFT_SEEN] += 1


@jit
def _takes_beat(flow: Flow, timing: Any, now: Integers, cycle: int) -> bool:
    """Whether a beat is offered, and the queues it writes to have room."""
    beat, most = now[TAKEN], timing.word_queue - 1 - timing.late_writes
    if beat == len(flow.arrival) or flow.arrival[beat] > cycle:
        return False
    for queue in range(2):
        level = flow.written[now[TAKEN_SEEN], queue] - flow.gone[now[ISSUED_SEEN], queue]
        if flow.brings[beat, queue] and level > most:
            return False
    return True


@jit
def _issues(flow: Flow, timing: Any, times: Times, now: Integers, cycle: int) -> bool:
    """Whether a group is placed, its words are there and the look-ups are free."""
    if not now[PLACED] or now[FREE] > cycle:
        return False
    beat = max(flow.needs[now[ISSUED], 0], flow.needs[now[ISSUED], 1])
    return bool(beat < now[TAKEN] and times.taken[beat] + timing.split + timing.counted + timing.flag <= cycle)


@jit
def _leave(flow: Flow, latency: int, times: Times, now: Integers, cycle: int) -> None:
    """Issue a group: when its weights are offered and leave is known from here on."""
    group = now[ISSUED]
    now[ISSUED] += 1
    now[PLACED] = 0
    now[FREE] = cycle + flow.cost[group]
    times.issued[group] = cycle
    shown = max(cycle + latency, times.left[group - 1] + 1) if group else cycle + latency
    times.shown[group] = times.left[group] = shown
    while not flow.ready[times.left[group] % len(flow.ready)]:
        times.left[group] += 1


@jit
def _begin_tile(flow: Flow, timing: Any, times: Times, now: Integers, cycle: int, given: bool) -> None:
    """A tile gives one group after the other; the next one begins in the cycle of the last one if its job is there."""
    if given:
        now[GIVEN] += 1
        now[NEXT] = flow.end[now[GIVEN] - 1]
        now[TILE] = not now[NEXT]
    if now[TILE] or now[GIVEN] == len(flow.end) or not _may_begin(flow, timing, times, now, cycle):
        return
    now[TILE] = 1
    now[TILE_BEGUN] = cycle
    if now[NEXT] == LAYER_END:
        now[LAYER_BEGUN] = cycle


@jit
def _may_begin(flow: Flow, timing: Any, times: Times, now: Integers, cycle: int) -> bool:
    """A tile of the same strip may. The job of another is a queue behind the last beat of the strip before it, and
    follows that strip's last tile; a layer is let in a cycle later, and not next to another."""
    if now[NEXT] == TILE_END:
        return True
    earliest = now[TILE_BEGUN] + 1
    if now[GIVEN]:
        beat = flow.last_beat[now[GIVEN] - 1]
        if beat >= now[TAKEN]:
            return False
        earliest = max(earliest, times.taken[beat] + timing.split + timing.queue)
    if now[NEXT] == LAYER_END:
        earliest = max(earliest, now[LAYER_BEGUN] + 2) + 1
    return bool(cycle >= earliest)


@jit
def _place(times: Times, now: Integers, cycle: int, given: bool, has_credit: bool) -> None:
    """Groups move on together, from the skid buffer into three stages, where the last one is free and has credit."""
    offered = given or now[KEPT]
    moves = not now[PLACED] and has_credit
    now[KEPT] = offered and not moves
    if not moves:
        return
    if now[STEPPED]:
        times.placed[now[ENTERED]] = cycle + 1
        now[ENTERED] += 1
        now[PLACED] = 1
    now[STEPPED] = now[WAITING]
    now[WAITING] = offered
