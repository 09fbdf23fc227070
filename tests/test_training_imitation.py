"""Imitation from the inside: which tensors are imitated, how far they are from the float model's, and what it costs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_cases import one_thread

from accel.codecs import parse_codec
from accel.errors import ConfigError, ModelError
from accel.graph import Graph, GraphBuilder
from compiler.quantise.floating import evaluate
from compiler.training import (
    LOSSES,
    GraphModule,
    Imitation,
    TrainingData,
    TrainingOptions,
    compress_modules,
    inner_tensors,
    outputs_of,
    train,
)
from compiler.training.finetune import Recipe, relations
from compiler.training.imitation import distance

__all__ = ["one_thread"]  # a fixture

BLOCKS, WIDTH = 3, 16


def residual_graph() -> Graph:
    """A constant is added to the input; then blocks of two layers, each added to what it read."""
    builder = GraphBuilder("residual")
    token = builder.op("add", builder.input("x", (1, WIDTH)), builder.parameter("position", (1, WIDTH)))
    for block in range(BLOCKS):
        wide = builder.op("gemm", token, builder.parameter(f"{block}.up", (2 * WIDTH, WIDTH)))
        narrow = builder.op("gemm", builder.op("relu", wide), builder.parameter(f"{block}.down", (WIDTH, 2 * WIDTH)))
        token = builder.op("add", token, narrow, output=f"sum{block}")
    return builder.build(token)


def plain_graph() -> Graph:
    """Two layers that read one hidden tensor, joined; no sums."""
    builder = GraphBuilder("plain")
    hidden = builder.op(
        "relu", builder.op("gemm", builder.input("x", (1, 8)), builder.parameter("a", (8, 8))), output="h"
    )
    heads = [builder.op("gemm", hidden, builder.parameter(name, (4, 8))) for name in "bc"]
    return builder.build(builder.op("mul", *heads, output="y"))


def attention_graph() -> Graph:
    """One head with a mask that is an input; a token and a position; then blocks, the first of which adds to them."""
    builder = GraphBuilder("attention")
    x, position, mask = (builder.input(n, s) for n, s in (("x", (1, 4, 8)), ("p", (1, 4, 8)), ("mask", (1, 1, 4))))
    token = builder.op("add", x, position)  # what no weight has a part in
    q, k, v = (builder.op("gemm", token, builder.parameter(name, (8, 8))) for name in "qkv")
    scores = builder.op("matmul", q, k, transpose_b=True)
    masked = builder.op("add", scores, builder.op("mul", mask, builder.parameter("most", ())))
    attended = builder.op("matmul", builder.op("softmax", masked, axis=-1), v, transpose_b=False)
    first = builder.op("add", token, attended, output="first")
    second = builder.op("add", builder.op("gemm", first, builder.parameter("w", (8, 8))), x, output="second")
    return builder.build(builder.op("gemm", second, builder.parameter("head", (2, 8))))


def two_outputs() -> Graph:
    builder = GraphBuilder("two")
    hidden = builder.op("gemm", builder.input("x", (1, 8)), builder.parameter("a", (8, 8)), output="h")
    return builder.build(
        *(builder.op("gemm", hidden, builder.parameter(name, (2, 8)), output=name * 2) for name in "bc")
    )


def values_of(graph: Graph) -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    return {name: random.normal(0, 0.3, shape).astype(np.float32) for name, shape in graph.parameters.items()}


def samples(count: int = 96) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 1, WIDTH)).astype(np.float32)


def coded(graph: Graph, codec: str = "vq:k=8,d=4") -> GraphModule:
    model = GraphModule(graph, values_of(graph))
    compress_modules(model, lambda *_: parse_codec(codec))
    return model


def test_sums_of_what_is_computed_are_imitated_and_else_what_layers_read() -> None:
    assert inner_tensors(residual_graph()) == ("sum0", "sum1")  # neither what adds a constant, nor the output
    assert inner_tensors(plain_graph()) == ("h",)  # once, and not the input


def test_neither_masks_nor_what_no_weight_has_a_part_in_is_imitated() -> None:
    assert inner_tensors(attention_graph()) == ("first", "second")  # the second adds an input to what is computed


def test_what_cannot_be_imitated_is_refused() -> None:
    two, one = two_outputs(), residual_graph()
    with pytest.raises(ModelError, match=r"outputs bb, cc; allowed: one to imitate"):
        Imitation(GraphModule(two, values_of(two)), ("h",))
    with pytest.raises(ModelError, match=r"graph 'residual': no tensor 'sum7' to imitate"):
        Imitation(GraphModule(one, values_of(one)), ("sum0", "sum7"))
    with pytest.raises(ConfigError, match=r"imitate 'inputs'; allowed: outputs(,| or| and) layers"):
        Recipe(parse_codec("int4"), "mse", imitate="inputs")  # type: ignore[arg-type]


def test_a_graph_module_gives_any_tensor_as_the_float_twin_computes_it() -> None:
    graph, inputs = residual_graph(), samples(3)
    expected: list[dict[str, np.ndarray]] = [{}, {}, {}]
    for number, each in enumerate(inputs):
        evaluate(graph, values_of(graph), {"x": each}, expected[number].__setitem__)
    names = ("sum1", "x", *graph.outputs, "sum0", "position")
    found = GraphModule(graph, values_of(graph)).tensors(names, torch.from_numpy(inputs))
    for name, each in zip(names, found, strict=True):
        np.testing.assert_allclose(each.detach().numpy(), [one[name] for one in expected], rtol=1e-5, atol=1e-6)


def test_an_answer_of_what_all_samples_share_is_as_far_as_it_can_be() -> None:
    wanted = torch.randn(64, 5, 7, generator=torch.Generator().manual_seed(0)) + 100
    shared = wanted.mean(0).expand_as(wanted)
    assert float(distance(shared, wanted)) == pytest.approx(63 / 64, rel=1e-4)
    assert float(distance(wanted + 1, wanted)) == pytest.approx(1 / float(wanted.var(0).mean()), rel=1e-4)
    assert float(distance(wanted, wanted)) == 0
    assert float(distance(1.1 * wanted[:1], wanted[:1])) == pytest.approx(0.01, rel=1e-3)  # one sample: all its power
    assert float(distance(torch.zeros(2, 3), torch.zeros(2, 3))) == 0


def test_small_batches_weigh_the_inside_as_large_ones_do() -> None:
    wanted = torch.randn(4096, 3, generator=torch.Generator().manual_seed(1)) + 5
    pairs = [float(1 / distance(pair + 1, pair)) for pair in wanted.split(2)]  # power as two samples tell it
    whole = float(1 / distance(wanted + 1, wanted))
    assert np.mean(pairs) == pytest.approx(whole, rel=0.05)  # half of it, were B divided by


def test_the_loss_is_that_of_outputs_and_the_mean_over_tensors() -> None:
    graph, inputs = residual_graph(), torch.from_numpy(samples(8))
    teacher, model = GraphModule(graph, values_of(graph)), coded(graph)
    imitation = Imitation(teacher, inner_tensors(graph))
    targets = torch.from_numpy(outputs_of(teacher, {"x": inputs.numpy()}))
    with torch.no_grad():
        assert float(imitation.loss(LOSSES["mse"], teacher, (inputs,), targets)) == pytest.approx(0, abs=1e-9)
        pairs = zip(model.tensors(("sum0", "sum1"), inputs), teacher.tensors(("sum0", "sum1"), inputs), strict=True)
        inside = np.mean([float(distance(*pair)) for pair in pairs])
        of_outputs = float(LOSSES["mse"](model(inputs), targets))
    found = imitation.loss(LOSSES["mse"], model, (inputs,), targets)
    assert found.item() == pytest.approx(of_outputs + inside, rel=1e-5)
    found.backward()
    assert all(each.grad is None for each in teacher.parameters())
    outputs_alone = Imitation(teacher, ()).loss(LOSSES["mse"], model, (inputs,), targets)
    assert outputs_alone.item() == pytest.approx(of_outputs, rel=1e-5)


def test_what_is_inside_comes_closer_than_by_outputs_alone() -> None:
    graph, inputs = residual_graph(), {"x": samples()}
    teacher = GraphModule(graph, values_of(graph))
    data = TrainingData(inputs, outputs_of(teacher, inputs))

    def inside(imitation: Imitation | None) -> float:
        model = coded(graph, "ssvq:k=4,d=8")
        train(model, data, LOSSES["mse"], TrainingOptions(epochs=4, batch=16, rate=5e-3), imitation=imitation)
        batch = torch.from_numpy(inputs["x"])
        with torch.no_grad():
            return float(distance(*(each.tensors(("sum0",), batch)[0] for each in (model, teacher))))

    assert inside(Imitation(teacher, inner_tensors(graph))) < inside(None)


def test_relations_tell_one_answer_to_everything_from_answers_that_differ() -> None:
    random = np.random.default_rng(2)
    shared, own = random.normal(size=(1, 3, 8)), random.normal(size=(20, 3, 8))
    wanted = (3 * shared + own).astype(np.float32)
    pairs = [(i, j) for i in range(20) for j in range(i + 1, 20)]

    def cosines(rows: np.ndarray) -> list[float]:
        flat = rows.reshape(20, -1).astype(float)
        return [flat[i] @ flat[j] / np.linalg.norm(flat[i]) / np.linalg.norm(flat[j]) for i, j in pairs]

    worse = (wanted + random.normal(size=wanted.shape)).astype(np.float32)
    assert relations(worse, wanted) == pytest.approx(np.corrcoef(cosines(worse), cosines(wanted))[0, 1])
    assert relations(7 * wanted, wanted) == pytest.approx(1)
    same = np.broadcast_to(shared, wanted.shape).astype(np.float32)
    assert np.mean(cosines(wanted)) > 0.8 and relations(same, wanted) is None
    assert relations(wanted[:2], wanted[:2]) is None
    broken = wanted.copy()
    broken[3, 0, 0] = np.nan
    assert relations(broken, wanted) is None
