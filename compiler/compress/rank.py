"""Which clustering dimension r an LR2VQ codebook needs (arXiv 2211.11397), estimated before any training.

Vectors of m weights brought to rank r lose what lies outside its principal directions (the low-rank error); clustering
them there loses the rest (the clustering error, which grows with r at a fixed k). The paper trades the two off but does
not publish how. Added up they cannot rise with r, because every codebook of rank r is also one of rank r+1; so the
estimate is the smallest rank whose sum is close to that of full rank. It is what the codebook's size is paid for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel.codecs import VectorAxis
from accel.codecs.base import to_vectors
from accel.errors import CodecError, ConfigError
from compiler.compress.kmeans import cluster
from compiler.compress.low_rank import principal_rows
from compiler.compress.scales import ScaleMode, root_mean_square

SLACK = 0.05  # how much more error than at full rank an estimate may have


@dataclass(frozen=True, slots=True)
class RankError:
    """Squared errors at one rank over the vectors' power, with real (unrounded) codewords. With a scale a channel all
    channels have the same power, as when codewords are found: in units of the weights loud ones count more."""

    rank: int
    low_rank_error: float
    clustering_error: float

    @property
    def total(self) -> float:
        """Of the vectors as they are reconstructed: the two parts are orthogonal."""
        return self.low_rank_error + self.clustering_error


def rank_errors(
    weights: npt.NDArray[np.float32],
    k: int,
    m: int,
    *,
    ranks: Sequence[int] | None = None,
    scale: ScaleMode = "channel",
    vector_axis: VectorAxis = "out",
    seed: int = 0,
) -> tuple[RankError, ...]:
    """Errors of ``weights[out, reduction]`` with k codewords of m weights at each of ``ranks`` (1 to m if None).

    Raises ``CodecError`` for NaN or infinite weights, ``ConfigError`` for a rank outside 1 to m.
    """
    if not np.isfinite(weights).all():
        raise CodecError("some weights are NaN or infinite")
    chosen = range(1, m + 1) if ranks is None else ranks
    for rank in chosen:
        if not 1 <= rank <= m:
            raise ConfigError(f"rank {rank} of vectors of {m} weights; allowed: 1 to {m}")
    vectors = to_vectors(weights / root_mean_square(weights, scale)[:, None], m, vector_axis)
    rotated = vectors @ principal_rows(vectors, m).T.astype(np.float32)
    return tuple(_at_rank(rotated, k, rank, seed) for rank in chosen)


def _at_rank(rotated: npt.NDArray[np.float32], k: int, rank: int, seed: int) -> RankError:
    """``rotated[n, m]``: coordinates along the principal directions, the most important first."""
    power = max(float(np.square(rotated, dtype=np.float64).sum()), np.finfo(np.float64).tiny)
    kept = np.ascontiguousarray(rotated[:, :rank])
    centroids = cluster(kept, k, seed)
    outside = float(np.square(rotated[:, rank:], dtype=np.float64).sum())
    return RankError(rank, outside / power, _distance(kept, centroids) / power)


def _distance(vectors: npt.NDArray[np.float32], centroids: npt.NDArray[np.float32]) -> float:
    """Sum of squared distances to the nearest centroid."""
    import faiss

    index = faiss.IndexFlatL2(centroids.shape[1])
    index.add(centroids)
    distances, _ = index.search(vectors, 1)
    return float(distances.sum(dtype=np.float64))


def estimated_rank(errors: Sequence[RankError], slack: float = SLACK) -> int:
    """The smallest rank with at most ``1 + slack`` times the least total error."""
    least = min(each.total for each in errors)
    return min(each.rank for each in errors if each.total <= (1 + slack) * least)


def mean_errors(
    matrices: Sequence[npt.NDArray[np.float32]], found: Sequence[Sequence[RankError]]
) -> tuple[RankError, ...]:
    """``found`` of several layers, averaged over their weights."""
    sizes = np.array([matrix.size for matrix in matrices]) / sum(matrix.size for matrix in matrices)
    return tuple(
        RankError(
            row[0].rank,
            float(sizes @ [each.low_rank_error for each in row]),
            float(sizes @ [each.clustering_error for each in row]),
        )
        for row in zip(*found, strict=True)
    )
