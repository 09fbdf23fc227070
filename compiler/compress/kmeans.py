"""Lloyd's k-means with faiss: one codebook from the vectors of one layer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from compiler.compress.vectors import Indices, LayerVectors

ITERATIONS = 25
# Vectors trained on: all of them up to this many, then a seeded random sample. On 110,592 Gaussian vectors, k=256, the
# sample costs 0.5 % of error; the sample grows with k so that every codeword sees enough vectors.
SAMPLE_VECTORS = 1 << 16
SAMPLE_PER_CODEWORD = 64


def cluster(
    vectors: npt.NDArray[np.float32] | LayerVectors, k: int, seed: int, weights: npt.NDArray[np.float32] | None = None
) -> npt.NDArray[np.float32]:
    """Centroids ``float32[k, d]`` minimising the squared error over ``vectors[n, d]``; zeros beyond ``n`` if ``n < k``.
    The error of each vector counts as much as its entry of ``weights[n]``, if there are any.

    The start is a seeded random choice of vectors. A cluster that falls empty is re-seeded by faiss: it takes over a
    copy of another cluster's centroid, chosen with a probability growing with its size, and the two are moved apart
    by 1/1024 in opposite directions. The result depends on the seed alone: one thread does the arithmetic, which for
    layers of this size is also faster than several.
    """
    import faiss

    chosen = sampled(len(vectors), k, seed)
    sample = np.ascontiguousarray(vectors[chosen], np.float32)
    count = min(k, len(sample))
    trainer = faiss.Kmeans(
        sample.shape[1],
        count,
        niter=ITERATIONS,
        seed=_faiss_seed(seed),
        min_points_per_centroid=1,  # silences a warning; small layers are legitimate
        max_points_per_centroid=len(sample),  # it is a sample already
    )
    with _one_thread(faiss):
        trainer.train(sample, None if weights is None else weights[chosen])
    centroids = np.zeros((k, sample.shape[1]), np.float32)
    centroids[:count] = trainer.centroids
    return centroids


def sampled(count: int, k: int, seed: int) -> Indices:
    """Which of ``count`` vectors k codewords are trained on: the ones, in the order, that faiss would choose if it were
    given all."""
    import faiss

    most = max(SAMPLE_VECTORS, SAMPLE_PER_CODEWORD * k)
    if count <= most:
        return np.arange(count, dtype=np.int32)
    return _random_order(faiss, count, _faiss_seed(seed))[:most].copy()


def _faiss_seed(seed: int) -> int:
    return seed & 0x7FFFFFFF


def _random_order(faiss: Any, count: int, seed: int) -> Indices:
    order = np.empty(count, np.int32)
    faiss.rand_perm(faiss.swig_ptr(order), count, seed)
    return order


@contextlib.contextmanager
def _one_thread(faiss: Any) -> Iterator[None]:
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
