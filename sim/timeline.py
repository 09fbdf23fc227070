"""The timeline of a run as a trace file: what every queue and unit does when, and how full the memories are.

Slices of the units are written as the kernel hands over its tape, a piece at a time; queues, tokens and counters follow
when it is done. So memory depends on the program's instructions, not on how many tiles and bursts they make. FORMATS.md
describes the file.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from accel import __version__
from accel.energy import DEFAULT_ENERGY, EnergyTable
from accel.errors import SimError
from accel.isa import BLOCK_BYTES, decode, disassemble
from accel.machine import Machine, machine_digest
from accel.metrics import CAUSES
from accel.occupancy import Occupancy, instruction_occupancy
from accel.program import Program
from accel.run import Run
from accel.schemas import TRACE_SCHEMA
from accel.trace_events import MILLICYCLES, TIME_UNIT, TraceFile, counter_event, names, open_trace, slice_event
from accel.trace_tracks import (
    COUNTERS_PROCESS,
    DECODER,
    FIRST_BUS,
    LOADS,
    LOADS_INPUTS,
    QUEUES_PROCESS,
    STREAMS,
    UNIT_TRACKS,
    UNITS_PROCESS,
    VECTOR,
    WAITS,
    memory_counter,
)
from sim import prepare
from sim.counters import WindowSums
from sim.decode import Column, Decoded
from sim.levels import with_levels
from sim.occupancy import RingEntries, schedule_of
from sim.params import TICKS
from sim.queue_slices import QueueTracks, millicycles
from sim.tape import AMOUNT, BEGIN, BURST, CHARGE, END, INSTRUCTION, KIND, PLACE, PRELOAD, RING, TILE, WORDS, Tape
from sim.timing import Timing
from sim.traffic import KINDS, kinds_of, sign_bytes

_CAUSES = list(CAUSES)
_COMPUTE = _CAUSES.index("compute")
EVER = 1 << 62


class Window(NamedTuple):
    """Cycles ``first`` up to, not including, ``stop``: slices that touch it are kept whole."""

    first: int = 0
    stop: int = EVER

    def overlaps(self, begin: Column, end: Column) -> Any:
        """Of stretches of time in ticks, those that touch the window."""
        return (begin // TICKS < self.stop) & (-(-end // TICKS) >= self.first)


WHOLE_RUN = Window()


class Labels:
    """Names and arguments of slices, as JSON text: what every slice says about the instruction it belongs to."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.layers = [json.dumps(layer.name) for layer in program.layers]
        self.of = lru_cache(1 << 16)(self._of)

    def _of(self, index: int) -> tuple[str, str]:
        instruction = decode(self._program.words[index].tobytes(), f"instruction {index}")
        layer = self.layers[self._program.instruction_layer[index]]
        text = json.dumps(disassemble(instruction))
        return f'"{instruction.mnemonic} {layer[1:]}', f'"instruction":{index},"layer":{layer},"text":{text}'


def write_timeline(
    program: Program,
    path: Path,
    machine: Machine | None = None,
    energy: EnergyTable = DEFAULT_ENERGY,
    window: Window = WHOLE_RUN,
    *,
    levels: bool = False,
) -> Run:
    """Simulate as ``sim.simulate`` does, with the same result, and write the timeline to ``path`` (``*.gz``: packed).

    With ``levels``, the result says how full memories were, as that of ``simulate_with_levels``. Raises as ``simulate``
    does, ``SimError`` if the run ends before the window begins, and ``FormatError`` if the file cannot be written;
    there is no file then.
    """
    prepared, ring = prepare(program, machine := program.machine if machine is None else machine), RingEntries()
    with open_trace(path) as file:
        timeline = Timeline(program, file, window, prepared.decoded)

        def take(entries: Tape) -> None:
            timeline.take(entries)
            if levels:
                ring.take(entries)

        timing = prepared.timing(machine, take)
        run = prepared.run(machine, timing, energy)
        if window.first >= run.total_cycles:
            raise SimError(f"trace window from cycle {window.first}: the run ends at cycle {run.total_cycles}")
        timeline.finish(machine, timing)
        file.finish(_description(run, timeline))
    return with_levels(run, program, timing, ring) if levels else run


