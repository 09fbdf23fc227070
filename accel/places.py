"""What holds of every tensor a program names: its elements lie in a memory, its code fits its shape, its name is one's
own. Raises ``FormatError``."""

from __future__ import annotations

import math
from collections.abc import Iterable

from accel.errors import FormatError
from accel.quantisation import TensorScale

BEYOND = 1 << 62  # the end of what is in no memory

Sizes = tuple[int, ...]


def require(condition: bool, what: str) -> None:
    """Refuse a program unless ``condition`` holds."""
    if not condition:
        raise FormatError(f"program: {what}; the file is inconsistent")


def reach(shape: Sizes, strides: Sizes) -> int:
    """Bytes from the first to behind the last element; beyond any memory if the sizes are impossible."""
    if len(shape) != len(strides) or any(size < 1 for size in shape) or any(stride < 0 for stride in strides):
        return BEYOND
    return sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) + 1


def check_elements(what: str, shape: Sizes, copies: int, memory_bytes: int) -> None:
    """No memory holds more elements than bytes, not even where strides of 0 let elements share them."""
    elements = copies * math.prod(shape)
    if elements > memory_bytes:
        raise FormatError(
            f"program: {what} has {elements} elements; allowed: at most {memory_bytes}, its memory's bytes"
        )


def check_code(what: str, shape: Sizes, code: TensorScale | None) -> None:
    """Channel exponents are one for each index of an axis."""
    if code is not None and not code.fits(shape):
        found = f"{len(code.exponents)} channel exponents along axis {code.axis} of {list(shape[:8])}"
        raise FormatError(f"program: {what}: {found}; allowed: one for each index of an axis")


def check_unique(what: str, names: Iterable[str]) -> None:
    """No name occurs twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise FormatError(f"program: two {what} are named '{name}'; allowed: one each")
        seen.add(name)
