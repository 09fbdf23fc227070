"""Every tick the array does not stream is charged to what it waited for: walk back from the binding constraint."""

from __future__ import annotations

from typing import Any

from accel.metrics import CAUSES
from sim.columns import GEMM, Columns
from sim.jit import jit
from sim.state import DECODE, LOAD, NOBODY, STORE, VECTOR, State

_NAMES = list(CAUSES)
STREAM_TICKS, WEIGHT_TICKS, ACTIVATION_TICKS, DECODE_TICKS = (
    _NAMES.index(name) for name in ("compute", "weight_dma", "activation_dma", "decode")
)
CODEBOOK_TICKS, VECTOR_TICKS, DEPENDENCY_TICKS, DRAIN_TICKS = (
    _NAMES.index(name) for name in ("codebook_load", "vector", "dependency", "drain")
)


@jit
def charge(state: State, layer: int, cause: int, begin: int, end: int) -> None:
    """Charge ``[begin, end)``, if it is not empty."""
    if end > begin:
        state.causes[layer, cause] += end - begin


@jit
def _charge_dispatched(
    columns: Columns, state: State, i: int, layer: int, cause: int, begin: int, end: int
) -> None:
    """Charge ``[begin, end)`` to ``cause``, its part before ``i`` was dispatched to dependency."""
    split = min(max(state.dispatched[i], begin), end)
    charge(state, layer, DEPENDENCY_TICKS, begin, split)
    charge(state, layer, cause, split, end)


@jit
def _released_by(columns: Columns, state: State, i: int, at: int) -> int:
    """The instruction whose completion let ``i`` start at ``at``: a token's, or its predecessor in the vector or store
    queue; ``NOBODY`` if it only waited for its dispatch."""
    for queue in range(columns.producers.shape[1]):
        producer = columns.producers[i, queue]
        if producer >= 0 and state.completed[producer] >= at:
            return int(producer)
    queue = columns.queue[i]
    if state.dispatched[i] >= at or columns.position[i] == 0 or queue not in (VECTOR, STORE):
        return NOBODY
    return int(columns.members[columns.members_start[queue] + columns.position[i] - 1])


@jit
def charge_wait(columns: Columns, state: State, i: int, layer: int, load_cause: int, begin: int, end: int) -> None:
    """Charge ``[begin, end)``, at whose end ``i`` started, to what it waited for.

    While a VEC or a STA ran, to that; before it started, to whatever it waited for in turn.
    """
    waiter = i
    while end > begin:
        source = _released_by(columns, state, waiter, end)
        if source == NOBODY:
            charge(state, layer, DEPENDENCY_TICKS, begin, end)
            return
        queue = columns.queue[source]
        if queue not in (VECTOR, STORE):
            _charge_dispatched(columns, state, waiter, layer, _cause_of_queue(queue, load_cause), begin, end)
            return
        ran = max(begin, state.started[source])
        if queue == VECTOR:
            charge(state, columns.layer[source], VECTOR_TICKS, ran, end)
        else:
            charge(state, layer, ACTIVATION_TICKS, ran, end)
        load_cause = ACTIVATION_TICKS
        waiter, end = source, ran


@jit
def _cause_of_queue(queue: int, load_cause: int) -> int:
    if queue == LOAD:
        return load_cause
    return DECODE_TICKS if queue == DECODE else DRAIN_TICKS


@jit
def charge_gap(columns: Columns, state: State, registers: Any, i: int, fence: int, stream: int) -> None:
    """Charge the idle time between the last tile and this one of ``i``, which streams from ``stream`` on.

    ``fence``: when the results ``i`` waits for have left the array, 0 without a fence.
    """
    begin, layer = registers.stream_end, columns.layer[i]
    if stream <= begin:
        return
    if registers.loaded < stream:
        _charge_start(columns, state, i, fence, begin, stream)
        return
    loading = max(begin, registers.load_start)
    charge(state, layer, DECODE_TICKS, loading, stream)
    dec = registers.shadow_dec
    if columns.action[i] != GEMM:
        _charge_start(columns, state, i, fence, begin, loading)
    elif registers.data_arrival >= state.started[dec]:
        _charge_dispatched(columns, state, dec, layer, WEIGHT_TICKS, begin, loading)
    else:
        charge_wait(columns, state, dec, layer, CODEBOOK_TICKS, begin, loading)


@jit
def _charge_start(columns: Columns, state: State, i: int, fence: int, begin: int, end: int) -> None:
    """``i`` could not begin before ``end``: its fence, or whatever its start waited for."""
    if fence >= end:
        charge(state, columns.layer[i], DRAIN_TICKS, begin, end)
    else:
        charge_wait(columns, state, i, columns.layer[i], ACTIVATION_TICKS, begin, end)


@jit
def charge_tail(columns: Columns, state: State, begin: int) -> None:
    """Charge what follows the last tile, each piece to the layer of the instruction that ran last."""
    last = 0
    for i in range(len(state.completed)):
        if state.completed[i] >= state.completed[last]:
            last = i
    end = state.completed[last] if len(state.completed) else begin
    while end > begin:
        queue, layer = columns.queue[last], columns.layer[last]
        if queue not in (VECTOR, STORE):
            charge(state, layer, ACTIVATION_TICKS if queue == LOAD else DRAIN_TICKS, begin, end)
            return
        ran = max(begin, state.started[last])
        charge(state, layer, VECTOR_TICKS if queue == VECTOR else ACTIVATION_TICKS, ran, end)
        source = _released_by(columns, state, last, ran)
        if source == NOBODY:
            charge(state, layer, DRAIN_TICKS, begin, ran)
            return
        last, end = source, ran


