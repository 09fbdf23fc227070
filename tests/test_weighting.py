"""Errors weighed by activation moments, and depthwise layers without split signs."""

import numpy as np
import pytest
from test_budget import gaussian, network

from accel.cli import main
from accel.codecs import LR2VQ, MVQ, RVQ, SSVQ, VQ, Int4
from accel.codecs.base import to_vectors
from accel.codecs.masks import Mask
from accel.errors import ConfigError
from accel.graph import GraphBuilder
from compiler.compress import compress, compress_layer
from compiler.compress.kmeans import cluster
from compiler.compress.lanes import lane_weights, nearest_by_lane
from compiler.compress.masked import cluster_masked
from compiler.compress.moments import DAMPING, folded_moments, second_moments
from compiler.quantise import ChannelExponents
from compiler.quantise.revised import recorded

VQ_CODECS = [VQ(16, 4), SSVQ(8, 4), MVQ(16, 4, Mask(2, 4)), LR2VQ(16, 4, 3)]


# --- moments ---------------------------------------------------------------------------------------------------------


def naive_moments(graph, weights, samples, op):
    """Mean over samples and positions of the square of what each weight multiplies, one multiplication at a time."""
    shape = graph.parameters[op.inputs[1]]
    totals, count = np.zeros(shape), 0
    for sample in samples:
        x = recorded(graph, weights, sample)[op.inputs[0]].astype(float)
        if op.kind == "gemm":
            totals += np.square(x).reshape(-1, shape[1]).sum(0)
            count += x.size // shape[1]
            continue
        top, left, bottom, right = op.attributes["padding"]
        x = np.pad(x[0], ((0, 0), (top, bottom), (left, right)))
        (sy, sx), (_, _, height, width) = op.attributes["stride"], graph.shapes[op.output]
        count += height * width
        for o, c, i, j in np.ndindex(*shape):
            channel = o // (shape[0] // op.attributes["groups"]) * shape[1] + c
            taken = x[channel, i : i + sy * (height - 1) + 1 : sy, j : j + sx * (width - 1) + 1 : sx]
            totals[o, c, i, j] += np.square(taken).sum()
    means = (totals / count).reshape(shape[0], -1)
    return (means / means.mean() + DAMPING) / (1 + DAMPING)


def test_moments_agree_with_their_twin():
    graph, weights, samples = network()
    found = second_moments(graph, weights, samples)
    assert {name: len(each) for name, each in found.items()} == {
        "stem.weight": 1, "deep.weight": 64, "wide.weight": 1, "head.weight": 1,
    }  # fmt: skip
    for op in graph.weight_ops():
        expected = naive_moments(graph, weights, samples, op)
        np.testing.assert_allclose(np.broadcast_to(found[op.inputs[1]], expected.shape), expected, rtol=1e-4)


def test_moments_of_what_never_fires_count_all_the_same():
    graph, weights, samples = network()
    silent = {**weights, "wide.weight": -np.abs(weights["wide.weight"]), "deep.weight": np.abs(weights["deep.weight"])}
    assert (second_moments(graph, silent, samples)["head.weight"] == 1).all()


def test_moments_are_divided_by_what_weights_are_multiplied_by():
    graph, weights, samples = network()
    moments = second_moments(graph, weights, samples)
    (head,) = (op for op in graph.ops if op.name == "head")
    exponents = {head.inputs[0]: ChannelExponents(1, tuple([3] * 48 + [0] * 48))}
    folded = folded_moments(graph, moments, exponents)
    np.testing.assert_allclose(folded["head.weight"][0, :48], moments["head.weight"][0, :48] / 64)
    np.testing.assert_array_equal(folded["head.weight"][0, 48:], moments["head.weight"][0, 48:])
    assert folded["wide.weight"] is moments["wide.weight"]


# --- weighted errors -------------------------------------------------------------------------------------------------


def weighted_error(weights, layer, importance):
    return float((np.square(weights - layer.codec.decode(layer) * layer.scale[:, None]) * importance).sum())


@pytest.mark.parametrize("axis", ["out", "in"])
@pytest.mark.parametrize("codec", [*VQ_CODECS, RVQ(16, 4, 2), Int4()], ids=str)
def test_weighing_errors_lowers_the_weighted_error(codec, axis):
    weights = gaussian(96, 128)
    importance = np.logspace(-2, 2, 128, dtype=np.float32)[np.random.default_rng(1).permutation(128)][None]
    importance = importance / importance.mean()
    plain = compress_layer(weights, codec, "channel", axis, 0)
    weighted = compress_layer(weights, codec, "channel", axis, 0, importance)
    share = 0.99 if isinstance(codec, Int4) or axis == "out" else 0.9  # more freedom where lanes differ
    assert weighted_error(weights, weighted, importance) < share * weighted_error(weights, plain, importance)


