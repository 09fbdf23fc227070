"""Packing and unpacking speed of the canonical (packed file) and record (DRAM) formats, in MB/s of decoded weights.

One decoded weight is one byte. The arrays (16 MiB of weights) exceed the caches; the best of several runs counts, since
other load on the machine only ever slows a run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from accel.codecs import Codec, parse_codec
from accel.codecs.bits import pack_bits, unpack_bits
from accel.codecs.records import RecordLayout, pack_records, unpack_records, unpack_signs

REQUIRED_MB_PER_S = 500
WEIGHTS = 1 << 24
RUNS = 7

T = TypeVar("T")
CODECS_MEASURED = ("int8", "int4", "vq:k=256,d=4", "ssvq:k=16,d=8", "ssvq:k=256,d=8")


def main() -> bool:
    """Print the table; whether every figure meets the requirement."""
    print(f"{'codec':<18}{'format':<11}{'pack MB/s':>10}{'unpack MB/s':>13}{'required':>10}")
    slowest = float("inf")
    for name in CODECS_MEASURED:
        for form, pack_s, unpack_s in _measure(parse_codec(name)):
            pack, unpack = (WEIGHTS / seconds / 1e6 for seconds in (pack_s, unpack_s))
            slowest = min(slowest, pack, unpack)
            print(f"{name:<18}{form:<11}{pack:>10.0f}{unpack:>13.0f}{REQUIRED_MB_PER_S:>10}")
    print(
        f"slowest {slowest:.0f} MB/s: {'meets' if slowest >= REQUIRED_MB_PER_S else 'MISSES'} {REQUIRED_MB_PER_S} MB/s"
    )
    return slowest >= REQUIRED_MB_PER_S


def _measure(codec: Codec) -> Iterator[tuple[str, float, float]]:
    """Format, seconds to pack, seconds to unpack; what was unpacked is checked against what was packed."""
    rng = np.random.default_rng(0)
    vectors = WEIGHTS // codec.vector_length
    codes = rng.integers(0, 1 << codec.code_bits, vectors).astype(np.uint16)
    negative = rng.integers(0, 2, (vectors, codec.vector_length), np.uint8).view(np.bool_) if codec.has_signs else None
    layout = RecordLayout(codec.code_bits, codec.vector_length, codec.has_signs)
    pack_s, records = _best(lambda: pack_records(codes, negative, layout))
    unpack_s, unpacked = _best(lambda: unpack_records(records, vectors, layout))
    assert _same(unpacked, (codes, negative)), codec
    yield "records", pack_s, unpack_s
    pack_s, streams = _best(lambda: _pack_canonical(codes, negative, codec))
    unpack_s, unpacked = _best(lambda: _unpack_canonical(*streams, vectors, codec))
    assert _same(unpacked, (codes, negative)), codec
    yield "canonical", pack_s, unpack_s


_Codes = npt.NDArray[np.uint16]
_Negative = npt.NDArray[np.bool_] | None
_Stream = npt.NDArray[np.uint8]


def _pack_canonical(codes: _Codes, negative: _Negative, codec: Codec) -> tuple[_Stream, _Stream | None]:
    signs = None if negative is None else np.packbits(negative.reshape(-1), bitorder="little")
    return pack_bits(codes, codec.code_bits), signs


def _unpack_canonical(codes: _Stream, signs: _Stream | None, vectors: int, codec: Codec) -> tuple[_Codes, _Negative]:
    negative = None if signs is None else unpack_signs(signs, vectors, codec.vector_length)
    return unpack_bits(codes, codec.code_bits, vectors), negative


def _same(found: tuple[_Codes, _Negative], expected: tuple[_Codes, _Negative]) -> bool:
    signs_agree = (
        found[1] is expected[1] if found[1] is None or expected[1] is None else np.array_equal(found[1], expected[1])
    )
    return signs_agree and np.array_equal(found[0], expected[0])


def _best(work: Callable[[], T]) -> tuple[float, T]:
    """Fewest seconds of ``RUNS`` runs, and the result."""
    best = float("inf")
    for _ in range(RUNS):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return best, result
