"""Budgets of bits: exact, kept, and spent as well as they can be."""

import itertools
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from accel.calibration import BUDGET_SAMPLES, WHOLE_SAMPLES
from accel.cli import main
from accel.codecs import LR2VQ, MVQ, RVQ, SSVQ, VQ, Int4, Int8
from accel.codecs.masks import Mask
from accel.errors import ConfigError, ModelError
from accel.graph import GraphBuilder
from compiler.compress import Budget, compress, compress_layer
from compiler.compress.budget import Candidate, spend
from compiler.compress.coder import Coder
from compiler.compress.output_error import (
    LARGEST,
    FloatModel,
    WholeModel,
    decoded_weight,
    relative,
    squared,
    squared_distance,
)
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
        assert more.spending.best.whole_error < same.spending.best.whole_error <= uniform.spending.best.whole_error
        assert len(same.spending.trials) > len(uniform.spending.trials) == 1
    else:
        assert more.spending.error < same.spending.error <= uniform.spending.error
        assert (same.spending.best, same.spending.samples) == (None, 0)
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


def relative_error(found, wanted):
    """Of lists of arrays: squared distance over squares, both summed."""
    pairs = list(zip(found, wanted, strict=True))
    return sum(float(np.square(a - b, dtype=float).sum()) for a, b in pairs) / sum(
        float(np.square(b, dtype=float).sum()) for _, b in pairs
    )


def outputs(graph, values, samples):
    return [array for sample in samples for array in evaluate(graph, values, sample).values()]


def test_the_whole_model_is_that_of_all_layers_coded():
    graph, weights, samples = network()
    spending = compress(graph, weights, Budget(2.9, CODECS), calibration=samples).spending
    real = packed_values(compress(graph, weights, Budget(2.9, CODECS), calibration=samples).packed)
    tried = samples[:WHOLE_SAMPLES]
    expected = relative_error(outputs(graph, real, tried), outputs(graph, weights, tried))
    assert spending.best.whole_error == pytest.approx(expected, rel=1e-4)
    assert spending.samples == WHOLE_SAMPLES


def test_in_the_whole_model_the_table_of_a_tied_embedding_stays():
    """Its twin has the table twice: as it is where rows are taken from it, coded where it is multiplied by."""

    def tied(own_table):
        build = GraphBuilder("tied")
        table = build.parameter("table", (48, 64))
        x = build.op("embedding", table, build.input("ids", (1, 6)))
        x = build.op("gemm", x, build.parameter("w", (64, 64)))
        return build.build(build.op("gemm", x, build.parameter("own", (48, 64)) if own_table else table))

    graph, weights = tied(False), {"table": gaussian(48, 64), "w": gaussian(64, 64, seed=1)}
    samples = [{"ids": np.random.default_rng(seed).integers(0, 48, (1, 6))} for seed in range(3)]
    result = compress(graph, weights, Budget(4.6, (Int4(), VQ(16, 4), VQ(16, 2))), calibration=samples)
    real = {name: decoded_weight(layer) for name, layer in result.packed.layers.items()}
    found = outputs(tied(True), {**weights, "w": real["w"], "own": real["table"]}, samples)
    expected = relative_error(found, outputs(graph, weights, samples))
    assert result.spending.best.whole_error == pytest.approx(expected, rel=1e-4)
    assert (result.spending.samples, len(result.spending.trials) > 1) == (3, True)


def test_samples_whose_outputs_are_not_finite_do_not_count():
    graph, weights, (first, second, third, *_) = network()
    bad = {name: np.full_like(array, 1e38) for name, array in second.items()}
    budget = Budget(2.9, CODECS)
    found, alone = (compress(graph, weights, budget, calibration=each).spending for each in ([bad, first], [first]))
    assert math.isfinite(found.best.whole_error) and math.isfinite(found.error) and found.samples == 1
    layers = {name: each.layer for name, each in found.candidates.items()}
    model = FloatModel(graph, weights, {})
    assert WholeModel.of(model, tuple(layers), [bad, third]).error(layers) == WholeModel.of(
        model, tuple(layers), [third]
    ).error(layers)
    assert alone.samples == 1
    with pytest.raises(ModelError, match="NaN or infinite on all 2 samples that errors are measured on"):
        compress(graph, weights, budget, calibration=[bad, bad])


def test_outputs_that_are_not_finite_are_the_largest_error():
    wanted = {"y": np.full(4, 1e18, np.float32)}
    for number in (np.inf, np.nan):
        distance = squared_distance({"y": np.array([1e18, 1e18, 1e18, number], np.float32)}, wanted)
        assert relative(distance, squared(wanted)) == LARGEST
    assert relative(4.0, 0.0) == 4.0


