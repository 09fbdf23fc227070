"""The decode queue: tiles are taken from the weight ring and decoded into the array's shadow register."""

from __future__ import annotations

from typing import Any

from accel.isa import BLOCK_BYTES
from sim.columns import GEMM, NOBODY
from sim.jit import jit
from sim.params import TICKS
from sim.queues import complete, ready
from sim.state import COMPUTE, DECODE, UNKNOWN, State
from sim.tape import RING, TILE, record

BITS_PER_BYTE = 8

Record = Any  # of ``sim.columns.FIELDS``


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
    """Decode one tile of DEC ``i`` if its last block is known to arrive.

    It takes an array row a cycle; with a codebook it is not faster than the look-ups, after the transpose buffer has
    filled.
    """
    dec, now = state.code[i], state.now
    if now.ring_wanted > now.ring_arrived:
        return False  # known from an earlier turn
    rows = min(dec.tile_rows, dec.rows - now.dec_tile * dec.tile_rows)
    width = min(dec.tile_columns, dec.columns - now.dec_strip * dec.tile_columns)
    codes = _codes(dec, rows, width)
    last = (now.dec_tile + 1) * dec.tile_rows >= dec.rows
    stream_bytes = _stream_bytes(dec, now.dec_codes + codes, last)
    now.ring_wanted = now.ring_base + now.strip_offset + _ceil_divide(stream_bytes, BLOCK_BYTES)
    if now.ring_wanted > now.ring_arrived:
        return False
    cycles = rows * dec.groups * state.params.row_cycles
    if dec.codebook:
        looked_up = state.lookup_cycles[_lookup_place(dec, now.dec_strip, now.dec_tile, last)]
        cycles = max(cycles, looked_up) + dec.axis_in * dec.vector_length
    now.dec_codes += codes
    now.shadow_dec = i
    now.data_arrival = state.ring[(now.ring_wanted - 1) % state.params.ring_blocks].arrival
    now.load_start = max(state.times[i].started, now.data_arrival, now.shadow_free)
    now.loaded = now.load_start + cycles * TICKS
    now.ring_wanted = 0
    record(state, TILE, i, now.load_start, now.loaded, 0, 0)
    _leave_decoded_tile(state, i, stream_bytes)
    return True


@jit
def _codes(dec: Record, rows: int, width: int) -> int:
    if dec.axis_in:
        return int(_ceil_divide(rows, dec.vector_length) * width)
    return int(rows * _ceil_divide(width, dec.vector_length))


@jit
def _stream_bytes(dec: Record, codes: int, last: bool) -> int:
    """Bytes of the strip that its first ``codes`` codes need; the last tile needs the padding too."""
    records = _ceil_divide(codes, dec.vectors_per_record)
    size = _ceil_divide(records * dec.record_bits, BITS_PER_BYTE)
    return int(_ceil_divide(size, dec.padded_bytes) * dec.padded_bytes if last else size)


@jit
def _lookup_place(dec: Record, strip: int, tile: int, last: bool) -> int:
    """Where ``state.lookup_cycles`` has a tile's look-ups (``sim.lookups`` has the rules)."""
    column = dec.lookups_period if last else tile % dec.lookups_period
    row = strip if dec.lookups_per_strip else int((strip + 1) * dec.tile_columns >= dec.columns)
    return int(dec.lookups_at + row * (dec.lookups_period + 1) + column)


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
        _free_ring(state, i, now.ring_base + position)
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
def _free_ring(state: State, i: int, position: int) -> None:
    freed = position - state.now.ring_freed
    if freed > 0:
        record(state, RING, i, state.now.loaded, state.now.loaded, -freed, 0)
    for block in range(state.now.ring_freed, position):
        state.ring[block % state.params.ring_blocks].freed = state.now.loaded
    state.now.ring_freed = max(state.now.ring_freed, position)
