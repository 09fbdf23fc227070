"""The array: tiles are loaded into the shadow register (decoded ones by ``sim.decoder``) and streamed through.

The shadow register is granted in the order in which the compute queue uses tiles: a tile may load once its predecessor
in that order has begun to stream.
"""

from __future__ import annotations

from sim.causes import STREAM_TICKS, charge, charge_gap
from sim.columns import CONFIGURE, GEMM_STATIONARY, NOBODY
from sim.jit import jit
from sim.params import TICKS
from sim.queues import complete, ready
from sim.state import COMPUTE, UNKNOWN, State


@jit
def advance_compute(state: State) -> bool:
    """Start the compute queue's next instruction, or load (GMS) and stream its next tile, once times are known."""
    i = state.queues[COMPUTE].head
    if i == NOBODY:
        return False
    if state.times[i].started == UNKNOWN:
        return _start(state, i)
    fence = _fence(state, i)
    if state.now.loaded == UNKNOWN and state.code[i].action == GEMM_STATIONARY:
        _load_tile(state, i, fence)
    if state.now.loaded == UNKNOWN:
        return False
    _stream_tile(state, i, fence)
    return True


@jit
def _start(state: State, i: int) -> bool:
    """Start ``i`` once its predecessor's last tile has begun to stream; configuration is done with that."""
    at = ready(state, i)
    if at == UNKNOWN:
        return False
    started = max(at, state.now.issued)
    state.times[i].started = started
    if state.code[i].action == CONFIGURE:
        state.now.issued = started
        complete(state, i, started)
    return True


@jit
def _fence(state: State, i: int) -> int:
    """When all earlier results have left the array, if the next tile of ``i`` must wait for that; else 0."""
    first = state.now.gemm_strip == 0 and state.now.gemm_chunk == 0 and state.now.gemm_tile == 0
    return int(state.queues[COMPUTE].last_completed) if first and state.code[i].fence else 0


@jit
def _load_tile(state: State, i: int, fence: int) -> None:
    """GMS: the stationary tile comes from activation SRAM, a row (transposed: a column) a cycle."""
    gemm, now = state.code[i], state.now
    if gemm.transposed:
        cycles = min(gemm.tile_columns, gemm.columns - now.gemm_strip * gemm.tile_columns)
    else:
        cycles = min(gemm.tile_rows, gemm.reduction - now.gemm_tile * gemm.tile_rows)
    now.load_start = max(state.times[i].started, fence, now.stream_start)
    now.loaded = now.load_start + cycles * TICKS


@jit
def _stream_tile(state: State, i: int, fence: int) -> None:
    """Stream one chunk of rows through the loaded tile; the shadow register is free from the start of it."""
    gemm, now = state.code[i], state.now
    start = max(now.stream_end, now.loaded, state.times[i].started, fence)
    rows = min(gemm.chunk, gemm.rows - now.gemm_chunk * gemm.chunk)
    charge_gap(state, i, fence, start)
    now.stream_start = start
    now.stream_end = start + rows * TICKS
    now.loaded = UNKNOWN
    charge(state, gemm.layer, STREAM_TICKS, start, now.stream_end)
    if _was_last_tile(state, i):
        now.issued = start
        used_rows = min(gemm.tile_rows, gemm.reduction) * gemm.groups
        used_columns = min(gemm.tile_columns, gemm.columns)
        complete(state, i, now.stream_end + (used_rows + used_columns) * TICKS)


@jit
def _was_last_tile(state: State, i: int) -> bool:
    """Step to the next tile, chunk or strip of ``i``; true, with all counters back at 0, when there is none."""
    gemm, now = state.code[i], state.now
    now.gemm_tile += 1
    if now.gemm_tile * gemm.tile_rows < gemm.reduction:
        return False
    now.gemm_tile = 0
    now.gemm_chunk += 1
    if now.gemm_chunk * gemm.chunk < gemm.rows:
        return False
    now.gemm_chunk = 0
    now.gemm_strip += 1
    if now.gemm_strip * gemm.tile_columns < gemm.columns:
        return False
    now.gemm_strip = 0
    return True
