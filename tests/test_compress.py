"""Compression: error figures, scales, small layers, the choice of codecs, determinism."""

import dataclasses
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from accel.codecs import LR2VQ, MVQ, RVQ, SSVQ, VQ, Int4, Int8, layer_bytes, parse_codec, ssvq
from accel.codecs.masks import Mask, largest_kept
from accel.errors import CodecError, ConfigError, FormatError, ModelError
from accel.graph import GraphBuilder
from accel.packed import packed_digest, read_packed, write_packed
from compiler.compress import compress, compress_layer, masked, relative_error
from compiler.compress.kmeans import cluster
from compiler.compress.scales import CLIP_RATIOS, integer_scale, refitted

# relative squared k-means error on Gaussian weights; arithmetic in the papers of the codecs
# (lr2vq of full rank is vq)
GAUSSIAN_ERROR = {
    "lr2vq:k=64,m=4,r=4": 0.185,
    "vq:k=64,d=4": 0.185,
    "ssvq:k=16,d=8": 0.192,
    "vq:k=256,d=4": 0.096,
    "ssvq:k=256,d=8": 0.093,
    "rvq:k=256,d=8,stages=2": 0.086,  # as measured: the papers give perplexities only
}


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def slow_error(weights, layer):
    decoded = layer.codec.decode(layer)
    error = power = 0.0
    for (row, column), weight in np.ndenumerate(weights.astype(float)):
        error += (weight - float(layer.scale[row % len(layer.scale)]) * int(decoded[row, column])) ** 2
        power += weight**2
    return error / power


def channel_errors(weights, layer):
    difference = weights - layer.codec.decode(layer) * layer.scale[:, None]
    return (difference**2).sum(axis=1) / (weights**2).sum(axis=1)


@pytest.mark.parametrize("scale", ["tensor", "channel"])
@pytest.mark.parametrize("name", GAUSSIAN_ERROR)
def test_gaussian_error_is_the_published_one(name, scale):
    weights = gaussian(1152, 384)
    layer = compress_layer(weights, parse_codec(name), scale, "out", seed=0)
    assert relative_error(weights, layer) == pytest.approx(GAUSSIAN_ERROR[name], rel=0.03)


@pytest.mark.parametrize("axis", ["out", "in"])
@pytest.mark.parametrize(
    "codec", [VQ(16, 4), SSVQ(16, 8), MVQ(16, 8, Mask(2, 4)), LR2VQ(16, 4, 4), RVQ(16, 4, 2), Int4(), Int8()], ids=str
)
def test_channel_scales_undo_a_spread_of_channels(codec, axis):
    """Channels of very different size cost little more than channels of one size. One scale for all loses the small
    channels (their share of the total error is small, so each channel's own error is what is compared)."""
    even = gaussian(64, 96)
    spread = even * np.logspace(-3, 0, 64, dtype=np.float32)[np.random.default_rng(1).permutation(64), None]
    error_even = channel_errors(even, compress_layer(even, codec, "channel", axis, 0))
    by_channel = channel_errors(spread, compress_layer(spread, codec, "channel", axis, 0))
    by_tensor = channel_errors(spread, compress_layer(spread, codec, "tensor", axis, 0))
    assert by_channel.mean() < 1.01 * error_even.mean()
    assert by_channel.mean() < 0.7 * by_tensor.mean()


@pytest.mark.parametrize("scale", ["tensor", "channel"])
@pytest.mark.parametrize(
    "codec", [VQ(8, 3), SSVQ(4, 5), MVQ(4, 4, Mask(1, 2)), LR2VQ(8, 3, 2), RVQ(8, 3, 2), Int4(), Int8()], ids=str
)
def test_relative_error_agrees_with_its_twin(codec, scale):
    weights = gaussian(10, 13)
    layer = compress_layer(weights, codec, scale, "out", 0)
    assert layer.scale.shape == ((10,) if scale == "channel" else (1,))
    assert relative_error(weights, layer) == pytest.approx(slow_error(weights, layer), rel=1e-5)


