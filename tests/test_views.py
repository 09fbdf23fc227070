"""Strided views against NumPy: the same elements, in the same order, as the array operation of the same name."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

from compiler.views import (
    View,
    broadcast_to,
    dense_strides,
    matrix,
    merged_axes,
    narrow,
    outer_offsets,
    physical_order,
    reshape,
    select,
    transpose,
)

relaxed = settings(deadline=None)
SHAPES = st.lists(st.integers(1, 5), min_size=1, max_size=5).map(tuple)


def elements(view: View) -> np.ndarray:
    """Byte addresses of the view's elements, in the view's shape: NumPy's as_strided over a memory that counts."""
    memory = np.arange(view.offset + view.span_bytes, dtype=np.int32)
    strides = [4 * stride for stride in view.strides]
    return as_strided(memory[view.offset :], view.shape, strides, writeable=False)


@st.composite
def views(draw: st.DrawFn, broadcasts: bool = True) -> View:
    """A piece of a permuted dense tensor: gaps, any order of axes, and broadcast axes."""
    shape = draw(SHAPES)
    order = draw(st.permutations(range(len(shape))))
    view = View("b", draw(st.integers(0, 9)), shape, dense_strides(shape, order))
    for axis, size in enumerate(shape):
        start = draw(st.integers(0, size - 1))
        if draw(st.integers(0, 3)) == 0:
            view = narrow(view, axis, start, draw(st.integers(start + 1, size)))
        if broadcasts and view.shape[axis] == 1 and draw(st.booleans()):
            wide = tuple(3 if i == axis else n for i, n in enumerate(view.shape))
            view = broadcast_to(view, wide)
    return view


def same(view: View, expected: np.ndarray) -> bool:
    return np.array_equal(elements(view), expected)


@relaxed
@given(SHAPES, st.integers(1, 4))
def test_dense_strides_leave_no_gap(shape: tuple[int, ...], element_bytes: int) -> None:
    expected = np.empty(shape, np.int8).strides
    assert dense_strides(shape) == expected
    assert dense_strides(shape, element_bytes=element_bytes) == tuple(element_bytes * s for s in expected)


@relaxed
@given(views(), st.data())
def test_transpose(view: View, data: st.DataObject) -> None:
    perm = data.draw(st.permutations(range(len(view.shape))))
    assert same(transpose(view, perm), elements(view).transpose(perm))


@relaxed
@given(views(), st.data())
def test_narrow_and_select(view: View, data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(view.shape) - 1))
    start = data.draw(st.integers(0, view.shape[axis] - 1))
    stop = data.draw(st.integers(start + 1, view.shape[axis]))
    assert same(narrow(view, axis, start, stop), elements(view).take(range(start, stop), axis))
    index = [data.draw(st.integers(0, n - 1)) for n in view.shape[: axis + 1]]
    assert same(select(view, index), elements(view)[tuple(index)])


@relaxed
@given(views(), st.data())
def test_broadcast_to(view: View, data: st.DataObject) -> None:
    wide = [data.draw(st.integers(1, 4)) if n == 1 else n for n in view.shape]
    shape = (*data.draw(st.lists(st.integers(1, 3), max_size=2)), *wide)
    assert same(broadcast_to(view, shape), np.broadcast_to(elements(view), shape))


def splits(shape: tuple[int, ...], data: st.DataObject) -> tuple[int, ...]:
    """A shape of as many elements: axes merged at random, then cut at random."""
    found: list[int] = []
    for size in shape:
        if found and data.draw(st.booleans()):
            size *= found.pop()
        outer = data.draw(st.sampled_from([n for n in range(1, size + 1) if size % n == 0]))
        found += [outer, size // outer] if data.draw(st.booleans()) else [size]
    return tuple(found)


@relaxed
@given(views(), st.data())
def test_reshape_is_numpys_or_impossible(view: View, data: st.DataObject) -> None:
    shape = splits(view.shape, data)
    found = reshape(view, shape)
    expected = elements(view).reshape(shape)
    if found is not None:
        assert same(found, expected)
    else:
        assert not expressible(expected)


def expressible(addresses: np.ndarray) -> bool:
    """Whether one stride an axis can reach all the addresses."""
    steps = [np.diff(addresses, axis=axis) for axis in range(addresses.ndim)]
    return all((step == step.flat[0]).all() for step in steps if step.size)


@relaxed
@given(views(), st.integers(1, 12))
def test_matrix_has_dense_columns_or_does_not_exist(view: View, columns: int) -> None:
    if view.elements % columns:
        return
    found = matrix(view, columns)
    expected = elements(view).reshape(-1, columns)
    if found is not None:
        assert same(found, expected)
    else:
        assert not expressible(expected) or (np.diff(expected, axis=1) != 1).any()


@relaxed
@given(views(broadcasts=False))
def test_physical_order_sorts_addresses(view: View) -> None:
    order = physical_order(view)
    assert sorted(order) == list(range(len(view.shape)))
    ordered = elements(view).transpose(order).reshape(-1)
    assert (np.diff(ordered) > 0).all()


@relaxed
@given(views(), views())
def test_merged_axes_walk_the_same_addresses(view: View, other: View) -> None:
    count = min(len(view.shape), len(other.shape))
    shape = view.shape[:count]
    first, second = view.strides[:count], other.strides[:count]
    nest = merged_axes(shape, first, second)
    walked = list(outer_offsets([row[0] for row in nest], *([row[i] for row in nest] for i in (1, 2))))
    assert walked == list(outer_offsets(shape, first, second))
    assert len(nest) == 1 or all(size > 1 for size, *_ in nest)


@relaxed
@given(views(), SHAPES)
def test_merged_axes_of_a_dense_view_are_one(view: View, shape: tuple[int, ...]) -> None:
    assert merged_axes(shape, dense_strides(shape)) == [[math.prod(shape), int(math.prod(shape) > 1)]]


@relaxed
@given(views())
def test_span_covers_exactly_the_elements(view: View) -> None:
    addresses = elements(view)
    assert view.span_bytes == addresses.max() - addresses.min() + 1
    assert view.elements == addresses.size
