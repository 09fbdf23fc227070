"""What ``python -m benchmarks accuracy`` compares: methods, the rates each may try, and codecs of equal total bits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.codecs import LR2VQ, MVQ, SSVQ, VQ, Codec, Int4, Int8, stored_bytes
from accel.codecs.integer import IntegerCodec
from accel.codecs.masks import Mask
from accel.errors import CodecError
from accel.graph import gemm_shape
from compiler.compress import ScaleMode, compress_layer, relative_error
from compiler.training import TrainingOptions, WeightOptions

Weights = Mapping[str, npt.NDArray[Any]]

LEVELS = (1.5, 1.25, 1.0)  # bits a weight, everything counted
BELOW, ABOVE = 0.97, 1.04  # of a level: what counts as equal bits
CHOICE_SEED = 100
CODEBOOK_SCALE: ScaleMode = "tensor"  # a scale a channel would cost 0.13 bit a weight at a reduction of 192


@dataclass(frozen=True, slots=True)
class Trial:
    """One setting of the learning rates, as ``TrainingOptions`` has them."""

    rate: float
    codebook_factor: float = 5.0
    sign_factor: float = 0.0

    def __str__(self) -> str:
        codebook = f", codebooks {self.rate * self.codebook_factor:g}"
        return f"{self.rate:g}{codebook}" + (f", signs {self.rate * self.sign_factor:g}" if self.sign_factor else "")

    def applied(self, options: TrainingOptions) -> TrainingOptions:
        """``options`` with these rates."""
        rates = {"codebook_factor": self.codebook_factor, "sign_factor": self.sign_factor}
        return replace(options, rate=self.rate, **rates)


def _signs(*rates: tuple[float, float]) -> tuple[Trial, ...]:
    return tuple(Trial(rate, sign_factor=sign / rate) for rate, sign in rates)


# By part and by what learns; as many for each. The ranges follow a first look at each part: labels on an easy task want
# small steps, MiniLM's imitation from far away large ones, that of the twice as deep ViT-S/14 small ones again.
TRIALS: Mapping[str, Mapping[str, Sequence[Trial]]] = MappingProxyType(
    {
        "fashion": {
            "dense": tuple(map(Trial, (3e-5, 1e-4, 3e-4))),
            "codebook": tuple(map(Trial, (2e-4, 7e-4, 2.4e-3))),
            "signs": _signs((2e-4, 1e-4), (7e-4, 2e-4), (7e-4, 7e-4)),
        },
        "minilm": {
            "dense": tuple(map(Trial, (1e-4, 3e-4, 1e-3))),
            "codebook": tuple(map(Trial, (7e-4, 2.4e-3, 8e-3))),
            "signs": _signs((7e-4, 7e-4), (2.4e-3, 7e-4), (2.4e-3, 2e-3)),
        },
        "vit_s14": {
            "dense": tuple(map(Trial, (3e-6, 1e-5, 3e-5))),
            "codebook": tuple(map(Trial, (7e-5, 2e-4, 7e-4))),
            "signs": _signs((2e-4, 1e-4), (2e-4, 3e-4), (7e-4, 3e-4)),
        },
        "vit_s14_inside": {
            "dense": tuple(map(Trial, (3e-6, 1e-5, 3e-5))),
            "codebook": tuple(map(Trial, (2e-4, 7e-4, 2.4e-3))),
            "signs": _signs((2e-4, 1e-4), (2e-4, 3e-4), (7e-4, 3e-4)),
        },
    }
)
TUNED_ON: Mapping[str, str] = MappingProxyType({"fashion_long": "fashion"})
"""Parts that try no rates, but take those that were best for another."""


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the tables. ``fixed_codec`` None: one of ``family`` is chosen for every level.

    ``learns`` picks its ``TRIALS``; ``tuned_as`` names the method whose trials decide.
    """

    name: str
    title: str
    learns: str
    tuned_as: str
    family: type[Codec] | None = None
    fixed_codec: Codec | None = None
    options: WeightOptions = field(default_factory=WeightOptions)


