"""``accel.codecs.base.to_vectors`` and ``from_vectors`` on torch tensors, through which gradients flow."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from accel.codecs import VectorAxis


def to_vectors(matrix: Tensor, vector_length: int, vector_axis: VectorAxis) -> Tensor:
    """The vectors of ``matrix[out, reduction]`` as ``[n, d]``, zeros in the padding, in the order of codes."""
    out, reduction = matrix.shape
    if vector_axis == "in":
        return functional.pad(matrix, (0, -reduction % vector_length)).reshape(-1, vector_length)
    padded = functional.pad(matrix, (0, 0, 0, -out % vector_length))
    return padded.unflatten(0, (-1, vector_length)).transpose(1, 2).reshape(-1, vector_length)


def from_vectors(vectors: Tensor, shape: tuple[int, int], vector_axis: VectorAxis) -> Tensor:
    """``[out, reduction]`` of ``vectors[n, d]``, the padding dropped."""
    out, reduction = shape
    if vector_axis == "in":
        return vectors.reshape(out, -1)[:, :reduction]
    grouped = vectors.unflatten(0, (-1, reduction)).transpose(1, 2)
    return grouped.reshape(-1, reduction)[:out]
