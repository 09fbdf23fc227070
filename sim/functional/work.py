"""What runs: instructions with the configuration in force for each, the memories, and what is seen of every result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from accel.footprint import CODEBOOK_SPAN, CONFIGURATION, QueueState
from accel.isa import Instruction
from accel.legality import place
from accel.program import Program
from sim.functional.memory import Box, Memory


@dataclass(frozen=True, slots=True)
class Work:
    """Instruction number ``index`` and what its queue is configured to when it starts."""

    index: int
    instruction: Instruction
    state: QueueState
    unfenced: int | None = None  # of GEM and GMS: the first one whose results may still be in the array

    @property
    def where(self) -> str:
        """How errors name it."""
        return place(self.index, self.instruction)


def works_of(instructions: Sequence[Instruction]) -> list[Work]:
    """Every instruction with its configuration: queues run in order, so it does not depend on when they run."""
    state, found = QueueState(), []
    unfenced: int | None = None
    for index, instruction in enumerate(instructions):
        if instruction.mnemonic in CONFIGURATION:
            state = QueueState({**state.latest, instruction.mnemonic: instruction})
        if instruction.mnemonic in ("GEM", "GMS"):
            unfenced = None if instruction["fence"] else unfenced
            found.append(Work(index, instruction, state, unfenced))
            unfenced = index if unfenced is None else unfenced
        else:
            found.append(Work(index, instruction, state))
    return found


@dataclass(frozen=True, slots=True)
class Written:
    """What one instruction stored: codes of ``unsigned`` or signed bytes (``None``: bytes that are no codes)."""

    space: str
    box: Box
    values: npt.NDArray[np.uint8]
    unsigned: bool | None


@dataclass(slots=True)
class Memories:
    """DRAM, activation SRAM and codebook banks of one run; ``written`` is what the last instruction stored."""

    dram: Memory
    sram: Memory
    codebooks: Memory
    written: Written | None = field(default=None)

    def store(self, work: Work, box: Box, values: npt.NDArray[np.uint8], unsigned: bool | None) -> None:
        """Write a result to the activation SRAM."""
        self.sram.write(box, values, work.index)
        self.written = Written("activation", box, values, unsigned)

    def move(self, space: str, work: Work, box: Box, values: npt.NDArray[np.uint8]) -> None:
        """Write bytes that are moved, not computed, to any memory."""
        memory = {"dram": self.dram, "activation": self.sram, "codebook": self.codebooks}[space]
        memory.write(box, values, work.index)
        self.written = Written(space, box, values, None)


def memories_of(program: Program, instructions: Sequence[Instruction]) -> Memories:
    """Memories before the first instruction: the image, room for the inputs, and nothing else."""

    def name_of(index: int) -> str:
        return place(index, instructions[index])

    stores = [instruction["address"] for instruction in instructions if instruction.mnemonic == "STA"]
    ports = [port.address for port in program.inputs]
    image = program.image
    dram = np.zeros(program.dram_bytes, np.uint8)
    dram[: image.size] = image
    memories = Memories(
        Memory("DRAM", dram, name_of, min(image.size, *stores, *ports) if stores or ports else image.size),
        Memory("activation SRAM", np.zeros(program.machine.sram.activation_bytes, np.uint8), name_of),
        Memory("codebook", np.zeros(2 * CODEBOOK_SPAN, np.uint8), name_of),
    )
    memories.dram.mark_loaded(0, image.size)
    for port in program.inputs:
        memories.dram.mark_loaded(port.address, port.address + port.bytes)
    return memories
