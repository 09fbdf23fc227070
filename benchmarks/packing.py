"""Speed of packing, unpacking and decoding weights, in MB/s of decoded weights (one weight is one byte) on one core.

*records* is the format of DRAM streams, *canonical* that of the packed file, *decode* goes from codes to int8 weights.
The arrays (16 MiB of weights) exceed the caches; the best of several runs counts, since other load on the machine only
ever slows a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from accel.codecs import Codec, EncodedLayer, codes_shape, parse_codec
from accel.codecs.bits import pack_bits, unpack_bits
from accel.codecs.records import pack_records, unpack_records, unpack_side

REQUIRED_MB_PER_S = 500
SHAPE = (4096, 4096)
RUNS = 7
CODECS_MEASURED = ("int8", "int4", "vq:k=256,d=4", "ssvq:k=16,d=8", "ssvq:k=256,d=8")
OPERATIONS = ("pack records", "unpack records", "pack canonical", "unpack canonical", "decode")

T = TypeVar("T")
_Unpacked = tuple[npt.NDArray[np.uint16], npt.NDArray[np.bool_] | None]
_Stream = npt.NDArray[np.uint8]


def main() -> bool:
    """Print the table; whether every figure meets the requirement."""
    print(f"MB/s of weights, at least {REQUIRED_MB_PER_S} required")
    print(f"{'codec':<16}", *(f"{name:>17}" for name in OPERATIONS))
    slowest = float("inf")
    for name in CODECS_MEASURED:
        speeds = [SHAPE[0] * SHAPE[1] / seconds / 1e6 for seconds in _measure(parse_codec(name))]
        slowest = min(slowest, *speeds)
        print(f"{name:<16}", *(f"{speed:>17.0f}" for speed in speeds))
    met = slowest >= REQUIRED_MB_PER_S
    print(f"slowest: {slowest:.0f} MB/s, {'meets' if met else 'MISSES'} the requirement of {REQUIRED_MB_PER_S}")
    return met


def _measure(codec: Codec) -> tuple[float, ...]:
    """Seconds of each of ``OPERATIONS``; what was unpacked is checked against what was packed."""
    layer = _random_layer(codec)
    codes = layer.codes.reshape(-1)
    side = None if layer.side is None else layer.side.reshape(codes.size, -1)
    layout = codec.layout
    pack_s, records = _best(lambda: pack_records(codes, side, layout))
    unpack_s, unpacked = _best(lambda: unpack_records(records, codes.size, layout))
    assert _same(unpacked, (codes, side)), codec
    canonical_pack_s, streams = _best(lambda: _pack_canonical(layer))
    canonical_unpack_s, unpacked = _best(lambda: _unpack_canonical(*streams, codes.size, codec))
    assert _same(unpacked, (codes, side)), codec
    decode_s, _ = _best(lambda: codec.decode(layer))
    return pack_s, unpack_s, canonical_pack_s, canonical_unpack_s, decode_s


def _random_layer(codec: Codec) -> EncodedLayer:
    rng = np.random.default_rng(0)
    grid = codes_shape(codec, SHAPE, "out")
    codes = rng.integers(0, 1 << codec.code_bits, grid).astype(np.uint16)
    if not codec.codebook_entries:
        codes[codes == 1 << (codec.code_bits - 1)] = 0  # the integer that symmetric codecs do not use
    side = rng.integers(0, 2, (*grid, codec.vector_length), np.uint8).view(np.bool_) if codec.has_signs else None
    codebook = rng.integers(0, 128, codec.codebook_shape).astype(np.int8) if codec.codebook_shape else None
    return EncodedLayer(codec, SHAPE, "out", codes, side, codebook, np.ones(1, np.float32))


def _pack_canonical(layer: EncodedLayer) -> tuple[_Stream, _Stream | None]:
    signs = None if layer.side is None else np.packbits(layer.side.reshape(-1), bitorder="little")
    return pack_bits(layer.codes, layer.codec.code_bits), signs


def _unpack_canonical(codes: _Stream, signs: _Stream | None, vectors: int, codec: Codec) -> _Unpacked:
    side = None if signs is None else unpack_side(signs, vectors, codec.layout.side_bits)
    return unpack_bits(codes, codec.code_bits, vectors), side


def _same(found: _Unpacked, expected: _Unpacked) -> bool:
    if found[1] is None or expected[1] is None:
        return found[1] is expected[1] and np.array_equal(found[0], expected[0])
    return np.array_equal(found[0], expected[0]) and np.array_equal(found[1], expected[1])


def _best(work: Callable[[], T]) -> tuple[float, T]:
    """Fewest seconds of ``RUNS`` runs, and the result."""
    best = float("inf")
    for _ in range(RUNS):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return best, result
