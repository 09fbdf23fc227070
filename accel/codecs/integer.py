"""Integer codecs ``int8`` and ``int4``: one two's-complement integer a weight, symmetric range, no codebook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from accel.codecs.base import Codebook, Codec, EncodedLayer, VectorAxis, check_layer, normalised
from accel.errors import CodecError


@dataclass(frozen=True, slots=True)
class IntegerCodec(Codec):
    """Weights rounded to the nearest integer (ties to even), clipped to ``-limit..limit``."""

    width: ClassVar[int]

    @property
    def limit(self) -> int:
        """Largest magnitude: 127 or 7 (the most negative code is unused, so the range is symmetric)."""
        return int((1 << (self.width - 1)) - 1)

    @property
    def vector_length(self) -> int:
        return 1

    @property
    def code_bits(self) -> int:
        return self.width

    @property
    def codebook_entries(self) -> int:
        return 0

    def encode(
        self,
        weights: npt.NDArray[np.float32],
        codebook: Codebook | None,
        scale: npt.NDArray[np.float32],
        vector_axis: VectorAxis = "out",
    ) -> EncodedLayer:
        """Round ``weights / scale``; ``codebook`` must be ``None``."""
        rounded = np.clip(np.rint(normalised(weights, scale)), -self.limit, self.limit).astype(np.int16)
        codes = rounded.view(np.uint16) & np.uint16((1 << self.width) - 1)
        shape = (int(weights.shape[0]), int(weights.shape[1]))
        return EncodedLayer(self, shape, vector_axis, codes, None, codebook, scale)

    def decode(self, layer: EncodedLayer) -> npt.NDArray[np.int8]:
        """Sign-extend the codes."""
        unused = 8 - self.width
        high = layer.codes.astype(np.uint8)
        high <<= unused
        values = high.view(np.int8)
        values >>= unused
        return values

    def validate(self, layer: EncodedLayer) -> None:
        """Besides shapes: the code of ``-limit-1`` is refused, the range is symmetric."""
        check_layer(layer)
        if (layer.codes == 1 << (self.width - 1)).any():
            raise CodecError(
                f"{self}: integer {-self.limit - 1} is out of range; allowed: {-self.limit} to {self.limit}"
            )


@dataclass(frozen=True, slots=True)
class Int8(IntegerCodec):
    """8-bit integers -127..127: the baseline."""

    family: ClassVar[str] = "int8"
    width: ClassVar[int] = 8


@dataclass(frozen=True, slots=True)
class Int4(IntegerCodec):
    """4-bit integers -7..7."""

    family: ClassVar[str] = "int4"
    width: ClassVar[int] = 4
