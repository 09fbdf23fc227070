"""Errors weighed by activation moments, budgets of bits, and depthwise layers without split signs."""

import ctypes
import itertools

import numpy as np
import pytest
import scipy.optimize

from accel.calibration import BUDGET_SAMPLES, WHOLE_SAMPLES
from accel.cli import main
from accel.codecs import LR2VQ, MVQ, RVQ, SSVQ, VQ, Int4, Int8
from accel.codecs.base import to_vectors
from accel.codecs.masks import Mask
from accel.errors import ConfigError
from accel.graph import GraphBuilder
from compiler.compress import Budget, compress, compress_layer
from compiler.compress.budget import Candidate, spend
from compiler.compress.kmeans import cluster
from compiler.compress.lanes import lane_weights, nearest_by_lane
from compiler.compress.masked import cluster_masked
from compiler.compress.moments import DAMPING, folded_moments, second_moments
from compiler.compress.selection import select
from compiler.quantise import ChannelExponents, evaluate, packed_values, random_samples
from compiler.quantise.revised import recorded

VQ_CODECS = [VQ(16, 4), SSVQ(8, 4), MVQ(16, 4, Mask(2, 4)), LR2VQ(16, 4, 3)]


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def network():
    """A dense and a depthwise convolution with padding and strides, then two linear layers."""
    build = GraphBuilder("net")

    def conv(name, x, shape, groups, stride):
        return build.op(
            "conv", x, build.parameter(f"{name}.weight", shape), name=name, kernel=shape[2:], stride=stride,
            padding=(1, 0, 1, 1), dilation=(1, 1), groups=groups,
        )  # fmt: skip

    stem = conv("stem", build.input("image", (1, 3, 13, 13)), (64, 3, 3, 3), 1, (2, 2))
    deep = conv("deep", build.op("relu", stem), (64, 1, 3, 3), 64, (1, 1))
    pooled = build.op("mean", deep, axes=(2, 3), keepdims=False)
    wide = build.op("gemm", pooled, build.parameter("wide.weight", (96, 64)), name="wide")
    out = build.op("gemm", build.op("relu", wide), build.parameter("head.weight", (40, 96)), name="head")
    graph = build.build(out)
    weights = {name: gaussian(*shape, seed=i) for i, (name, shape) in enumerate(graph.parameters.items())}
    return graph, weights, random_samples(graph, WHOLE_SAMPLES + 1)


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


# --- budgets ---------------------------------------------------------------------------------------------------------


def best_of_all(sizes, costs, limit):
    """The least cost of any selection within ``limit``."""
    every = zip(itertools.product(*sizes), itertools.product(*costs), strict=True)
    return min(sum(row) for taken, row in every if sum(taken) <= limit)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("floor", [None, 1e-8, 1e-12, 1e-16, 0.0])
@pytest.mark.parametrize("worst", [1.0, 1e8, 1e30])
def test_selections_are_the_best_of_all(seed, floor, worst):
    """Errors of many sizes; with a ``floor``, a codec that the weights are already in; outputs that are not finite."""
    rng = np.random.default_rng(seed)
    sizes = [rng.integers(1, 100, rng.integers(2, 5)).tolist() for _ in range(5)]
    costs = [(rng.random(len(row)) * 10.0 ** rng.integers(-6, 2)).tolist() for row in sizes]
    for taken, row in zip(sizes, costs, strict=True):
        if floor is not None:
            row[taken.index(max(taken))] = floor * rng.random()
        row[rng.integers(len(row))] *= worst
    limit = int(sum(map(min, sizes)) * 1.2 + 10)
    found = select(sizes, costs, limit)
    best = best_of_all(sizes, costs, limit)
    assert sum(row[pick] for row, pick in zip(sizes, found.picks, strict=True)) <= limit
    assert found.cost == sum(row[pick] for row, pick in zip(costs, found.picks, strict=True))
    assert found.cost == pytest.approx(best, rel=1e-4, abs=0)
    assert best * (1 - 2e-4) <= found.bound <= best * (1 + 1e-9)


def test_layers_without_a_good_candidate_leave_the_others_their_best():
    """However large what every candidate of one layer costs, the differences of others count."""
    for never in (1e30, float("inf")):
        assert select([[9, 1], [9, 5, 1]], [[never, never], [0.1, 0.2, 0.3]], 7).picks == (1, 1)
        assert select([[9, 1], [9, 5, 1]], [[0.1, never], [0.1, 0.2, 0.3]], 14).picks == (0, 1)