@pytest.mark.parametrize("axis", ["out", "in"])
@pytest.mark.parametrize("codec", VQ_CODECS, ids=str)
def test_codes_are_those_of_least_weighted_error(codec, axis):
    """Against every codeword in turn, for every vector."""
    weights, importance = gaussian(9, 10), np.exp(gaussian(9, 10, seed=5))
    layer = compress_layer(weights, codec, "tensor", axis, 0, importance)
    lanes = lane_weights(importance, weights.shape, 4, axis)
    found = nearest_by_lane(layer, weights, lanes)
    vectors, signs = to_vectors(weights / layer.scale[0], 4, axis), 1.0
    if isinstance(codec, SSVQ):
        signs = np.where(vectors < 0, -1.0, 1.0)
    kept = np.ones_like(vectors)
    if isinstance(codec, MVQ):
        kept = np.array([x in sorted(row)[2:] for row in lanes * vectors**2 for x in row]).reshape(vectors.shape)
    words = codec.codewords(layer).astype(float)
    errors = [(lanes * (vectors - kept * signs * word) ** 2).sum(1) for word in words]
    decoded = to_vectors(codec.decode(found), 4, axis)
    least = np.min(errors, axis=0)
    np.testing.assert_allclose((lanes * (vectors - decoded) ** 2).sum(1), least, rtol=1e-5, atol=1e-6)


def test_a_vector_that_counts_twice_is_as_good_as_two():
    vectors, counts = gaussian(300, 3), np.random.default_rng(0).integers(1, 4, 300)
    start = cluster_masked(vectors, np.ones_like(vectors) * counts[:, None].astype(np.float32), 5, seed=0)
    distances = np.square(vectors[:, None] - start[None]).sum(2)
    members = distances.argmin(1)
    for index, centroid in enumerate(start):  # 25 turns settle so few vectors: each centroid is its members' mean
        chosen = members == index
        np.testing.assert_allclose(centroid, np.average(vectors[chosen], axis=0, weights=counts[chosen]), atol=1e-5)
    by_faiss = cluster(vectors, 5, 0, counts.astype(np.float32))
    for index, centroid in enumerate(by_faiss):
        chosen = np.square(vectors[:, None] - by_faiss[None]).sum(2).argmin(1) == index
        np.testing.assert_allclose(centroid, np.average(vectors[chosen], axis=0, weights=counts[chosen]), atol=0.05)


def test_weighing_needs_samples(tmp_path, capsys):
    graph, weights, samples = network()
    with pytest.raises(ConfigError, match="need samples to calibrate on"):
        compress(graph, weights, VQ(16, 4), weighted=True)
    plain, weighted = (compress(graph, weights, VQ(16, 4), calibration=samples, weighted=each) for each in (0, 1))
    codes = [each.packed.layers["head.weight"].codes for each in (plain, weighted)]
    assert not np.array_equal(*codes)
    output = str(tmp_path / "p")
    assert main(["compress", "deit_tiny", "--codec", "int8", "--weighted", "-o", output]) == 2
    assert capsys.readouterr().err == "accel: --weighted without --calibrate; allowed: with --calibrate FILE.npz\n"


# --- signs of depthwise layers ---------------------------------------------------------------------------------------


def lopsided():
    """Two convolutions with equally lopsided weights, one of them depthwise."""
    build = GraphBuilder("net")
    x = build.input("x", (1, 256, 6, 6))
    for name, shape, groups in (("deep", (256, 1, 5, 5), 256), ("dense", (32, 256, 1, 1), 1)):
        x = build.op(
            "conv", x, build.parameter(f"{name}.weight", shape), name=name, kernel=shape[2:], stride=(1, 1),
            padding=(0, 0, 0, 0), dilation=(1, 1), groups=groups,
        )  # fmt: skip
    graph = build.build(x)
    return graph, {name: np.abs(gaussian(*shape)) for name, shape in graph.parameters.items()}


def test_depthwise_layers_go_without_split_signs_where_that_is_better():
    graph, weights = lopsided()
    codec = SSVQ(16, 8)
    deep, dense = compress(graph, weights, codec).reports
    kept, _ = compress(graph, weights, codec, keep=[("deep", codec)]).reports
    assert dense.codec == kept.codec == codec and not dense.reason
    assert isinstance(deep.codec, VQ) and deep.relative_error < kept.relative_error
    assert sum(deep.bytes_by_kind.values()) <= sum(kept.bytes_by_kind.values())
    assert deep.reason.startswith(f"depthwise, 100% of weights positive: error {deep.relative_error:.4f} in no more")
    assert deep.reason.endswith(f"than {codec}, whose is {kept.relative_error:.4f}")


def test_depthwise_layers_keep_split_signs_where_those_are_better():
    graph, _ = lopsided()
    rng = np.random.default_rng(0)
    signs = {name: rng.choice([-1.0, 1.0], shape).astype(np.float32) for name, shape in graph.parameters.items()}
    deep, _ = compress(graph, signs, SSVQ(16, 8)).reports
    assert deep.codec == SSVQ(16, 8) and not deep.reason and deep.relative_error < 1e-6
