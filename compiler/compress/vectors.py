"""The vectors of a layer, gathered when they are asked for: k-means sees a sample, so a copy of all is never made."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.codecs import VectorAxis

Indices = npt.NDArray[np.integer[Any]]

_BLOCK_VECTORS = 1 << 14  # gathered at once


@dataclass(frozen=True, slots=True)
class LayerVectors:
    """``vectors[indices]`` is ``float32[n, vector_length]``: rows of what ``accel.codecs.base.to_vectors`` (the obvious
    twin) makes of ``weights[out, reduction] / norm``, or their magnitudes. ``norm`` is ``[out]`` or ``[1]``."""

    weights: npt.NDArray[np.float32]
    norm: npt.NDArray[np.float32]
    vector_length: int
    vector_axis: VectorAxis
    magnitudes: bool = False

    @property
    def grid(self) -> tuple[int, int]:
        """Vectors along both axes, as ``accel.codecs.vector_grid``."""
        out, reduction = self.weights.shape
        length = self.vector_length
        return (-(-out // length), reduction) if self.vector_axis == "out" else (out, -(-reduction // length))

    def __len__(self) -> int:
        return math.prod(self.grid)

    def __getitem__(self, indices: Indices) -> npt.NDArray[np.float32]:
        found = np.empty((len(indices), self.vector_length), np.float32)
        for start in range(0, len(indices), _BLOCK_VECTORS):
            block = slice(start, start + _BLOCK_VECTORS)
            found[block] = self._gathered(indices[block, None])
        return np.abs(found, out=found) if self.magnitudes else found

    def _gathered(self, indices: Indices) -> npt.NDArray[np.float32]:
        """Of ``indices[n, 1]``; 0 where a vector hangs over the matrix."""
        rows, columns = np.divmod(indices, self.grid[1])
        lanes = np.arange(self.vector_length)
        if self.vector_axis == "out":
            rows = rows * self.vector_length + lanes
        else:
            columns = columns * self.vector_length + lanes
        last_row, last_column = (size - 1 for size in self.weights.shape)
        inside = (rows <= last_row) & (columns <= last_column)
        rows, columns = np.minimum(rows, last_row), np.minimum(columns, last_column)
        norm = np.broadcast_to(self.norm, len(self.weights))[rows]
        return np.where(inside, self.weights[rows, columns] / norm, np.float32(0))
