"""Coding the weights of one model: what every layer has in common, and a layer at a time."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.codecs import VQ, Codec, EncodedLayer, VectorAxis, stored_bytes
from accel.codecs.bits import MAX_BITS
from accel.errors import CodecError
from accel.graph import Graph, gemm_shape, weight_name
from compiler.compress.choices import Choice, no_larger_than_int8
from compiler.compress.layer import compress_layer, relative_error
from compiler.compress.moments import Moments
from compiler.compress.scales import ScaleMode

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Coder:
    """Options of ``compress``, and ``weights`` with channel exponents folded in. ``moments`` of a weight, where there
    are any, say how much each of its errors counts."""

    graph: Graph
    weights: Mapping[str, npt.NDArray[Any]]
    scale: ScaleMode
    vector_axis: VectorAxis
    seed: int
    moments: Mapping[str, Moments] = field(default_factory=dict)

    def matrix(self, name: str) -> Matrix:
        """A weight as codecs see it, ``float32[out, reduction]``."""
        return float32(self.weights[name]).reshape(gemm_shape(self.graph.parameters[name]))

    def layer(self, name: str, codec: Codec) -> EncodedLayer:
        """A weight in ``codec``. Its seed depends on its name, not on its position: leaving others out does not change
        it. Raises ``CodecError``."""
        seed, moments = self.seed ^ zlib.crc32(name.encode()), self.moments.get(name)
        try:
            return compress_layer(self.matrix(name), codec, self.scale, self.vector_axis, seed, moments)
        except CodecError as error:
            raise CodecError(f"weight '{name}': {error}") from error

    def choice(self, name: str, codec: Codec) -> Choice:
        """``codec`` for a weight, or int8 where that is no larger."""
        return no_larger_than_int8(codec, gemm_shape(self.graph.parameters[name]), self.vector_axis)

    def chosen(self, name: str, choice: Choice) -> tuple[EncodedLayer, str]:
        """A weight in the codec chosen, and why in that one; a depthwise convolution goes without split signs where
        that is better. A choice with a reason of its own stands."""
        codec, reason = choice
        layer = self.layer(name, codec)
        if reason or not codec.has_signs or name not in depthwise_weights(self.graph):
            return layer, reason
        matrix = self.matrix(name)
        rivals = [self.layer(name, each) for each in self._unsigned(name, codec)]
        best = min((layer, *rivals), key=lambda each: relative_error(matrix, each))
        if best is layer:
            return layer, reason
        positive, errors = float((matrix > 0).mean()), [relative_error(matrix, each) for each in (best, layer)]
        return best, (
            f"depthwise, {positive:.0%} of weights positive: error {errors[0]:.4f} in no more bytes than "
            f"{codec}, whose is {errors[1]:.4f}"
        )

    def _unsigned(self, name: str, codec: Codec) -> Iterator[VQ]:
        """Plain codebooks over vectors no longer than the codec's, as large as they may be in as many bytes."""
        shape = gemm_shape(self.graph.parameters[name])

        def size(each: Codec) -> int:
            return sum(stored_bytes(each, shape, self.vector_axis, scales=0).values())

        for d in (length for length in (1, 2, 4, 8, 16, 32, 64) if length <= codec.vector_length):
            fitting = [VQ(1 << bits, d) for bits in range(1, MAX_BITS + 1) if size(VQ(1 << bits, d)) <= size(codec)]
            yield from fitting[-1:]


def depthwise_weights(graph: Graph) -> frozenset[str]:
    """Weights of convolutions with one input channel a group."""
    convs = (op for op in graph.weight_ops() if op.kind == "conv" and op.attributes["groups"] > 1)
    return frozenset(weight_name(op) for op in convs if graph.parameters[weight_name(op)][1] == 1)


def float32(values: npt.NDArray[Any]) -> Matrix:
    """What does not fit becomes infinite and is refused with its name."""
    with np.errstate(over="ignore"):
        return np.asarray(values, dtype=np.float32, order="C")