def test_low_rank_error_is_what_projection_and_clustering_lose():
    """Vectors of rank 3: a codebook of rank 3 is as good as vq's, of rank 2 it loses about the third singular value."""
    rng = np.random.default_rng(0)
    rows = np.linalg.qr(rng.normal(size=(8, 8)))[0][:3]
    weights = (rng.normal(size=(16384, 3)) * [4, 2, 1] @ rows).astype(np.float32).reshape(128, 1024)

    def error(spelling):
        return relative_error(weights, compress_layer(weights, parse_codec(spelling), "tensor", "in", 0))

    plain, full, low = error("vq:k=256,d=8"), error("lr2vq:k=256,m=8,r=3"), error("lr2vq:k=256,m=8,r=2")
    assert full == pytest.approx(plain, rel=0.03)
    assert 1 / 21 < low < 1 / 21 + plain  # the third of powers 16, 4, 1; two dimensions are clustered more finely


def slow_masked_round(vectors, kept, centroids):
    """One assignment and update of masked k-means, as the paper writes them."""
    codes = [
        min(range(len(centroids)), key=lambda i: sum((keeps * (v - centroids[i])) ** 2))
        for v, keeps in zip(vectors, kept, strict=True)
    ]
    moved = centroids.copy()
    for (i, lane), _ in np.ndenumerate(centroids):
        members = [v[lane] for v, keeps, code in zip(vectors, kept, codes, strict=True) if code == i and keeps[lane]]
        moved[i, lane] = np.mean(members) if members else centroids[i, lane]
    return moved


def test_masked_clusters_are_the_means_of_what_masks_keep(monkeypatch):
    vectors, mask = gaussian(60, 8).astype(np.float64), Mask(1, 4)
    kept = largest_kept(vectors, mask)
    start = vectors[np.random.default_rng(3).permutation(60)][:5]
    expected = slow_masked_round(vectors, kept, slow_masked_round(vectors, kept, start))
    monkeypatch.setattr(masked, "ITERATIONS", 2)
    found = masked.cluster_masked(vectors.astype(np.float32), kept, 5, seed=3)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_masked_clusters_that_fall_empty_take_the_farthest_vector():
    vectors = np.array([[1, 0], [1, 0], [1, 0], [9, 0]], np.float32)
    kept = np.tile([True, False], (4, 1))
    found = masked.cluster_masked(vectors, kept, 4, seed=0)
    assert sorted(set(found[:, 0].tolist())) == [1, 9]
    assert masked.cluster_masked(vectors, kept, 8, seed=0)[4:].tolist() == [[0, 0]] * 4


def test_masks_keep_the_largest_and_cost_what_they_leave_out():
    """4 of 16 Gaussian weights hold 70 % of the power (order statistics, by simulation); clustering loses the rest."""
    weights = gaussian(256, 256)
    vectors = weights.reshape(-1, 16).astype(np.float64)
    pruned = float(np.square(vectors * ~largest_kept(vectors, Mask(4, 16))).sum() / np.square(vectors).sum())
    layer = compress_layer(weights, MVQ(512, 16, Mask(4, 16)), "tensor", "in", 0)
    decoded = layer.codec.decode(layer).reshape(-1, 16)
    assert ((decoded != 0) <= largest_kept(vectors, Mask(4, 16))).all()
    assert pruned < relative_error(weights, layer) < pruned + 0.05


def test_a_layer_is_clustered_and_coded_by_one_thread_of_blas(monkeypatch):
    def threads():
        return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}

    seen, rank = [], ssvq.nearest_codewords
    monkeypatch.setattr(ssvq, "nearest_codewords", lambda *given: (seen.append(threads()), rank(*given))[1])
    weights, codec = gaussian(8, 16), parse_codec("ssvq:k=4,d=8")
    compress_layer(weights, codec, "tensor", "out", 0)  # faiss loads a BLAS of its own
    seen.clear()
    with threadpool_limits(2, user_api="blas"):
        compress_layer(weights, codec, "tensor", "out", 0)
        assert threads() == {2}
    assert seen and all(each == {1} for each in seen)


