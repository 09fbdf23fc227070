"""Checkpoints and images out of thin air: the recorded upstream outputs in ``data/shapes`` were made with these."""

from __future__ import annotations

import hashlib
import math
import zlib
from collections.abc import Mapping

import numpy as np


def invented_checkpoint(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Plausible numbers for every checkpoint entry, from its name alone: what the recorded outputs were made with."""
    return {name: _invented(name, shape) for name, shape in shapes.items()}


def _invented(name: str, shape: tuple[int, ...]) -> np.ndarray:
    stream = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("running_var") or (name.endswith("weight") and len(shape) == 1):
        return stream.uniform(0.5, 1.5, shape).astype(np.float32)
    spread = math.prod(shape[1:]) ** -0.5 if name.endswith("weight") else 0.1
    return (stream.standard_normal(shape) * spread).astype(np.float32)


def invented_image(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def keys_digest(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """sha256 over names and shapes in order."""
    return hashlib.sha256("\n".join(f"{name} {list(shape)}" for name, shape in shapes.items()).encode()).hexdigest()
