"""Everything the kernel writes: preallocated arrays and one record of named integers. Times are ticks; -1 is unknown."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from accel.isa import BLOCK_BYTES, INSTRUCTION_BYTES, QUEUES
from accel.metrics import CAUSES
from sim.columns import Columns
from sim.decode import Column
from sim.params import Params

UNKNOWN = -1
LOAD, DECODE, COMPUTE, VECTOR, STORE = (QUEUES.index(q) for q in ("load", "decode", "compute", "vector", "store"))
FETCH, MOVE_IN, MOVE_OUT = range(3)  # requesters of the DRAM channel
NOBODY = -1
PER_BLOCK = BLOCK_BYTES // INSTRUCTION_BYTES  # instructions of one fetched block


class State(NamedTuple):
    """``dispatched``, ``started``, ``completed``, ``blocks`` (moved): per instruction. ``head``: place of each queue's
    current instruction. ``ring_arrival``, ``ring_freed``: per block slot of the weight ring. ``active``, ``row``,
    ``block``, ``last_block``, ``request``: per requester, the instruction it moves, the row and DRAM block it is at,
    the last block of that row, and when the next request stands. ``causes``: ticks ``[layer, cause]``."""

    dispatched: Column
    started: Column
    completed: Column
    blocks: Column
    fetch_arrival: Column
    head: Column
    last_completed: Column
    ring_arrival: Column
    ring_freed: Column
    active: Column
    row: Column
    block: Column
    last_block: Column
    request: Column
    causes: npt.NDArray[np.int64]


# Name -> first value of the single integers.
REGISTERS = {
    "next_dispatch": 0,  # instruction to dispatch next
    "dispatch_time": 0,  # when the last one was dispatched
    "next_fetch": 0,  # block of instruction words to request next
    "fetch_granted": 0,
    "channel_free": 0,
    "last_mover": MOVE_OUT,  # of load and store, who was granted last: the other goes first
    "grant_time": 0,
    "ring_requested": 0,  # blocks, counted from the start of the program
    "ring_arrived": 0,
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
    "stream_start": 0,  # of the last tile
    "stream_end": 0,
    "issued": 0,  # the last compute instruction's last tile began to stream
}


def new_state(columns: Columns, params: Params, layers: int) -> State:
    """State of a machine before its first tick."""
    count = len(columns.action)
    per_instruction = {name: np.full(count, UNKNOWN, np.int64) for name in ("dispatched", "started", "completed")}
    per_requester = {name: np.zeros(MOVE_OUT + 1, np.int64) for name in ("row", "block", "last_block", "request")}
    return State(
        **per_instruction,
        **per_requester,
        blocks=np.zeros(count, np.int64),
        fetch_arrival=np.full(-(-count // PER_BLOCK), UNKNOWN, np.int64),
        head=np.zeros(len(QUEUES), np.int64),
        last_completed=np.zeros(len(QUEUES), np.int64),
        ring_arrival=np.zeros(params.ring_blocks, np.int64),
        ring_freed=np.zeros(params.ring_blocks, np.int64),
        active=np.full(MOVE_OUT + 1, NOBODY, np.int64),
        causes=np.zeros((layers, len(CAUSES)), np.int64),
    )


def new_registers() -> Any:
    """The named integers as one record, read and written by attribute in kernels and in plain Python alike."""
    registers = np.recarray(1, [(name, np.int64) for name in REGISTERS])
    registers[0] = tuple(REGISTERS.values())
    return registers[0]
