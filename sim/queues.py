"""What all queues share: dispatch in program order, tokens, completion in order; and the vector unit."""

from __future__ import annotations

from typing import Any

from sim.columns import NO_TOKEN, Columns
from sim.jit import jit
from sim.params import TICKS, Params
from sim.state import NOBODY, PER_BLOCK, UNKNOWN, VECTOR, State


@jit
def dispatch(params: Params, columns: Columns, state: State, registers: Any) -> bool:
    """Dispatch all instructions whose words have come and whose queue is known to get a free slot."""
    first = registers.next_dispatch
    while registers.next_dispatch < len(columns.action):
        i = registers.next_dispatch
        at = max(registers.dispatch_time, state.fetch_arrival[i // PER_BLOCK])
        freed = _slot_free(params, columns, state, i)
        if state.fetch_arrival[i // PER_BLOCK] == UNKNOWN or freed == UNKNOWN:
            break
        registers.dispatch_time = state.dispatched[i] = max(at, freed)
        registers.next_dispatch += 1
    return bool(registers.next_dispatch != first)


@jit
def _slot_free(params: Params, columns: Columns, state: State, i: int) -> int:
    """When the instruction ``queue_depth`` places ahead in the queue of ``i`` starts, hence leaves its slot."""
    ahead = columns.position[i] - params.queue_depth
    if ahead < 0:
        return 0
    return int(state.started[columns.members[columns.members_start[columns.queue[i]] + ahead]])


@jit
def current(columns: Columns, state: State, queue: int) -> int:
    """The instruction at the head of ``queue``, or ``NOBODY`` when all have gone."""
    place = columns.members_start[queue] + state.head[queue]
    if place >= columns.members_start[queue + 1]:
        return NOBODY
    return int(columns.members[place])


@jit
def ready(columns: Columns, state: State, i: int) -> int:
    """When ``i`` is dispatched and has its tokens, or ``UNKNOWN``."""
    at = state.dispatched[i]
    if at == UNKNOWN:
        return UNKNOWN
    for queue in range(columns.producers.shape[1]):
        producer = columns.producers[i, queue]
        if producer != NO_TOKEN:
            if producer < 0 or state.completed[producer] == UNKNOWN:
                return UNKNOWN
            at = max(at, state.completed[producer])
    return int(at)


@jit
def complete(columns: Columns, state: State, i: int, at: int) -> None:
    """``i`` completes at ``at``, but not before its predecessor, and leaves the head of its queue."""
    queue = columns.queue[i]
    state.last_completed[queue] = max(state.last_completed[queue], at)
    state.completed[i] = state.last_completed[queue]
    state.head[queue] += 1


@jit
def advance_vector(columns: Columns, state: State) -> bool:
    """Run the vector queue as far as token times are known."""
    moved = False
    i = current(columns, state, VECTOR)
    while i != NOBODY:
        at = ready(columns, state, i)
        if at == UNKNOWN:
            break
        state.started[i] = max(at, state.last_completed[VECTOR])
        complete(columns, state, i, state.started[i] + columns.cycles[i] * TICKS)
        moved = True
        i = current(columns, state, VECTOR)
    return moved
