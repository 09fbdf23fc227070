"""Low-rank codebooks (LR2VQ, arXiv 2211.11397): vectors are brought to rank r by SVD and clustered there."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from accel.codecs import Codebook
from accel.codecs.projection import FOLD_LIMIT, Projection
from compiler.compress.kmeans import cluster, sampled
from compiler.compress.vectors import LayerVectors

Vectors = npt.NDArray[np.float32]

_BLOCK_WEIGHTS = 1 << 21  # 16 MiB in double precision


def principal_rows(
    vectors: Vectors | LayerVectors, rank: int, weights: Vectors | None = None
) -> npt.NDArray[np.float64]:
    """The right singular vectors ``[rank, m]`` of ``vectors[n, m]`` with the largest singular values; rows count as
    much as their entry of ``weights[n]``, if there are any.

    By the eigenvectors of the Gram matrix, whose size does not grow with n. Of the two signs of each the one is taken
    that makes its largest element positive: what a library returns does not matter.
    """
    _, eigenvectors = np.linalg.eigh(_gram(vectors, weights))
    rows = eigenvectors.T[::-1][:rank]
    largest = np.take_along_axis(rows, np.abs(rows).argmax(axis=1)[:, None], axis=1)
    return np.asarray(rows * np.where(largest < 0, -1.0, 1.0))


def _gram(vectors: Vectors | LayerVectors, weights: Vectors | None) -> npt.NDArray[np.float64]:
    """``[m, m]``: the sum of the outer products of all vectors, a block of them at a time."""
    first = vectors[np.arange(1)].astype(np.float64)
    total = np.zeros((first.size, first.size))
    block = max(1, _BLOCK_WEIGHTS // first.size)
    for start in range(0, len(vectors), block):
        chosen = np.arange(start, min(start + block, len(vectors)))
        wide = vectors[chosen].astype(np.float64)
        total += (wide if weights is None else wide * weights[chosen, None]).T @ wide
    return total


def factored_codebook(
    vectors: Vectors | LayerVectors, k: int, rank: int, seed: int, weights: Vectors | None = None
) -> tuple[Codebook, Projection, float]:
    """Codebook ``int8[k, rank]``, projection ``int8[rank, m]`` and the real value of one step of the folded codebook.
    ``weights[n]``: how much the error of each vector counts.

    Each dimension of the codebook has a step of its own, which the projection takes over: all of them use 8 bits. The
    projection is scaled so that the largest folded element is 127 or little less, at the smallest shift that allows it.
    """
    rows = principal_rows(vectors, rank, weights)
    chosen = sampled(len(vectors), k, seed)
    counts = None if weights is None else weights[chosen]
    centroids = cluster((vectors[chosen] @ rows.T).astype(np.float32), k, seed, counts).astype(np.float64)
    steps = np.abs(centroids).max(axis=0) / FOLD_LIMIT
    codebook = _rounded(np.divide(centroids, steps, out=np.zeros_like(centroids), where=steps > 0))
    wide = rows * steps[:, None]
    finest = float(np.abs(wide).max()) / FOLD_LIMIT or 1.0
    coarsest = max(finest, float(np.abs(codebook @ wide).max()) / FOLD_LIMIT)
    shift = int(np.log2(coarsest / finest))
    projection = Projection(_rounded(wide * (1 << shift) / coarsest), shift)
    return codebook, projection, coarsest


def _rounded(values: npt.NDArray[np.float64]) -> Codebook:
    return np.rint(values).clip(-FOLD_LIMIT, FOLD_LIMIT).astype(np.int8)
