"""The array: tiles are loaded into the shadow register (decoded ones by ``sim.decoder``) and streamed through.

The shadow register is granted in the order in which the compute queue uses tiles: a tile may load once its predecessor
in that order has begun to stream. What streams is, weight stationary, the chunk of output rows; output stationary, the
reduction of the tile, while sums stay in the array; input stationary, the columns of the tile, through a tile of inputs
that activation SRAM loads beside the decoder, an array row a cycle. ``accel.systolic`` has the table of models.

Models without overlap take their folds one after another. A fold input stationary streams all columns of a chunk; its
strips come one by one, so its preload counts with the first strip and its skew with the last.
"""

from __future__ import annotations

from sim.causes import DRAIN_TICKS, STREAM_TICKS, charge, charge_gap
from sim.columns import CONFIGURE, GEMM, GEMM_STATIONARY, NOBODY
from sim.jit import jit
from sim.params import INPUTS_STAY, OUTPUTS_STAY, TICKS, WEIGHTS_STAY
from sim.queues import complete, ready
from sim.state import COMPUTE, UNKNOWN, State
from sim.tape import PRELOAD, record


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
    _stream_tile(state, i, fence, _preload(state, i, fence))
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
def _tile_rows(state: State, i: int) -> int:
    """Array rows of the next tile: its stretch of the reduction, once for each group."""
    gemm = state.code[i]
    return int(min(gemm.tile_rows, gemm.reduction - state.now.gemm_tile * gemm.tile_rows) * gemm.groups)


@jit
def _tile_columns(state: State, i: int) -> int:
    """Output channels of the next tile."""
    gemm = state.code[i]
    return int(min(gemm.tile_columns, gemm.columns - state.now.gemm_strip * gemm.tile_columns))


@jit
def _chunk_rows(state: State, i: int) -> int:
    """Output rows of the next tile."""
    gemm = state.code[i]
    return int(min(gemm.chunk, gemm.rows - state.now.gemm_chunk * gemm.chunk))


@jit
def _load_tile(state: State, i: int, fence: int) -> None:
    """GMS: the tile of b comes from activation SRAM, a row (transposed: a column, if loads overlap) a cycle."""
    now, params = state.now, state.params
    by_column = state.code[i].transposed and params.overlapped
    lines = _tile_columns(state, i) if by_column else _tile_rows(state, i)
    now.load_start = max(state.times[i].started, fence, now.shadow_free)
    now.loaded = now.load_start + lines * params.row_cycles * TICKS
    record(state, PRELOAD, i, now.load_start, now.loaded, 0, 0)


@jit
def _preload(state: State, i: int, fence: int) -> bool:
    """What the array loads besides the tile, or around it; returns whether what is loaded last is decoded.

    Without overlap every fold preloads all rows of the array. Inputs that stay load beside the tile.
    """
    now, params, decoded = state.now, state.params, state.code[i].action == GEMM
    if params.dataflow == WEIGHTS_STAY and not params.overlapped:
        now.loaded = max(now.loaded, now.load_start + params.edge_rows * TICKS)
    if params.dataflow != INPUTS_STAY:
        return bool(decoded)
    begin = max(state.times[i].started, fence, now.stream_start if params.overlapped else now.stream_end)
    end = begin + _input_rows(state, i) * TICKS
    if end > begin:
        record(state, PRELOAD, i, begin, end, 0, 1)
    if end <= now.loaded:
        return bool(decoded)
    now.load_start, now.loaded = begin, end
    return False


@jit
def _input_rows(state: State, i: int) -> int:
    """Array rows of inputs to load for the next tile, input stationary."""
    if state.params.overlapped:
        return _tile_rows(state, i)
    return int(state.params.edge_rows) if state.now.gemm_strip == 0 else 0


@jit
def _stream_tile(state: State, i: int, fence: int, decoded: bool) -> None:
    """Stream through the loaded tile, and free the shadow register."""
    now, layer, cycles = state.now, state.code[i].layer, _stream_cycles(state, i)
    at = max(now.stream_end, now.loaded, state.times[i].started, fence)
    charge_gap(state, i, fence, at, decoded)
    start = max(at, _outputs_free(state, i) - cycles * TICKS)
    charge(state, layer, DRAIN_TICKS, at, start)
    now.stream_start = start
    now.stream_end = start + cycles * TICKS
    charge(state, layer, STREAM_TICKS, start, now.stream_end)
    _leave_fold(state, i)
    held = state.params.dataflow == WEIGHTS_STAY and not state.params.overlapped
    now.shadow_free = now.stream_end if held else start
    now.loaded = UNKNOWN
    if _was_last_tile(state, i):
        now.issued = start
        leave = _skew(state, i) if state.params.overlapped else 0  # of the first tile again, which no other exceeds
        complete(state, i, now.stream_end + leave * TICKS)


@jit
def _stream_cycles(state: State, i: int) -> int:
    """What streams through the next tile, one a cycle."""
    if state.params.dataflow == WEIGHTS_STAY:
        return _chunk_rows(state, i)
    return _tile_rows(state, i) if state.params.dataflow == OUTPUTS_STAY else _tile_columns(state, i)


@jit
def _is_last_piece(state: State, i: int) -> bool:
    """Whether the next tile is the last of its reduction."""
    return bool((state.now.gemm_tile + 1) * state.code[i].tile_rows >= state.code[i].reduction)


@jit
def _outputs_free(state: State, i: int) -> int:
    """Before when the next tile must not have streamed: it completes sums, and those before them still leave; else 0"""
    sums_stay = state.params.dataflow == OUTPUTS_STAY and state.params.overlapped
    return int(state.now.outputs_free) if sums_stay and _is_last_piece(state, i) else 0


@jit
def _leave_fold(state: State, i: int) -> None:
    """The tile has streamed. If that ends a fold, the array drains (models without overlap), or sums begin to leave."""
    now, params = state.now, state.params
    if params.overlapped:
        if _is_last_piece(state, i):
            now.outputs_free = now.stream_end + _chunk_rows(state, i) * TICKS
        return
    if params.dataflow == OUTPUTS_STAY:
        ends = _is_last_piece(state, i)
    else:
        gemm = state.code[i]
        ends = params.dataflow == WEIGHTS_STAY or (now.gemm_strip + 1) * gemm.tile_columns >= gemm.columns
    if ends:
        streamed = now.stream_end
        now.stream_end = streamed + (_skew(state, i) + params.overhead_cycles) * TICKS
        charge(state, state.code[i].layer, DRAIN_TICKS, streamed, now.stream_end)


@jit
def _skew(state: State, i: int) -> int:
    """Rows and columns of the array that results of the next tile pass, or of the whole array."""
    params = state.params
    if params.edge_rows:
        return int(params.edge_rows + params.edge_columns)
    if params.dataflow == OUTPUTS_STAY:
        return _chunk_rows(state, i) + _tile_columns(state, i)
    other = _tile_columns(state, i) if params.dataflow == WEIGHTS_STAY else _chunk_rows(state, i)
    return _tile_rows(state, i) + other


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
