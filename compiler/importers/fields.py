"""Numbers of a few bits packed into rows of words, as VPTQ and Core ML store them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def unpack_fields(rows: npt.NDArray[Any], bits: int, count: int) -> npt.NDArray[np.int64]:
    """``count`` unsigned fields of ``bits`` out of every row of little-endian words, least significant bit first.

    ``rows[..., words]`` of any integer type gives ``int64[..., count]``.
    """
    raw = np.ascontiguousarray(rows).view(np.uint8)
    flags = np.unpackbits(raw, axis=-1, count=bits * count, bitorder="little")
    fields = flags.reshape(*rows.shape[:-1], count, bits)
    total = np.zeros(fields.shape[:-1], np.int64)
    for bit in range(bits):  # one flag a field at a time: eight bytes a field, not eight a flag
        total |= fields[..., bit].astype(np.int64) << bit
    return total
