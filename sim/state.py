"""Everything the kernel works on: preallocated arrays and a record of named integers. Times are ticks; -1: unknown."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accel.isa import BLOCK_BYTES, INSTRUCTION_BYTES, QUEUES
from accel.metrics import CAUSES
from sim.columns import NOBODY, Code
from sim.dram.state import Records
from sim.params import Params

UNKNOWN = -1
NO_TAPE: npt.NDArray[np.int64] = np.zeros((0, 6), np.int64)
LOAD, DECODE, COMPUTE, VECTOR, STORE = (QUEUES.index(q) for q in ("load", "decode", "compute", "vector", "store"))
FETCH, MOVE_OUT, MOVE_IN = range(3)  # requesters of the DRAM: the last is the first of the load engines
PER_BLOCK = BLOCK_BYTES // INSTRUCTION_BYTES  # instructions of one fetched block


class State(NamedTuple):
    """All a kernel works on. ``code`` and ``producers`` (see ``columns``) are read, the rest is written.

    ``lookup_cycles``: see ``sim.lookups``.

    ``times[n]``: ``fetched``, ``dispatched``, ``started``, ``completed``, ``blocks`` moved; of loads and stores also
    how many accesses are ``awaited`` (and whether all were ``asked`` for) and when the last data ``arrived``.
    ``queues``: the instruction at the ``head``, the ``oldest`` that is not complete, and when the last one completed.
    ``ring``: per block slot, accesses ``awaited``, when its data and those of all blocks before arrived, when it was
    last freed. ``words``: of each block of instruction words likewise. ``movers`` (requesters): the instruction at
    work, the row and DRAM block it is at, the last block of that row, and since when the next request stands.
    ``causes``: ticks ``[layer, cause]``. ``now``: registers. ``tape``: see ``sim.tape``. ``params`` is a record of
    ``Params``: a tuple of so many numbers would be copied at every call.
    """

    params: Any
    code: Code
    producers: npt.NDArray[np.int64]
    lookup_cycles: npt.NDArray[np.int64]
    times: Records
    queues: Records
    ring: Records
    words: Records
    movers: Records
    causes: npt.NDArray[np.int64]
    now: Any
    tape: npt.NDArray[np.int64]


TIMES = ("fetched", "dispatched", "started", "completed", "blocks", "awaited", "asked", "arrived")
QUEUE = ("head", "oldest", "last_completed")
RING = ("arrival", "freed", "awaited")
WORDS = ("arrival", "awaited")
MOVER = ("active", "row", "block", "last_block", "request", "since")

# Name -> first value of the single integers.
REGISTERS = {
    "next_dispatch": 0,  # instruction to dispatch next
    "dispatch_time": 0,  # when the last one was dispatched
    "next_fetch": 0,  # block of instruction words to request next
    "fetch_granted": 0,
    "channel_free": 0,
    "load_started": 0,  # the last load instruction
    "gather_asked": 0,  # the last block of the last GTH
    "weights_asked": 0,  # the last block of the last LDW; the ring is filled by one at a time
    "grant_time": 0,
    "ring_requested": 0,  # blocks, counted from the start of the program
    "ring_arrived": 0,  # all before this one are here
    "ring_latest": 0,  # when the last of those came
    "ring_wanted": 0,  # the decoder waits until so many are here; 0 if not computed yet
    "ring_freed": 0,
    "ring_base": 0,  # block where the region of the current DEC begins
    "strip_offset": 0,  # blocks of its earlier strips
    "dec_strip": 0,
    "dec_pass": 0,
    "dec_tile": 0,
    "dec_codes": 0,  # codes of earlier tiles of this strip
    "loaded": UNKNOWN,  # end of decode or load of the tile in the shadow register
    "load_start": 0,
    "data_arrival": 0,
    "shadow_dec": 0,  # its DEC
    "gemm_strip": 0,
    "gemm_chunk": 0,
    "gemm_tile": 0,
    "shadow_free": 0,  # since when the next tile may load
    "stream_start": 0,  # of the last tile
    "stream_end": 0,  # since when the array may stream the next one
    "outputs_free": 0,  # output stationary: since when the last output tile has left its output registers
    "recorded": 0,  # entries on the tape
    "tape_limit": 0,  # the tape must be taken when there are more
    "issued": 0,  # the last compute instruction's last tile began to stream
}


def new_state(
    params: Params,
    code: Code,
    producers: npt.NDArray[np.int64],
    lookup_cycles: npt.NDArray[np.int64],
    layers: int,
    tape: npt.NDArray[np.int64] = NO_TAPE,
    tape_limit: int = 0,
) -> State:
    """State of a machine before its first tick; the run pauses when the tape holds more than ``tape_limit``."""
    times = _records(TIMES, len(code), UNKNOWN)
    for name in ("blocks", "awaited", "asked", "arrived"):
        times[name] = 0
    queues = _records(QUEUE, len(QUEUES), 0)
    queues["head"] = queues["oldest"] = _first_of_queues(code)
    movers = _records(MOVER, MOVE_IN + params.load_engines, 0)
    movers["active"] = NOBODY
    ring = _records(RING, params.ring_blocks, 0)
    words = _records(WORDS, -(-len(code) // PER_BLOCK), 0)
    causes = np.zeros((layers, len(CAUSES)), np.int64)
    now = _new_registers()
    now.tape_limit = tape_limit
    return State(
        _constants(params), code, producers, lookup_cycles, times, queues, ring, words, movers, causes, now, tape
    )


def _constants(params: Params) -> Any:
    record = np.recarray(1, [(name, np.int64) for name in params._fields])
    record[0] = tuple(params)
    return record[0]


def _records(names: tuple[str, ...], count: int, value: int) -> Records:
    records = np.recarray(count, [(name, np.int64) for name in names])
    records.view(np.int64)[:] = value
    return records


def _first_of_queues(code: Code) -> list[int]:
    members = (np.flatnonzero(code["queue"] == queue) for queue in range(len(QUEUES)))
    return [int(found[0]) if len(found) else NOBODY for found in members]


def _new_registers() -> Any:
    registers = np.recarray(1, [(name, np.int64) for name in REGISTERS])
    registers[0] = tuple(REGISTERS.values())
    return registers[0]
