"""Every tick the array does not stream is charged to what it waited for: walk back from the binding constraint."""

from __future__ import annotations

from accel.metrics import CAUSES
from sim.columns import NOBODY
from sim.jit import jit, jit_call
from sim.state import DECODE, LOAD, STORE, VECTOR, State
from sim.tape import add_charge

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
        add_charge(state.causes, state.tape, state.queues, state.now, layer, cause, begin, end)


@jit
def _charge_dispatched(state: State, i: int, layer: int, cause: int, begin: int, end: int) -> None:
    """Charge ``[begin, end)`` to ``cause``, its part before ``i`` was dispatched to dependency."""
    split = min(max(state.times[i].dispatched, begin), end)
    charge(state, layer, DEPENDENCY_TICKS, begin, split)
    charge(state, layer, cause, split, end)


@jit
def _released_by(state: State, i: int, at: int) -> int:
    """The instruction whose completion let ``i`` start at ``at``: a token's, or its predecessor in the vector or store
    queue; ``NOBODY`` if it only waited for its dispatch."""
    for queue in range(state.producers.shape[1]):
        producer = state.producers[i, queue]
        if producer >= 0 and state.times[producer].completed >= at:
            return int(producer)
    queue = state.code[i].queue
    if state.times[i].dispatched >= at or (queue != VECTOR and queue != STORE):
        return NOBODY
    return int(state.code[i].predecessor)


@jit
def _charge_run(state: State, i: int, store_layer: int, begin: int, end: int) -> int:
    """Charge the time a VEC or STA ran, up to ``end``; returns when it started (at least ``begin``)."""
    ran = max(begin, state.times[i].started)
    if state.code[i].queue == VECTOR:
        charge(state, state.code[i].layer, VECTOR_TICKS, ran, end)
    else:
        charge(state, store_layer, ACTIVATION_TICKS, ran, end)
    return int(ran)


@jit_call
def charge_wait(state: State, i: int, layer: int, load_cause: int, begin: int, end: int) -> None:
    """Charge ``[begin, end)``, at whose end ``i`` started, to what it waited for.

    While a VEC or a STA ran, to that; before it started, to whatever it waited for in turn.
    """
    while end > begin:
        source = _released_by(state, i, end)
        if source == NOBODY:
            charge(state, layer, DEPENDENCY_TICKS, begin, end)
            return
        queue = state.code[source].queue
        if queue != VECTOR and queue != STORE:
            _charge_dispatched(state, i, layer, _cause_of_queue(queue, load_cause), begin, end)
            return
        end = _charge_run(state, source, layer, begin, end)
        i, load_cause = source, ACTIVATION_TICKS


@jit
def _cause_of_queue(queue: int, load_cause: int) -> int:
    if queue == LOAD:
        return load_cause
    return DECODE_TICKS if queue == DECODE else DRAIN_TICKS


@jit
def charge_gap(state: State, i: int, fence: int, stream: int, decoded: bool) -> None:
    """Charge the idle time between the last tile and this one of ``i``, which streams from ``stream`` on.

    ``fence``: when the results ``i`` waits for have left the array, 0 without a fence. ``decoded``: what was loaded
    last, from ``load_start`` to ``loaded``, came from the decoder, not from activation SRAM.
    """
    begin, layer, now = state.now.stream_end, state.code[i].layer, state.now
    if stream <= begin:
        return
    if now.loaded < stream:
        _charge_start(state, i, fence, begin, stream)
        return
    loading = max(begin, now.load_start)
    charge(state, layer, DECODE_TICKS, loading, stream)
    if not decoded:
        _charge_start(state, i, fence, begin, loading)
    elif now.data_arrival >= state.times[now.shadow_dec].started:
        _charge_dispatched(state, now.shadow_dec, layer, WEIGHT_TICKS, begin, loading)
    else:
        charge_wait(state, now.shadow_dec, layer, CODEBOOK_TICKS, begin, loading)


@jit_call
def _charge_start(state: State, i: int, fence: int, begin: int, end: int) -> None:
    """``i`` could not begin before ``end``: its fence, or whatever its start waited for."""
    layer = state.code[i].layer
    if fence >= end:
        charge(state, layer, DRAIN_TICKS, begin, end)
    else:
        charge_wait(state, i, layer, ACTIVATION_TICKS, begin, end)


@jit
def charge_tail(state: State, begin: int) -> None:
    """Charge what follows the last tile, each piece to the layer of the instruction that ran last."""
    i = _last_completed(state)
    end = state.times[i].completed if i != NOBODY else begin
    while end > begin and (state.code[i].queue == VECTOR or state.code[i].queue == STORE):
        layer = state.code[i].layer
        end = _charge_run(state, i, layer, begin, end)
        source = _released_by(state, i, end)
        if source == NOBODY:
            charge(state, layer, DRAIN_TICKS, begin, end)
            return
        i = source
    if end > begin:
        cause = ACTIVATION_TICKS if state.code[i].queue == LOAD else DRAIN_TICKS
        charge(state, state.code[i].layer, cause, begin, end)


@jit
def _last_completed(state: State) -> int:
    last = NOBODY
    for i in range(len(state.times)):
        if last == NOBODY or state.times[i].completed >= state.times[last].completed:
            last = i
    return last
