"""Weights as functions of what is trained: integers from latent parameters, times a scale.

A ``CodedWeight`` is a parametrisation (``torch.nn.utils.parametrize``) without an original: a layer keeps its class and
its forward pass, its ``weight`` is computed from the parameters here. What it computes is what the exported layer
decodes to, bit for bit: integers of at most 7 bits and a sign, times float32 scales.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from accel.codecs import EncodedLayer
from accel.codecs.integer import IntegerCodec
from compiler.training.options import WeightOptions
from compiler.training.straight_through import rounded

# What a parameter is, by the last part of its name; its learning rate follows (``loop.parameter_groups``).
ROLES: Mapping[str, str] = MappingProxyType(
    {"codebook": "codebook", "projection": "codebook", "gains": "codebook", "latent_signs": "sign"}
)


class CodedWeight(nn.Module):
    """The weight of one layer, ``shape`` of the module's own; starts as ``layer`` decodes.

    ``gains`` [1] or [out] multiply the layer's scales as exponentials: a step in them is a relative one, and scales
    stay positive.
    """

    initial_scale: Tensor

    def __init__(self, layer: EncodedLayer, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.codec, self.matrix_shape, self.vector_axis = layer.codec, layer.shape, layer.vector_axis
        self.weight_shape = shape
        self.register_buffer("initial_scale", torch.from_numpy(layer.scale.copy()))
        self.gains = nn.Parameter(torch.zeros_like(self.initial_scale))

    @abstractmethod
    def integers(self) -> Tensor:
        """float32 ``[out, reduction]`` holding what the decoder makes: whole numbers -127..127."""

    @abstractmethod
    def encoded(self) -> EncodedLayer:
        """The layer as it is now, with codes and scales a packed file takes."""

    def forward(self) -> Tensor:
        """The weight: scales times integers."""
        return (self.scales()[:, None] * self.integers()).reshape(self.weight_shape)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, ...]:
        """Called once, when a layer is compressed: nothing of its own weight is kept."""
        return ()

    def scales(self) -> Tensor:
        """float32 ``[1]`` or ``[out]``."""
        return self.initial_scale * self.gains.exp()

    def exported_scales(self) -> npt.NDArray[np.float32]:
        """``scales`` as an array."""
        scales: npt.NDArray[np.float32] = self.scales().detach().numpy().copy()
        return scales

    def after_step(self, step: int, steps: int) -> None:
        """Called when the optimiser has done ``step`` (from 1) of ``steps``."""


class IntegerWeight(CodedWeight):
    """int8 or int4: latent weights, divided by the scale and rounded (learned step size: LSQ, arXiv 1902.08153)."""

    def __init__(
        self, layer: EncodedLayer, shape: tuple[int, ...], weights: npt.NDArray[np.float32], options: WeightOptions
    ) -> None:
        super().__init__(layer, shape)
        assert isinstance(layer.codec, IntegerCodec)
        self.limit = layer.codec.limit
        self.weights = nn.Parameter(torch.from_numpy(weights.copy()))

    def integers(self) -> Tensor:
        scales = self.scales().clamp(min=torch.finfo(torch.float32).tiny)[:, None]
        return rounded(self.weights / scales, -self.limit, self.limit)

    def encoded(self) -> EncodedLayer:
        with torch.no_grad():
            codes = self.integers().numpy().astype(np.int16).view(np.uint16)
        kept = np.uint16((1 << self.codec.code_bits) - 1)
        return EncodedLayer(
            self.codec, self.matrix_shape, self.vector_axis, codes & kept, None, None, self.exported_scales()
        )
