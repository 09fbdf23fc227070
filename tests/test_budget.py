"""Budgets of bits: exact, kept, and spent as well as they can be."""

import ctypes
import itertools

import numpy as np
import pytest
import scipy.optimize

from accel.calibration import BUDGET_SAMPLES, WHOLE_SAMPLES
from accel.cli import main
from accel.codecs import SSVQ, VQ, Int4, Int8
from accel.errors import ConfigError
from accel.graph import GraphBuilder
from compiler.compress import Budget, compress, compress_layer
from compiler.compress.budget import Candidate, spend
from compiler.compress.selection import select
from compiler.quantise import evaluate, packed_values, random_samples


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
