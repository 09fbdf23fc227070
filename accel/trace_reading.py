"""Reads the timeline that ``accel sim --trace`` writes, line by line: a file of any length in little memory."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accel.errors import FormatError
from accel.machine import Machine, machine_digest
from accel.metrics import CAUSES
from accel.occupancy import MEMORIES
from accel.run import Run
from accel.schemas import TRACE_SCHEMA, misplaced, schema_of
from accel.timeline import DRAM, STEPS, TILE_DECODER, TILE_LOADS, VECTOR_UNIT, Timeline, TimelineSums
from accel.trace_tracks import (
    COUNTERS_PROCESS,
    DECODER,
    FIRST_BUS,
    LOADS,
    LOADS_INPUTS,
    QUEUES_PROCESS,
    STREAMS,
    UNITS_PROCESS,
    VECTOR,
    WAITS,
    memory_counter,
    queue_of,
)

Tell = Callable[[float, float, str], None]  # bytes read, of how many, and what for

_LONGEST_LINE = 1 << 20
_LINES_BETWEEN_REPORTS = 1 << 12
_UNITS = {DECODER: TILE_DECODER, LOADS: TILE_LOADS, LOADS_INPUTS: TILE_LOADS, VECTOR: VECTOR_UNIT}
_COUNTERS = {memory_counter(memory): memory for memory in MEMORIES}
_LAST = b'],"otherData":'
_DAMAGE = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)


def _quiet(done: float, total: float, what: str) -> None:
    """Nobody listens."""


@dataclass(frozen=True, slots=True)
class TraceFile:
    """A timeline's file and its ``otherData``: what was simulated, and which cycles are in it."""

    path: Path
    description: Mapping[str, Any]

    @property
    def cycles(self) -> tuple[int, int]:
        """The first cycle that is in the file, and the one behind the last: its window, or all of the run."""
        total = int(self.description["total_cycles"])
        first, stop = self.description["window_cycles"] or (0, total)
        return int(first), min(int(stop), total)

    @property
    def identity(self) -> tuple[str, str, int]:
        """Of the run it is the timeline of: digests of program and machine, and how long it took."""
        program, machine = self.description["program"], self.description["machine"]
        return str(program["digest"]), str(machine["sha256"]), int(self.description["total_cycles"])

    def is_of(self, run: Run) -> bool:
        """Whether it is the timeline of this run."""
        return self.identity == (run.program.get("digest"), machine_digest(run.machine), run.total_cycles)


def open_trace_file(path: str | Path, tell: Tell = _quiet) -> TraceFile:
    """Read what the file says of itself; raises ``FormatError`` with one line for anything amiss."""
    last = b""
    for line in _lines(Path(path), tell):
        last = line
    try:
        description = json.loads(last.rstrip().removeprefix(_LAST)[:-1]) if last.startswith(_LAST) else None
    except (ValueError, RecursionError):
        description = None
    if not isinstance(description, dict):
        found = schema_of(path)
        other = found and found != TRACE_SCHEMA
        why = misplaced(found, TRACE_SCHEMA) if other else "truncated, or not a timeline of accel sim --trace"
        raise FormatError(f"trace '{path}': {why}")
    if description.get("schema") != TRACE_SCHEMA:
        raise FormatError(f"trace '{path}': {misplaced(description.get('schema'), TRACE_SCHEMA)}")
    trace = TraceFile(Path(path), description)
    try:
        if not (0 <= trace.cycles[0] < trace.cycles[1] and trace.identity[0]):
            raise ValueError("cycles")
    except _DAMAGE as error:
        raise _damaged(path, error) from error
    return trace


def read_timeline(
    trace: TraceFile, machine: Machine, window: tuple[int, int], steps: int = STEPS, tell: Tell = _quiet
) -> Timeline:
    """The cycles of ``window`` in equal steps of at least one; raises ``FormatError`` if the file is damaged."""
    buses = machine.dram.channels * (machine.dram_standard.pseudo_channels if machine.is_banked else 1)
    sums = TimelineSums(np.linspace(*window, min(steps, window[1] - window[0]) + 1), buses)
    try:
        for line in _lines(trace.path, tell):
            if line.startswith((b'{"ph":"X"', b'{"ph":"C"')):
                _take(sums, json.loads(line.rstrip(b",\n")))
        return sums.timeline()
    except _DAMAGE as error:
        raise _damaged(trace.path, error) from error


def _take(sums: TimelineSums, event: Mapping[str, Any]) -> None:
    begin = float(event["ts"])
    end = begin + float(event.get("dur", 0))
    if not 0 <= begin <= end < float("inf"):
        raise ValueError(f"a slice from {begin} to {end}")
    process = event["pid"]
    if process == UNITS_PROCESS:
        _take_unit(sums, event, begin, end)
    elif process == QUEUES_PROCESS:
        sums.add_instruction(queue_of(event["tid"]), begin, end)
    elif process == COUNTERS_PROCESS and event["name"] in _COUNTERS:
        if (held := int(event["args"]["bytes"])) < 0:
            raise ValueError(f"{held} bytes in {event['name']}")
        sums.set_level(_COUNTERS[event["name"]], begin, held)


def _take_unit(sums: TimelineSums, event: Mapping[str, Any], begin: float, end: float) -> None:
    track = event["tid"]
    if track in (STREAMS, WAITS):
        cause, layer = event["args"]["cause"], event["args"]["layer"]
        if cause not in CAUSES or not isinstance(layer, str):
            raise ValueError(f"cause '{cause}' of layer {layer!r:.80}")
        sums.add_charge(cause, layer, begin, end)
    else:
        sums.add_unit(DRAM if track >= FIRST_BUS else _UNITS[track], begin, end)


def _lines(path: Path, tell: Tell) -> Iterator[bytes]:
    """The lines of a file that may be compressed; raises ``FormatError``."""
    try:
        with path.open("rb") as file:
            packed, size = file.read(2) == b"\x1f\x8b", max(path.stat().st_size, 1)
            file.seek(0)
            reader = io.BufferedReader(gzip.GzipFile(fileobj=file)) if packed else file
            for number in itertools.count():
                if number % _LINES_BETWEEN_REPORTS == 0:
                    tell(file.tell(), size, f"reading {path}")
                if not (line := reader.readline(_LONGEST_LINE)):
                    return
                if len(line) == _LONGEST_LINE:
                    raise FormatError(f"trace '{path}': not one event a line: not a timeline of accel sim --trace")
                yield line
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise FormatError(f"trace '{path}': truncated or damaged") from error
    except OSError as error:
        raise FormatError(f"trace '{path}': {error.strerror or 'cannot be read'}") from error


def _damaged(path: str | Path, error: Exception) -> FormatError:
    return FormatError(f"trace '{path}': damaged: {type(error).__name__} {error}")
