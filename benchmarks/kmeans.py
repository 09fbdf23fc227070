"""k-means of ``accel compress`` against scikit-learn's at equal iterations: CPU time and error, both as ratios.

Everyone clusters the same vectors on one thread and takes 25 turns over all of them, without stopping early. Runs take
turns, so that other load on the machine meets all alike; of each the fastest counts.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from benchmarks.quality import one_thread
from compiler.compress.kmeans import ITERATIONS, cluster
from compiler.compress.masked import cluster_masked

Vectors = npt.NDArray[np.float32]
Clustering = Callable[[Vectors, int], Vectors]

CASES = ((4, 256), (8, 16), (8, 256), (16, 256))  # d, k
VECTORS, ROUNDS = 1 << 15, 3
RIVAL = "scikit-learn MiniBatchKMeans"  # which the product must beat in time and error


def main() -> bool:
    """Print a table a case; whether what the product uses for whole vectors beats ``RIVAL`` everywhere."""
    with one_thread():
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):
            met = [_case(d, k) for d, k in CASES]
            return all(met)


def _case(d: int, k: int) -> bool:
    vectors = np.random.default_rng(0).standard_normal((VECTORS, d), np.float32)
    seconds, errors = _measured(vectors, k)
    own = next(iter(CLUSTERINGS))
    print(f"{VECTORS:,} Gaussian vectors, d={d}, k={k}, {ITERATIONS} iterations: relative to {own}")
    for name in CLUSTERINGS:
        print(f"  {name:<34} CPU time {seconds[name] / seconds[own]:6.2f}x   error {errors[name] / errors[own]:.4f}x")
    return seconds[own] < seconds[RIVAL] and errors[own] < errors[RIVAL]


def _measured(vectors: Vectors, k: int) -> tuple[dict[str, float], dict[str, float]]:
    seconds, errors = dict.fromkeys(CLUSTERINGS, float("inf")), {}
    for _ in range(ROUNDS):
        for name, clustering in CLUSTERINGS.items():
            start = time.process_time()
            centroids = clustering(vectors, k)
            seconds[name] = min(seconds[name], time.process_time() - start)
            errors[name] = _error(vectors, centroids)
    return seconds, errors


def _error(vectors: Vectors, centroids: Vectors) -> float:
    """Mean squared distance to the nearest centroid."""
    ranking = np.square(centroids, dtype=np.float64).sum(axis=1) - 2 * (vectors @ centroids.T)
    return float((ranking.min(axis=1) + np.square(vectors).sum(axis=1)).mean())


def _lanes(vectors: Vectors, k: int) -> Vectors:
    return cluster_masked(vectors, np.ones_like(vectors), k, seed=0)


def _sklearn(vectors: Vectors, k: int) -> Vectors:
    from sklearn.cluster import KMeans

    model = KMeans(k, init="random", n_init=1, max_iter=ITERATIONS, tol=0, random_state=0, algorithm="lloyd")
    return np.asarray(model.fit(vectors).cluster_centers_, np.float32)


def _mini_batches(vectors: Vectors, k: int) -> Vectors:
    from sklearn.cluster import MiniBatchKMeans

    model = MiniBatchKMeans(
        k, init="random", n_init=1, max_iter=ITERATIONS, tol=0, max_no_improvement=None, random_state=0
    )
    return np.asarray(model.fit(vectors).cluster_centers_, np.float32)


CLUSTERINGS: Mapping[str, Clustering] = {
    "faiss (product)": lambda vectors, k: cluster(vectors, k, 0),
    "ours, a weight a lane (product)": _lanes,
    "scikit-learn KMeans, Lloyd": _sklearn,
    RIVAL: _mini_batches,
}
