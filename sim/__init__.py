"""The simulator: times a Program on a Machine (``simulate``, ``instruction_times``) and checks the weights it decodes
(``check_weights``). ``sim.functional`` executes it.

Importing it is cheap; the kernel is compiled, or taken from its cache, by the first simulation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from accel.energy import DEFAULT_ENERGY, EnergyTable
from accel.errors import SimError
from accel.machine import FIXED_KEYS, Machine, changes_from_preset
from accel.metrics import CAUSES, DECODER, TRAFFIC
from accel.program import Layer, Program
from accel.run import LayerRun, Run
from sim.decode import Decoded, decode_words
from sim.energy import energy_joules
from sim.params import TICKS
from sim.proof import prove
from sim.timing import Timing, time_program
from sim.weights import check_weights

if TYPE_CHECKING:
    from sim.tape import Take

__all__ = ["InstructionTimes", "Prepared", "check_weights", "instruction_times", "prepare", "simulate"]

Counts = npt.NDArray[np.int64]


def simulate(program: Program, machine: Machine | None = None, energy: EnergyTable = DEFAULT_ENERGY) -> Run:
    """Time ``program`` on ``machine`` (by default the one it was compiled for); ``energy`` prices what it does.

    Raises ``SimError`` if the machine differs in what the program was compiled for, and ``IsaError`` naming the
    instruction if the program is illegal, reaches beyond its memories, races or deadlocks.
    """
    machine = program.machine if machine is None else machine
    return prepare(program, machine).simulate(machine, energy)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A program and what all its simulations share: for sweeps, where that would cost more than the kernel."""

    program: Program
    decoded: Decoded
    digest: str

    def simulate(self, machine: Machine, energy: EnergyTable = DEFAULT_ENERGY) -> Run:
        """What ``sim.simulate`` returns and raises."""
        return self.run(machine, self.timing(machine), energy)

    def timing(self, machine: Machine, take: Take | None = None) -> Timing:
        """The timing on ``machine`` once the program is proved legal there; ``take``: see ``sim.timing``."""
        _check_machine(self.program, machine)
        prove(self.program, machine, self.digest)
        return time_program(self.program, machine, take, self.decoded)

    def run(self, machine: Machine, timing: Timing, energy: EnergyTable = DEFAULT_ENERGY) -> Run:
        """What ``simulate`` returns, from a timing at hand."""
        program, cycles = self.program, timing.cause_cycles
        dram_bytes = dict(zip(TRAFFIC, timing.traffic.sum(axis=0).tolist(), strict=True))
        decoder = _counters(timing.decoder.sum(axis=0))
        return Run(
            machine=machine,
            program=_summary(program, self.digest),
            total_cycles=timing.total_cycles,
            macs=sum(layer.macs for layer in program.layers),
            cycles_by_cause=dict(zip(CAUSES, cycles.sum(axis=0).tolist(), strict=True)),
            dram_bytes=dram_bytes,
            energy_joules=energy_joules(self.decoded, sum(dram_bytes.values()), machine, energy),
            energy_table=energy.document(),
            layers=tuple(map(_layer_run, program.layers, cycles, timing.traffic, timing.decoder)),
            notes=(*program.notes, *_machine_notes(machine), *_decoder_notes(machine, decoder), *_energy_notes(energy)),
            decoder=decoder,
        )


def prepare(program: Program, machine: Machine) -> Prepared:
    """``program``, digested, proved on ``machine`` and decoded; raises as ``simulate`` does on that machine."""
    digest = program.digest
    _check_machine(program, machine)
    prove(program, machine, digest)
    return Prepared(program, decode_words(program.words), digest)


@dataclass(frozen=True, slots=True)
class InstructionTimes:
    """Cycles at which each instruction started and had completed, ``int64[n]``; started ones are counted whole."""

    started: npt.NDArray[np.int64]
    completed: npt.NDArray[np.int64]


def instruction_times(program: Program, machine: Machine | None = None) -> InstructionTimes:
    """When every instruction of ``program`` runs on ``machine``; raises as ``simulate`` does."""
    machine = program.machine if machine is None else machine
    timing = prepare(program, machine).timing(machine)
    return InstructionTimes(-(-timing.started // TICKS), -(-timing.completed // TICKS))


def _check_machine(program: Program, machine: Machine) -> None:
    compiled, wanted = program.machine.flat(), machine.flat()
    for key in FIXED_KEYS:
        if wanted[key] != compiled[key]:
            raise SimError(
                f"machine key {key} = {wanted[key]}, but the program was compiled for {compiled[key]} "
                f"('{program.machine.name}'); recompile it for this machine"
            )


def _summary(program: Program, digest: str) -> dict[str, object]:
    return {
        "digest": digest,
        "model": program.model,
        "codec": program.codec,
        "batch": program.batch,
        "instructions": len(program.words),
        "source": dict(program.source),
        "report": dict(program.report),
    }


def _layer_run(layer: Layer, cause_cycles: Counts, traffic: Counts, counters: Counts) -> LayerRun:
    cycles = dict(zip(CAUSES, cause_cycles.tolist(), strict=True))
    return LayerRun(
        name=layer.name,
        kind=layer.kind,
        macs=layer.macs,
        cycles=sum(cycles.values()),
        cycles_by_cause=cycles,
        dram_bytes=dict(zip(TRAFFIC, traffic.tolist(), strict=True)),
        bound=max(cycles, key=lambda cause: cycles[cause]),
        decoder=_counters(counters),
    )


def _counters(row: Counts) -> dict[str, int]:
    return dict(zip(DECODER, row.tolist(), strict=True))


def _decoder_notes(machine: Machine, counted: Mapping[str, int]) -> tuple[str, ...]:
    """What banks and FIFOs of the decoder cost, if anything."""
    groups, cycles = counted["lookup_groups"], counted["lookup_cycles"]
    banks, notes = machine.decoder.codebook_banks, []
    if banks and groups:
        notes.append(
            f"decoder: {machine.decoder.lookups_per_cycle} look-ups a cycle on a codebook in {banks} banks take "
            f"{cycles / groups:.2f} cycles on average"
        )
    if counted["index_fifo_empty"] or counted["sign_fifo_empty"]:
        notes.append(
            f"decoder: look-ups paused {counted['index_fifo_empty']} cycles for indices and "
            f"{counted['sign_fifo_empty']} for signs (decoder.input_bits, fifo_words)"
        )
    return tuple(notes)


def _energy_notes(energy: EnergyTable) -> tuple[str, ...]:
    return (f"energy: {', '.join(energy.changed)} from '{energy.source}'",) if energy.changed else ()


def _machine_notes(machine: Machine) -> tuple[str, ...]:
    """What a reader cannot see from the machine's name."""
    changes = ", ".join(f"{key} = {value}" for key, value in changes_from_preset(machine).items())
    changed = (f"machine: {machine.name} changed: {changes}",) if changes else ()
    return (*changed, *_dram_notes(machine))


def _dram_notes(machine: Machine) -> tuple[str, ...]:
    if not machine.is_banked:
        return ()
    dram = machine.dram
    channels = f", {dram.channels} channels" if dram.channels > 1 else ""
    return (
        f"DRAM: {dram.standard} x{dram.data_width_bits}{channels}, {dram.mapping}, timed bank by bank; peak "
        f"{machine.bandwidth_bytes_per_cycle:.4g} B/cycle",
    )