def test_codes_are_nearest_for_the_stored_codebook():
    """No other codeword would serve any vector better, save for the last refit of the scale (under 0.1 %)."""
    weights = gaussian(64, 64)
    layer = compress_layer(weights, VQ(16, 4), "tensor", "out", 0)
    again = layer.codec.encode(weights, layer.codebook, layer.scale, "out")
    assert np.abs(layer.codebook).max() == 127
    assert relative_error(weights, layer) <= relative_error(weights, again) * 1.001


def test_four_bits_clip_where_the_error_is_least():
    weights = gaussian(3, 4000)
    scale = integer_scale(weights, 7, "channel")
    for row, chosen in zip(weights, scale, strict=True):
        steps = [np.abs(row).max() / 7 * ratio for ratio in CLIP_RATIOS]
        errors = [sum((row - np.clip(np.rint(row / step), -7, 7) * step) ** 2) for step in steps]
        assert chosen == pytest.approx(steps[int(np.argmin(errors))], rel=1e-6)
    assert integer_scale(weights, 127, "tensor") == pytest.approx(np.abs(weights).max() / 127)


def test_refit_is_least_squares():
    weights, decoded = gaussian(2, 50), np.random.default_rng(0).integers(-9, 9, (2, 50)).astype(np.int8)
    decoded[:] *= np.sign((weights * decoded).sum(axis=1, keepdims=True)).astype(np.int8)
    old = np.ones(2, np.float32)
    for row, fitted in enumerate(refitted(weights, decoded, old)):
        assert fitted == pytest.approx(
            np.linalg.lstsq(decoded[row][:, None].astype(float), weights[row])[0][0], rel=1e-5
        )
    assert refitted(weights, np.zeros_like(decoded), old).tolist() == [1, 1]
    assert refitted(weights, -decoded, old).tolist() == [1, 1]


def test_zero_channels_decode_to_zero():
    weights = gaussian(8, 64)
    weights[3] = 0
    for codec in (VQ(16, 4), SSVQ(16, 4), Int8(), Int4()):
        layer = compress_layer(weights, codec, "channel", "in", 0)
        assert not (codec.decode(layer)[3] * layer.scale[3]).any()
    zeros = np.zeros((8, 8), np.float32)
    for codec in (VQ(4, 4), SSVQ(4, 4), Int8()):
        assert relative_error(zeros, compress_layer(zeros, codec, "channel", "out", 0)) == 0


@pytest.mark.parametrize("size", [1e-41, 1e-30, 1e30])
@pytest.mark.parametrize("codec", [VQ(16, 4), Int8()], ids=str)
def test_tiny_and_huge_weights(codec, size):
    weights = (gaussian(16, 32).astype(np.float64) * size).astype(np.float32)
    layer = compress_layer(weights, codec, "channel", "out", 0)
    assert np.isfinite(layer.scale).all()
    if size > 1e-38:
        assert relative_error(weights, layer) < 0.3


def test_fewer_vectors_than_codewords():
    """As many clusters as vectors: reproduced up to the rounding of the codebook; the rest of it is zero."""
    weights = gaussian(8, 6)
    layer = compress_layer(weights, VQ(64, 8), "tensor", "out", 0)
    assert relative_error(weights, layer) < 1e-4
    assert not layer.codebook[6:].any()


def test_clusters_that_fall_empty_are_reseeded():
    """Far more copies of one vector than of the others: every distinct vector still gets its codeword."""
    vectors = np.repeat(np.eye(4, dtype=np.float32), [5000, 2, 2, 2], axis=0)
    centroids = cluster(vectors, 4, seed=3)
    assert centroids.shape == (4, 4) and np.isfinite(centroids).all()
    distances = ((vectors[:, None] - centroids[None]) ** 2).sum(-1).min(1)
    assert distances.sum() / len(vectors) < 2e-3