def made_up(rng, codecs, layers=3):
    """Candidates of random sizes and errors; in the last layers the first two codecs come to the same: known as one
    candidate, and as two in one codec."""
    layer = compress_layer(gaussian(8, 8), Int8(), "channel", "out", 0)

    def candidate(*serves):
        size, error = int(rng.integers(1, 50)), float(rng.random())
        return Candidate(frozenset(serves), (serves[0], ""), replace(layer), size, error)

    rows = {f"l{index}": [candidate(codec) for codec in codecs] for index in range(layers)}
    first = candidate(codecs[0])
    same = [first, replace(first, serves=frozenset(codecs[1:2])), candidate(codecs[2])]
    return {**rows, "one": [candidate(*codecs[:2]), candidate(codecs[2])], "two": same}


@pytest.mark.parametrize("seed", range(8))
def test_the_best_whole_model_of_several_choices_is_taken(seed):
    """Of the least sum, the least without each codec, and each codec alone: those within the limit, none twice."""
    rng, codecs, seen = np.random.default_rng(seed), (Int8(), Int4(), VQ(16, 4)), []
    rows = made_up(rng, codecs)
    every = [dict(zip(rows, picks, strict=True)) for picks in itertools.product(*rows.values())]
    size = {id(row): sum(each.stored_bytes for each in row.values()) for row in every}
    limit = int(np.median(list(size.values())))
    fitting = [row for row in every if size[id(row)] <= limit]

    def chosen(row):
        return tuple(id(each.layer) for each in row.values())

    def least(allowed):
        found = [row for row in fitting if all(allowed(each.serves) for each in row.values())]
        best = min(found, key=lambda row: sum(each.error for each in row.values()), default=None)
        return set() if best is None else {chosen(best)}

    wanted = least(lambda serves: True)
    for codec in codecs:
        wanted |= least(lambda serves, codec=codec: serves != {codec})
        wanted |= least(lambda serves, codec=codec: codec in serves)

    def error(layers):
        seen.append((float(rng.random()), tuple(map(id, layers.values()))))
        return seen[-1][0]

    budget = Budget.of_bytes(limit, 64 * len(rows), codecs)
    found = spend(budget, rows, "made up", SimpleNamespace(error=error, traces=[1, 2]))
    assert {key for _, key in seen} == wanted and len(seen) == len(wanted) == len(found.trials)
    assert (found.best.whole_error, chosen(found.candidates)) == min(seen, key=lambda each: each[0])
    assert found.trials[0].name == "least sum"
    for each, codec in itertools.product(found.trials, codecs):
        served = [codec in row.serves for row in each.assignment.values()]
        assert each.name != f"{codec} for all layers" or all(served)
    assert found.error == sum(each.error for each in found.candidates.values()) >= found.bound
    alone = spend(budget, rows, "made up")
    assert (chosen(alone.candidates), alone.best) == (seen[0][1], None)
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


@pytest.mark.parametrize("scale", ["channel", "tensor"])
@pytest.mark.parametrize("axis", ["out", "in"])
@pytest.mark.parametrize("codec", [*CODECS, MVQ(16, 4, Mask(2, 4)), LR2VQ(16, 4, 3), RVQ(16, 4, 2)], ids=str)
def test_impossible_budgets_are_refused_before_anything_is_coded(codec, axis, scale, monkeypatch):
    """To the byte; of layers without depthwise convolutions."""
    build = GraphBuilder("dense")
    x = build.op("gemm", build.input("x", (1, 60)), build.parameter("a", (90, 60)))
    graph = build.build(build.op("gemm", x, build.parameter("b", (33, 90))))
    weights = {name: gaussian(*shape) for name, shape in graph.parameters.items()}
    options = {"scale": scale, "vector_axis": axis}
    reports = compress(graph, weights, codec, **options).reports
    stored, count = sum(sum(each.bytes_by_kind.values()) for each in reports), 60 * 90 + 90 * 33
    assert compress(graph, weights, Budget.of_bytes(stored, count, (codec,)), **options).spending.limit_bytes == stored
    monkeypatch.setattr(Coder, "layer", None)
    with pytest.raises(ConfigError, match=r"bits a weight; allowed: at least ([\d.]+) \(from \1 on, every layer"):
        compress(graph, weights, Budget.of_bytes(stored - 1, count, (codec,)), **options)


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
