"""Side data of layers: biases, scales, norm parameters (small blocks fetched ahead of their layer) and constants.

Widths on the device: int32 biases, float32 scales, float16 norm parameters, int8 constants (position tables, masks,
embeddings) with one scale a tensor. Biases are in units of the weight scale, times an activation scale of one until
calibration supplies it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.codecs.base import EncodedLayer
from accel.packed import Packed
from compiler.steps import GemmStep, VectorStep, Visit
from compiler.tile import Tiling

Array = npt.NDArray[Any]
PRODUCT_SCALE_BYTES = 4


@dataclass(frozen=True, slots=True)
class ParameterBlock:
    """Bytes one visit's output stage or norm reads. ``offsets`` maps the first output channel of every GEM to where its
    biases and scales begin; ``scales_at`` splits biases from scales for traffic accounting."""

    data: npt.NDArray[np.uint8]
    scales_at: int
    offsets: Mapping[int, int]

    @property
    def size_bytes(self) -> int:
        """Bytes of the block."""
        return self.data.size


def channel_scales(step: GemmStep, layer: EncodedLayer) -> bool:
    """Whether the output stage multiplies each column by a scale of its own."""
    return layer.scale.size > 1 or bool(step.column_scales)


def largest_block_bytes(visit: Visit, packed: Packed, tilings: Mapping[str, Tiling]) -> int:
    """The most a visit's block can take, however its columns are walked."""
    step = visit.step
    if isinstance(step, GemmStep):
        tiling, layer = tilings[step.weight], packed.layers[step.weight]
        scales = layer.shape[0] if channel_scales(step, layer) else tiling.gemms * tiling.strips
        return 4 * (scales + (layer.shape[0] if step.bias else 0))
    return 4 * step.a.shape[-1] if isinstance(step, VectorStep) and step.constants else 0


def parameter_block(visit: Visit, packed: Packed, firsts: Sequence[int]) -> ParameterBlock | None:
    """The block of a visit, or ``None`` if it needs none; ``firsts`` are the first output channels of its GEMs."""
    step = visit.step
    if isinstance(step, GemmStep):
        return _gemm_block(step, packed, firsts)
    if isinstance(step, VectorStep) and step.constants:
        values = [packed.parameters[name].astype(np.float16) for name in step.constants]
        data = np.concatenate(values).view(np.uint8)
        return ParameterBlock(data, data.size, {})
    return None


def _gemm_block(step: GemmStep, packed: Packed, firsts: Sequence[int]) -> ParameterBlock:
    layer = packed.layers[step.weight]
    scales = _column_scales(step, packed, layer)
    bias = _in_units_of(layer.scale, packed.parameters[step.bias]) if step.bias else None
    pieces: list[npt.NDArray[np.uint8]] = []
    offsets: dict[int, int] = {}
    for first, stop in zip(firsts, [*firsts[1:], layer.shape[0]], strict=True):
        offsets[first] = sum(piece.size for piece in pieces)
        if bias is not None:
            pieces.append(_int32(bias[first:stop]).view(np.uint8))
        pieces.append((scales[first:stop] if scales.size > 1 else scales).view(np.uint8))
    data = np.concatenate(pieces)
    splits = len(firsts) == 1 and scales.size > 1
    return ParameterBlock(data, data.size - 4 * scales.size if splits else data.size, offsets)


def _in_units_of(scale: npt.NDArray[np.float32], bias: Array) -> Array:
    """Bias over weight scale; a channel whose weights are all zero has scale 0 and keeps its bias in units of one."""
    units = np.broadcast_to(scale, bias.shape)
    return bias.astype(np.float64) / np.where(units == 0, 1.0, units.astype(np.float64))


def _int32(values: Array) -> npt.NDArray[np.int32]:
    info = np.iinfo(np.int32)
    return np.clip(np.rint(values.astype(np.float64)), info.min, info.max).astype(np.int32)


def _column_scales(step: GemmStep, packed: Packed, layer: EncodedLayer) -> npt.NDArray[np.float32]:
    """Weight scales times what the output stage absorbed: float32 ``[1]`` or ``[out]``."""
    scales = layer.scale.astype(np.float32)
    for name in step.column_scales:
        scales = np.broadcast_to(scales, layer.shape[:1]) * packed.parameters[name].reshape(-1).astype(np.float32)
    return np.ascontiguousarray(scales, np.float32)


def constant_data(values: Array) -> npt.NDArray[np.int8]:
    """A constant operand as int8 with one scale for the tensor (largest magnitude on 127)."""
    largest = float(np.abs(values).max(initial=0.0))
    return np.rint(values.astype(np.float64) * (127.0 / largest if largest else 0.0)).astype(np.int8)
