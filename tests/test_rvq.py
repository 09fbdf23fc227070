"""Residual codebooks: twins that look at one vector and one weight at a time, training, what look-ups cost."""

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Coding, encode_randomly, random_codebook
from weight_cases import random_layer, weight_program

from accel.codecs import RVQ, VECTOR_AXES, codes_shape, layer_bytes, padded_weights, parse_codec, vector_grid
from accel.codecs.rvq import search
from accel.errors import CompileError
from accel.machine import load_machine
from compiler.compress import compress_layer, relative_error, residual
from compiler.tile import tile_layer
from sim import check_weights, simulate

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
    grid = vector_grid(codec, layer.shape, axis)
    assert layer.codes.shape == codes_shape(codec, layer.shape, axis) == (*grid, codec.stages)
    stages = codebook.reshape(codec.stages, codec.k, codec.d)
    for row, column in np.ndindex(grid):
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


def test_weights_say_which_sums_are_nearest():
    """A wide beam finds the least weighted error of all sums; weights that are all the same change nothing."""
    rng = np.random.default_rng(0)
    vectors, codebooks = rng.normal(size=(100, 3)), rng.normal(size=(2, 8, 3)) * np.array([1, 0.5])[:, None, None]
    weights = rng.random((100, 3)) ** 3
    every = np.array(list(itertools.product(range(8), repeat=2)))
    errors = np.square(vectors[:, None] - codebooks[0, every[:, 0]] - codebooks[1, every[:, 1]])
    best = every[(errors * weights[:, None]).sum(axis=2).argmin(axis=1)]
    np.testing.assert_array_equal(search(vectors, codebooks, 8, weights), best)
    assert (search(vectors, codebooks, 8) != best).any()
    np.testing.assert_array_equal(search(vectors, codebooks, 8, np.full((100, 3), 4.0)), search(vectors, codebooks, 8))


VECTORS = np.random.default_rng(0).standard_normal((6000, 4), dtype=np.float32)


LANES = np.random.default_rng(1).random((6000, 4), dtype=np.float32) ** 2


def loss(codebooks, codes, seed, lanes):
    """Of ``VECTORS`` in the order training took them in."""
    order = np.random.default_rng(seed).permutation(len(VECTORS))
    counted = 1 if lanes is None else lanes[order]
    return float((counted * np.square(VECTORS[order] - residual.sums(codebooks, codes))).sum())


@pytest.mark.parametrize("lanes", [None, LANES[:, :1], LANES], ids=["plain", "by vector", "by lane"])
def test_training_never_loses_to_greedy_stages(lanes, monkeypatch):
    """Errors on what was trained on, round after round; the first is that of plain residual k-means."""
    found = []
    for rounds in range(5):
        monkeypatch.setattr(residual, "ROUNDS", rounds)
        found.append(loss(*residual.cluster_residual(VECTORS, 16, 2, 3, lanes), 3, lanes))
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.95 * found[0]


def test_means_are_of_what_other_stages_leave():
    rng = np.random.default_rng(1)
    vectors, codebooks = rng.normal(size=(30, 2)), rng.normal(size=(2, 4, 2))
    codes = rng.integers(0, 3, (30, 2)).astype(np.uint16)  # nobody is coded by the last
    expected = codebooks.copy()
    for stage in range(2):
        for word in range(3):
            members = [n for n in range(30) if codes[n, stage] == word]
            left = [vectors[n] - expected[1 - stage, codes[n, 1 - stage]] for n in members]
            expected[stage, word] = np.mean(left, axis=0)
    residual.improve(vectors, codebooks, codes)
    np.testing.assert_allclose(codebooks, expected)


def test_two_stages_beat_one_and_equal_bits_of_vq():
    weights = np.random.default_rng(2).standard_normal((128, 512), dtype=np.float32)

    def error(spelling):
        return relative_error(weights, compress_layer(weights, parse_codec(spelling), "channel", "out", 0))

    assert error("rvq:k=16,d=4,stages=2") < 0.97 * error("vq:k=16,d=2") < error("vq:k=16,d=4")
    assert error("rvq:k=16,d=4,stages=3") < 0.5 * error("rvq:k=16,d=4,stages=2")


