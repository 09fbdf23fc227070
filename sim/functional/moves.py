"""Transfers: what loads bring and stores take away."""

from __future__ import annotations

import numpy as np

from accel.errors import SimError
from accel.fold import loaded_codebook
from accel.footprint import ID_BYTES, codebook_interval
from accel.isa import BLOCK_BYTES, Instruction
from sim.functional.memory import Box, run_of
from sim.functional.work import Memories, Work


def load(work: Work, memories: Memories) -> None:
    """LDA."""
    far, near = _sides(work.instruction)
    memories.move("activation", work, near, memories.dram.read(far, work.index))


def store(work: Work, memories: Memories) -> None:
    """STA."""
    far, near = _sides(work.instruction)
    memories.move("dram", work, far, memories.sram.read(near, work.index))


def _sides(move: Instruction) -> tuple[Box, Box]:
    """Bytes in DRAM, ``stride`` from row to row, and in SRAM, where rows are dense."""
    shape = (move["rows"], move["row_bytes"])
    return Box(move["address"], shape, (move["stride"], 1)), Box(move["sram"], shape, (move["row_bytes"], 1))


def load_codebook(work: Work, memories: Memories) -> None:
    """LDC."""
    ldc = work.instruction
    data = memories.dram.read(run_of(ldc["address"], ldc["bytes"]), work.index)
    codebook = loaded_codebook(ldc, data, work.where)
    start, _ = codebook_interval(ldc["bank"], codebook.size)
    memories.move("codebook", work, run_of(start, codebook.size), codebook)


def load_weights(work: Work, memories: Memories) -> None:
    """LDW: its bytes must have been written; the ring itself holds no copy (``sim.ring``)."""
    ldw = work.instruction
    memories.dram.read(run_of(ldw["address"], ldw["blocks"] * BLOCK_BYTES), work.index)


def gather(work: Work, memories: Memories) -> None:
    """GTH; raises ``SimError`` for an index below 0 or a row outside DRAM."""
    gth = work.instruction
    rows, size = gth["rows"], gth["row_bytes"]
    ids = memories.sram.read(run_of(gth["ids"], ID_BYTES * rows), work.index).copy().view("<i4").astype(np.int64)
    last = (memories.dram.data.size - gth["address"]) // size - 1
    bad = np.flatnonzero((ids < 0) | (ids > last))
    if bad.size:
        raise SimError(f"{work.where}: index {ids[bad[0]]} at place {bad[0]}; allowed: 0 to {last}, rows within DRAM")
    table = Box(gth["address"], (int(ids.max()) + 1, size), (size, 1), ids)
    data = memories.dram.read(table, work.index)
    memories.move("activation", work, Box(gth["sram"], (rows, size), (size, 1)), data)
