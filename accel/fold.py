"""What LDC puts into a codebook bank: the bytes it loads or, with a ``rank``, the codebook folded from them.

Its bytes are then C ``int8[k, rank]`` and, behind it, P ``int8[rank, vector_length]``; the bank gets the k codewords of
``accel.codecs.projection``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from accel.codecs import EncodedLayer
from accel.codecs.projection import MAX_FOLD_SHIFT, Projection, check_rank
from accel.errors import CodecError, IsaError
from accel.isa import Instruction

Bytes = npt.NDArray[np.uint8]


def codewords(ldc: Instruction) -> int:
    """Codewords an LDC with a rank folds; below 1 if it loads too few bytes for that."""
    return ldc["bytes"] // ldc["rank"] - ldc["vector_length"]


def loaded_bytes(ldc: Instruction) -> int:
    """Bytes an LDC writes into its bank."""
    return max(0, codewords(ldc)) * ldc["vector_length"] if ldc["rank"] else ldc["bytes"]


def loaded_codebook(ldc: Instruction, data: Bytes, where: str) -> Bytes:
    """What an LDC that has read ``data[bytes]`` writes into its bank; raises ``IsaError`` naming ``where`` for an
    impossible fold."""
    if not ldc["rank"]:
        return data
    try:
        check_fold(ldc)
        values, split = data.view(np.int8), codewords(ldc) * ldc["rank"]
        projection = Projection(values[split:].reshape(ldc["rank"], -1), ldc["shift"])
        return projection.fold(values[:split].reshape(-1, ldc["rank"])).reshape(-1).view(np.uint8)
    except (CodecError, IsaError) as error:
        raise IsaError(f"{where}: {error}") from error


def fold_fields(layer: EncodedLayer) -> dict[str, int]:
    """What an LDC says of how to fold the codebook of ``layer``: nothing if it is stored as it is."""
    if layer.projection is None:
        return {}
    rank, length = layer.projection.matrix.shape
    return {"rank": rank, "vector_length": length, "shift": layer.projection.shift}


def check_fold(ldc: Instruction) -> None:
    """Raise ``IsaError`` (``CodecError`` for an impossible rank) unless LDC loads whole factors, or does not fold."""
    if not ldc["rank"]:
        if ldc["vector_length"] or ldc["shift"]:
            raise IsaError(f"vector_length = {ldc['vector_length']}, shift = {ldc['shift']}; allowed: 0 with rank = 0")
        return
    check_rank(ldc["rank"], ldc["vector_length"])
    if ldc["shift"] > MAX_FOLD_SHIFT:
        raise IsaError(f"shift = {ldc['shift']}; allowed: at most {MAX_FOLD_SHIFT}")
    if ldc["bytes"] % ldc["rank"] or codewords(ldc) < 1:
        least = ldc["rank"] * (ldc["vector_length"] + 1)
        raise IsaError(f"bytes = {ldc['bytes']}; allowed: multiples of rank = {ldc['rank']} from {least} on")
