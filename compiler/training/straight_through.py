"""Steps without a derivative, and what training takes for one: straight-through estimators (arXiv 1308.3432)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _Rounded(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor, lowest: float, highest: float) -> Tensor:
        wide = values.round()
        context.save_for_backward((wide >= lowest) & (wide <= highest))
        return wide.clamp(lowest, highest)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = context.saved_tensors
        return gradient * inside, None, None


class _Shifted(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, sums: Tensor, shift: int, limit: float) -> Tensor:
        context.factor = 2.0**-shift
        wide = ((sums + (1 << shift >> 1)) * context.factor).floor()
        context.save_for_backward(wide.abs() <= limit)
        return wide.clamp(-limit, limit)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (inside,) = context.saved_tensors
        return gradient * inside * context.factor, None, None


class _GradientScaled(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, values: Tensor, factor: Tensor) -> Tensor:
        context.save_for_backward(factor)
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * context.saved_tensors[0], None


class _Signed(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, magnitudes: Tensor, latent: Tensor, signs: Tensor, free: Tensor | None) -> Tensor:
        context.save_for_backward(magnitudes, signs, *(() if free is None else (free,)))
        return magnitudes * signs

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        magnitudes, signs, *free = context.saved_tensors
        towards = gradient * signs if context.needs_input_grad[0] else None
        across = gradient * magnitudes if context.needs_input_grad[1] else None
        if across is not None and free:
            across = across * free[0]
        return towards, across, None, None


def rounded(values: Tensor, lowest: float, highest: float) -> Tensor:
    """Nearest integers (ties to even) within bounds; the gradient passes where nothing is clipped."""
    return _Rounded.apply(values, lowest, highest)


def shifted(sums: Tensor, shift: int, limit: float) -> Tensor:
    """``accel.arithmetic.rounding_shift`` of integers below 2**23, clipped to ``-limit..limit``; the gradient is that
    of a division by ``2**shift`` where nothing is clipped."""
    return _Shifted.apply(sums, shift, limit)


def gradient_scaled(values: Tensor, factor: Tensor) -> Tensor:
    """``values`` as they are; their gradient is multiplied by ``factor``."""
    return _GradientScaled.apply(values, factor)


def signed(magnitudes: Tensor, latent: Tensor, signs: Tensor, free: Tensor | None = None) -> Tensor:
    """``magnitudes * signs``, the signs (1 or -1) being those of ``latent``.

    ``latent`` receives the gradient times the magnitude (SSVQ, arXiv 2503.08668: ``g_L = dL/dW_q * C[A]``), where
    ``free`` is True.
    """
    return _Signed.apply(magnitudes, latent, signs, free)
