"""Residual codebooks against twins that look at one vector and one weight at a time, and what training makes of them."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import random_codebook

from accel.codecs import RVQ, VECTOR_AXES, codes_shape, layer_bytes, padded_weights, parse_codec, vector_grid
from accel.codecs.rvq import search

ONE = np.ones(1, np.float32)


def slow_search(vector, codebooks, beam):
    """Codes of one vector: sums kept as (distance, codes, what is left), nearest first, equals as they came."""
    kept = [(0.0, (), list(vector))]
    for place, words in enumerate(codebooks):
        found = []
        for _, codes, left in kept:
            for index, word in enumerate(words):
                rest = [x - float(c) for x, c in zip(left, word, strict=True)]
                found.append((sum(x * x for x in rest), (*codes, index), rest))
        found.sort(key=lambda entry: entry[0])
        kept = found[: 1 if place == len(codebooks) - 1 else beam]
    return kept[0][1]


def places_of(codec, shape, axis, row, column):
    """(row, column) of each weight of a vector, ``None`` where it is padding."""
    for i in range(codec.d):
        r, c = (row * codec.d + i, column) if axis == "out" else (row, column * codec.d + i)
        yield (r, c) if r < shape[0] and c < shape[1] else None


def slow_decode(layer):
    """Weight by weight: the elements of all stages, added and saturated."""
    codec, weights = layer.codec, np.zeros(layer.shape, np.int8)
    for row, column in np.ndindex(vector_grid(codec, layer.shape, layer.vector_axis)):
        for i, at in enumerate(places_of(codec, layer.shape, layer.vector_axis, row, column)):
            if at is not None:
                codes = layer.codes[row, column].tolist()
                total = sum(int(layer.codebook[stage * codec.k + code, i]) for stage, code in enumerate(codes))
                weights[at] = max(-127, min(127, total))
    return weights


@st.composite
def cases(draw):
    codec = RVQ(draw(st.sampled_from([2, 4, 16])), draw(st.integers(1, 9)), draw(st.integers(2, 4)))
    shape = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    codebook = random_codebook(codec, rng)
    codebook[1] = codebook[0]  # a tie in the first stage
    weights = rng.integers(-200, 201, shape).astype(np.float32)
    scale = 2.0 ** rng.integers(-1, 2, draw(st.sampled_from([1, shape[0]])))  # powers of two: exact quotients
    return weights, codec, codebook, scale.astype(np.float32), draw(st.sampled_from(VECTOR_AXES))


@given(cases())
def test_layers_agree_with_the_slow_twin(case):
    weights, codec, codebook, scale, axis = case
    layer = codec.encode(weights, codebook, scale, axis)
    assert (
        layer.codes.shape
        == codes_shape(codec, layer.shape, axis)
        == (*vector_grid(codec, layer.shape, axis), codec.stages)
    )
    stages = codebook.reshape(codec.stages, codec.k, codec.d)
    for row, column in np.ndindex(vector_grid(codec, layer.shape, axis)):
        sources = places_of(codec, layer.shape, axis, row, column)
        vector = [0.0 if at is None else float(weights[at]) / float(scale[at[0] % len(scale)]) for at in sources]
        assert tuple(layer.codes[row, column].tolist()) == slow_search(vector, stages, beam=8)
    np.testing.assert_array_equal(codec.decode(layer), slow_decode(layer))


def errors(vectors, codebooks, codes):
    sums = sum(words[column] for words, column in zip(codebooks, codes.T, strict=True))
    return np.square(vectors - sums).sum(axis=1)


def test_a_wide_beam_is_exhaustive_and_a_narrow_one_greedy():
    rng = np.random.default_rng(0)
    vectors, codebooks = rng.normal(size=(200, 3)), rng.normal(size=(3, 8, 3)) * np.array([1, 0.5, 0.25])[:, None, None]
    every = np.array(list(itertools.product(range(8), repeat=3)))
    sums = codebooks[0, every[:, 0]] + codebooks[1, every[:, 1]] + codebooks[2, every[:, 2]]
    best = np.square(vectors[:, None] - sums).sum(axis=2).min(axis=1)
    np.testing.assert_allclose(errors(vectors, codebooks, search(vectors, codebooks, 64)), best)
    greedy, beam = (errors(vectors, codebooks, search(vectors, codebooks, width)) for width in (1, 8))
    first = np.square(vectors[:, None] - codebooks[0]).sum(axis=2).argmin(axis=1)
    np.testing.assert_array_equal(search(vectors, codebooks, 1)[:, 0], first)
    assert best.sum() <= beam.sum() < greedy.sum()


def test_blocks_do_not_show():
    """More vectors than one block of distances: each is coded as if it were alone."""
    rng = np.random.default_rng(1)
    vectors, codebooks = rng.normal(size=(600, 4)), rng.normal(size=(2, 256, 4))
    whole = search(vectors, codebooks)
    np.testing.assert_array_equal(whole[[0, 255, 256, 257, 599]], search(vectors[[0, 255, 256, 257, 599]], codebooks))


def test_sums_saturate():
    codec = RVQ(2, 2, 2)
    codebook = np.array([[127, -127], [1, 1], [100, -100], [0, 0]], np.int8)
    layer = codec.encode(np.array([[500, -500]], np.float32), codebook, ONE, "in")
    assert layer.codes.tolist() == [[[0, 0]]]
    assert codec.decode(layer).tolist() == [[127, -127]]


def test_bytes_by_kind():
    codec = parse_codec("rvq:k=16,d=8,stages=3")
    layer = codec.encode(np.ones((12, 5), np.float32), np.ones((48, 8), np.int8), ONE)
    assert layer_bytes(layer) == {"weights": 0, "indices": 15, "signs": 0, "codebooks": 384, "scales": 4}
    assert padded_weights(codec, (12, 5), "out") == 20
    assert codec.codebook_bytes == codec.stored_codebook_bytes == 384


@pytest.mark.parametrize("beam", [1, 8])
def test_equals_are_decided_alike_everywhere(beam):
    """Of equal sums the one extended from the earlier one, then the lower index."""
    vectors, codebooks = np.zeros((3, 2)), np.zeros((3, 4, 2))
    assert not search(vectors, codebooks, beam).any()
