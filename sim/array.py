"""Tiles on their way through the array: decoded or loaded into the shadow register, then streamed through.

The shadow register is granted in the order in which the compute queue uses tiles: a tile may load once its predecessor
in that order has begun to stream.
"""

from __future__ import annotations

from typing import Any

from accel.isa import BLOCK_BYTES
from sim.causes import STREAM_TICKS, charge, charge_gap
from sim.columns import CONFIGURE, GEMM, GEMM_STATIONARY, Columns
from sim.jit import jit
from sim.params import TICKS, Params
from sim.queues import complete, current, ready
from sim.state import COMPUTE, DECODE, NOBODY, UNKNOWN, State

BITS_PER_BYTE = 8


@jit
def _ceil_divide(a: int, b: int) -> int:
    return -(-a // b)


@jit
def advance_decode(params: Params, columns: Columns, state: State, registers: Any) -> bool:
    """Start the next DEC, or decode its next tile into the shadow register, as soon as the times are known."""
    i = current(columns, state, DECODE)
    if i == NOBODY:
        return False
    if state.started[i] == UNKNOWN:
        at = ready(columns, state, i)
        if at != UNKNOWN:
            state.started[i] = max(at, state.last_completed[DECODE])
        return at != UNKNOWN
    if registers.loaded != UNKNOWN or not _gemm_is_next(columns, state):
        return False
    return _decode_tile(params, columns, state, registers, i)


@jit
def _gemm_is_next(columns: Columns, state: State) -> bool:
    """Whether the array's next tile belongs to a GEM, be it still to be dispatched."""
    user = columns.next_array[state.head[COMPUTE]]
    return user != NOBODY and columns.action[user] == GEMM


@jit
def _decode_tile(params: Params, columns: Columns, state: State, registers: Any, i: int) -> bool:
    """Decode one tile of DEC ``i`` if its last block is known to arrive."""
    rows = min(columns.tile_rows[i], columns.rows[i] - registers.dec_tile * columns.tile_rows[i])
    width = min(columns.tile_columns[i], columns.columns[i] - registers.dec_strip * columns.tile_columns[i])
    codes = _codes(columns, i, rows, width)
    records = _ceil_divide(registers.dec_codes + codes, columns.vectors_per_record[i])
    stream_bytes = _ceil_divide(records * columns.record_bits[i], BITS_PER_BYTE)
    needed = registers.ring_base + registers.strip_offset + _ceil_divide(stream_bytes, BLOCK_BYTES) - 1
    if needed >= registers.ring_arrived:
        return False
    registers.dec_codes += codes
    registers.shadow_dec = i
    registers.data_arrival = state.ring_arrival[needed % params.ring_blocks]
    registers.load_start = max(state.started[i], registers.data_arrival, registers.stream_start)
    registers.loaded = registers.load_start + _decode_cycles(params, columns, i, rows, codes) * TICKS
    _leave_decoded_tile(params, columns, state, registers, i, stream_bytes)
    return True


@jit
def _codes(columns: Columns, i: int, rows: int, width: int) -> int:
    if columns.axis_in[i]:
        return _ceil_divide(rows, columns.vector_length[i]) * width
    return rows * _ceil_divide(width, columns.vector_length[i])


@jit
def _decode_cycles(params: Params, columns: Columns, i: int, rows: int, codes: int) -> int:
    """One array row a cycle; with a codebook not faster than its lookups, after the transpose buffer has filled."""
    cycles = rows * columns.groups[i]
    if columns.codebook[i]:
        cycles = max(cycles, _ceil_divide(codes, params.lookups)) + columns.axis_in[i] * columns.vector_length[i]
    return int(cycles)


@jit
def _leave_decoded_tile(
    params: Params, columns: Columns, state: State, registers: Any, i: int, stream_bytes: int
) -> None:
    """Step to the next tile, pass or strip; free the ring in a releasing last pass; complete DEC at its last tile."""
    last_tile = (registers.dec_tile + 1) * columns.tile_rows[i] >= columns.rows[i]
    last_pass = registers.dec_pass + 1 == columns.passes[i]
    strip_end = registers.strip_offset + _ceil_divide(stream_bytes, BLOCK_BYTES)
    if last_pass and columns.release[i]:
        position = strip_end if last_tile else registers.strip_offset + stream_bytes // BLOCK_BYTES
        _free_ring(params, state, registers, registers.ring_base + position)
    registers.dec_tile += 1
    if not last_tile:
        return
    registers.dec_tile = registers.dec_codes = 0
    registers.dec_pass += 1
    if not last_pass:
        return
    registers.dec_pass = 0
    registers.dec_strip += 1
    registers.strip_offset = strip_end
    if registers.dec_strip * columns.tile_columns[i] >= columns.columns[i]:
        registers.ring_base += columns.release[i] * strip_end
        registers.dec_strip = registers.strip_offset = 0
        complete(columns, state, i, registers.loaded)


@jit
def _free_ring(params: Params, state: State, registers: Any, position: int) -> None:
    for block in range(registers.ring_freed, position):
        state.ring_freed[block % params.ring_blocks] = registers.loaded
    registers.ring_freed = max(registers.ring_freed, position)


@jit
def advance_compute(columns: Columns, state: State, registers: Any) -> bool:
    """Start the compute queue's next instruction, or load (GMS) and stream its next tile, as soon as times are known."""
    i = current(columns, state, COMPUTE)
    if i == NOBODY:
        return False
    if state.started[i] == UNKNOWN:
        at = ready(columns, state, i)
        if at == UNKNOWN:
            return False
        state.started[i] = max(at, registers.issued)
        if columns.action[i] == CONFIGURE:
            registers.issued = state.started[i]
            complete(columns, state, i, state.started[i])
        return True
    fence = _fence(columns, state, registers, i)
    if registers.loaded == UNKNOWN and columns.action[i] == GEMM_STATIONARY:
        _load_tile(columns, state, registers, i, fence)
    if registers.loaded == UNKNOWN:
        return False
    _stream_tile(columns, state, registers, i, fence)
    return True


@jit
def _fence(columns: Columns, state: State, registers: Any, i: int) -> int:
    """When all earlier results have left the array, if the next tile of ``i`` must wait for that; else 0."""
    first = registers.gemm_strip == 0 and registers.gemm_chunk == 0 and registers.gemm_tile == 0
    return int(state.last_completed[COMPUTE]) if first and columns.fence[i] else 0


@jit
def _load_tile(columns: Columns, state: State, registers: Any, i: int, fence: int) -> None:
    """GMS: the stationary tile comes from activation SRAM, a row (transposed: a column) a cycle."""
    if columns.transpose[i]:
        done = registers.gemm_strip * columns.tile_columns[i]
        cycles = min(columns.tile_columns[i], columns.columns[i] - done)
    else:
        cycles = min(columns.tile_rows[i], columns.reduction[i] - registers.gemm_tile * columns.tile_rows[i])
    registers.load_start = max(state.started[i], fence, registers.stream_start)
    registers.loaded = registers.load_start + cycles * TICKS


@jit
def _stream_tile(columns: Columns, state: State, registers: Any, i: int, fence: int) -> None:
    """Stream one chunk of rows through the loaded tile; the shadow register is free from the start of it."""
    start = max(registers.stream_end, registers.loaded, state.started[i], fence)
    rows = min(columns.chunk[i], columns.rows[i] - registers.gemm_chunk * columns.chunk[i])
    charge_gap(columns, state, registers, i, fence, start)
    registers.stream_start = start
    registers.stream_end = start + rows * TICKS
    registers.loaded = UNKNOWN
    charge(state, columns.layer[i], STREAM_TICKS, start, registers.stream_end)
    if _was_last_tile(columns, registers, i):
        registers.issued = start
        used_rows = min(columns.tile_rows[i], columns.reduction[i]) * columns.groups[i]
        used_columns = min(columns.tile_columns[i], columns.columns[i])
        complete(columns, state, i, registers.stream_end + (used_rows + used_columns) * TICKS)


@jit
def _was_last_tile(columns: Columns, registers: Any, i: int) -> bool:
    """Step to the next tile, chunk or strip of ``i``; true, with all counters back at 0, when there is none."""
    registers.gemm_tile += 1
    if registers.gemm_tile * columns.tile_rows[i] < columns.reduction[i]:
        return False
    registers.gemm_tile = 0
    registers.gemm_chunk += 1
    if registers.gemm_chunk * columns.chunk[i] < columns.rows[i]:
        return False
    registers.gemm_chunk = 0
    registers.gemm_strip += 1
    if registers.gemm_strip * columns.tile_columns[i] < columns.columns[i]:
        return False
    registers.gemm_strip = 0
    return True
