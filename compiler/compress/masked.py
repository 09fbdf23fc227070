"""k-means in which every number has a weight: distances and means are weighted lane by lane.

Masked k-means (MVQ, arXiv 2412.10261, step 2) is the case of weights 0 and 1: numbers that a mask drops do not count.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from accel.codecs.masks import Flags
from compiler.compress.kmeans import ITERATIONS, SAMPLE_PER_CODEWORD, SAMPLE_VECTORS
from compiler.compress.vectors import Indices, LayerVectors

_BLOCK_DISTANCES = 1 << 20  # held at once: 4 MiB

Vectors = npt.NDArray[np.float32]
Assignment = npt.NDArray[np.int64]


def cluster_masked(vectors: Vectors | LayerVectors, kept: Flags | Vectors, k: int, seed: int) -> Vectors:
    """Centroids ``float32[k, d]`` for ``vectors[n, d]`` of which only ``kept[n, d]`` counts, or each number as much as
    its weight there; zeros beyond ``n``.

    The start is a seeded random choice of whole vectors, as good a guess as any for what masks leave out. An element no
    member keeps stays as it is. Each cluster that falls empty takes over one of the vectors farthest from theirs.
    Like ``kmeans.cluster``, it sees a seeded sample of many vectors.
    """
    chosen = shuffled(len(vectors), k, seed)
    return cluster_sample(vectors[chosen], kept[chosen], k)


def shuffled(count: int, k: int, seed: int) -> Indices:
    """Which of ``count`` vectors k codewords are trained on, in random order: the first k are the start."""
    return np.random.default_rng(seed).permutation(count)[: max(SAMPLE_VECTORS, SAMPLE_PER_CODEWORD * k)].copy()


def cluster_sample(dense: Vectors, kept: Flags | Vectors, k: int) -> Vectors:
    """``cluster_masked`` of what ``shuffled`` chose."""
    count, sparse = min(k, len(dense)), dense * kept
    features, centroids = np.hstack([kept.astype(np.float32), sparse]), dense[:count].copy()
    for _ in range(ITERATIONS):
        codes, found = _assign(features, centroids)
        centroids = _means(sparse, kept, codes, centroids)
        empty = np.flatnonzero(np.bincount(codes, minlength=count) == 0)
        if empty.size:
            distances = found + (sparse * dense).sum(axis=1)
            centroids[empty] = dense[np.argsort(-distances, kind="stable")[: empty.size]]
    return np.concatenate([centroids, np.zeros((k - count, dense.shape[1]), np.float32)])


def _assign(features: Vectors, centroids: Vectors) -> tuple[Assignment, Vectors]:
    """For each vector (``features``: its weights, itself weighted) the nearest centroid, and ``|x - c|^2 - |x|^2``."""
    codes, found = np.empty(len(features), np.int64), np.empty(len(features), np.float32)
    terms = np.vstack([(centroids * centroids).T, -2 * centroids.T])
    rows = max(1, _BLOCK_DISTANCES // len(centroids))
    for start in range(0, len(features), rows):
        block = slice(start, start + rows)
        ranking = features[block] @ terms
        codes[block] = ranking.argmin(axis=1)
        found[block] = np.take_along_axis(ranking, codes[block, None], axis=1)[:, 0]
    return codes, found


def _means(sparse: Vectors, kept: Flags | Vectors, codes: Assignment, centroids: Vectors) -> Vectors:
    """Element by element, the mean over the members that keep it, by their weights."""
    means = centroids.copy()
    for lane in range(sparse.shape[1]):
        total = np.bincount(codes, sparse[:, lane], len(centroids))
        members = np.bincount(codes, kept[:, lane], len(centroids))
        np.divide(total, members, out=means[:, lane], where=members > 0, casting="same_kind")
    return means
