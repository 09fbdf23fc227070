"""Codec spellings, and encode/decode against twins that look at one vector at a time."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import random_codebook, random_projection

from accel.codecs import (
    CODECS,
    LR2VQ,
    MVQ,
    RVQ,
    SSVQ,
    VECTOR_AXES,
    VQ,
    EncodedLayer,
    Int4,
    Int8,
    codes_shape,
    layer_bytes,
    padded_bytes,
    padded_weights,
    parse_codec,
)
from accel.codecs.masks import Mask
from accel.codecs.projection import Projection
from accel.errors import CodecError

ONE = np.ones(1, np.float32)


def slow_vectors(shape, codec, axis):
    """For every code, in row-major order: the (row, column) of each of its weights, ``None`` where it is padding."""
    rows, columns = codes_shape(codec, shape, axis)
    for row in range(rows):
        for column in range(columns):
            places = [
                (row * codec.vector_length + i, column) if axis == "out" else (row, column * codec.vector_length + i)
                for i in range(codec.vector_length)
            ]
            yield (row, column), [(r, c) if r < shape[0] and c < shape[1] else None for r, c in places]


def slow_encode(weights, codec, codebook, scale, axis):
    """Codes, and of each weight whether it is negative (``ssvq``) or kept (``mvq``)."""
    codes = np.zeros(codes_shape(codec, weights.shape, axis), np.uint16)
    flags = np.zeros((*codes.shape, codec.vector_length), bool)
    for place, sources in slow_vectors(weights.shape, codec, axis):
        vector = [0.0 if at is None else float(weights[at]) / float(scale[at[0] % len(scale)]) for at in sources]
        counted = [True] * len(vector)
        if codec.has_signs:
            flags[place] = [value < 0 for value in vector]
            vector = [abs(value) for value in vector]
        elif codec.mask is not None:
            flags[place] = counted = slow_mask(vector, codec.mask)
        distances = [
            sum((x - float(c)) ** 2 for x, c, counts in zip(vector, word, counted, strict=True) if counts)
            for word in codebook
        ]
        codes[place] = distances.index(min(distances))
    return codes, flags


def slow_mask(vector, mask):
    """For each weight, whether fewer than N of its group are larger, or as large and before it."""
    kept = []
    for i, value in enumerate(vector):
        first = i - i % mask.group
        group = vector[first : first + mask.group]
        ahead = [x for j, x in enumerate(group) if abs(x) > abs(value) or (abs(x) == abs(value) and first + j < i)]
        kept.append(len(ahead) < mask.kept)
    return kept


def slow_fold(codebook, projection):
    """Codeword by codeword, in whole numbers: ties of the rounding go up."""
    folded = np.zeros((len(codebook), projection.matrix.shape[1]), np.int8)
    for (k, i), _ in np.ndenumerate(folded):
        total = sum(int(c) * int(p) for c, p in zip(codebook[k], projection.matrix[:, i], strict=True))
        rounded = (2 * total + (1 << projection.shift)) // (2 << projection.shift)
        folded[k, i] = max(-127, min(127, rounded))
    return folded


def slow_flags(layer, place):
    """The side bits of a vector, weight by weight: sign bits as they are, masks by their index."""
    mask, bits = layer.codec.mask, [] if layer.side is None else layer.side[place].tolist()
    if mask is None:
        return bits
    flags = []
    for start in range(0, len(bits), mask.index_bits):
        index = sum(bit << i for i, bit in enumerate(bits[start : start + mask.index_bits]))
        patterns = [n for n in range(1 << mask.group) if n.bit_count() == mask.kept]
        flags += [bool(patterns[index] >> position & 1) for position in range(mask.group)]
    return flags


def slow_decode(layer):
    weights = np.zeros(layer.shape, np.int8)
    words = slow_fold(layer.codebook, layer.projection) if layer.projection else layer.codebook
    for place, sources in slow_vectors(layer.shape, layer.codec, layer.vector_axis):
        flags = slow_flags(layer, place)
        for i, at in enumerate(sources):
            if at is not None:
                factor = (-1 if flags[i] else 1) if layer.codec.has_signs else int(not flags or flags[i])
                weights[at] = factor * int(words[layer.codes[place], i])
    return weights


@st.composite
def vector_codecs(draw):
    k, d = draw(st.sampled_from([2, 4, 16])), draw(st.integers(1, 9))
    family = draw(st.sampled_from([VQ, SSVQ, MVQ, LR2VQ]))
    if family is MVQ:
        mask = Mask(*draw(st.sampled_from([(1, 2), (2, 3), (2, 4), (3, 8)])))
        return MVQ(k, mask.group * draw(st.integers(1, 3)), mask)
    return family(k, d, draw(st.integers(1, min(k, d)))) if family is LR2VQ else family(k, d)


@st.composite
def vector_cases(draw):
    codec = draw(vector_codecs())
    shape = draw(st.integers(1, 12)), draw(st.integers(1, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    codebook = random_codebook(codec, rng)
    codebook[1] = codebook[0]  # a tie everywhere
    weights = rng.integers(-130, 131, shape).astype(np.float32)
    scale = 2.0 ** rng.integers(-3, 4, draw(st.sampled_from([1, shape[0]])))  # powers of two: exact quotients
    projection = random_projection(codec, rng)
    return weights, codec, codebook, scale.astype(np.float32), draw(st.sampled_from(VECTOR_AXES)), projection


@given(vector_cases())
def test_vector_codecs_agree_with_the_slow_twin(case):
    weights, codec, codebook, scale, axis, projection = case
    words = slow_fold(codebook, projection) if projection else codebook
    layer = codec.encode(weights, codebook, scale, axis, **({"projection": projection} if projection else {}))
    codes, flags = slow_encode(weights, codec, words, scale, axis)
    np.testing.assert_array_equal(layer.codes, codes)
    for place in np.ndindex(codes.shape):
        assert slow_flags(layer, place) == (flags[place].tolist() if codec.layout.side_bits else [])
    np.testing.assert_array_equal(codec.decode(layer), slow_decode(layer))


@given(st.sampled_from([Int8(), Int4()]), st.integers(0, 2**32))
def test_integer_codecs_round_and_clip(codec, seed):
    rng = np.random.default_rng(seed)
    weights = rng.normal(0, codec.limit, (5, 7)).astype(np.float32)
    scale = rng.uniform(0.5, 2, 5).astype(np.float32)
    layer = codec.encode(weights, None, scale)
    decoded = codec.decode(layer)
    for (row, column), weight in np.ndenumerate(weights):
        expected = max(-codec.limit, min(codec.limit, round(float(weight) / float(scale[row]))))
        assert decoded[row, column] == expected
        assert layer.codes[row, column] == expected % (1 << codec.width)


def test_every_integer_survives():
    for codec in (Int8(), Int4()):
        values = np.arange(-codec.limit, codec.limit + 1, dtype=np.float32)[None]
        np.testing.assert_array_equal(codec.decode(codec.encode(values, None, ONE)), values)


def test_blocks_do_not_show():
    """More vectors than one block of distances; a vector equal to a codeword finds it, or an equal one before it."""
    codec, rng = VQ(4096, 2), np.random.default_rng(0)
    codebook = random_codebook(codec, rng)
    picked = rng.integers(0, codec.k, 1000)
    weights = codebook[picked].astype(np.float32).reshape(1, -1)
    layer = codec.encode(weights, codebook, ONE, "in")
    np.testing.assert_array_equal(codec.decode(layer), weights)
    first = [int(np.flatnonzero((codebook == codebook[index]).all(axis=1))[0]) for index in picked]
    assert layer.codes.reshape(-1).tolist() == first


@pytest.mark.parametrize("row", CODECS.values(), ids=CODECS)
def test_spellings_round_trip(row):
    codec = parse_codec(row.example)
    assert str(codec) == row.example
    assert isinstance(codec, row.codec)
    assert parse_codec(str(codec)) == codec
    assert set(CODECS) >= {codec.family}


def test_parameters_come_in_any_order():
    assert parse_codec("ssvq:d=8,k=16") == SSVQ(k=16, d=8)


@pytest.mark.parametrize(
    "text, message",
    [
        ("svq:k=16,d=8", "unknown family 'svq'; allowed: int8, int4, vq, ssvq, mvq, lr2vq, rvq; did you mean 'ssvq'?"),
        ("", "unknown family ''"),
        ("vq", "parameter k, d missing; expected e.g. 'vq:k=256,d=4'"),
        ("vq:k=16", "parameter d missing"),
        ("vq:k=16,k=16,d=4", "parameter 'k' is given twice"),
        ("vq:k=16,dd=4", "unknown parameter 'dd'; allowed: k, d; did you mean 'd'?"),
        ("int8:k=4", "unknown parameter 'k'; allowed: none"),
        ("vq:k=sixteen,d=4", "k='sixteen'; expected a whole number"),
        ("vq:k=16.0,d=4", "k='16.0'; expected a whole number"),
        ("vq:k=-16,d=4", "expected a whole number"),
        ("vq:k=99999999999999999999,d=4", "expected a whole number"),
        ("vq:k=100,d=4", "k=100 is not a power of two from 2 to 65536; nearest: 64 and 128"),
        ("vq:k=1,d=4", "nearest: 2"),
        ("vq:k=0,d=4", "nearest: 2"),
        ("vq:k=131072,d=4", "nearest: 65536"),
        ("vq:k=16,d=0", "d=0 weights a vector; allowed: 1 to 64"),
        ("vq:k=16,d=65", "d=65 weights a vector; allowed: 1 to 64"),
        ("mvq:k=16,d=8", "parameter nm missing; expected e.g. 'mvq:k=512,d=16,nm=4:16'"),
        ("mvq:k=16,d=8,nm=4", "nm='4'; expected N:M, two whole numbers"),
        ("mvq:k=16,d=8,nm=2:x", "nm='2:x'; expected N:M, two whole numbers"),
        ("mvq:k=16,d=8,nm=2:4:8", "expected N:M, two whole numbers"),
        ("mvq:k=16,d=8,nm=4:4", "mask 4:4: N=4 of M=4 kept; allowed: 1 to 3"),
        ("mvq:k=16,d=10,nm=2:4", "mask 2:4: vectors of 10 weights; allowed: multiples of M=4"),
        ("mvq:k=16,d=16,nm=8:16", "an index of 14 bits; allowed: at most 12 bits"),
        ("mvq:k=15,d=16,nm=4:16", "k=15 is not a power of two"),
        ("lr2vq:k=16,m=8", "parameter r missing; expected e.g. 'lr2vq:k=256,m=8,r=4'"),
        ("lr2vq:k=16,m=65,r=4", "m=65 weights a vector; allowed: 1 to 64"),
        ("lr2vq:k=16,m=8,r=9", "r=9; allowed: 1 to 8, no more than k and m"),
        ("lr2vq:k=4,m=8,r=5", "r=5; allowed: 1 to 4, no more than k and m"),
        ("lr2vq:k=16,m=8,r=0", "r=0; allowed: 1 to 8"),
        ("rvq:k=256,d=8", "parameter stages missing; expected e.g. 'rvq:k=256,d=8,stages=2'"),
        ("rvq:k=256,d=8,stages=1", "stages=1; allowed: 2 to 8; a single stage is vq:k=256,d=8"),
        ("rvq:k=256,d=8,stages=0", "stages=0; allowed: 2 to 8"),
        ("rvq:k=256,d=8,stages=9", "stages=9; allowed: 2 to 8"),
        ("rvq:k=100,d=8,stages=2", "k=100 is not a power of two from 2 to 65536; nearest: 64 and 128"),
    ],
)
def test_wrong_spellings_say_what_is_wrong(text, message):
    with pytest.raises(CodecError) as caught:
        parse_codec(text)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, bits",
    [
        *[("int8", 8), ("int4", 4), ("vq:k=256,d=4", 2), ("ssvq:k=256,d=8", 2), ("ssvq:k=16,d=8", 1.5)],
        *[("lr2vq:k=256,m=8,r=4", 1), ("mvq:k=512,d=16,nm=4:16", 20 / 16), ("mvq:k=512,d=16,nm=2:4", 21 / 16)],
        *[("rvq:k=256,d=8,stages=2", 2), ("rvq:k=4096,d=4,stages=3", 9)],
    ],
)
def test_bits_per_weight_of_the_design_table(text, bits):
    """Of masks, the stored bits: log2 of binomial(16, 4) = 1820 is 10.8 and takes 11, of binomial(4, 2) = 6, 3."""
    assert parse_codec(text).bits_per_weight == bits


def test_masks_count_as_indices_and_factors_as_codebooks():
    masked = MVQ(512, 16, Mask(4, 16)).encode(np.ones((64, 5), np.float32), np.ones((512, 16), np.int8), ONE)
    expected = {"weights": 0, "indices": 23 + 28, "signs": 0, "codebooks": 8192, "scales": 4}  # 20 vectors: 9 + 11 bits
    assert layer_bytes(masked) == expected
    folded = legal_layer(LR2VQ(16, 8, 2))
    assert layer_bytes(folded)["codebooks"] == 16 * 2 + 2 * 8
    assert folded.codec.codebook_bytes == 16 * 8


@pytest.mark.parametrize(
    "matrix, shift, message",
    [
        (np.ones((1, 2), np.int16), 0, "projection int16"),
        (np.ones(2, np.int8), 0, r"expected int8\[r, m\]"),
        (np.ones((3, 2), np.int8), 0, "rank 3 of codewords of 2 weights; allowed: 1 to m"),
        (np.ones((1, 65), np.int8), 0, "rank 1 of codewords of 65 weights"),
        (np.ones((0, 2), np.int8), 0, "rank 0 of codewords"),
        (np.ones((1, 2), np.int8), 21, "shift 21; allowed: 0 to 20"),
        (np.ones((1, 2), np.int8), -1, "shift -1; allowed: 0 to 20"),
        (np.full((1, 2), -128, np.int8), 0, "projection element -128; allowed: -127 to 127"),
    ],
)
def test_impossible_projections_are_refused(matrix, shift, message):
    with pytest.raises(CodecError, match=message):
        Projection(matrix, shift)


def test_folds_round_ties_up_and_saturate():
    projection = Projection(np.array([[3, -3, 127]], np.int8), 1)
    assert projection.fold(np.array([[1], [127]], np.int8)).tolist() == [[2, -1, 64], [127, -127, 127]]


def test_bytes_by_kind():
    codec, weights = SSVQ(16, 8), np.ones((12, 5), np.float32)
    layer = codec.encode(weights, np.ones((16, 8), np.int8), np.ones(12, np.float32))
    assert layer.codes.shape == (2, 5)
    expected = {"weights": 0, "indices": 5, "signs": 10, "codebooks": 128, "scales": 48}
    assert layer_bytes(layer) == expected
    assert padded_weights(codec, (12, 5), "out") == 20
    assert padded_weights(codec, (12, 5), "in") == 36
    assert padded_bytes(codec, (12, 5), "out") == 20 * 1.5 / 8
    assert layer_bytes(Int4().encode(weights, None, ONE)) == {
        "weights": 30, "indices": 0, "signs": 0, "codebooks": 0, "scales": 4
    }  # fmt: skip


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("codec", [Int8(), VQ(2, 2), SSVQ(2, 2)], ids=str)
def test_weights_that_are_not_finite_are_refused(codec, value):
    weights = np.ones((2, 2), np.float32)
    weights[1, 0] = value
    codebook = np.ones((2, 2), np.int8) if codec.codebook_entries else None
    with pytest.raises(CodecError, match="1 of 4 weights are NaN or infinite"):
        codec.encode(weights, codebook, ONE)


@pytest.mark.parametrize("scale", [[0.0], [-1.0], [math.nan], [math.inf], [1.0, 1.0, 1.0], []])
def test_scales_that_cannot_divide_are_refused(scale):
    with pytest.raises(CodecError, match="scale"):
        Int8().encode(np.ones((2, 2), np.float32), None, np.array(scale, np.float32))


@pytest.mark.parametrize("codebook", [None, np.zeros((3, 2), np.int8), np.zeros((2, 2), np.uint8)])
def test_wrong_codebooks_are_refused(codebook):
    with pytest.raises(CodecError, match=r"expected int8\[2, 2\]"):
        VQ(2, 2).encode(np.ones((2, 2), np.float32), codebook, ONE)


def legal_layer(codec):
    weights = np.random.default_rng(0).normal(0, 40, (4, 3)).astype(np.float32)
    rng = np.random.default_rng(1)
    codebook = random_codebook(codec, rng) if codec.codebook_entries else None
    folded = {"projection": random_projection(codec, rng)} if codec.projection_shape else {}
    return codec.encode(weights, codebook, ONE, **folded)


@pytest.mark.parametrize(
    "codec, change, message",
    [
        (SSVQ(4, 2), {"codes": np.full((2, 3), 4, np.uint16)}, "code 4 is out of range; allowed: below 4"),
        (SSVQ(4, 2), {"codes": np.zeros((3, 2), np.uint16)}, "codes of shape"),
        (SSVQ(4, 2), {"codes": np.zeros((2, 3), np.int64)}, "codes of type int64"),
        (SSVQ(4, 2), {"side": None}, "side bits of shape None"),
        (MVQ(4, 4, Mask(2, 4)), {"side": np.ones((1, 3, 3), bool)}, "mask index 7 is out of range; allowed: below 6"),
        (MVQ(4, 4, Mask(2, 4)), {"side": np.ones((1, 3, 4), bool)}, r"side bits of shape \(1, 3, 4\); expected"),
        (MVQ(4, 4, Mask(2, 4)), {"side": None}, "side bits of shape None"),
        (MVQ(4, 4, Mask(2, 4)), {"codebook": np.full((4, 4), -128, np.int8)}, "codebook element -128"),
        (LR2VQ(4, 2, 1), {"projection": None}, r"projection of shape None; expected \(1, 2\)"),
        (LR2VQ(4, 2, 1), {"projection": Projection(np.ones((2, 2), np.int8), 0)}, "projection of shape"),
        (LR2VQ(4, 2, 1), {"codebook": np.ones((4, 2), np.int8)}, "codebook of shape"),
        (LR2VQ(4, 2, 1), {"codebook": np.full((4, 1), -128, np.int8)}, "codebook element -128"),
        (RVQ(4, 2, 2), {"codes": np.zeros((2, 3), np.uint16)}, r"codes of shape \(2, 3\); expected \(2, 3, 2\)"),
        (RVQ(4, 2, 2), {"codes": np.full((2, 3, 2), 4, np.uint16)}, "code 4 is out of range; allowed: below 4"),
        (RVQ(4, 2, 2), {"codebook": np.ones((4, 2), np.int8)}, r"codebook of shape \(4, 2\); expected \(8, 2\)"),
        (RVQ(4, 2, 2), {"codebook": np.full((8, 2), -128, np.int8)}, "codebook element -128; allowed: -127 to 127"),
        (VQ(4, 2), {"projection": Projection(np.ones((1, 2), np.int8), 0)}, "projection of shape"),
        (SSVQ(4, 2), {"codebook": None}, "codebook of shape None"),
        (SSVQ(4, 2), {"codebook": np.full((4, 2), -1, np.int8)}, "codebook element -1; allowed: 0 to 127"),
        (VQ(4, 2), {"codebook": np.full((4, 2), -128, np.int8)}, "codebook element -128; allowed: -127 to 127"),
        (VQ(4, 2), {"side": np.zeros((2, 3, 2), bool)}, "side bits of shape"),
        (VQ(4, 2), {"vector_axis": "both"}, "vector axis 'both'; allowed: out, in"),
        (VQ(4, 2), {"scale": np.array([math.nan], np.float32)}, "NaN or infinite"),
        (VQ(4, 2), {"scale": np.ones(3, np.float32)}, "scale of shape"),
        (VQ(4, 2), {"shape": (4, 0)}, "two positive sizes"),
        (Int8(), {"codes": np.full((4, 3), 128, np.uint16)}, "integer -128 is out of range"),
        (Int4(), {"codes": np.full((4, 3), 8, np.uint16)}, "integer -8 is out of range"),
        (Int8(), {"codebook": np.zeros((1, 1), np.int8)}, "codebook of shape"),
    ],
)
def test_illegal_layers_cannot_be_built(codec, change, message):
    layer = legal_layer(codec)
    assert isinstance(layer, EncodedLayer)
    with pytest.raises(CodecError, match=message):
        dataclasses.replace(layer, **change)
