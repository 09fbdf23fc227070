"""Checks, without any timing, that a program's instructions bring back exactly the weights that were compressed.

The blocks of LDW fill the weight ring in order, DEC cuts them into strips and tiles and looks codes up in the codebook
its token vouches for; each matrix put together again must have the digest its codec's reference decoder gave.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel.errors import SimError
from accel.fold import loaded_bytes, loaded_codebook
from accel.footprint import decoder_codebook_bytes
from accel.isa import BLOCK_BYTES, QUEUES, Instruction, decode
from accel.program import Program, WeightStream
from accel.tiles import region_of
from sim.columns import pair_tokens
from sim.decode import Decoded, Rows, decode_words
from sim.regions import Weights, decode_region, region_at
from sim.ring import Bytes, weight_ring


def check_weights(program: Program) -> None:
    """Decode every weight stream the way the instructions do and compare digests; raises ``SimError`` if one differs.

    What is decoded repeatedly (passes, rewinds, reloads) is checked once.
    """
    decoded = decode_words(program.words)
    ring = weight_ring(decoded["LDW"])
    codebooks = _codebook_sources(decoded)
    matrices = {stream.address: _Matrix.empty(stream) for stream in program.streams}
    seen: set[tuple[object, ...]] = set()
    base = 0
    for i in decoded["DEC"].index.tolist():
        dec = decode(program.words[i].tobytes(), f"instruction {i}")
        where = f"instruction {i} DEC"
        region = region_at(dec, where)
        stream = _stream_at(program, ring.address_of(base, where), where)
        address = ring.address_of(base, where)
        key = (address, codebooks.get(i), *(value for name, value in dec.values.items() if name not in _IRRELEVANT))
        if key not in seen:
            seen.add(key)
            codebook = _codebook(program.image, decoded["LDC"], codebooks.get(i), dec, where)
            data = ring.read(program.image, base, region.stored_bytes // BLOCK_BYTES, where)
            _place(matrices[stream.address], address, decode_region(data, dec, region, codebook, where), dec, where)
        base += region.stored_bytes // BLOCK_BYTES if region.releases else 0
    for matrix in matrices.values():
        matrix.check()


_IRRELEVANT = ("passes", "release", "bank")


@dataclass(frozen=True, slots=True)
class _Matrix:
    """A weight matrix being put together: ``weights`` is ``int8[out, reduction]``, ``done`` flags its channels."""

    stream: WeightStream
    weights: Weights
    done: npt.NDArray[np.bool_]

    @staticmethod
    def empty(stream: WeightStream) -> _Matrix:
        weights = np.zeros((stream.columns, stream.rows), np.int8)
        return _Matrix(stream, weights, np.zeros(stream.columns, np.bool_))

    def check(self) -> None:
        """All channels decoded, and their digest the recorded one."""
        missing = int(self.done.size - self.done.sum())
        if missing:
            raise SimError(f"weights '{self.stream.weight}': {missing} of {self.done.size} channels are never decoded")
        digest = hashlib.sha256(self.weights.data).hexdigest()
        if digest != self.stream.digest:
            raise SimError(
                f"weights '{self.stream.weight}': the program decodes SHA-256 {digest[:16]}..., "
                f"the {self.stream.codec} reference is {self.stream.digest[:16]}..."
            )


def _stream_at(program: Program, address: int, where: str) -> WeightStream:
    for stream in program.streams:
        if stream.address <= address < stream.address + stream.blocks * BLOCK_BYTES:
            return stream
    raise SimError(f"{where}: its weights come from address {address:#x}, which no weight stream covers")


def _codebook_sources(decoded: Decoded) -> dict[int, int]:
    """DEC -> place among the LDCs of the codebook it finds in its bank: the last loaded before its token was pushed."""
    ldc, dec = decoded["LDC"], decoded["DEC"]
    released = np.maximum.accumulate(pair_tokens(decoded)[dec.index, QUEUES.index("load")])
    sources: dict[int, int] = {}
    for i, bank, token in zip(dec.index.tolist(), dec["bank"].tolist(), released.tolist(), strict=True):
        loaded = np.flatnonzero((ldc["bank"] == bank) & (ldc.index <= token))
        if len(loaded):
            sources[i] = int(loaded[-1])
    return sources


def _codebook(image: Bytes, ldc: Rows, source: int | None, dec: Instruction, where: str) -> Weights | None:
    """``int8[2**code_bits, d]``, of all stages, as loaded, or ``None`` for integers."""
    if not dec["codebook"]:
        return None
    if source is None:
        raise SimError(f"{where}: no token tells that a codebook is in bank {dec['bank']}")
    size = decoder_codebook_bytes(dec)
    number = ldc.index[source]
    load = Instruction("LDC", {name: int(column[source]) for name, column in ldc.fields.items()})
    data = loaded_codebook(load, image[load["address"] :][: load["bytes"]], f"instruction {number} LDC")
    if data.size < size:
        loaded = loaded_bytes(load)
        raise SimError(f"{where}: needs a codebook of {size} bytes, LDC (instruction {number}) loads {loaded}")
    return data[:size].view(np.int8).reshape(-1, dec["vector_length"])


def _place(matrix: _Matrix, address: int, part: Weights, dec: Instruction, where: str) -> None:
    """Put the channels a DEC decodes where its stream's strips stand."""
    stream, region = matrix.stream, region_of(dec)
    strip, rest = divmod(address - stream.address, region.full.stored_bytes)
    first = strip * stream.tile_columns
    cut = (dec["rows"], dec["tile_rows"], dec["tile_columns"])
    if rest or cut != (stream.rows, stream.tile_rows, stream.tile_columns) or first + len(part) > stream.columns:
        raise SimError(f"{where}: does not cut '{stream.weight}' into the strips and tiles it is stored in")
    known = matrix.done[first : first + len(part)]
    if (matrix.weights[first : first + len(part)][known] != part[known]).any():
        raise SimError(f"{where}: decodes other weights of '{stream.weight}' than an earlier DEC")
    matrix.weights[first : first + len(part)] = part
    known[:] = True
