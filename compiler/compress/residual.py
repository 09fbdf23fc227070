"""Residual codebooks: k-means stage by stage, then assignments and codebooks improved in turn.

Greedy stages (residual VQ) stop where the first stage left them. What lowers the error further is looking at all stages
together, as additive quantisation does (AQLM, arXiv 2401.06118, section 3): a beam search assigns, then each codebook
becomes the mean of what the others leave.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from accel.codecs import Codebook, Codes
from accel.codecs.rvq import SUM_LIMIT, search
from compiler.compress.lanes import Lanes, cluster_weighted, differing
from compiler.compress.masked import shuffled
from compiler.compress.vectors import LayerVectors

# On Gaussian weights, k=256, d=8, two stages: greedy 0.0983, this 0.0864. Twice the rounds or twice the beam lower
# that by 0.6 % each.
ROUNDS = 8  # of assignments, then means
BEAM = 4

Vectors = npt.NDArray[np.float32]


def residual_codebooks(
    vectors: Vectors | LayerVectors, k: int, stages: int, seed: int, lanes: Lanes = None
) -> tuple[Codebook, float]:
    """Codebooks ``int8[stages*k, d]`` for ``vectors[n, d]`` and the real value of their common step.

    The largest sum becomes 127, unless an element is larger still: sums saturate, and the largest weights are the last
    ones to clip.
    """
    codebooks, codes = cluster_residual(vectors, k, stages, seed, lanes)
    largest = max(float(np.abs(part).max()) for part in (codebooks, sums(codebooks, codes)))
    step = largest / SUM_LIMIT or 1.0
    return np.rint(codebooks / step).clip(-SUM_LIMIT, SUM_LIMIT).astype(np.int8).reshape(stages * k, -1), step


def cluster_residual(
    vectors: Vectors | LayerVectors, k: int, stages: int, seed: int, lanes: Lanes = None
) -> tuple[Vectors, Codes]:
    """Codebooks ``float32[stages, k, d]`` whose sums come close to ``vectors[n, d]``, no worse than greedy ones, and
    the codes ``[n, stages]`` they were made for.

    Of many vectors a seeded sample is taken, as ``kmeans.cluster`` does. No step raises its squared error, in which
    each number counts as much as ``lanes[n, 1 or d]`` says.
    """
    chosen = shuffled(len(vectors), k, seed)
    sample, counted = vectors[chosen], None if lanes is None else lanes[chosen]
    codebooks = _greedy(sample, k, stages, seed, counted)
    ranked = differing(counted)
    codes = search(sample, codebooks, 1, ranked)
    for _ in range(ROUNDS):
        codes = nearer(sample, codebooks, codes, search(sample, codebooks, BEAM, ranked), counted)
        improve(sample, codebooks, codes, counted)
    return codebooks, codes


def _greedy(sample: Vectors, k: int, stages: int, seed: int, counted: Lanes) -> Vectors:
    """Each codebook clusters what the ones before it leave."""
    codebooks, left = np.zeros((stages, k, sample.shape[1]), np.float32), sample
    for stage in range(stages):
        codebooks[stage] = cluster_weighted(left, k, seed + stage, counted)
        codes = search(left, codebooks[stage : stage + 1], 1, differing(counted))
        left = left - codebooks[stage, codes[:, 0]]
    return codebooks


def sums(codebooks: Vectors, codes: Codes) -> Vectors:
    """``[n, d]``: what ``codes[n, stages]`` stand for."""
    total: Vectors = codebooks[0, codes[:, 0]]
    for words, indices in zip(codebooks[1:], codes.T[1:], strict=True):
        total += words[indices]
    return total


def nearer(sample: Vectors, codebooks: Vectors, old: Codes, new: Codes, counted: Lanes = None) -> Codes:
    """Of two assignments the better for each vector: a beam may miss what was known."""
    weights = np.float32(1) if counted is None else counted
    before, after = ((weights * np.square(sample - sums(codebooks, codes))).sum(axis=1) for codes in (old, new))
    return np.where((after < before)[:, None], new, old)


def improve(sample: Vectors, codebooks: Vectors, codes: Codes, counted: Lanes = None) -> None:
    """Codebook by codebook, in place: each codeword the mean of what the other stages leave of its members."""
    left = sample - sums(codebooks, codes)
    weights = np.broadcast_to(np.float32(1) if counted is None else counted, left.shape)
    for words, indices in zip(codebooks, codes.T, strict=True):
        left += words[indices]
        for lane in range(sample.shape[1]):
            total = np.bincount(indices, weights[:, lane] * left[:, lane], len(words))
            members = np.bincount(indices, weights[:, lane], len(words))
            np.divide(total, members, out=words[:, lane], where=members > 0)
        left -= words[indices]