def _description(run: Run, timeline: Timeline) -> dict[str, Any]:
    machine, window = run.machine, timeline.window
    return {
        "schema": TRACE_SCHEMA,
        "tool": __version__,
        "time_unit": TIME_UNIT,
        "clock_hz": machine.clock.hz,
        "machine": {"name": machine.name, "sha256": machine_digest(machine)},
        "program": {key: run.program[key] for key in ("digest", "model", "codec", "batch", "instructions")},
        "window_cycles": None if window == WHOLE_RUN else list(window),
        "counter_window_cycles": timeline.traffic.width_cycles,
        "total_cycles": run.total_cycles,
        "cycles_by_cause": dict(run.cycles_by_cause),
        "dram_bytes": dict(run.dram_bytes),
    }


class Timeline:
    """Events of one run, on their way to a file."""

    def __init__(self, program: Program, file: TraceFile, window: Window, decoded: Decoded) -> None:
        self.program, self.file, self.window, self.decoded = program, file, window, decoded
        self.labels = Labels(program)
        self.kinds = kinds_of(self.decoded)
        self.moved = np.zeros(len(program.words), np.int64)  # bytes so far, by instruction
        self.tracks: set[int] = set()
        self.traffic = WindowSums(len(KINDS), window.first)
        self.ring = WindowSums(1, window.first)
        self.ring_bytes = 0  # in the weight ring when the window begins

    def take(self, entries: Tape) -> None:
        """Write the slices of a piece of the tape, and count what the counters need."""
        kinds = entries[:, KIND]
        self._count_ring(entries[kinds == RING])
        self._write_bursts(entries[(kinds == BURST) | (kinds == WORDS)])
        shown = entries[self.window.overlaps(entries[:, BEGIN], entries[:, END])]
        for kind, lines in ((TILE, self._tiles), (PRELOAD, self._preloads), (CHARGE, self._charges)):
            self.file.write(lines(shown[shown[:, KIND] == kind]))

    def finish(self, machine: Machine, timing: Timing) -> None:
        """Write what is known at the end: queues, vector unit, tokens, counters, and the names of all tracks."""
        self.file.write(self._vector_work(timing))
        shown = self.window.overlaps(timing.started, timing.completed)
        queues = QueueTracks(self.decoded, timing, QUEUES_PROCESS, shown)
        self.file.write(queues.slices(self.labels.of))
        self.file.write(queues.tokens())
        self.file.write(self._occupancy(machine, timing))
        self.file.write(self._ring_level())
        self.file.write(self._traffic_counters())
        self.file.write(names(QUEUES_PROCESS, "queues", queues.names))
        self.file.write(names(UNITS_PROCESS, "units", self._track_names(machine)))
        self.file.write(names(COUNTERS_PROCESS, "memories and traffic", {}))

    def _slice(self, track: int, begin: int, end: int, name: str, args: str) -> str:
        self.tracks.add(track)
        return slice_event((UNITS_PROCESS, track), begin, end, name, args)

    def _tiles(self, entries: Tape) -> Iterator[str]:
        for index, begin, end in _spans(entries):
            yield self._slice(DECODER, begin, end, *self.labels.of(index))

    def _preloads(self, entries: Tape) -> Iterator[str]:
        for (index, begin, end), place in zip(_spans(entries), entries[:, PLACE].tolist(), strict=True):
            yield self._slice(LOADS_INPUTS if place else LOADS, begin, end, *self.labels.of(index))

    def _charges(self, entries: Tape) -> Iterator[str]:
        causes, layers = entries[:, AMOUNT].tolist(), entries[:, PLACE].tolist()
        for (index, begin, end), cause, layer in zip(_spans(entries), causes, layers, strict=True):
            name, args = self.labels.of(index) if index >= 0 else ("", "")
            if cause == _COMPUTE:
                yield self._slice(STREAMS, begin, end, name, f'"cause":"compute",{args}')
            else:
                waiting = f',"waiting":{{{args}}}' if args else ""
                charged = f'"cause":"{_CAUSES[cause]}","layer":{self.labels.layers[layer]}{waiting}'
                yield self._slice(WAITS, begin, end, f'"{_CAUSES[cause]}"', charged)

    def _vector_work(self, timing: Timing) -> Iterator[str]:
        work = self.decoded["VEC"].index
        begin, end = timing.started[work], timing.completed[work]
        shown = (end > begin) & self.window.overlaps(begin, end)
        spans = (work[shown], millicycles(begin[shown]), millicycles(end[shown]))
        for index, start, stop in zip(*(column.tolist() for column in spans), strict=True):
            yield self._slice(VECTOR, start, stop, *self.labels.of(index))

    # -- DRAM ------------------------------------------------------------------------------------------------------
    def _write_bursts(self, bursts: Tape) -> None:
        """One slice for bursts of an instruction that follow each other without a gap."""
        if not len(bursts):
            return
        signs = self._signs(bursts)
        self._count_traffic(bursts, signs)
        order = np.argsort(bursts[:, PLACE], kind="stable")
        joined, signs = _joined(bursts[order], signs[order])
        shown = self.window.overlaps(joined[:, BEGIN], joined[:, END])
        self.file.write(self._burst_slices(joined[shown], signs[shown]))

    def _signs(self, bursts: Tape) -> Column:
        """Bytes of sign bits in each burst; those of an instruction add up to what its traffic is counted as."""
        signs, data = np.zeros(len(bursts), np.int64), np.flatnonzero(bursts[:, KIND] == BURST)
        order = data[np.argsort(bursts[data, INSTRUCTION], kind="stable")]
        index, size = bursts[order, INSTRUCTION], bursts[order, AMOUNT]
        total = np.cumsum(size)
        first = np.searchsorted(index, index)  # of the bursts of the same instruction
        after = self.moved[index] + total - (total - size)[first]
        signs[order] = sign_bytes(self.decoded, index, after) - sign_bytes(self.decoded, index, after - size)
        np.add.at(self.moved, index, size)
        return signs

    def _burst_kinds(self, bursts: Tape) -> Column:
        """Kind of what is no sign bit in each burst."""
        words = bursts[:, KIND] == WORDS
        return np.where(words, KINDS.index("instructions"), self.kinds[bursts[:, INSTRUCTION]])

    def _count_traffic(self, bursts: Tape, signs: Column) -> None:
        cycles = bursts[:, BEGIN] // TICKS
        inside = (cycles >= self.window.first) & (cycles < self.window.stop)
        kinds = self._burst_kinds(bursts)
        self.traffic.add(cycles[inside], kinds[inside], (bursts[:, AMOUNT] - signs)[inside])
        self.traffic.add(cycles[inside], KINDS.index("signs"), signs[inside])

    def _burst_slices(self, bursts: Tape, signs: Column) -> Iterator[str]:
        columns = (bursts[:, KIND], self._burst_kinds(bursts), bursts[:, PLACE], bursts[:, AMOUNT], signs)
        for (index, begin, end), what, kind, bus, moved, signed in zip(
            _spans(bursts), *(column.tolist() for column in columns), strict=True
        ):
            name, args = self.labels.of(index)
            parts = {KINDS[kind]: moved - signed} | ({"signs": signed} if signed else {})
            sizes = "".join(f',"{key}":{value}' for key, value in {"bytes": moved, **parts}.items())
            name = '"instruction fetch"' if what == WORDS else name
            yield self._slice(FIRST_BUS + bus, begin, end, name, args + sizes)

    def _track_names(self, machine: Machine) -> Mapping[int, str]:
        """The tracks in use; a channel of several pseudo channels has a data bus each."""
        buses = machine.dram_standard.pseudo_channels if machine.is_banked else 1
        found = {}
        for track in sorted(self.tracks):
            channel, bus = divmod(track - FIRST_BUS, buses)
            pseudo = f", pseudo channel {bus}" if buses > 1 else ""
            found[track] = UNIT_TRACKS.get(track, f"DRAM channel {channel}{pseudo}")
        return found

    # -- counters --------------------------------------------------------------------------------------------------
    def _count_ring(self, entries: Tape) -> None:
        cycles, changes = -(-entries[:, BEGIN] // TICKS), entries[:, AMOUNT] * BLOCK_BYTES
        self.ring_bytes += int(changes[cycles <= self.window.first].sum())
        inside = (cycles > self.window.first) & (cycles < self.window.stop)
        self.ring.add(cycles[inside], 0, changes[inside])

    def _ring_level(self) -> Iterator[str]:
        """The level when the trace begins and at the end of every step: blocks are reserved and freed out of order."""
        level = self.ring_bytes
        yield counter_event(
            COUNTERS_PROCESS, self.window.first * MILLICYCLES, memory_counter("weight"), {"bytes": level}
        )
        for end, change in zip(self.ring.edges()[1:], self.ring.sums[:, 0].tolist(), strict=False):
            level += change
            yield counter_event(COUNTERS_PROCESS, end * MILLICYCLES, memory_counter("weight"), {"bytes": level})

    def _occupancy(self, machine: Machine, timing: Timing) -> Iterator[str]:
        for found in instruction_occupancy(schedule_of(self.program, timing), machine).values():
            for at, level in _steps(found, self.window):
                yield counter_event(COUNTERS_PROCESS, at, memory_counter(found.memory), {"bytes": level})

    def _traffic_counters(self) -> Iterator[str]:
        sums = self.traffic.sums
        kinds = [kind for kind in range(len(KINDS)) if sums[:, kind].any()]
        if not kinds:
            return
        name = f"DRAM bytes each {self.traffic.width_cycles} cycles"
        for row, start in zip([*sums[: self.traffic.used], np.zeros_like(sums[0])], self.traffic.edges(), strict=True):
            values = {KINDS[kind]: int(row[kind]) for kind in kinds}
            yield counter_event(COUNTERS_PROCESS, start * MILLICYCLES, name, values)


def _steps(found: Occupancy, window: Window) -> Iterator[tuple[int, int]]:
    """Millicycles and levels within a window, that at its beginning first."""
    inside = (found.cycles > window.first) & (found.cycles < window.stop)
    yield window.first * MILLICYCLES, int(found.at(window.first))
    ticks = (found.cycles[inside] * TICKS).astype(np.int64)
    yield from zip(millicycles(ticks).tolist(), found.held_bytes[inside].tolist(), strict=True)


def _joined(bursts: Tape, signs: Column) -> tuple[Tape, Column]:
    """Bursts of an instruction that follow each other on a bus without a gap, as one."""
    who = bursts[:, [KIND, INSTRUCTION, PLACE]]
    follows = (who[1:] == who[:-1]).all(axis=1) & (bursts[1:, BEGIN] == bursts[:-1, END])
    first = np.flatnonzero(np.append(True, ~follows))
    joined = bursts[first]
    joined[:, AMOUNT] = np.add.reduceat(bursts[:, AMOUNT], first)
    joined[:, END] = bursts[np.append(first[1:], len(bursts)) - 1, END]
    return joined, np.add.reduceat(signs, first)


def _spans(entries: Tape) -> Iterator[tuple[int, int, int]]:
    """Instruction, begin and end in millicycles of each entry."""
    columns = (entries[:, INSTRUCTION], millicycles(entries[:, BEGIN]), millicycles(entries[:, END]))
    return zip(*(column.tolist() for column in columns), strict=True)
