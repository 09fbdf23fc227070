"""What all queues share: dispatch in program order, tokens, completion in order; and the vector unit."""

from __future__ import annotations

from sim.columns import NO_TOKEN, NOBODY
from sim.jit import jit
from sim.params import TICKS
from sim.state import UNKNOWN, VECTOR, State


@jit
def dispatch(state: State) -> bool:
    """Dispatch all instructions whose words have come and whose queue is known to get a free slot."""
    now, first = state.now, state.now.next_dispatch
    while now.next_dispatch < len(state.code):
        i = now.next_dispatch
        freed = _slot_free(state, i)
        if state.times[i].fetched == UNKNOWN or freed == UNKNOWN:
            break
        now.dispatch_time = max(now.dispatch_time, state.times[i].fetched, freed)
        state.times[i].dispatched = now.dispatch_time
        now.next_dispatch += 1
    return bool(now.next_dispatch != first)


@jit
def _slot_free(state: State, i: int) -> int:
    """When a slot in the queue of ``i`` is free: its user has started."""
    ahead = state.code[i].slot_ahead
    return 0 if ahead == NOBODY else int(state.times[ahead].started)


@jit
def ready(state: State, i: int) -> int:
    """When ``i`` is dispatched and has its tokens, or ``UNKNOWN``."""
    at = state.times[i].dispatched
    if at == UNKNOWN:
        return UNKNOWN
    for queue in range(state.producers.shape[1]):
        producer = state.producers[i, queue]
        if producer != NO_TOKEN:
            if producer < 0 or state.times[producer].completed == UNKNOWN:
                return UNKNOWN
            at = max(at, state.times[producer].completed)
    return int(at)


@jit
def complete(state: State, i: int, at: int) -> None:
    """``i`` completes at ``at``, but not before its predecessor, and leaves the head of its queue."""
    queue = state.queues[state.code[i].queue]
    queue.last_completed = max(queue.last_completed, at)
    queue.head = queue.oldest = state.code[i].successor
    state.times[i].completed = queue.last_completed


@jit
def advance_vector(state: State) -> bool:
    """Run the next VEC (or configuration) of the vector queue, if its token times are known."""
    i = state.queues[VECTOR].head
    if i == NOBODY:
        return False
    at = ready(state, i)
    if at == UNKNOWN:
        return False
    state.times[i].started = max(at, state.queues[VECTOR].last_completed)
    complete(state, i, state.times[i].started + state.code[i].cycles * TICKS)
    return True
