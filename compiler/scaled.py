"""A packed model whose tensors all have a code: what the numbers of a program are computed from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.graph import Op
from accel.packed import Packed
from accel.quantisation import Quantisation, TensorScale, quantise

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ScaledModel:
    """``producers`` are the operators by the tensor they make."""

    packed: Packed
    quantisation: Quantisation
    producers: Mapping[str, Op]

    @staticmethod
    def of(packed: Packed, quantisation: Quantisation) -> ScaledModel:
        """The model with these codes."""
        return ScaledModel(packed, quantisation, {op.output: op for op in packed.graph.ops})

    def code(self, tensor: str) -> TensorScale:
        """What the bytes of a stored tensor mean."""
        return self.quantisation.tensors[tensor]

    def reals(self, parameter: str) -> Reals:
        """Values of a parameter that no codec compressed, as one row."""
        return self.packed.parameters[parameter].astype(np.float64).reshape(-1)

    def constant_bytes(self, parameter: str) -> npt.NDArray[Any]:
        """A constant operand as it lies in memory."""
        return quantise(self.packed.parameters[parameter], self.code(parameter)).astype(np.uint8)


def channel_units(code: TensorScale, channels: int) -> Reals:
    """Real value of one code step for each of ``channels``."""
    return np.broadcast_to(
        code.units(1) if not code.exponents else code.scale * 2.0 ** np.array(code.exponents), channels
    )
