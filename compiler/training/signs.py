"""SSVQ (arXiv 2503.08668): a codebook of magnitudes and, for every weight, a sign that can be learned and frozen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from accel.codecs import EncodedLayer
from compiler.training.codebooks import CodebookWeight
from compiler.training.options import Freezing, WeightOptions
from compiler.training.straight_through import signed
from compiler.training.vectors import to_vectors


class SignedWeight(CodebookWeight):
    """Codewords of magnitudes times the signs of latent numbers; 0 counts as positive.

    ``latent_signs`` [n, d] start as alpha times the weights. With fixed signs they are a buffer that nothing moves.
    """

    latent_signs: Tensor

    def __init__(
        self, layer: EncodedLayer, shape: tuple[int, ...], weights: npt.NDArray[np.float32], options: WeightOptions
    ) -> None:
        super().__init__(layer, shape, weights, options)
        vectors = to_vectors(torch.from_numpy(weights), self.codec.vector_length, self.vector_axis)
        latent = vectors * options.alpha
        self.frozen: FrozenSigns | None = None
        if options.signs == "fixed":
            self.register_buffer("latent_signs", latent)
            return
        self.latent_signs = nn.Parameter(latent)
        if options.freezing is not None:
            self.frozen = FrozenSigns(latent, options.freezing)

    def signs(self) -> Tensor:
        """-1 or 1, int8 ``[n, d]``."""
        signs = signs_of(self.latent_signs)
        return signs if self.frozen is None else self.frozen.applied(signs)

    def vectors(self) -> Tensor:
        free = None if self.frozen is None else self.frozen.sign == 0
        return signed(super().vectors(), self.latent_signs, self.signs(), free)

    def stored_side(self) -> npt.NDArray[np.bool_]:
        negative: npt.NDArray[np.bool_] = (self.signs() < 0).numpy()
        return negative.reshape(*self.stored_codes().shape, -1)

    def after_step(self, step: int, steps: int) -> None:
        if self.frozen is not None:
            self.frozen.observe(signs_of(self.latent_signs), step, steps)


class FrozenSigns(nn.Module):
    """Which signs are frozen, and what is known of how often the others flip (``Freezing`` has the rules).

    Buffers, all ``[n, d]``: ``sign`` is 0 where free, else the sign for good; ``last`` the sign a step ago; ``rate``
    the moving average of flips; ``votes`` steps with + less those with - since the last check.
    """

    sign: Tensor
    last: Tensor
    rate: Tensor
    votes: Tensor

    def __init__(self, latent: Tensor, rules: Freezing) -> None:
        super().__init__()
        self.rules = rules
        self.register_buffer("sign", torch.zeros_like(latent, dtype=torch.int8))
        self.register_buffer("last", signs_of(latent))
        self.register_buffer("rate", torch.zeros_like(latent))
        self.register_buffer("votes", torch.zeros_like(latent, dtype=torch.int32))

    def applied(self, signs: Tensor) -> Tensor:
        """``signs``, but the frozen ones where there are such."""
        return torch.where(self.sign == 0, signs, self.sign)

    def observe(self, signs: Tensor, step: int, steps: int) -> None:
        """Count flips and votes of ``step``; every so many steps, freeze. Not after the last: nothing would learn to
        live with what was frozen."""
        self.rate.lerp_((signs != self.last).to(self.rate.dtype), self.rules.momentum)
        self.votes += signs
        self.last.copy_(signs)
        if step % self.rules.interval(steps) == 0 and step < steps:
            self._freeze(self.rules.threshold_at(step, steps))

    def _freeze(self, threshold: float) -> None:
        """Majority of votes; the present sign where they are equal."""
        majority = torch.where(self.votes == 0, self.last, self.votes.sign().to(torch.int8))
        restless = (self.rate > threshold) & (self.sign == 0)
        self.sign.copy_(torch.where(restless, majority, self.sign))
        self.votes.zero_()


def signs_of(latent: Tensor) -> Tensor:
    """-1 where negative, else 1, int8."""
    return 1 - 2 * (latent < 0).to(torch.int8)
