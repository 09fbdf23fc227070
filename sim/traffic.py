"""Which kind of DRAM traffic an instruction's bytes count as: one answer for the totals of a run and for its trace."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from accel.isa import BLOCK_BYTES, INSTRUCTION_BYTES
from accel.metrics import TRAFFIC
from sim.decode import Column, Decoded

KINDS = list(TRAFFIC)
_SIGNS = KINDS.index("signs")


def kinds_of(decoded: Decoded) -> Column:
    """``int64[n]``: the kind of what each instruction moves; of LDW, what is not sign bits: indices, or, for unsigned
    vectors of 1, weights. Instructions that move nothing have one, too."""
    kinds = np.zeros(len(decoded), np.int64)
    for mnemonic in ("LDA", "STA"):
        kinds[decoded[mnemonic].index] = decoded[mnemonic]["kind"]
    for mnemonic, kind in (("GTH", "parameters"), ("LDC", "codebooks")):
        kinds[decoded[mnemonic].index] = KINDS.index(kind)
    ldw = decoded["LDW"]
    plain = (ldw["vector_length"] == 1) & (ldw["signed"] == 0)
    kinds[ldw.index] = np.where(plain, KINDS.index("weights"), KINDS.index("indices"))
    return kinds


def sign_bytes(decoded: Decoded, index: Column, moved: Column) -> Column:
    """Sign bits, in bytes, among the first ``moved`` bytes of instructions ``index``."""
    share = np.zeros((2, len(decoded)), np.int64)
    ldw = decoded["LDW"]
    share[0, ldw.index] = ldw["vector_length"] * ldw["signed"]
    share[1, ldw.index] = ldw["code_bits"] + ldw["vector_length"]
    signs: Column = moved * share[0, index] // np.maximum(share[1, index], 1)
    return signs


def traffic_of(decoded: Decoded, moved: Column, layer: Column, layers: int) -> npt.NDArray[np.int64]:
    """Bytes ``[layer, kind]`` of instructions that have ``moved`` so many, and of fetching them."""
    traffic = np.zeros((layers, len(KINDS)), np.int64)
    every = np.arange(len(decoded))
    signs = sign_bytes(decoded, every, moved)
    np.add.at(traffic, (layer, kinds_of(decoded)), moved - signs)
    np.add.at(traffic, (layer, np.full(len(decoded), _SIGNS)), signs)
    fetched = every[:: BLOCK_BYTES // INSTRUCTION_BYTES]
    np.add.at(traffic, (layer[fetched], np.full(len(fetched), KINDS.index("instructions"))), BLOCK_BYTES)
    return traffic
