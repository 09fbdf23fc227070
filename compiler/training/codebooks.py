"""Trained codebooks: VQ, MVQ and LR2VQ. Which codeword each vector has was decided by clustering and stays.

Codewords are latent real numbers of unit size (RMS), rounded to 8 bits on every use. Vectors sharing a codeword move
together: by the sum of their gradients, as the chain rule has it, or by the mean (BGD, arXiv 1907.05686).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from accel.codecs import Codebook, Codes, EncodedLayer
from accel.codecs.masks import kept_weights, pack_masks
from accel.codecs.projection import FOLD_LIMIT, Projection
from accel.codecs.vq import CodebookCodec
from compiler.training.coded import CodedWeight
from compiler.training.options import WeightOptions
from compiler.training.straight_through import gradient_scaled, rounded, shifted
from compiler.training.vectors import from_vectors, to_vectors


class Rounded8(nn.Module):
    """A matrix of integers ``lowest..127`` to train: ``latent`` times constant units, rounded. The unit is the RMS of
    the whole matrix, or of what lies along ``axis``: what has a step of its own has a unit of its own."""

    unit: Tensor

    def __init__(self, start: Codebook, lowest: int, axis: int | None = None) -> None:
        super().__init__()
        wide = start.astype(np.float64)
        power = np.square(wide).mean(axis, keepdims=axis is not None)
        unit = np.sqrt(np.where(power > 0, power, 1.0)).astype(np.float32)
        self.lowest = float(lowest)
        self.register_buffer("unit", torch.as_tensor(unit))
        self.latent = nn.Parameter(torch.from_numpy((wide / unit).astype(np.float32)))

    def forward(self) -> Tensor:
        return rounded(self.latent * self.unit, self.lowest, FOLD_LIMIT)

    def stored(self) -> Codebook:
        """``int8``, as files have it."""
        with torch.no_grad():
            integers: Codebook = self().numpy().astype(np.int8)
        return integers


class CodebookWeight(CodedWeight):
    """VQ: each vector is its codeword."""

    codes: Tensor

    def __init__(
        self, layer: EncodedLayer, shape: tuple[int, ...], weights: npt.NDArray[np.float32], options: WeightOptions
    ) -> None:
        super().__init__(layer, shape)
        assert layer.codebook is not None and isinstance(layer.codec, CodebookCodec)
        self.codebook = Rounded8(layer.codebook, layer.codec.lowest)
        self.register_buffer("codes", torch.from_numpy(layer.codes.reshape(-1).astype(np.int64)))
        share = self._share() if options.codebook_gradient == "mean" else None
        self.register_buffer("share", share)

    def _members(self) -> Tensor:
        """Weights that each element of the codewords stands for, ``[k, d]``; padding is none."""
        members = torch.zeros(self.codec.codebook_entries, self.codec.vector_length)
        return members.index_add_(0, self.codes, self._counted())

    def _counted(self) -> Tensor:
        """1 for every weight, 0 for padding, ``[n, d]``."""
        return to_vectors(torch.ones(self.matrix_shape), self.codec.vector_length, self.vector_axis)

    def _share(self) -> Tensor:
        return 1 / self._members().clamp(min=1)

    def codewords(self) -> Tensor:
        """float32 ``[k, d]``, whole numbers."""
        return self.codebook()

    def vectors(self) -> Tensor:
        """A codeword a vector, ``[n, d]``."""
        codewords = self.codewords()
        if self.share is not None:
            codewords = gradient_scaled(codewords, self.share)
        return nn.functional.embedding(self.codes, codewords)

    def integers(self) -> Tensor:
        return from_vectors(self.vectors(), self.matrix_shape, self.vector_axis)

    def stored_codes(self) -> Codes:
        """``EncodedLayer.codes``."""
        rows = (
            self.matrix_shape[0] if self.vector_axis == "in" else -(-self.matrix_shape[0] // self.codec.vector_length)
        )
        codes: Codes = self.codes.numpy().astype(np.uint16).reshape(rows, -1)
        return codes

    def stored_side(self) -> npt.NDArray[np.bool_] | None:
        """``EncodedLayer.side``."""
        return None

    def stored_projection(self) -> Projection | None:
        """``EncodedLayer.projection``."""
        return None

    def encoded(self) -> EncodedLayer:
        return EncodedLayer(
            self.codec,
            self.matrix_shape,
            self.vector_axis,
            self.stored_codes(),
            self.stored_side(),
            self.codebook.stored(),
            self.exported_scales(),
            self.stored_projection(),
        )


class MaskedWeight(CodebookWeight):
    """MVQ: of each codeword what the N:M mask keeps; the mask was decided by magnitude and stays.

    Pruned weights give a codeword no gradient; the mean is over those that are kept, element by element.
    """

    kept: Tensor

    def __init__(
        self, layer: EncodedLayer, shape: tuple[int, ...], weights: npt.NDArray[np.float32], options: WeightOptions
    ) -> None:
        assert layer.side is not None and layer.codec.mask is not None
        kept = kept_weights(layer.side.reshape(-1, layer.side.shape[-1]), layer.codec.mask)
        self._kept = torch.from_numpy(kept.astype(np.uint8))  # checkpoints have no type for flags
        super().__init__(layer, shape, weights, options)
        self.register_buffer("kept", self._kept)

    def _counted(self) -> Tensor:
        return super()._counted() * self._kept

    def vectors(self) -> Tensor:
        return super().vectors() * self.kept

    def stored_side(self) -> npt.NDArray[np.bool_]:
        assert self.codec.mask is not None
        return pack_masks(self.kept.numpy().astype(bool), self.codec.mask).reshape(*self.stored_codes().shape, -1)


class ProjectedWeight(CodebookWeight):
    """LR2VQ (arXiv 2211.11397): codewords are a codebook times a projection, both trained.

    They are folded on every use just as the device folds them once, in integers with the shift found at the start. Each
    dimension between the two fills 8 bits by a step of its own, so it learns in a unit of its own: in one for all, a
    dimension that an outlier stretches would move by many times what its codewords are.
    """

    shift: Tensor

    def __init__(
        self, layer: EncodedLayer, shape: tuple[int, ...], weights: npt.NDArray[np.float32], options: WeightOptions
    ) -> None:
        super().__init__(layer, shape, weights, options)
        assert layer.projection is not None and layer.codebook is not None
        self.codebook = Rounded8(layer.codebook, -FOLD_LIMIT, axis=0)
        self.projection = Rounded8(layer.projection.matrix, -FOLD_LIMIT, axis=1)
        self.register_buffer("shift", torch.tensor(layer.projection.shift))

    def codewords(self) -> Tensor:
        with torch.autocast("cpu", enabled=False):  # which would round the device's whole numbers to 8 bits of mantissa
            folded = self.codebook() @ self.projection()
        return shifted(folded, int(self.shift), FOLD_LIMIT)

    def stored_projection(self) -> Projection:
        return Projection(self.projection.stored(), int(self.shift))
