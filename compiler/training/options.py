"""Settings of training, in three groups: how weights learn, how signs freeze, how the loop runs."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from accel.errors import ConfigError, listed

CodebookGradient = Literal["sum", "mean"]
CODEBOOK_GRADIENTS: tuple[CodebookGradient, ...] = ("sum", "mean")
Signs = Literal["learned", "fixed"]
SIGNS: tuple[Signs, ...] = ("learned", "fixed")
Imitated = Literal["outputs", "layers"]
IMITATED: tuple[Imitated, ...] = ("outputs", "layers")
Precision = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "bfloat16")

LARGEST_RATE = 1e36  # AdamW multiplies it by 10 in its first step, in float32
FREEZE_INTERVAL_STEPS = 500  # the best of 100, 200, 500 and 1000 in SSVQ's ablation, in runs of tens of thousands
FREEZE_CHECKS = 20  # a run too short for that many checks at that interval has so many ...
LEAST_INTERVAL_STEPS = 10  # ... unless the votes before each would be few


@dataclass(frozen=True, slots=True)
class Freezing:
    """Enhanced iterative freezing (SSVQ, arXiv 2503.08668, on Nagel et al., arXiv 2203.11086).

    Every ``interval_steps`` each sign whose rate of flips exceeds the threshold is frozen for good, to the sign it had
    in most steps since the check before (of as many, the present one). The rate is an exponential moving average with
    ``momentum`` a step; the threshold falls as a cosine from ``threshold`` to ``final_threshold``. Momentum and
    thresholds are Nagel's; SSVQ does not publish its own. ``interval_steps`` None: 500 (SSVQ's best), or a twentieth
    of the run if that is less, but at least 10.
    """

    interval_steps: int | None = None
    momentum: float = 0.01
    threshold: float = 0.1
    final_threshold: float = 0.01

    def __post_init__(self) -> None:
        if self.interval_steps is not None and self.interval_steps < 1:
            raise ConfigError(f"freezing every {self.interval_steps} steps; allowed: at least 1")
        if not 0 < self.momentum <= 1:
            raise ConfigError(f"momentum {self.momentum} of the rate of flips; allowed: above 0, at most 1")
        if not 0 <= self.final_threshold <= self.threshold:
            raise ConfigError(
                f"freezing thresholds {self.threshold} to {self.final_threshold}; allowed: falling, at least 0"
            )

    def interval(self, steps: int) -> int:
        """Steps between checks in a run of ``steps``."""
        return self.interval_steps or max(LEAST_INTERVAL_STEPS, min(FREEZE_INTERVAL_STEPS, steps // FREEZE_CHECKS))

    def threshold_at(self, step: int, steps: int) -> float:
        """Rate of flips above which a sign is frozen, ``step`` steps into ``steps``."""
        share = (1 + math.cos(math.pi * min(step / steps, 1))) / 2
        return self.final_threshold + (self.threshold - self.final_threshold) * share


@dataclass(frozen=True, slots=True)
class WeightOptions:
    """How compressed weights learn.

    ``codebook_gradient``: a codeword's gradient is the ``sum`` of those of its vectors (the chain rule) or their
    ``mean`` (BGD, arXiv 1907.05686). AdamW divides constant factors out, so that under ``train`` both come to the same
    for VQ and MVQ, unless gradients are clipped. ``signs``: of SSVQ, ``learned`` or ``fixed``. ``alpha``: latent signs
    start as alpha times the weights (SSVQ); under AdamW a small one makes signs flip sooner. ``freezing`` None: never.
    """

    codebook_gradient: CodebookGradient = "sum"
    signs: Signs = "learned"
    alpha: float = 1.0
    freezing: Freezing | None = field(default_factory=Freezing)

    def __post_init__(self) -> None:
        check_choice("codebook gradient", self.codebook_gradient, CODEBOOK_GRADIENTS)
        check_choice("signs", self.signs, SIGNS)
        if not 0 < self.alpha < math.inf:
            raise ConfigError(f"alpha {self.alpha}; allowed: a number above 0")


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """How the loop runs: AdamW, the rate falling as a cosine to 0 after a linear rise over ``warm_up`` of the steps.

    ``rate`` is that of plain parameters (biases, norms, weights behind integers). Codebooks, projections and gains of
    scales have unit size and learn at ``rate * codebook_factor``, latent signs at ``rate * sign_factor``. ``decay``
    (AdamW's) acts on matrices of plain parameters only. ``clip`` bounds the norm of all gradients together.
    """

    epochs: int = 1
    batch: int = 128
    rate: float = 2e-4
    codebook_factor: float = 5.0
    sign_factor: float = 2.5
    decay: float = 0.0
    warm_up: float = 0.0
    clip: float | None = None
    seed: int = 0
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        for name, value in (("epochs", self.epochs), ("batch", self.batch)):
            if value < 1:
                raise ConfigError(f"{name} {value}; allowed: at least 1")
        for name, rate in (("rate", self.rate), ("codebook factor", self.codebook_factor)):
            if not 0 < rate < math.inf:
                raise ConfigError(f"{name} {rate}; allowed: a number above 0")
        if not (0 <= self.sign_factor < math.inf and 0 <= self.decay < math.inf):
            raise ConfigError(f"sign factor {self.sign_factor}, decay {self.decay}; allowed: numbers of at least 0")
        factors = self.codebook_factor, self.sign_factor
        if self.rate * max(1.0, *factors) > LARGEST_RATE:
            raise ConfigError(
                f"rate {self.rate:g}, codebook factor {factors[0]:g}, sign factor {factors[1]:g}; "
                f"allowed: learning rates up to {LARGEST_RATE:g}"
            )
        if not 0 <= self.warm_up < 1:
            raise ConfigError(f"warm-up {self.warm_up}; allowed: a share of the steps, at least 0 and below 1")
        if self.clip is not None and not 0 < self.clip < math.inf:
            raise ConfigError(f"gradient clip {self.clip}; allowed: a number above 0")
        check_choice("precision", self.precision, PRECISIONS)

    def rate_share(self, step: int, steps: int) -> float:
        """Share of the full rate in ``step`` (from 0) of ``steps``."""
        rise = self.warm_up * steps
        if step < rise:
            return (step + 1) / (rise + 1)
        return (1 + math.cos(math.pi * (step - rise) / (steps - rise))) / 2


def check_choice(what: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raise ``ConfigError`` unless ``value`` is one of ``allowed``."""
    if value not in allowed:
        raise ConfigError(f"{what} '{value}'; allowed: {listed(allowed)}")
