"""Losses by name: with labels cross-entropy, without them the distance to what the float model computes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from torch import Tensor
from torch.nn import functional

from accel.errors import ConfigError, listed, nearest

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    """Mean over samples, in nat; ``outputs[B, ..., classes]`` with one row a sample, ``labels[B]``."""
    return functional.cross_entropy(outputs.float().reshape(len(labels), -1), labels)


def kl(outputs: Tensor, wanted: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the softmax over the last axis from that of ``wanted``, mean over rows, in nat."""
    rows = outputs.float().log_softmax(-1).flatten(0, -2)
    return functional.kl_div(rows, wanted.log_softmax(-1).flatten(0, -2), log_target=True, reduction="batchmean")


def mse(outputs: Tensor, wanted: Tensor) -> Tensor:
    """Squared error over the power of ``wanted``: 1 is as bad as zeros."""
    return (outputs.float() - wanted).square().mean() / wanted.square().mean().clamp(min=1e-30)


def cosine(outputs: Tensor, wanted: Tensor) -> Tensor:
    """1 less the cosine along the last axis, mean over rows."""
    return 1 - functional.cosine_similarity(outputs.float(), wanted, dim=-1).mean()


LABELLED: Mapping[str, Loss] = MappingProxyType({"cross_entropy": cross_entropy})
DISTILLED: Mapping[str, Loss] = MappingProxyType({"mse": mse, "cosine": cosine, "kl": kl})
LOSSES: Mapping[str, Loss] = MappingProxyType({**LABELLED, **DISTILLED})


def find_loss(name: str | None, labelled: bool) -> str:
    """``name`` checked against what there are targets for, or the default: the first of its kind."""
    known = LABELLED if labelled else DISTILLED
    if name is None:
        return next(iter(known))
    if name not in LOSSES or (name in LABELLED and not labelled):
        needs = "" if labelled else " without labels"
        raise ConfigError(f"loss '{name}'{needs}; allowed: {listed(known)}{nearest(name, known)}")
    return name
