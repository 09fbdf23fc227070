"""Interpolation of one axis as a matrix: what a Resize does, exactly, without walking pixels.

Modes and coordinate rules are those of the ONNX operator Resize (opset 19, without antialiasing).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import numpy.typing as npt

from accel.errors import ModelError, listed

Matrix = npt.NDArray[np.float64]

COORDINATES: Mapping[str, Callable[[Matrix, int, int, float], Matrix]] = MappingProxyType(
    {
        "half_pixel": lambda i, n, m, scale: (i + 0.5) / scale - 0.5,
        "pytorch_half_pixel": lambda i, n, m, scale: (i + 0.5) / scale - 0.5 if m > 1 else np.zeros_like(i),
        "align_corners": lambda i, n, m, scale: i * (n - 1) / (m - 1) if m > 1 else np.zeros_like(i),
        "asymmetric": lambda i, n, m, scale: i / scale,
    }
)

ROUNDING: Mapping[str, Callable[[Matrix], Matrix]] = MappingProxyType(
    {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda x: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    }
)


def axis_matrix(
    size: int,
    wanted: int,
    mode: str,
    coordinates: str | None = None,
    rounding: str = "floor",
    scale: float | None = None,
    cubic: float = -0.75,
) -> Matrix:
    """``[wanted, size]`` matrix that resizes one axis; the defaults are what our ``resize`` operator means.

    ``mode`` is nearest, bilinear (or linear) or cubic. Raises ``ModelError`` for an unknown rule.
    """
    coordinates = coordinates or ("asymmetric" if mode == "nearest" else "half_pixel")
    if coordinates not in COORDINATES or rounding not in ROUNDING:
        raise ModelError(
            f"resize with '{coordinates}', '{rounding}'; supported: {listed(COORDINATES)}; {listed(ROUNDING)}"
        )
    places = COORDINATES[coordinates](np.arange(wanted, dtype=np.float64), size, wanted, scale or wanted / size)
    if mode == "nearest":
        return _spread(ROUNDING[rounding](np.round(places, 9))[:, None], np.ones((wanted, 1)), size)
    base = np.floor(places)
    near = (places - base)[:, None]
    if mode == "cubic":
        taps = np.arange(-1, 3)
        return _spread(base[:, None] + taps, _cubic(np.abs(near - taps), cubic), size)
    return _spread(base[:, None] + np.arange(2), np.concatenate([1 - near, near], axis=1), size)


def _spread(places: Matrix, weights: Matrix, size: int) -> Matrix:
    """Matrix with ``weights`` at ``places``, clamped to the axis."""
    matrix = np.zeros((len(places), size))
    rows = np.broadcast_to(np.arange(len(places))[:, None], places.shape)
    np.add.at(matrix, (rows, np.clip(places, 0, size - 1).astype(np.intp)), weights)
    return matrix


def _cubic(distance: Matrix, a: float) -> Matrix:
    """Keys' cubic convolution kernel (IEEE Trans. ASSP 29, 1981), at distances 0..2."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, far)
