"""Strided views: how tensors lie in buffers. Transposes, slices and most reshapes only change the view, at no cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class View:
    """Elements of ``buffer`` at ``offset + sum(index * strides)``, all in bytes; stride 0 broadcasts."""

    buffer: str
    offset: int
    shape: Shape
    strides: Shape

    def __post_init__(self) -> None:
        assert len(self.shape) == len(self.strides), self
        assert self.offset >= 0 and all(s >= 0 for s in self.strides), self

    @property
    def elements(self) -> int:
        """Number of elements the view walks."""
        return math.prod(self.shape)

    @property
    def span_bytes(self) -> int:
        """Bytes from the first to behind the last element."""
        return sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)) + 1


def dense_strides(shape: Sequence[int], order: Sequence[int] | None = None, element_bytes: int = 1) -> Shape:
    """Strides of a gapless layout; ``order`` lists the axes from outermost to innermost (default: row-major)."""
    strides = [0] * len(shape)
    step = element_bytes
    for axis in reversed(order if order is not None else range(len(shape))):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)


def physical_order(view: View) -> tuple[int, ...]:
    """Axes from outermost to innermost as they lie in memory; size-1 axes keep their place among equals."""
    return tuple(sorted(range(len(view.shape)), key=lambda i: (-_effective_stride(view, i), i)))


def _effective_stride(view: View, axis: int) -> int:
    """A size-1 axis sorts just outside the axes that follow it in the shape."""
    if view.shape[axis] > 1:
        return view.strides[axis]
    inner = [view.strides[i] * view.shape[i] for i in range(axis + 1, len(view.shape)) if view.shape[i] > 1]
    return max(inner, default=1)


def transpose(view: View, perm: Sequence[int]) -> View:
    """Permute axes."""
    return replace(view, shape=tuple(view.shape[i] for i in perm), strides=tuple(view.strides[i] for i in perm))


def narrow(view: View, axis: int, start: int, stop: int) -> View:
    """Elements ``start..stop-1`` of one axis."""
    assert 0 <= start < stop <= view.shape[axis], (view, axis, start, stop)
    shape = tuple(stop - start if i == axis else n for i, n in enumerate(view.shape))
    return replace(view, offset=view.offset + start * view.strides[axis], shape=shape)


def select(view: View, index: Sequence[int]) -> View:
    """Fix the leading axes at ``index`` and drop them."""
    offset = view.offset + sum(i * s for i, s in zip(index, view.strides, strict=False))
    return replace(view, offset=offset, shape=view.shape[len(index) :], strides=view.strides[len(index) :])


def broadcast_to(view: View, shape: Sequence[int]) -> View:
    """NumPy broadcasting: size-1 and missing leading axes get stride 0."""
    missing = len(shape) - len(view.shape)
    padded = (1,) * missing + view.shape
    strides = (0,) * missing + view.strides
    kept = tuple(0 if n == 1 and m != 1 else s for n, m, s in zip(padded, shape, strides, strict=True))
    return replace(view, shape=tuple(shape), strides=kept)


def merged_axes(shape: Sequence[int], *stride_sets: Sequence[int]) -> list[list[int]]:
    """Loop nest ``[size, stride, stride, ...]`` outermost first, size-1 axes dropped, mergeable neighbours merged.

    Neighbours merge when every stride set steps over the inner axis exactly.
    """
    nest: list[list[int]] = []
    for size, *strides in zip(shape, *stride_sets, strict=True):
        if size == 1:
            continue
        if nest:
            steps = zip(nest[-1][1:], strides, strict=True)
            if all(outer == inner * size for outer, inner in steps):
                nest[-1] = [nest[-1][0] * size, *strides]
                continue
        nest.append([size, *strides])
    return nest or [[1, *(0 for _ in stride_sets)]]


def reshape(view: View, shape: Sequence[int]) -> View | None:
    """The same elements in another shape, or ``None`` when strides cannot express it."""
    assert math.prod(shape) == view.elements, (view, shape)
    runs = [run for run in merged_axes(view.shape, view.strides) if run[0] > 1]
    strides: list[int] = []
    remaining, step = runs.pop() if runs else (1, 1)
    for size in reversed(shape):
        if size == 1:
            strides.append(step)
            continue
        if remaining == 1 and runs:
            remaining, step = runs.pop()
        if remaining % size:
            return None
        strides.append(step)
        remaining //= size
        step *= size
    return replace(view, shape=tuple(shape), strides=tuple(reversed(strides)))


def matrix(view: View, columns: int) -> View | None:
    """The view as ``[rows, columns]`` with unit column stride, or ``None``."""
    flat = reshape(view, (view.elements // columns, columns))
    return flat if flat is not None and (columns == 1 or flat.strides[1] == 1) else None


def outer_offsets(shape: Sequence[int], *stride_sets: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """For every index of ``shape``: its offset in each stride set."""
    for index in product(*map(range, shape)):
        yield tuple(sum(i * s for i, s in zip(index, strides, strict=True)) for strides in stride_sets)


def unravel(item: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Index of flat ``item`` in ``shape``, row-major."""
    index = []
    for size in reversed(shape):
        item, at = divmod(item, size)
        index.append(at)
    return tuple(reversed(index))
