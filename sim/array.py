"""Tiles on their way through the array: decoded or loaded into the shadow register, then streamed through.

The shadow register is granted in the order in which the compute queue uses tiles: a tile may load once its predecessor
in that order has begun to stream.
"""

from __future__ import annotations

from accel.isa import BLOCK_BYTES
from sim.causes import STREAM_TICKS, charge, charge_gap
from sim.columns import CONFIGURE, GEMM, GEMM_STATIONARY, NOBODY
from sim.jit import jit
from sim.params import TICKS
from sim.queues import complete, ready
from sim.state import COMPUTE, DECODE, UNKNOWN, State

BITS_PER_BYTE = 8


@jit
def advance_decode(state: State) -> bool:
    """Start the next DEC, or decode its next tile into the shadow register, as soon as the times are known."""
    i = state.queues[DECODE].head
    if i == NOBODY:
        return False
    if state.times[i].started == UNKNOWN:
        at = ready(state, i)
        if at == UNKNOWN:
            return False
        state.times[i].started = max(at, state.queues[DECODE].last_completed)
    if state.now.loaded != UNKNOWN or not _gemm_is_next(state):
        return False
    return _decode_tile(state, i)


@jit
def _gemm_is_next(state: State) -> bool:
    """Whether the array's next tile belongs to a GEM, be it still to be dispatched."""
    head = state.queues[COMPUTE].head
    if head == NOBODY:
        return False
    user = state.code[head].next_array
    return bool(user != NOBODY and state.code[user].action == GEMM)


@jit
def _decode_tile(state: State, i: int) -> bool:
    """Decode one tile of DEC ``i`` if its last block is known to arrive."""
    dec, now = state.code[i], state.now
    rows = min(dec.tile_rows, dec.rows - now.dec_tile * dec.tile_rows)
    width = min(dec.tile_columns, dec.columns - now.dec_strip * dec.tile_columns)
    codes = _codes(state, i, rows, width)
    records = _ceil_divide(now.dec_codes + codes, dec.vectors_per_record)
    stream_bytes = _ceil_divide(records * dec.record_bits, BITS_PER_BYTE)
    needed = now.ring_base + now.strip_offset + _ceil_divide(stream_bytes, BLOCK_BYTES) - 1
    if needed >= now.ring_requested:
        return False
    now.dec_codes += codes
    now.shadow_dec = i
    now.data_arrival = state.ring[needed % state.params.ring_blocks].arrival
    now.load_start = max(state.times[i].started, now.data_arrival, now.stream_start)
    now.loaded = now.load_start + _decode_cycles(state, i, rows, codes) * TICKS
    _leave_decoded_tile(state, i, stream_bytes)
    return True


@jit
def _codes(state: State, i: int, rows: int, width: int) -> int:
    dec = state.code[i]
    if dec.axis_in:
        return int(_ceil_divide(rows, dec.vector_length) * width)
    return int(rows * _ceil_divide(width, dec.vector_length))


@jit
def _decode_cycles(state: State, i: int, rows: int, codes: int) -> int:
    """One array row a cycle; with a codebook not faster than its lookups, after the transpose buffer has filled."""
    dec = state.code[i]
    cycles = rows * dec.groups
    if dec.codebook:
        cycles = max(cycles, _ceil_divide(codes, state.params.lookups)) + dec.axis_in * dec.vector_length
    return int(cycles)


@jit
def _ceil_divide(a: int, b: int) -> int:
    return -(-a // b)


@jit
def _leave_decoded_tile(state: State, i: int, stream_bytes: int) -> None:
    """Step to the next tile, pass or strip; free the ring in a releasing last pass; complete DEC at its last tile."""
    dec, now = state.code[i], state.now
    last_tile = (now.dec_tile + 1) * dec.tile_rows >= dec.rows
    last_pass = now.dec_pass + 1 == dec.passes
    strip_end = now.strip_offset + _ceil_divide(stream_bytes, BLOCK_BYTES)
    if last_pass and dec.release:
        position = strip_end if last_tile else now.strip_offset + stream_bytes // BLOCK_BYTES
        _free_ring(state, now.ring_base + position)
    now.dec_tile += 1
    if last_tile:
        now.dec_tile = 0
        now.dec_codes = 0
        now.dec_pass += 1
    if last_tile and last_pass:
        now.dec_pass = 0
        now.dec_strip += 1
        now.strip_offset = strip_end
        if now.dec_strip * dec.tile_columns >= dec.columns:
            _leave_region(state, i)


@jit
def _leave_region(state: State, i: int) -> None:
    """The read position moves past the region of DEC ``i``, or back to its beginning if it releases nothing."""
    now = state.now
    now.ring_base += state.code[i].release * now.strip_offset
    now.dec_strip = 0
    now.strip_offset = 0
    complete(state, i, now.loaded)


@jit
def _free_ring(state: State, position: int) -> None:
    for block in range(state.now.ring_freed, position):
        state.ring[block % state.params.ring_blocks].freed = state.now.loaded
    state.now.ring_freed = max(state.now.ring_freed, position)


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