_ROWS = (
    Method("float", "float32, trained as long", "dense", "float"),
    Method("int8", "int8", "dense", "int4", Int8, Int8()),
    Method("int4", "int4", "dense", "int4", Int4, Int4()),
    Method("vq", "VQ", "codebook", "vq", VQ),
    Method("ssvq-fixed", "SSVQ, signs fixed", "codebook", "ssvq-fixed", SSVQ, None, WeightOptions(signs="fixed")),
    Method("ssvq-free", "SSVQ, no freezing", "signs", "ssvq-free", SSVQ, None, WeightOptions(freezing=None)),
    Method("ssvq", "SSVQ", "signs", "ssvq-free", SSVQ),
    Method("lr2vq", "LR2VQ", "codebook", "lr2vq", LR2VQ),
    Method("mvq", "MVQ", "codebook", "mvq", MVQ),
)
METHODS: Mapping[str, Method] = MappingProxyType({row.name: row for row in _ROWS})

# --- codecs of equal bits --------------------------------------------------------------------------------------------

_POWERS = tuple(1 << bits for bits in range(1, 11))
_MASKS = tuple(Mask(kept, group) for kept, group in ((2, 4), (2, 8), (3, 8), (4, 8)))
# Weights in a folded codeword, numbers in a stored one. As many of both is plain VQ in two factors, and what the
# estimate of the rank (compiler.compress.rank) asks for where neighbouring weights are uncorrelated.
_RANKS = ((4, 2), (4, 3), (4, 4), (6, 4), (6, 6), (8, 4), (8, 6), (8, 8))


def scale_mode(codec: Codec) -> ScaleMode:
    """Integers have a scale a channel, codebooks one a layer."""
    return "channel" if isinstance(codec, IntegerCodec) else CODEBOOK_SCALE


def candidates(family: type[Codec]) -> Iterator[Codec]:
    """Codecs of a family, in a grid."""
    grids: Mapping[type[Codec], Iterator[Codec]] = {
        VQ: (VQ(k, d) for k, d in product(_POWERS, (4, 6, 8))),
        SSVQ: (SSVQ(k, d) for k, d in product(_POWERS, (8, 16, 32))),
        MVQ: (MVQ(k, 8, mask) for k, mask in product(_POWERS, _MASKS)),
        LR2VQ: (LR2VQ(k, m, r) for k, (m, r) in product(_POWERS, _RANKS) if r <= k),
    }
    return grids[family]


def total_bits(weights: Weights, codec: Codec) -> float:
    """Stored bits per weight over all of ``weights``: codes, signs, masks, codebooks, projections and scales."""
    shapes = [gemm_shape(array.shape) for array in weights.values()]
    mode = scale_mode(codec)
    stored = [stored_bytes(codec, shape, "out", shape[0] if mode == "channel" else 1) for shape in shapes]
    return 8 * sum(sum(parts.values()) for parts in stored) / sum(out * reduction for out, reduction in shapes)


def chosen_codec(family: type[Codec], level: float, weights: Weights) -> tuple[Codec, dict[str, tuple[float, float]]]:
    """The codec of ``family`` with the least weight error among those of ``BELOW`` to ``ABOVE`` times ``level`` bits in
    all, and bits and error of all of these. Raises ``CodecError`` if there is none.

    The error is the mean over one weight of each shape, the middle one of its kind.
    """
    tried = {codec: total_bits(weights, codec) for codec in candidates(family)}
    sample = _one_of_each_shape(weights)
    found = {
        codec: (bits, float(np.mean([_error(weight, codec) for weight in sample])))
        for codec, bits in tried.items()
        if BELOW * level <= bits <= ABOVE * level
    }
    if not found:
        raise CodecError(
            f"no {family.family} codec of {level:g} bits a weight; with these layers the grid has "
            f"{min(tried.values()):.2f} to {max(tried.values()):.2f}"
        )
    return min(found, key=lambda codec: found[codec][1]), {str(codec): pair for codec, pair in found.items()}


def _one_of_each_shape(weights: Weights) -> list[npt.NDArray[np.float32]]:
    by_shape: dict[tuple[int, int], list[npt.NDArray[np.float32]]] = {}
    for array in weights.values():
        matrix = np.asarray(array, np.float32).reshape(gemm_shape(array.shape))
        by_shape.setdefault(gemm_shape(array.shape), []).append(matrix)
    return [members[len(members) // 2] for members in by_shape.values()]


def _error(weight: npt.NDArray[np.float32], codec: Codec) -> float:
    return relative_error(weight, compress_layer(weight, codec, scale_mode(codec), "out", CHOICE_SEED))
