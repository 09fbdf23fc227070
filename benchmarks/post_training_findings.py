"""What ``python -m benchmarks post_training`` finds out about a model."""

from __future__ import annotations

from dataclasses import dataclass

CODECS = (  # unless others are asked for
    "int8",
    "int4",
    "vq:k=256,d=2",
    "ssvq:k=256,d=4",
    "vq:k=256,d=4",
    "rvq:k=256,d=8,stages=2",  # as many bits as vq:k=256,d=4, in AQLM's 2x8 shape
    "lr2vq:k=256,m=4,r=3",
    "ssvq:k=256,d=8",
    "mvq:k=256,d=8,nm=4:8",
    "ssvq:k=16,d=8",
)
HELD_BACK = 6  # inputs of each model that no choice has seen, on which all are judged


@dataclass(frozen=True, slots=True)
class Layer:
    """One weight in one codec; ``output_error`` of the model if it alone is coded."""

    name: str
    codec: str
    reason: str
    weights: int
    stored_bytes: int
    weight_error: float
    output_error: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A whole model in one codec or under one budget, on inputs held back."""

    codec: str
    stored_bytes: int
    output_error: float
    layers: tuple[Layer, ...]
    bound: float = 0.0


@dataclass(frozen=True, slots=True)
class Weighing:
    """Output error of one codec with and without weights of errors."""

    codec: str
    vector_axis: str
    plain: float
    weighted: float


@dataclass(frozen=True, slots=True)
class Findings:
    """All of one model; ``budgets[i]`` may take as many bytes as ``uniform[i]``."""

    model: str
    uniform: tuple[Outcome, ...]
    budgets: tuple[Outcome, ...]
    weighings: tuple[Weighing, ...]
