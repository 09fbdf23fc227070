"""Says of a deadlocked program where every queue stands and what its instruction waits for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from accel.isa import QUEUES, decode, disassemble
from sim.columns import GEMM, NEVER, NOBODY, WEIGHTS
from sim.state import UNKNOWN, State


def describe_stall(words: npt.NDArray[np.uint8], state: State) -> str:
    """One line: each queue that has not finished, its instruction, and the reason."""
    stands = []
    for queue, name in enumerate(QUEUES):
        i = int(state.queues[queue].oldest)
        if i != NOBODY:
            line = disassemble(decode(words[i].tobytes(), f"instruction {i}"))
            stands.append(f"queue {name} stands at instruction {i} '{line}', which waits for {_reason(state, i)}")
    return "the program deadlocks: " + "; ".join(stands)


def _reason(state: State, i: int) -> str:
    times = state.times[i]
    if times.dispatched == UNKNOWN:
        return f"its dispatch ({_dispatch_reason(state)})"
    if times.started == UNKNOWN:
        return listed_tokens(state, i) or "its predecessor in the queue"
    if state.code[i].action == WEIGHTS:
        return "room in the weight ring"
    if state.code[i].action == GEMM:
        return "a tile from the decode queue"
    return "weights in the ring, or a GEM that uses its tile next"


def _dispatch_reason(state: State) -> str:
    i = int(state.now.next_dispatch)
    if state.times[i].fetched == UNKNOWN:
        return f"instruction {i} is not fetched"
    queue = QUEUES[state.code[i].queue]
    return f"instruction {i} finds queue {queue} full, as {state.code[i].slot_ahead} has not started"


def listed_tokens(state: State, i: int) -> str:
    """The tokens instruction ``i`` lacks, with who should have pushed them."""
    return ", ".join(_missing(state, i))


def _missing(state: State, i: int) -> Iterator[str]:
    for queue, producer in enumerate(state.producers[i].tolist()):
        if producer == NEVER:
            yield f"a token from {QUEUES[queue]} that no instruction pushes"
        elif producer >= 0 and state.times[producer].completed == UNKNOWN:
            yield f"the token from {QUEUES[queue]} of instruction {producer}"
