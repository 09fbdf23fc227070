"""From a foreign layer to one of our codecs: codewords are rounded to int8, nothing else changes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from accel.codecs import Codec, EncodedLayer, layer_bytes, parse_codec
from accel.codecs.bits import MAX_BITS
from accel.codecs.records import MAX_STAGES, MAX_VECTOR_LENGTH
from accel.errors import CodecError
from compiler.compress import compress_layer, relative_error
from compiler.importers.foreign import Coding, ForeignLayer, Matrix

CODEWORD_LIMIT = 127
INTEGER_KINDS = (("int4", 7), ("int8", CODEWORD_LIMIT))  # narrowest first: family, largest magnitude
RANDOM_STATE = 0  # of k-means, for layers coded anew


@dataclass(frozen=True, slots=True)
class ImportReport:
    """One layer: the foreign notation, what it became and what the rounding of codewords cost.

    ``relative_error`` is squared error over squared weights, against the exact decode. ``note`` is empty where rounding
    is all that happened.
    """

    name: str
    form: str
    shape: tuple[int, int]
    codec: Codec
    relative_error: float
    stored_bytes: int
    note: str = ""

    @property
    def bits_per_weight(self) -> float:
        """All stored bits, codebook and scales included, over the real weights."""
        return 8 * self.stored_bytes / (self.shape[0] * self.shape[1])


def encode(name: str, layer: ForeignLayer, gains: Matrix, inexact: Codec | None) -> tuple[EncodedLayer, ImportReport]:
    """The layer with output channel o multiplied by ``gains[o]`` (float32 ``[out]``, or ``[1]``), and its report.

    Layers that no codec can hold are coded anew with ``inexact``; without, ``CodecError`` names the layer and why.
    """
    exact = layer.values() * gains[:, None]
    reason = layer.obstacle or unfit(layer)
    if reason and inexact is None:
        raise CodecError(f"layer '{name}' ({layer.form}): {reason}; refused, unless --inexact CODEC codes it anew")
    if reason:
        assert inexact is not None
        encoded = coded_anew(name, exact, inexact)
        return encoded, report(name, layer.form, exact, encoded, f"coded anew: {reason}")
    assert layer.coding is not None and layer.norm is None
    if not np.isfinite(exact).all():
        raise CodecError(f"layer '{name}' ({layer.form}): NaN or infinite weights once its norm is folded into it")
    encoded = rounded(layer.coding, layer.matrix_shape, gains)
    return encoded, report(name, layer.form, exact, encoded, remark(layer.coding, encoded))


def encode_dense(name: str, exact: Matrix, codec: Codec) -> tuple[EncodedLayer, ImportReport]:
    """A weight that the checkpoint has in floating point: the accelerator takes only coded ones."""
    encoded = coded_anew(name, exact, codec)
    return encoded, report(name, "uncompressed", exact, encoded, "not compressed in the checkpoint")


def coded_anew(name: str, exact: Matrix, codec: Codec) -> EncodedLayer:
    """A matrix in a codec of our choice; raises ``CodecError`` naming it."""
    try:
        return compress_layer(exact, codec, "channel", "out", RANDOM_STATE)
    except CodecError as error:
        raise CodecError(f"layer '{name}': {error}") from error


def report(name: str, form: str, exact: Matrix, encoded: EncodedLayer, note: str) -> ImportReport:
    """The row of an encoded layer."""
    size = sum(layer_bytes(encoded).values())
    return ImportReport(name, form, encoded.shape, encoded.codec, relative_error(exact, encoded), size, note)


def unfit(layer: ForeignLayer) -> str:
    """What of a layer's codes no codec of ours holds, in words, if anything."""
    coding = layer.coding
    assert coding is not None
    entries = max(map(len, coding.codebooks))
    if entries > 1 << MAX_BITS:
        return f"{entries} codewords in a codebook; at most {1 << MAX_BITS}"
    if coding.vector_length > MAX_VECTOR_LENGTH:
        return f"vectors of {coding.vector_length} weights; at most {MAX_VECTOR_LENGTH}"
    if len(coding.codebooks) > MAX_STAGES:
        return f"{len(coding.codebooks)} codebooks that add up; at most {MAX_STAGES}"
    return ""


