"""What emission looks up and what it has done so far; shared by the fetching and the working half."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from accel.codecs.base import EncodedLayer
from accel.footprint import CONFIGURATION
from accel.isa import Instruction
from accel.machine import Machine
from compiler.parameters import ParameterBlock
from compiler.place import Placement
from compiler.plan import WeightPlan
from compiler.scaled import ScaledModel
from compiler.steps import Buffer
from compiler.tile import Tiling


@dataclass(frozen=True, slots=True)
class WeightSource:
    """One weight matrix as emission needs it: the encoded layer, its tiles and where they lie in DRAM."""

    layer: EncodedLayer
    tiling: Tiling
    address: int
    codebook_address: int


@dataclass(frozen=True, slots=True)
class ProductBlocks:
    """Multipliers and tables of products of activations, in SRAM from the start: ``offsets`` by layer from ``sram``."""

    data: npt.NDArray[np.uint8]
    offsets: Mapping[int, int]
    sram: int = 0
    dram: int = 0


@dataclass(frozen=True, slots=True)
class Resources:
    """Everything emission looks up. Addresses are of DRAM unless said otherwise; by visit index where they vary."""

    machine: Machine
    names: Sequence[str]  # of the layers
    placement: Placement
    buffers: Mapping[str, Buffer]
    dram_address: Mapping[str, int]
    weights: Mapping[str, WeightSource]
    plans: Mapping[int, WeightPlan]
    blocks: Mapping[int, ParameterBlock]
    block_dram: Mapping[int, int]
    block_sram: Mapping[int, int]
    products: ProductBlocks
    model: ScaledModel
    excess: Mapping[str, float]  # steps by which weights may count too much (StageNumbers)


@dataclass(slots=True)
class Emission:
    """Instructions so far with their layers, and how far loads have run ahead."""

    resources: Resources
    instructions: list[Instruction] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)
    configured: dict[str, Instruction] = field(default_factory=dict)
    parameters_until: int = 0
    fetched_blocks: dict[int, int] = field(default_factory=dict)
    bank_of: dict[int, int] = field(default_factory=dict)
    codebooks: int = 0
    finished: dict[str, tuple[int, int]] = field(default_factory=dict)  # visit and last instruction, by tensor made

    def add(self, layer: int, *instructions: Instruction) -> None:
        """Append, leaving out configuration that is in force already."""
        for instruction in instructions:
            if instruction.mnemonic in CONFIGURATION:
                if self.configured.get(instruction.mnemonic) == instruction:
                    continue
                self.configured[instruction.mnemonic] = instruction
            self.instructions.append(instruction)
            self.layers.append(layer)
