"""A layer in blocks of rows, so that what a step holds in double precision is a block and never the layer.

Vectors never cross a block: encoding and decoding give the same codes and integers as in one piece.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

from accel.codecs import Codec, EncodedLayer, VectorAxis, codes_shape, vector_grid

BLOCK_WEIGHTS = 1 << 18  # 2 MiB in double precision

Matrix = npt.NDArray[np.float32]
Scales = npt.NDArray[np.float32]
Encoder = Callable[..., EncodedLayer]  # of weights, scale and vector axis


def row_blocks(shape: tuple[int, ...], multiple: int = 1) -> Iterator[slice]:
    """All rows of a matrix, in slices of a ``multiple`` of rows (the last may be shorter)."""
    rows = max(1, BLOCK_WEIGHTS // (shape[1] * multiple)) * multiple
    for start in range(0, shape[0], rows):
        yield slice(start, min(start + rows, shape[0]))


def encode_by_rows(
    encode: Encoder, codec: Codec, weights: Matrix, scale: Scales, vector_axis: VectorAxis
) -> EncodedLayer:
    """``encode(weights, scale=scale, vector_axis=vector_axis)``, a block of rows at a time."""
    shape = (int(weights.shape[0]), int(weights.shape[1]))
    codes = np.empty(codes_shape(codec, shape, vector_axis), np.uint16)
    side_bits, side = codec.layout.side_bits, None
    if side_bits:
        side = np.empty((*vector_grid(codec, shape, vector_axis), side_bits), np.bool_)
    for rows in layer_blocks(codec, shape, vector_axis):
        block = encode(weights[rows], scale=scale_of(scale, rows), vector_axis=vector_axis)
        places = _code_rows(codec, vector_axis, rows)
        codes[places] = block.codes
        if side is not None:
            side[places] = block.side
    return dataclasses.replace(block, shape=shape, codes=codes, side=side, scale=scale)


def decode_by_rows(layer: EncodedLayer) -> npt.NDArray[np.int8]:
    """``layer.codec.decode(layer)``, a block of rows at a time."""
    decoded = np.empty(layer.shape, np.int8)
    for rows in layer_blocks(layer.codec, layer.shape, layer.vector_axis):
        decoded[rows] = decoded_rows(layer, rows)
    return decoded


def layer_blocks(codec: Codec, shape: tuple[int, int], vector_axis: VectorAxis) -> Iterator[slice]:
    """Blocks of rows that hold whole vectors."""
    return row_blocks(shape, codec.vector_length if vector_axis == "out" else 1)


def decoded_rows(layer: EncodedLayer, rows: slice) -> npt.NDArray[np.int8]:
    """Decoded integers ``int8[rows, reduction]`` of one of ``layer_blocks``."""
    places = _code_rows(layer.codec, layer.vector_axis, rows)
    part = dataclasses.replace(
        layer,
        shape=(rows.stop - rows.start, layer.shape[1]),
        codes=layer.codes[places],
        side=None if layer.side is None else layer.side[places],
        scale=scale_of(layer.scale, rows),
    )
    return part.codec.decode(part)


def scale_of(scale: Scales, rows: slice) -> Scales:
    """Scales of some rows: theirs, or the one of all."""
    return scale if len(scale) == 1 else scale[rows]


def _code_rows(codec: Codec, vector_axis: VectorAxis, rows: slice) -> slice:
    """Where the codes of ``rows`` lie."""
    lanes = codec.vector_length if vector_axis == "out" else 1
    return slice(rows.start // lanes, -(-rows.stop // lanes))
