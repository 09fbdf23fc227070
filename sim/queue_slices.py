"""Tracks of the five queues in a trace: a slice an instruction, from start to completion, and an arrow a token.

Instructions of one queue may overlap: the next load starts while the last data of the one before are under way. Slices
of a track must not, so a queue has as many tracks as it ever has instructions under way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from accel.isa import QUEUES
from accel.trace_events import MILLICYCLES, flow_events, slice_event
from accel.trace_tracks import queue_track
from sim.columns import pair_tokens
from sim.decode import Column, Decoded
from sim.params import TICKS
from sim.timing import Timing

Label = Callable[[int], tuple[str, str]]


class QueueTracks:
    """Where each instruction that is ``shown`` (``bool[n]``) lies. ``names``: of the tracks, by number."""

    def __init__(self, decoded: Decoded, timing: Timing, process: int, shown: npt.NDArray[np.bool_]) -> None:
        self._decoded, self._process, self._shown = decoded, process, shown
        times = (timing.dispatched, timing.started, timing.completed)
        self._dispatched, self._started, self._completed = (millicycles(ticks) for ticks in times)
        self._track = np.zeros(len(decoded), np.int64)
        self.names: dict[int, str] = {}
        for queue in range(len(QUEUES)):
            self._lay_out(queue)

    def _lay_out(self, queue: int) -> None:
        """Put every instruction on the first track of its queue that is free."""
        members = np.flatnonzero((self._decoded.queue == queue) & self._shown)
        members = members[np.argsort(self._started[members], kind="stable")]
        free: list[int] = []
        for i, start, end in zip(
            *(x.tolist() for x in (members, self._started[members], self._completed[members])), strict=True
        ):
            lane = next((lane for lane, since in enumerate(free) if since <= start), len(free))
            free[lane : lane + 1] = [end]
            self._track[i] = queue_track(queue, lane)
        for lane in range(len(free)):
            more = f" ({lane + 1})" if lane else ""
            self.names[queue_track(queue, lane)] = f"queue {QUEUES[queue]}{more}"

    def slices(self, label: Label) -> Iterator[str]:
        """One slice an instruction."""
        for i in np.flatnonzero(self._shown).tolist():
            name, args = label(i)
            dispatched = f',"dispatched":{int(self._dispatched[i]) / MILLICYCLES}'
            track = (self._process, int(self._track[i]))
            yield slice_event(track, int(self._started[i]), int(self._completed[i]), name, args + dispatched)

    def tokens(self) -> Iterator[str]:
        """Two events a token: from the instruction that pushes it to the one that waits for it."""
        producers = pair_tokens(self._decoded)
        pairs = np.argwhere(producers >= 0)
        for number, (target, queue) in enumerate(pairs.tolist()):
            source = int(producers[target, queue])
            if self._shown[source] and self._shown[target]:
                # The arrow's root must lie within its slice, which ends before its last instant.
                pushed = max(int(self._started[source]), int(self._completed[source]) - 1)
                root = (self._process, int(self._track[source]), pushed)
                yield from flow_events("token", number, root, self._head(target))

    def _head(self, target: int) -> tuple[int, int, int]:
        return self._process, int(self._track[target]), int(self._started[target])


def millicycles(ticks: Column) -> Column:
    """Thousandths of a cycle, rounded down; products cannot overflow."""
    whole, rest = np.divmod(ticks, TICKS)
    thousandths: Column = whole * MILLICYCLES + rest * MILLICYCLES // TICKS
    return thousandths
