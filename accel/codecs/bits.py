"""Dense bit packing, least significant bit first: code ``i`` of ``b`` bits starts at bit ``i*b`` of the stream.

Eight codes of ``b`` bits always fill exactly ``b`` bytes, so everything works on such groups. Codes sit in lanes of 8
or 16 bits; neighbouring lanes are squeezed together pairwise until a 64-bit word is full (and spread the same way), a
handful of vector instructions per word. Blocks keep the intermediate words in the second-level cache.
Lanes are reinterpreted in place, so the host must be little-endian (every platform NumPy has wheels for, bar s390x).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import CodecError

MAX_BITS = 16
_GROUP = 8
_BLOCK_GROUPS = 8192

Bytes = npt.NDArray[np.uint8]
_Words = npt.NDArray[np.unsignedinteger[Any]]


def packed_bytes(count: int, bits: int) -> int:
    """Bytes of ``count`` codes of ``bits`` bits, the last byte padded with zero bits."""
    return -(-count * bits // 8)


def pack_bits(values: npt.NDArray[np.uint16], bits: int) -> Bytes:
    """Pack ``values[n]`` into ``uint8[ceil(n*bits/8)]``; raises ``CodecError`` if a value needs more bits."""
    _check_bits(bits)
    flat = np.ascontiguousarray(values, dtype=np.uint16).reshape(-1)
    if bits < MAX_BITS and flat.size and int(flat.max()) >> bits:
        raise CodecError(f"value {int(flat.max())} does not fit into {bits} bits; allowed: 0 to {(1 << bits) - 1}")
    if bits == 8:
        return flat.astype(np.uint8)
    if bits == 16:
        return flat.copy().view(np.uint8)
    groups = -(-flat.size // _GROUP)
    packed = np.empty((groups, bits), np.uint8)
    for start in range(0, groups, _BLOCK_GROUPS):
        block = flat[start * _GROUP : (start + _BLOCK_GROUPS) * _GROUP]
        packed[start : start + _BLOCK_GROUPS] = _pack_block(block, bits)
    return packed.reshape(-1)[: packed_bytes(flat.size, bits)]


def unpack_bits(data: Bytes, bits: int, count: int) -> npt.NDArray[np.uint16]:
    """Inverse of ``pack_bits``: the first ``count`` codes; raises ``CodecError`` if ``data`` is too short."""
    _check_bits(bits)
    flat = np.ascontiguousarray(data, dtype=np.uint8).reshape(-1)
    if count < 0 or flat.size < packed_bytes(count, bits):
        raise CodecError(f"{count} codes of {bits} bits take {packed_bytes(count, bits)} bytes, {flat.size} given")
    flat = flat[: packed_bytes(count, bits)]
    if bits == 8:
        return flat.astype(np.uint16)
    if bits == 16:
        return np.frombuffer(flat.tobytes(), dtype="<u2").copy()
    groups = -(-count // _GROUP)
    values = np.empty(groups * _GROUP, np.uint16)
    for start in range(0, groups, _BLOCK_GROUPS):
        block = flat[start * bits : (start + _BLOCK_GROUPS) * bits]
        values[start * _GROUP : (start + _BLOCK_GROUPS) * _GROUP] = _unpack_block(block, bits)
    return values[:count]


def _check_bits(bits: int) -> None:
    if not 1 <= bits <= MAX_BITS:
        raise CodecError(f"codes of {bits} bits; allowed: 1 to {MAX_BITS}")


def _lane_bits(bits: int) -> int:
    return 8 if bits <= 8 else 16


def _pack_block(codes: npt.NDArray[np.uint16], bits: int) -> Bytes:
    """``uint8[groups, bits]`` of one block; a last incomplete group is padded with zero codes."""
    lanes = np.zeros(-(-codes.size // _GROUP) * _GROUP, f"<u{_lane_bits(bits) // 8}")
    lanes[: codes.size] = codes
    words = _squeeze(lanes, bits)
    if bits > 8:
        words = _join_halves(words.reshape(-1, 2), bits)
    return _low_bytes(words, bits)


def _unpack_block(data: Bytes, bits: int) -> _Words:
    """Lanes ``uint8`` or ``uint16[groups*8]`` of one block; a last incomplete group is padded with zero bytes."""
    groups = -(-data.size // bits)
    word_bytes = _lane_bits(bits)
    if data.size % bits:
        data = np.concatenate([data, np.zeros(groups * bits - data.size, np.uint8)])
    if bits in (1, 2, 4):
        return _spread(data.view(f"<u{bits}").astype("<u8"), bits)
    padded = np.zeros((groups, word_bytes), np.uint8)
    padded[:, :bits] = data.reshape(groups, bits)
    words = padded.view("<u8")
    return _spread(words.reshape(-1) if bits <= 8 else _split_halves(words, bits), bits)


def _low_bytes(words: _Words, bits: int) -> Bytes:
    """The low ``bits`` bytes of every group; powers of two as one narrowing cast."""
    if bits in (1, 2, 4):
        return words.astype(f"<u{bits}").view(np.uint8).reshape(-1, bits)
    return words.view(np.uint8).reshape(-1, _lane_bits(bits))[:, :bits]


def _squeeze(lanes: _Words, bits: int) -> _Words:
    """64-bit words with the codes of their lanes moved together at the low end."""
    lane, width = lanes.itemsize * 8, bits
    while lane < 64:
        lanes = lanes.view(f"<u{lane // 4}")
        mask = lanes.dtype.type((1 << width) - 1)
        high = lanes >> lanes.dtype.type(lane - width)
        high &= lanes.dtype.type(int(mask) << width)
        lanes = (lanes & mask) | high
        lane, width = lane * 2, width * 2
    return lanes


def _spread(words: _Words, bits: int) -> _Words:
    """Inverse of ``_squeeze``: the lanes of 64-bit words, one code in each."""
    lane, target = 64, _lane_bits(bits)
    while lane > target:
        lane //= 2
        width = bits * lane // target
        mask = words.dtype.type((1 << width) - 1)
        high = words >> words.dtype.type(width)
        high &= mask
        high <<= words.dtype.type(lane)
        words = ((words & mask) | high).view(f"<u{lane // 8}")
    return words


def _join_halves(words: _Words, bits: int) -> _Words:
    """``[groups, 2]`` words with four codes each into 128 bits whose low ``8*bits`` are the group."""
    width = np.uint64(4 * bits)
    joined = np.empty_like(words)
    joined[:, 0] = words[:, 0] | words[:, 1] << width
    joined[:, 1] = words[:, 1] >> (np.uint64(64) - width)
    return joined


def _split_halves(words: _Words, bits: int) -> _Words:
    """Inverse of ``_join_halves``."""
    width, mask = np.uint64(4 * bits), np.uint64((1 << 4 * bits) - 1)
    halves = np.empty_like(words)
    halves[:, 0] = words[:, 0] & mask
    halves[:, 1] = (words[:, 0] >> width | words[:, 1] << (np.uint64(64) - width)) & mask
    return halves.reshape(-1)