def test_selecting_prints_nothing(monkeypatch, capfd):
    """Not what the solver's C code prints to a buffer of its own either: standard output may be JSON."""
    library, real = ctypes.CDLL(None), scipy.optimize.milp

    def talkative(*arguments, **options):
        library.puts(b"debugging")
        return real(*arguments, **options)

    monkeypatch.setattr(scipy.optimize, "milp", talkative)
    library.puts(b"data")
    assert select([[3, 2]], [[0.0, 1.0]], 2).picks == (1,)
    library.puts(b"more data")
    library.fflush(None)
    assert capfd.readouterr().out == "data\nmore data\n"


def test_selections_without_errors():
    assert select([[3, 2]], [[0.0, 0.0]], 2).picks == (1,)


def test_budgets_of_bytes_are_exact():
    """Through bits as floats a byte is lost in one of twenty, and what the bytes were counted of no longer fits."""
    rng = np.random.default_rng(0)
    for weights in rng.integers(10_000, 100_000_000, 200).tolist():
        stored = int(weights * rng.uniform(0.1, 1.1))
        assert Budget.of_bytes(stored, weights, (Int8(),)).limit_bytes(weights) == stored


def test_budgets_of_bits_are_the_decimal_numbers_typed():
    for bits in range(1, 100):
        assert Budget(bits / 10, (Int8(),)).limit_bytes(80) == bits


CODECS = (Int8(), Int4(), VQ(16, 2), VQ(64, 2), VQ(16, 4), SSVQ(16, 8))


@pytest.mark.parametrize("calibrated", [False, True])
def test_budgets_are_kept_and_no_worse_than_one_codec(calibrated):
    graph, weights, samples = network()
    given = samples if calibrated else ()
    uniform = compress(graph, weights, Budget(100, (Int4(),)), calibration=given)
    stored = sum(sum(report.bytes_by_kind.values()) for report in uniform.reports)
    count = sum(report.shape[0] * report.shape[1] for report in uniform.reports)
    same, more = (compress(graph, weights, Budget(f * 8 * stored / count, CODECS), calibration=given) for f in (1, 1.2))
    for result, limit in ((same, stored), (more, int(1.2 * stored))):
        assert result.spending.limit_bytes == limit
        assert sum(sum(report.bytes_by_kind.values()) for report in result.reports) <= limit
        assert result.spending.bound <= result.spending.error
    exact = compress(graph, weights, Budget.of_bytes(stored, count, (Int4(),)), calibration=given)
    assert exact.spending.limit_bytes == stored
    if calibrated:
        assert more.spending.whole < same.spending.whole <= uniform.spending.whole
        assert same.spending.tried > uniform.spending.tried == 1
    else:
        assert more.spending.error < same.spending.error <= uniform.spending.error
        assert same.spending.whole is None
    measure = "outputs" if calibrated else "weights"
    assert more.spending.measure.startswith(f"squared error over squared {measure}")


def test_sensitivity_is_the_error_of_the_model_with_one_layer_coded():
    graph, weights, samples = network()
    result = compress(graph, weights, Budget(2.9, CODECS), calibration=samples)
    real = packed_values(result.packed)
    tried = samples[:BUDGET_SAMPLES]
    for name, found in result.spending.candidates.items():
        error = power = 0.0
        for sample in tried:
            (wanted,) = evaluate(graph, weights, sample).values()
            (coded,) = evaluate(graph, {**weights, name: real[name]}, sample).values()
            error += float(np.square(coded - wanted, dtype=float).sum())
            power += float(np.square(wanted, dtype=float).sum())
        assert found.error == pytest.approx(error / power, rel=1e-4)


def test_the_whole_model_is_that_of_all_layers_coded():
    graph, weights, samples = network()
    result = compress(graph, weights, Budget(2.9, CODECS), calibration=samples)
    real = packed_values(result.packed)
    error = power = 0.0
    for sample in samples[:WHOLE_SAMPLES]:
        (wanted,) = evaluate(graph, weights, sample).values()
        (coded,) = evaluate(graph, real, sample).values()
        error += float(np.square(coded - wanted, dtype=float).sum())
        power += float(np.square(wanted, dtype=float).sum())
    assert result.spending.whole == pytest.approx(error / power, rel=1e-4)


