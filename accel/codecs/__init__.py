"""Codecs: how weights are stored and decoded. ``CODECS`` lists them, ``parse_codec`` reads their spelling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from accel.codecs.base import (
    VECTOR_AXES,
    Codebook,
    Codec,
    Codes,
    EncodedLayer,
    VectorAxis,
    codes_shape,
    layer_bytes,
    padded_bytes,
    padded_weights,
    stored_bytes,
    vector_grid,
)
from accel.codecs.integer import Int4, Int8
from accel.codecs.lr2vq import LR2VQ
from accel.codecs.masks import Mask
from accel.codecs.mvq import MVQ
from accel.codecs.records import MAX_STAGES
from accel.codecs.rvq import RVQ
from accel.codecs.ssvq import SSVQ
from accel.codecs.vq import VQ
from accel.errors import CodecError, listed, nearest

__all__ = [
    "CODECS",
    "LR2VQ",
    "MVQ",
    "RVQ",
    "SSVQ",
    "VECTOR_AXES",
    "VQ",
    "Codebook",
    "Codec",
    "CodecFamily",
    "CodecParameter",
    "Codes",
    "EncodedLayer",
    "Int4",
    "Int8",
    "VectorAxis",
    "codes_shape",
    "layer_bytes",
    "padded_bytes",
    "padded_weights",
    "parse_codec",
    "stored_bytes",
    "vector_grid",
]


def _integer(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError("a whole number")
    return int(text)


def _mask(text: str) -> Mask:
    kept, _, group = text.partition(":")
    try:
        return Mask(_integer(kept), _integer(group))
    except ValueError:
        raise ValueError("N:M, two whole numbers") from None


@dataclass(frozen=True, slots=True)
class CodecParameter:
    """One ``name=value`` of a spelling. ``parse`` raises ``ValueError`` saying what it wants instead."""

    name: str
    doc: str
    parse: Callable[[str], Any] = _integer


@dataclass(frozen=True, slots=True)
class CodecFamily:
    """One row of ``CODECS``: the class that parameters, by name, construct."""

    codec: Callable[..., Codec]
    doc: str
    example: str
    parameters: tuple[CodecParameter, ...] = ()


_K = CodecParameter("k", "codewords in a codebook: a power of two, 2 to 65536")
_D = CodecParameter("d", "weights in a codeword: 1 to 64")
_M = CodecParameter("m", "weights in a folded codeword: 1 to 64")
_R = CodecParameter("r", "rank, numbers in a stored codeword: 1 to m, at most k")
_NM = CodecParameter(
    "nm", "N:M, weights kept of every M: M is 2 to 16 and divides d; a mask index has 1 to 12 bits", _mask
)
_S = CodecParameter("stages", f"codebooks, one codeword of each adds up to a vector: 2 to {MAX_STAGES}")

CODECS: Mapping[str, CodecFamily] = MappingProxyType(
    {
        "int8": CodecFamily(Int8, "8-bit integers, the baseline", "int8"),
        "int4": CodecFamily(Int4, "4-bit integers", "int4"),
        "vq": CodecFamily(VQ, "vector quantisation, int8 codewords", "vq:k=256,d=4", (_K, _D)),
        "ssvq": CodecFamily(
            SSVQ,
            "sign-splitting vector quantisation: magnitude codewords, one sign bit a weight",
            "ssvq:k=16,d=8",
            (_K, _D),
        ),
        "mvq": CodecFamily(
            MVQ,
            "masked vector quantisation: int8 codewords of which N of every M weights are kept, the others 0",
            "mvq:k=512,d=16,nm=4:16",
            (_K, _D, _NM),
        ),
        "lr2vq": CodecFamily(
            LR2VQ,
            "low-rank vector quantisation: int8 codewords of R numbers times an int8 projection, folded on loading",
            "lr2vq:k=256,m=8,r=4",
            (_K, _M, _R),
        ),
        "rvq": CodecFamily(
            RVQ,
            "residual (additive) vector quantisation: S int8 codewords, one of each codebook, add up, saturating",
            "rvq:k=256,d=8,stages=2",
            (_K, _D, _S),
        ),
    }
)


def parse_codec(text: str) -> Codec:
    """The codec spelled ``family`` or ``family:name=value,...``; ``CodecError`` says what is wrong and what is near."""
    name, _, rest = text.strip().partition(":")
    family = CODECS.get(name)
    if family is None:
        raise CodecError(f"codec '{text}': unknown family '{name}'; allowed: {listed(CODECS)}{nearest(name, CODECS)}")
    where = f"codec '{text}'"
    values = _values(rest, family, where)
    missing = [row.name for row in family.parameters if row.name not in values]
    if missing:
        raise CodecError(f"{where}: parameter {listed(missing)} missing; expected e.g. '{family.example}'")
    return family.codec(**values)


def _values(text: str, family: CodecFamily, where: str) -> dict[str, Any]:
    rows = {row.name: row for row in family.parameters}
    values: dict[str, Any] = {}
    for part in text.split(",") if text else ():
        name, _, value = part.partition("=")
        if name not in rows:
            allowed = listed(rows) or "none"
            raise CodecError(f"{where}: unknown parameter '{name}'; allowed: {allowed}{nearest(name, rows)}")
        if name in values:
            raise CodecError(f"{where}: parameter '{name}' is given twice")
        try:
            values[name] = rows[name].parse(value)
        except ValueError as error:
            raise CodecError(f"{where}: {name}='{value}'; expected {error}, e.g. '{family.example}'") from None
    return values
