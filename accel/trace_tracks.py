"""The rows of a timeline's file, for its writer and its readers: numbers of processes and tracks, names of counters."""

from __future__ import annotations

from accel.isa import QUEUES
from accel.occupancy import MEMORIES

# No track has the number of a process: Perfetto would take it for the main thread and put it first.
QUEUES_PROCESS, UNITS_PROCESS, COUNTERS_PROCESS = 1, 2, 3
STREAMS, WAITS, DECODER, LOADS, LOADS_INPUTS, VECTOR, FIRST_BUS = range(11, 18)
# Tracks of the units by number; those of DRAM data buses follow.
UNIT_TRACKS = {
    STREAMS: "array: streams",
    WAITS: "array: waits for",
    DECODER: "decoder",
    LOADS: "array: loads a tile from SRAM",
    LOADS_INPUTS: "array: loads inputs that stay",
    VECTOR: "vector unit",
}
MOST_TRACKS = 1000  # of a queue; numbers of tracks


def queue_track(queue: int, lane: int) -> int:
    """The number of a track of ``QUEUES[queue]``; instructions under way at the same time lie on different lanes."""
    return (1 + queue) * MOST_TRACKS + lane


def queue_of(track: int) -> str:
    """The queue a track belongs to; raises ``KeyError`` if to none."""
    return dict(enumerate(QUEUES, 1))[track // MOST_TRACKS]


def memory_counter(memory: str) -> str:
    """The counter that says how full one of ``MEMORIES`` is."""
    assert memory in MEMORIES
    return f"{memory} SRAM" if memory in ("activation", "weight") else f"{memory}s"