def made_up(rng, codecs, layers=3):
    """Candidates of random sizes and errors; in the last layer the first two codecs come to the same."""
    layer = compress_layer(gaussian(8, 8), Int8(), "channel", "out", 0)

    def candidate(*serves):
        return Candidate(frozenset(serves), (Int8(), ""), layer, int(rng.integers(1, 50)), float(rng.random()))

    rows = {f"l{index}": [candidate(codec) for codec in codecs] for index in range(layers)}
    return {**rows, "last": [candidate(*codecs[:2]), *(candidate(codec) for codec in codecs[2:])]}


@pytest.mark.parametrize("seed", range(8))
def test_the_best_whole_model_of_several_choices_is_taken(seed):
    """Of the least sum, the least without each codec, and each codec alone: those within the limit, none twice."""
    rng, codecs, seen = np.random.default_rng(seed), (Int8(), Int4(), VQ(16, 4)), []
    rows = made_up(rng, codecs)
    every = [dict(zip(rows, picks, strict=True)) for picks in itertools.product(*rows.values())]
    size = {id(row): sum(each.stored_bytes for each in row.values()) for row in every}
    limit = int(np.median(list(size.values())))
    fitting = [row for row in every if size[id(row)] <= limit]

    def serving(row):
        return tuple(each.serves for each in row.values())

    def least(allowed):
        found = [row for row in fitting if all(allowed(each.serves) for each in row.values())]
        key = min(found, key=lambda row: sum(each.error for each in row.values()), default=None)
        return set() if key is None else {serving(key)}

    wanted = least(lambda serves: True)
    for codec in codecs:
        wanted |= least(lambda serves, codec=codec: serves != {codec}) | least(
            lambda serves, codec=codec: codec in serves
        )

    def whole(taken):
        seen.append((float(rng.random()), serving(taken)))
        return seen[-1][0]

    found = spend(Budget.of_bytes(limit, 64 * len(rows), codecs), rows, "made up", whole)
    assert {key for _, key in seen} == wanted and len(seen) == len(wanted) == found.tried
    assert (found.whole, serving(found.candidates)) == min(seen, key=lambda each: each[0])
    assert found.error == sum(each.error for each in found.candidates.values()) >= found.bound
    alone = spend(Budget.of_bytes(limit, 64 * len(rows), codecs), rows, "made up")
    assert (serving(alone.candidates), alone.whole) == (seen[0][1], None)
    assert found.bound <= alone.error <= found.error


def test_help_says_how_many_samples_layers_are_tried_on(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        main(["compress", "--help"])
    assert f"outputs on the first {BUDGET_SAMPLES} samples of --calibrate" in capsys.readouterr().out


def test_budgets_leave_kept_layers_alone():
    graph, weights, _ = network()
    result = compress(graph, weights, Budget(5, CODECS), keep=[("head", Int8())])
    assert result.packed.layers["head.weight"].codec == Int8()
    assert result.reports[-1].reason == "kept by pattern 'head'"


def test_impossible_budgets_say_what_is_possible():
    graph, weights, _ = network()
    with pytest.raises(ConfigError, match=r"budget 1 bits a weight; allowed: at least ([\d.]+) \(from ") as caught:
        compress(graph, weights, Budget(1, CODECS))
    least = float(str(caught.value).split("at least ")[1].split()[0])
    compress(graph, weights, Budget(least, CODECS))
    with pytest.raises(ConfigError):
        compress(graph, weights, Budget(least - 0.01, CODECS))


@pytest.mark.parametrize("bits", [0.0, -1.0, float("nan"), float("inf")])
def test_budgets_are_positive_numbers(bits):
    with pytest.raises(ConfigError, match="allowed: a positive number of bits a weight"):
        Budget(bits, CODECS)
    with pytest.raises(ConfigError, match="allowed: at least 1"):
        Budget(2, ())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "2"], "--budget without --codecs; allowed: with --codecs CODEC [CODEC ...]"),
        (["--codec", "int8", "--codecs", "int4"], "--codecs without --budget; allowed: with --budget BITS"),
        (["--budget", "nan", "--codecs", "int4"], "budget nan; allowed: a positive number of bits a weight"),
        (["--budget", "2", "--codecs", "int5"], "codec 'int5': unknown family"),
        (["--codec", "int8", "--budget", "2"], "argument --budget: not allowed with argument --codec"),
    ],
)
def test_wrong_options_take_one_line(words, message, tmp_path, capsys):
    try:
        code = main(["compress", "deit_tiny", *words, "-o", str(tmp_path / "p")])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2 and message in capsys.readouterr().err.splitlines()[-1] and not list(tmp_path.iterdir())
