"""Times a program: words in, ticks and bytes out. The shell around the kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from accel.errors import SimError
from accel.isa import BLOCK_BYTES
from accel.machine import Machine
from accel.program import Program
from sim.columns import build_code, pair_tokens
from sim.decode import Column, Decoded, decode_words
from sim.dram.state import Channels
from sim.limits import check_limits
from sim.lookups import plan_lookups
from sim.params import TICKS, Params, channels_of, machine_params, unused_channels
from sim.ring import Bytes, weight_ring
from sim.traffic import traffic_of

if TYPE_CHECKING:
    from sim.tape import Take

_NO_IMAGE: Bytes = np.zeros(0, np.uint8)


@dataclass(frozen=True, slots=True)
class Timing:
    """Ticks at which each instruction was dispatched, started and completed (``int64[n]``), and the counters:
    ``causes`` in ticks ``[layer, cause]``, ``traffic`` in bytes ``[layer, kind]``, ``decoder`` ``[layer, counter]``."""

    dispatched: Column
    started: Column
    completed: Column
    causes: npt.NDArray[np.int64]
    traffic: npt.NDArray[np.int64]
    decoder: npt.NDArray[np.int64]

    @property
    def total(self) -> int:
        """Ticks from the first fetch to the last completion."""
        return int(self.completed.max(initial=0))

    @property
    def total_cycles(self) -> int:
        """``total`` in cycles, a started one counted whole."""
        return -(-self.total // TICKS)

    @property
    def cause_cycles(self) -> npt.NDArray[np.int64]:
        """``causes`` in whole cycles that still sum to ``total_cycles``: running totals are rounded, not the cells."""
        boundaries = -(-np.cumsum(self.causes.reshape(-1)) // TICKS)
        return np.diff(boundaries, prepend=0).reshape(self.causes.shape)


def time_program(
    program: Program, machine: Machine, take: Take | None = None, decoded: Decoded | None = None
) -> Timing:
    """Time ``program`` on ``machine``; raises ``SimError`` if it is impossible or deadlocks. See ``time_words``.

    ``decoded``: its words, if that is known already.
    """
    _check_capacity(program, machine)
    params = machine_params(machine, program.dram_bytes)
    channels = channels_of(machine)
    layers = program.instruction_layer, len(program.layers)
    known = decode_words(program.words) if decoded is None else decoded
    return _time(program.words, known, *layers, params, channels, program.image, take)


def _check_capacity(program: Program, machine: Machine) -> None:
    if not machine.is_banked:
        return
    dram = machine.dram
    capacity = machine.dram_standard.capacity_bytes(dram.data_width_bits) * dram.channels
    if program.dram_bytes + program.words.nbytes > capacity:
        raise SimError(
            f"the program needs {program.dram_bytes + program.words.nbytes} bytes of DRAM; allowed with "
            f"{dram.channels} x {dram.standard} x{dram.data_width_bits}: {capacity}"
        )


def time_words(
    words: npt.NDArray[np.uint8],
    instruction_layer: npt.NDArray[np.int32],
    layers: int,
    params: Params,
    dram: Channels | None = None,
    image: Bytes = _NO_IMAGE,
    take: Take | None = None,
) -> Timing:
    """Time instruction words on new channels ``dram``, by default on the ideal memory of ``params``.

    ``instruction_layer`` holds values below ``layers``; ``image`` is DRAM from address 0. ``take``
    is given what the run leaves on the tape (``sim.tape``), piece by piece.
    """
    return _time(words, decode_words(words), instruction_layer, layers, params, dram or unused_channels(), image, take)


def _time(
    words: npt.NDArray[np.uint8],
    decoded: Decoded,
    instruction_layer: npt.NDArray[np.int32],
    layers: int,
    params: Params,
    dram: Channels,
    image: Bytes,
    take: Take | None,
) -> Timing:
    from sim.core import DONE, PAUSED, run  # compiles on first use, and numba takes its time to import
    from sim.stall import describe_stall
    from sim.state import NO_TAPE, new_state
    from sim.tape import margin, new_tape, take_entries

    check_limits(decoded, params)
    loaded = int(decoded["LDW"]["blocks"].sum())
    params = params._replace(ring_blocks=max(1, min(params.ring_blocks, loaded)))
    lookups = plan_lookups(decoded["DEC"], weight_ring(decoded["LDW"]), image, params)
    code = build_code(decoded, instruction_layer, params, lookups)
    tape = new_tape(len(words)) if take else NO_TAPE
    state = new_state(
        params, code, pair_tokens(decoded), lookups.cycles, layers, tape, len(tape) - margin(len(words)) if take else 0
    )
    while (outcome := run(state, dram)) == PAUSED:
        take_entries(state, take)
    if outcome != DONE:
        raise SimError(describe_stall(words, state))
    take_entries(state, take)
    times = {name: np.array(state.times[name]) for name in ("dispatched", "started", "completed")}
    traffic = traffic_of(decoded, state.times["blocks"] * BLOCK_BYTES, code["layer"], layers)
    counters = _by_layer(lookups.totals, code["layer"][decoded["DEC"].index], layers)
    timing = Timing(**times, causes=state.causes, traffic=traffic, decoder=counters)
    assert timing.causes.sum() == timing.total, "every tick has one cause"
    return timing


def _by_layer(totals: npt.NDArray[np.int64], layer: Column, layers: int) -> npt.NDArray[np.int64]:
    """Counters ``[layer, counter]`` of instructions that work for ``layer``."""
    counters = np.zeros((layers, totals.shape[1]), np.int64)
    np.add.at(counters, layer, totals)
    return counters