def test_clustering_depends_on_the_seed_alone():
    vectors = gaussian(3000, 8)
    expected = cluster(vectors, 16, 1)
    found = []
    threads = [threading.Thread(target=lambda: found.append(cluster(vectors, 16, 1))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for centroids in found:
        np.testing.assert_array_equal(centroids, expected)
    assert not np.array_equal(cluster(vectors, 16, 2), expected)


@pytest.mark.parametrize("threads", [1, 2])
def test_clustering_ignores_and_restores_the_number_of_threads(threads):
    import faiss

    vectors, before = gaussian(3000, 8), faiss.omp_get_max_threads()
    expected = cluster(vectors, 16, 1)
    faiss.omp_set_num_threads(threads)
    try:
        np.testing.assert_array_equal(cluster(vectors, 16, 1), expected)
        assert faiss.omp_get_max_threads() == threads
    finally:
        faiss.omp_set_num_threads(before)


def network():
    """A depthwise conv too small to compress, two gemms, a bias and an embedding."""
    build = GraphBuilder("net")
    image = build.input("image", (1, 4, 8, 8))
    conv = build.op(
        "conv", image, build.parameter("dw.weight", (4, 1, 3, 3)), name="dw",
        kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1), dilation=(1, 1), groups=4,
    )  # fmt: skip
    rows = build.op("reshape", conv, name="rows", shape=(4, 64))
    wide = build.op(
        "gemm", rows, build.parameter("fc1.weight", (96, 64)), build.parameter("fc1.bias", (96,)), name="fc1"
    )
    out = build.op("gemm", wide, build.parameter("fc2.weight", (64, 96)), name="head")
    embedded = build.op("embedding", build.parameter("table", (5, 4)), build.input("ids", (2,)), name="embed")
    graph = build.build(out, embedded)
    return graph, {name: gaussian(*shape, seed=i) for i, (name, shape) in enumerate(graph.parameters.items())}


def codecs_of(result):
    return {report.name: str(report.codec) for report in result.reports}


def test_a_model_is_compressed_and_survives_its_file(tmp_path):
    graph, weights = network()
    seen = []
    result = compress(
        graph, weights, SSVQ(16, 8), progress=lambda *row: seen.append(row), description={"weights": "random"}
    )
    assert codecs_of(result) == {"dw.weight": "int8", "fc1.weight": "ssvq:k=16,d=8", "fc2.weight": "ssvq:k=16,d=8"}
    assert seen == [(0, 3, "dw.weight"), (1, 3, "fc1.weight"), (2, 3, "fc2.weight")]
    assert result.packed.parameters.keys() == {"fc1.bias", "table"}
    assert result.packed.source.description == {"weights": "random"}
    write_packed(result.packed, tmp_path / "p")
    assert packed_digest(read_packed(tmp_path / "p")) == packed_digest(result.packed)


def test_reports():
    graph, weights = network()
    small, large, _ = compress(graph, weights, SSVQ(16, 8)).reports
    assert small.reason == "ssvq:k=16,d=8 would take 142 bytes, int8 takes 36"
    assert large.reason == ""
    layer = compress(graph, weights, SSVQ(16, 8)).packed.layers["fc1.weight"]
    matrix = weights["fc1.weight"]
    assert large.relative_error == relative_error(matrix, layer)
    assert large.bytes_by_kind == layer_bytes(layer)
    assert large.bits_per_weight == 8 * (96 * 64 * 1.5 / 8 + 128 + 4 * 96) / (96 * 64)
    assert (large.shape, large.padded_weights) == ((96, 64), 0)


def test_keep_matches_weights_and_operators_and_the_last_pattern_wins():
    graph, weights = network()
    keep = [("*", Int8()), ("head", Int4()), ("fc1.*", VQ(16, 2)), ("dw.weight", SSVQ(16, 8))]
    result = compress(graph, weights, SSVQ(16, 8), keep=keep)
    expected = {"dw.weight": "ssvq:k=16,d=8", "fc1.weight": "vq:k=16,d=2", "fc2.weight": "int4"}
    assert codecs_of(result) == expected
    assert [report.reason for report in result.reports] == [
        "kept by pattern 'dw.weight'",
        "kept by pattern 'fc1.*'",
        "kept by pattern 'head'",
    ]


def test_patterns_that_match_nothing_are_refused():
    graph, weights = network()
    with pytest.raises(ConfigError, match=r"'fc1.wieght' matches no weight; did you mean 'fc1.weight'\?"):
        compress(graph, weights, Int8(), keep=[("fc1.wieght", Int4())])
    with pytest.raises(ConfigError, match=r"matches no weight; weights are dw.weight, fc1.weight, fc2.weight$"):
        compress(graph, weights, Int8(), keep=[("????????????", Int4())])


def test_leaving_a_layer_out_does_not_change_the_others():
    graph, weights = network()
    plain = compress(graph, weights, VQ(16, 4)).packed.layers["fc2.weight"]
    kept = compress(graph, weights, VQ(16, 4), keep=[("fc1*", Int8())]).packed.layers["fc2.weight"]
    np.testing.assert_array_equal(plain.codes, kept.codes)


def test_the_seed_decides():
    graph, weights = network()
    digests = [packed_digest(compress(graph, weights, VQ(16, 4), seed=seed).packed) for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_conv_weights_are_seen_as_a_matrix_and_padding_is_reported():
    build = GraphBuilder("c")
    conv = build.op(
        "conv", build.input("x", (1, 64, 4, 4)), build.parameter("w", (30, 64, 3, 3)), name="c",
        kernel=(3, 3), stride=(1, 1), padding=(1, 1, 1, 1), dilation=(1, 1), groups=1,
    )  # fmt: skip
    weights = gaussian(30, 64, 3, 3)
    (report,) = compress(build.build(conv), {"w": weights}, SSVQ(16, 8), vector_axis="out").reports
    assert (report.shape, report.padded_weights) == ((30, 576), 2 * 576)


def changed(weights, name, value):
    return {**weights, name: value}


@pytest.mark.parametrize(
    "name, value, error, message",
    [
        ("fc1.weight", np.full((96, 64), np.nan), CodecError, "weight 'fc1.weight': 6144 of 6144 weights are NaN"),
        ("fc1.weight", np.full((96, 64), 1e300), CodecError, "NaN or infinite"),
        ("fc1.weight", gaussian(64, 96), ModelError, "parameter 'fc1.weight': values of shape"),
        ("fc1.bias", np.full(96, np.inf, np.float32), FormatError, "parameter 'fc1.bias'"),
        ("table", np.full((5, 4), 2**31), ModelError, "do not fit into 32 bits"),
    ],
)
def test_wrong_values_are_refused(name, value, error, message):
    graph, weights = network()
    with pytest.raises(error, match=message):
        compress(graph, changed(weights, name, value), SSVQ(16, 8))


def test_missing_values_and_wrong_scales_are_refused():
    graph, weights = network()
    renamed = {name.replace("fc1.b", "fc1.B"): value for name, value in weights.items()}
    with pytest.raises(ModelError, match=r"'fc1.bias' has no values; did you mean 'fc1.Bias'\?"):
        compress(graph, renamed, Int8())
    with pytest.raises(ConfigError, match=r"scale 'chanel'; allowed: channel, tensor; did you mean 'channel'\?"):
        compress(graph, weights, Int8(), scale="chanel")


def test_integer_parameters_stay_integers():
    graph, weights = network()
    packed = compress(graph, changed(weights, "table", np.ones((5, 4), np.int64)), Int8()).packed
    assert packed.parameters["table"].dtype == np.int32
    assert dataclasses.replace(packed).parameters["fc1.bias"].dtype == np.float32
