"""Side data of layers, as blocks of bytes fetched ahead of the visit that reads them.

A GEM's: int32 biases, multipliers, and the table of its activation function. A vector step's: gains, offsets and
exponents of a norm, a table, or exponents of channels. Products of activations keep theirs for the whole program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from accel.footprint import BIAS_BYTES, SCALE_BYTES, TABLE_BYTES
from accel.packed import Packed
from accel.quantisation import Quantisation
from compiler.output_stage import (
    StageNumbers,
    WeightSums,
    gemm_numbers,
    has_bias,
    has_channel_words,
    product_numbers,
    uses_table,
)
from compiler.scaled import ScaledModel
from compiler.steps import GemmStep, ProductStep, VectorStep, Visit
from compiler.tile import Tiling
from compiler.vector_numbers import vector_block

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ParameterBlock:
    """Bytes one visit's output stage or vector work reads. ``offsets`` maps the first output channel of every GEM to
    where its biases begin, ``table_at`` is where the table does; bytes ``scales[0]`` up to ``scales[1]`` count as
    traffic of multipliers."""

    data: Bytes
    scales: tuple[int, int] = (0, 0)
    offsets: Mapping[int, int] = field(default_factory=dict)
    table_at: int = 0

    @property
    def size_bytes(self) -> int:
        """Bytes of the block."""
        return self.data.size


@dataclass(frozen=True, slots=True)
class Parameters:
    """Blocks of a model's visits. ``sums`` of weights are kept: several visits may share a weight;
    ``excess`` is that of ``StageNumbers`` by weight."""

    model: ScaledModel
    sums: dict[str, WeightSums] = field(default_factory=dict)
    excess: dict[str, float] = field(default_factory=dict)

    @staticmethod
    def of(packed: Packed, quantisation: Quantisation) -> Parameters:
        """Of a packed model whose tensors have these codes."""
        return Parameters(ScaledModel.of(packed, quantisation))

    def largest_block_bytes(self, visit: Visit, tilings: Mapping[str, Tiling]) -> int:
        """The most a visit's block can take, however its columns are walked."""
        step = visit.step
        if isinstance(step, VectorStep):
            return vector_block(step, self.model).size
        if not isinstance(step, GemmStep):
            return 0
        channels, tiling = self.model.packed.layers[step.weight].shape[0], tilings[step.weight]
        gems = tiling.gemms * tiling.strips
        scales = channels if has_channel_words(step, self.model) else gems
        biases = channels if has_bias(step, self.model) else 0
        return SCALE_BYTES * scales + BIAS_BYTES * biases + TABLE_BYTES * uses_table(step.stage, self.model)

    def block(self, visit: Visit, firsts: Sequence[int]) -> ParameterBlock | None:
        """The block of a visit, or ``None`` if it needs none; ``firsts`` are the first output channels of its GEMs."""
        step = visit.step
        if isinstance(step, GemmStep):
            return self._gemm_block(step, firsts)
        data = vector_block(step, self.model) if isinstance(step, VectorStep) else np.zeros(0, np.uint8)
        return ParameterBlock(data) if data.size else None

    def _gemm_block(self, step: GemmStep, firsts: Sequence[int]) -> ParameterBlock:
        layer = self.model.packed.layers[step.weight]
        if step.weight not in self.sums:
            self.sums[step.weight] = WeightSums.of(layer)
        numbers = gemm_numbers(step, self.model, self.sums[step.weight])
        self.excess[step.weight] = numbers.excess
        pieces: list[Bytes] = []
        offsets: dict[int, int] = {}
        for first, stop in zip(firsts, [*firsts[1:], layer.shape[0]], strict=True):
            offsets[first] = sum(piece.size for piece in pieces)
            pieces += _gem_pieces(numbers, first, stop)
        table_at = sum(piece.size for piece in pieces)
        biases = 0 if numbers.biases is None else numbers.biases.nbytes
        scales = (biases, table_at) if len(firsts) == 1 and numbers.words.size > 1 else (0, 0)
        data = np.concatenate([*pieces, *([] if numbers.table is None else [numbers.table])])
        return ParameterBlock(data, scales, offsets, table_at)

    def product_block(self, step: ProductStep, name: str) -> Bytes:
        """Multiplier and table of a layer that multiplies activations."""
        numbers = product_numbers(step, self.model, name)
        word = numbers.words.view(np.uint8)
        return word if numbers.table is None else np.concatenate([word, numbers.table])


def _gem_pieces(numbers: StageNumbers, first: int, stop: int) -> list[Bytes]:
    """Biases and multipliers of output channels ``first..stop-1``."""
    words = (numbers.words[first:stop] if numbers.words.size > 1 else numbers.words).view(np.uint8)
    return [words] if numbers.biases is None else [numbers.biases[first:stop].view(np.uint8), words]