@pytest.mark.parametrize("weights", [np.zeros((8, 6)), np.full((3, 5), 2.5), np.eye(4) * 1e-30, np.full((2, 2), 1e30)])
@pytest.mark.parametrize("axis", VECTOR_AXES)
def test_layers_with_few_vectors_or_values(weights, axis):
    layer = compress_layer(weights.astype(np.float32), RVQ(16, 4, 2), "channel", axis, 0)
    assert relative_error(weights.astype(np.float32), layer) < 1e-3


def test_the_largest_weights_do_not_saturate():
    """The step leaves room for sums, not only for codewords."""
    weights = np.random.default_rng(4).standard_normal((64, 64), dtype=np.float32)
    codebook, step = residual.residual_codebooks(weights.reshape(-1, 4), 16, 2, 0)
    layer = RVQ(16, 4, 2).encode(weights, codebook, np.full(1, step, np.float32), "in")
    sums = np.abs(residual.sums(codebook.reshape(2, 16, 4).astype(int), layer.codes.reshape(-1, 2)))
    assert sums.max() <= 128  # rounding of two codewords may add one


def test_codebooks_are_refused_that_the_decoder_cannot_hold():
    machine = load_machine("edge64", ["decoder.codebook_bytes=4096"])
    layer = encode_randomly((64, 64), Coding("rvq:k=256,d=8,stages=2", "out", True), np.random.default_rng(0))
    assert tile_layer(layer, 1, machine, "w").layout.codes_per_vector == 2
    small = load_machine("edge64", ["decoder.codebook_bytes=4095"])
    with pytest.raises(CompileError, match="codebook of rvq:k=256,d=8,stages=2 takes 4096 bytes; allowed on machine"):
        tile_layer(layer, 1, small, "w")


def test_a_vector_costs_a_look_up_a_stage():
    """Counted by hand: 64 columns are 8 vectors of 3 codes a row, 4 look-ups a cycle."""
    layer = random_layer("rvq:k=16,d=8,stages=3", (64, 48), "out", np.random.default_rng(0))
    machine = load_machine("edge64-ideal", ["decoder.lookups_per_cycle=4", "decoder.input_bits=512"])
    run = simulate(weight_program([layer], 16, 64, machine=machine))
    counted = {name: sum(row.decoder[name] for row in run.layers) for name in ("lookup_groups", "lookup_cycles")}
    assert counted == {"lookup_groups": 48 * 8 * 3 // 4, "lookup_cycles": 48 * 8 * 3 // 4}
    indices = sum(row.dram_bytes["indices"] for row in run.layers)
    assert indices == 48 * 8 * 3 * 4 // 8
    check_weights(weight_program([layer], 16, 64, machine=machine))


def test_banks_hold_stages_one_after_the_other():
    """Codes 0 of three stages of 4 codewords: entries 0, 4 and 8 meet in one of 4 banks, in none of 3 or 5."""
    layer = random_layer("rvq:k=4,d=8,stages=3", (64, 48), "out", np.random.default_rng(0))
    layer = dataclasses.replace(layer, codes=np.zeros_like(layer.codes))
    for banks, cycles in ((4, 3), (3, 1), (5, 1), (1, 3)):
        settings = ["decoder.lookups_per_cycle=3", f"decoder.codebook_banks={banks}", "decoder.input_bits=512"]
        machine = load_machine("edge64-ideal", settings)
        run = simulate(weight_program([layer], 16, 64, machine=machine))
        assert sum(row.decoder["lookup_cycles"] for row in run.layers) == cycles * 48 * 8


def test_what_was_known_is_kept_where_a_beam_misses_it():
    codebooks = np.array([[[0.0], [4.0]], [[0.0], [1.0]]])
    old, new = np.array([[0, 0], [0, 1]], np.uint16), np.array([[1, 0], [1, 1]], np.uint16)
    assert residual.nearer(np.array([[0.4], [4.6]]), codebooks, old, new).tolist() == [[0, 0], [1, 1]]
