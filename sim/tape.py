"""What a run leaves on the tape: intervals too many to keep in one state, which the kernel writes down as it goes.

The tape is a table of integers, one row an entry; its columns are ``ENTRY``. Without a tape (no rows) nothing is
recorded. When it is nearly full the kernel returns, its owner takes the entries, and the run goes on: memory stays
bounded however long it is. Times are ticks.

======== ======================== =========================== ======================================
kind     from ``begin`` to ``end`` ``amount``                  ``place``
======== ======================== =========================== ======================================
BURST    data on the bus of DRAM  bytes                       channel (times its pseudo channels)
WORDS    the same, of a block of   bytes                       as BURST
         instruction words
TILE     a tile is decoded        0                           0
PRELOAD  a tile is loaded from    0                           0; 1: inputs that
         activation SRAM                                      stay in the array
CHARGE   the array streams, or    cause                       layer charged
         waits for that cause
RING     nothing lasts: blocks    blocks; freed ones negative 0
         are reserved or freed
======== ======================== =========================== ======================================

``instruction`` is who does it; of a CHARGE, whose tile the array streams or waits for, ``NOBODY`` behind the last one;
of WORDS, the first in them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from sim.jit import jit, jit_call
from sim.state import COMPUTE, State

ENTRY = ("kind", "instruction", "begin", "end", "amount", "place")
BURST, WORDS, TILE, PRELOAD, CHARGE, RING = range(6)
KIND, INSTRUCTION, BEGIN, END, AMOUNT, PLACE = range(len(ENTRY))

Tape = npt.NDArray[np.int64]
Take = Callable[[Tape], None]

LEAST_ROWS = 1 << 16
# Entries one turn of the kernel makes besides charges, with room to spare; a wait is charged in two pieces for each
# instruction it is followed through.
_PER_TURN, _PER_INSTRUCTION = 64, 2


def margin(instructions: int) -> int:
    """Rows that must be free before every turn of the kernel."""
    return _PER_TURN + _PER_INSTRUCTION * instructions


def new_tape(instructions: int, least_rows: int = LEAST_ROWS) -> Tape:
    """A tape for a program of so many instructions."""
    return np.zeros((max(least_rows, 2 * margin(instructions)), len(ENTRY)), np.int64)


@jit
def record(state: State, kind: int, instruction: int, begin: int, end: int, amount: int, place: int) -> None:
    """Write an entry down, if there is a tape."""
    if len(state.tape) > 0:
        _write(state.tape, state.now, kind, instruction, begin, end, amount, place)


@jit_call
def _write(tape: Tape, now: Any, kind: int, instruction: int, begin: int, end: int, amount: int, place: int) -> None:
    at = now.recorded
    if at < len(tape):
        tape[at, KIND], tape[at, INSTRUCTION], tape[at, BEGIN] = kind, instruction, begin
        tape[at, END], tape[at, AMOUNT], tape[at, PLACE] = end, amount, place
        now.recorded = at + 1


@jit_call
def add_charge(causes: Tape, tape: Tape, queues: Any, now: Any, layer: int, cause: int, begin: int, end: int) -> None:
    """Count a charge, and write it down for the instruction the compute queue is at."""
    causes[layer, cause] += end - begin
    if len(tape) > 0:
        _write(tape, now, CHARGE, queues[COMPUTE].head, begin, end, cause, layer)


@jit
def is_full(state: State) -> bool:
    """Whether the tape must be taken before the next turn."""
    return bool(state.now.recorded > state.now.tape_limit)


def take_entries(state: State, take: Take | None) -> None:
    """Hand over what is on the tape; it is empty then."""
    assert state.now.recorded < max(1, len(state.tape)), "a turn wrote more than its margin"
    if take is not None and state.now.recorded:
        take(state.tape[: state.now.recorded].copy())
    state.now.recorded = 0
