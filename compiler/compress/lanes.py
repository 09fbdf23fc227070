"""Weights of errors, vector by vector: one for a whole vector, or one for each of its lanes where these meet different
activations (along the reduction, and in grouped convolutions) or belong to channels of different scales."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from accel.codecs import RVQ, SSVQ, EncodedLayer, VectorAxis
from accel.codecs.base import normalised, to_vectors
from accel.codecs.masks import Flags, Mask, largest_kept, pack_masks
from accel.codecs.rvq import search
from accel.codecs.vq import CodebookCodec, nearest_codewords
from compiler.compress.kmeans import cluster
from compiler.compress.masked import cluster_masked
from compiler.compress.vectors import LayerVectors

Vectors = npt.NDArray[np.float32]
Lanes = npt.NDArray[np.float32] | None  # [n, 1], or [n, d] with 0 in padding


def lane_weights(importance: Vectors, shape: tuple[int, ...], vector_length: int, vector_axis: VectorAxis) -> Vectors:
    """``importance[1 or out, reduction]`` for the vectors of a matrix of ``shape``: ``[n, 1]`` if the lanes of each
    vector count the same, else ``[n, d]``."""
    if vector_axis == "out" and len(importance) == 1:
        return np.tile(importance[0], -(-shape[0] // vector_length))[:, None]
    return to_vectors(np.broadcast_to(importance, shape), vector_length, vector_axis)


def cluster_weighted(vectors: Vectors | LayerVectors, k: int, seed: int, lanes: Lanes) -> Vectors:
    """Centroids ``float32[k, d]``: by faiss, which weighs whole vectors, or by our own k-means, which weighs lanes."""
    if lanes is None or lanes.shape[1] == 1:
        return cluster(vectors, k, seed, None if lanes is None else lanes[:, 0])
    return cluster_masked(vectors, lanes, k, seed)


def most_important(vectors: npt.NDArray[np.float64], mask: Mask, lanes: Lanes) -> Flags:
    """What a mask keeps: the weights whose loss costs most, magnitude times root mean square of the activation (Wanda,
    arXiv 2306.11695, equation 1)."""
    return largest_kept(vectors if lanes is None else vectors * np.sqrt(lanes), mask)


def differing(lanes: Lanes) -> Lanes:
    """Weights that have a say in which codeword is nearest: none where the lanes of each vector count the same."""
    return None if lanes is None or lanes.shape[1] == 1 else lanes


def nearest_by_lane(layer: EncodedLayer, weights: Vectors, lanes: Lanes) -> EncodedLayer:
    """``layer`` with the codes (and masks) of least weighted error; itself where lanes of a vector count the same."""
    codec, lanes = layer.codec, differing(lanes)
    if lanes is None:
        return layer
    assert isinstance(codec, CodebookCodec)
    vectors = to_vectors(normalised(weights, layer.scale), codec.vector_length, layer.vector_axis)
    counted, side = lanes.astype(np.float64), layer.side
    if isinstance(codec, RVQ):
        assert layer.codebook is not None
        codebooks = layer.codebook.reshape(codec.stages, codec.k, codec.d).astype(np.float64)
        return dataclasses.replace(layer, codes=search(vectors, codebooks, weights=counted).reshape(layer.codes.shape))
    if codec.mask is not None:
        kept = most_important(vectors, codec.mask, lanes)
        counted, side = counted * kept, pack_masks(kept, codec.mask).reshape(*layer.codes.shape, -1)
    sought = np.abs(vectors) if isinstance(codec, SSVQ) else vectors
    codes = nearest_codewords(sought * counted, codec.codewords(layer), counted)
    return dataclasses.replace(layer, codes=codes.reshape(layer.codes.shape), side=side)