def rounded(coding: Coding, shape: tuple[int, int], gains: Matrix) -> EncodedLayer:
    """The layer with its codewords in int8, one step for the layer (for each run of output channels with a part of the
    codebook of its own). Codebooks of integers that fit stay as they are. Gains and steps go into the scale."""
    if (integers := _integers(coding, gains)) is not None:
        return integers
    steps = _steps(coding)
    books = tuple(np.clip(np.rint(words / _repeated(steps, len(words))[:, None]), -CODEWORD_LIMIT, CODEWORD_LIMIT)
                  for words in coding.codebooks)  # fmt: skip
    k = max(2, 1 << (max(map(len, books)) - 1).bit_length())
    codec = _codec(k, coding)
    codebook = np.concatenate([np.pad(words, ((0, k - len(words)), (0, 0))) for words in books]).astype(np.int8)
    stages_last = np.moveaxis(coding.codes, 0, -1).astype(np.uint16)
    codes = stages_last if len(books) > 1 else stages_last[..., 0]
    scale = _scale(coding, shape, gains, steps)
    return EncodedLayer(codec, shape, coding.vector_axis, np.ascontiguousarray(codes), None, codebook, scale)


def _codec(k: int, coding: Coding) -> Codec:
    stages = len(coding.codebooks)
    if stages == 1:
        return parse_codec(f"vq:k={k},d={coding.vector_length}")
    return parse_codec(f"rvq:k={k},d={coding.vector_length},stages={stages}")


def _scale(coding: Coding, shape: tuple[int, int], gains: Matrix, steps: Matrix) -> Matrix:
    """``[1]`` if one number serves all channels, else ``[out]``."""
    each = steps if steps.size == 1 else np.repeat(steps, shape[0] // steps.size)
    return np.asarray(coding.scale * gains * each, np.float32)


def _repeated(steps: Matrix, words: int) -> Matrix:
    return np.repeat(steps, words // steps.size)


def _steps(coding: Coding) -> Matrix:
    """What one unit of the int8 codewords is worth: 1 for codebooks of integers that fit, else what brings the largest
    codeword in use (and, of several stages, the largest sum) to 127; one value a row group."""
    if len(coding.codebooks) == 1 and _whole(coding.codebooks[0]):
        return np.ones(1, np.float32)
    largest = [
        _largest(words, codes, coding.row_groups) for words, codes in zip(coding.codebooks, coding.codes, strict=True)
    ]
    if len(largest) > 1:
        largest.append(np.abs(coding.vectors()).max(keepdims=True).reshape(1))
    peak = np.max(largest, axis=0) / CODEWORD_LIMIT
    return np.where(peak > 0, peak, 1).astype(np.float32)


def _largest(words: Matrix, codes: np.ndarray, groups: int) -> Matrix:
    used = np.zeros(len(words), np.bool_)
    used[codes.reshape(-1)] = True
    magnitudes = np.abs(words).max(axis=1) * used
    return np.asarray(magnitudes.reshape(groups, -1).max(axis=1), np.float32)


def _whole(words: Matrix) -> bool:
    return bool((words == np.rint(words)).all() and np.abs(words).max() <= CODEWORD_LIMIT)


def _integers(coding: Coding, gains: Matrix) -> EncodedLayer | None:
    """int4 or int8, where scalars have so many codewords that a codebook would save nothing."""
    words = coding.codebooks[0]
    if len(coding.codebooks) > 1 or coding.vector_length > 1 or not _whole(words):
        return None
    values = words[:, 0][coding.codes[0]]
    for family, limit in INTEGER_KINDS:
        codec = parse_codec(family)
        if np.abs(values).max() <= limit and codec.code_bits <= (len(words) - 1).bit_length():
            plain = codec.encode(values, None, np.ones(1, np.float32), coding.vector_axis)
            return replace(plain, scale=np.asarray(coding.scale * gains, np.float32))
    return None


def remark(coding: Coding, encoded: EncodedLayer) -> str:
    """What happened to a layer's codebooks beside rounding, in words, if anything."""
    if not (entries := encoded.codec.codebook_entries):
        return ""
    found = []
    if coding.tables > 1:
        found.append(f"{coding.tables} tables in one codebook" + ", a step each" * (coding.row_groups > 1))
    sizes = sorted({len(words) for words in coding.codebooks})
    padded = entries // len(coding.codebooks)
    if sizes != [padded]:
        found.append(f"codebooks of {' and '.join(map(str, sizes))} codewords filled up to {padded}")
    return "; ".join(found)
