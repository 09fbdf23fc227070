"""ONNX import against onnx's own reference evaluator, node by node and in small networks."""

from __future__ import annotations

import contextlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graph_reference import REFERENCE, evaluate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from accel.errors import ModelError
from accel.graph import OPERATORS, Graph
from compiler.frontend.elementwise import ELEMENTWISE
from compiler.frontend.interpolation import COORDINATES, axis_matrix
from compiler.frontend.onnx_import import import_onnx
from compiler.frontend.simplify import RULES

SEEDED = np.random.default_rng(7)
QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
Node = onnx.NodeProto


def noise(*shape: int) -> np.ndarray:
    return SEEDED.standard_normal(shape).astype(np.float32)


def node(kind: str, inputs: str, output: str = "y", **attributes: Any) -> Node:
    """A node named after its output; ``inputs`` separated by spaces, ``-`` for an absent one."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(kind, names, output.split(), name=f"/{output.split()[0]}/{kind}", **attributes)


def save(path: Path, nodes: list[Node], inputs: dict[str, Any], constants: dict[str, Any], opset: int = 17) -> Path:
    """Write a model whose one output is ``y``; ``inputs`` maps names to shapes (symbols allowed)."""
    types = {name: TensorProto.INT64 if name.startswith("ids") else TensorProto.FLOAT for name in inputs}
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, types[name], shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    target = path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), target)
    return target


def checked(path: Path, feeds: dict[str, np.ndarray], outputs: list[str] | None = None) -> Graph:
    """Import and compare with the reference evaluator; the graph, for more checks."""
    graph, params = import_onnx(path, {name: value.shape for name, value in feeds.items()}, outputs)
    expected = ReferenceEvaluator(onnx.load(path)).run(outputs, feeds)
    for ours, theirs in zip(evaluate(graph, params, feeds), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    return graph


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops]


I64 = np.int64
X = (1, 4, 6, 8)
T = (2, 5, 8)
CASES: dict[str, tuple[list[Node], tuple[int, ...], dict[str, Any], list[str]]] = {
    "conv_padded": ([node("Conv", "x w b", pads=[1, 0, 2, 1], strides=[2, 1])], X,
                    {"w": noise(5, 4, 3, 3), "b": noise(5)}, ["conv"]),
    "conv_depthwise_dilated": ([node("Conv", "x w", group=4, dilations=[2, 2])], X, {"w": noise(8, 1, 2, 3)}, ["conv"]),
    "conv_same_upper": ([node("Conv", "x w", auto_pad="SAME_UPPER", strides=[2, 2], kernel_shape=[3, 3])], X,
                        {"w": noise(3, 4, 3, 3)}, ["conv"]),
    "conv_same_lower": ([node("Conv", "x w", auto_pad="SAME_LOWER", strides=[2, 2], kernel_shape=[3, 3])], X,
                        {"w": noise(3, 4, 3, 3)}, ["conv"]),
    "conv_valid": ([node("Conv", "x w", auto_pad="VALID", kernel_shape=[3, 3])], X, {"w": noise(3, 4, 3, 3)}, ["conv"]),
    "conv_bn": ([node("Conv", "x w", "c"), node("BatchNormalization", "c g b m v", epsilon=1e-3)], X,
                {"w": noise(3, 4, 1, 1), "g": noise(3), "b": noise(3), "m": noise(3), "v": noise(3) ** 2}, ["conv"]),
    "conv_bias_bn": ([node("Conv", "x w a", "c"), node("BatchNormalization", "c g b m v")], X,
                     {"w": noise(3, 4, 1, 1), "a": noise(3), "g": noise(3), "b": noise(3), "m": noise(3),
                      "v": noise(3) ** 2}, ["conv"]),
    "shared_weight_bn": ([node("Conv", "x w", "c"), node("Conv", "c w", "d"),
                          node("BatchNormalization", "d g b m v")], X,
                         {"w": noise(4, 4, 1, 1), "g": noise(4), "b": noise(4), "m": noise(4), "v": noise(4) ** 2},
                         ["conv", "conv"]),
    "bn_alone": ([node("BatchNormalization", "x g b m v")], X,
                 {"g": noise(4), "b": noise(4), "m": noise(4), "v": noise(4) ** 2}, ["mul", "add"]),
    "conv_add_bias": ([node("Conv", "x w", "c"), node("Add", "b c")], X,
                      {"w": noise(3, 4, 1, 1), "b": noise(1, 3, 1, 1)}, ["conv"]),
    "conv_add_row": ([node("Conv", "x w", "c"), node("Add", "b c")], X,
                     {"w": noise(3, 4, 1, 1), "b": noise(8)}, ["conv", "add"]),
    "pad_conv": ([node("Pad", "x p", "q"), node("Conv", "q w")], X,
                 {"p": np.array([0, 0, 1, 0, 0, 0, 0, 2], I64), "w": noise(3, 4, 3, 3)}, ["conv"]),
    "pad_channels": ([node("Pad", "x p")], X, {"p": np.array([0, 1, 1, 0, 0, 0, 0, 2], I64)}, ["pad"]),
    "gemm": ([node("Gemm", "f w b", transB=1, alpha=0.5, beta=2.0)], (3, 8), {"w": noise(6, 8), "b": noise(6)},
             ["gemm"]),
    "gemm_trans_a": ([node("Gemm", "f w", transA=1)], (3, 8), {"w": noise(3, 6)}, ["transpose", "gemm"]),
    "gemm_scalar_bias": ([node("Gemm", "f w b")], (3, 8), {"w": noise(8, 6), "b": noise(1)}, ["gemm"]),
    "matmul_bias": ([node("MatMul", "t w", "m"), node("Add", "b m")], T, {"w": noise(8, 3), "b": noise(3)}, ["gemm"]),
    "matmul_left": ([node("MatMul", "w t")], T, {"w": noise(3, 5)}, ["transpose", "gemm", "transpose"]),
    "matmul_bn": ([node("MatMul", "f w", "m"), node("BatchNormalization", "m g b v v")], (3, 8),
                  {"w": noise(8, 4), "g": noise(4), "b": noise(4), "v": noise(4) ** 2}, ["gemm"]),
    "attention": ([node("Transpose", "t", "k", perm=[0, 2, 1]), node("Mul", "k s", "l"), node("MatMul", "t l", "a"),
                   node("Softmax", "a", "p", axis=-1), node("MatMul", "p t")], T, {"s": np.float32(0.3)},
                  ["mul", "matmul", "softmax", "matmul"]),
    "head_split": ([node("Reshape", "t h", "r"), node("Transpose", "r", "k", perm=[0, 2, 3, 1]),
                    node("Transpose", "r", "q", perm=[0, 2, 1, 3]), node("MatMul", "q k")], T,
                   {"h": np.array([0, 0, 2, -1], I64)}, ["reshape", "transpose", "matmul"]),
    "matmul_broadcast": ([node("Reshape", "f h", "r"), node("Transpose", "f", "g"), node("MatMul", "r g")], (3, 8),
                         {"h": np.array([3, 1, 8], I64)}, ["reshape", "transpose", "reshape", "expand", "matmul"]),
    "gelu_erf": ([node("Div", "t r", "d"), node("Erf", "d", "e"), node("Add", "e o", "a"), node("Mul", "t a", "m"),
                  node("Mul", "m h")], T,
                 {"r": np.float32(2**0.5), "o": np.float32(1), "h": np.float32(0.5)}, ["gelu"]),
    "gelu_erf_half_first": ([node("Mul", "t r", "d"), node("Erf", "d", "e"), node("Add", "o e", "a"),
                             node("Mul", "h t", "m"), node("Mul", "a m")], T,
                            {"r": np.float32(0.5**0.5), "o": np.float32(1), "h": np.float32(0.5)}, ["gelu"]),
    "silu": ([node("Sigmoid", "t", "s"), node("Mul", "t s")], T, {}, ["silu"]),
    "quick_gelu": ([node("Mul", "t c", "u"), node("Sigmoid", "u", "s"), node("Mul", "t s")], T,
                   {"c": np.float32(1.702)}, ["mul", "sigmoid", "mul"]),
    "hardswish_paddle": ([node("Add", "t c", "u"), node("Clip", "u z s", "v"), node("Mul", "t v", "w"),
                          node("Div", "w s")], T,
                         {"c": np.float32(3), "z": np.float32(0), "s": np.float32(6)}, ["hardswish"]),
    "hardsigmoid_mul": ([node("HardSigmoid", "t", "s", alpha=1 / 6), node("Mul", "s t")], T, {}, ["hardswish"]),
    "hardsigmoid_other": ([node("HardSigmoid", "t", alpha=0.2)], T, {}, ["mul", "add", "clip"]),
    "hardswish": ([node("HardSwish", "t")], T, {}, ["hardswish"]),
    "clip": ([node("Clip", "t a b")], T, {"a": np.float32(-0.5), "b": np.float32(0.7)}, ["clip"]),
    "clip_below": ([node("Clip", "t a")], T, {"a": np.float32(-0.5)}, ["clip"]),
    "relu6": ([node("Clip", "t a b")], T, {"a": np.float32(0), "b": np.float32(6)}, ["relu6"]),
    "layernorm_parts": ([node("ReduceMean", "t", "m", axes=[-1]), node("Sub", "t m", "d"), node("Pow", "d two", "s"),
                         node("ReduceMean", "s", "v", axes=[-1]), node("Add", "v e", "w"), node("Sqrt", "w", "r"),
                         node("Div", "d r", "n"), node("Mul", "n g", "o"), node("Add", "o b")], T,
                        {"two": np.float32(2), "e": np.float32(1e-5), "g": noise(8), "b": noise(8)}, ["layernorm"]),
    "layernorm_mul": ([node("ReduceMean", "t", "m", axes=[-1]), node("Sub", "t m", "d"), node("Sub", "t m", "c"),
                       node("Mul", "c d", "s"), node("ReduceMean", "s", "v", axes=[-1]), node("Add", "e v", "w"),
                       node("Sqrt", "w", "r"), node("Div", "d r")], T, {"e": np.float32(1e-5)}, ["layernorm"]),
    "layernorm": ([node("LayerNormalization", "t g b", epsilon=1e-3)], T, {"g": noise(8), "b": noise(8)},
                  ["layernorm"]),
    "layernorm_two_axes": ([node("LayerNormalization", "t g", axis=1)], T, {"g": noise(5, 8)},
                           ["reshape", "layernorm", "reshape"]),
    "maxpool": ([node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])], X, {}, ["maxpool"]),
    "maxpool_ceil": ([node("MaxPool", "x", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)], X, {}, ["maxpool"]),
    "avgpool": ([node("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2])], X, {}, ["avgpool"]),
    "avgpool_padded": ([node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1])], X, {}, ["avgpool", "mul"]),
    "avgpool_counted": ([node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1)], X, {},
                        ["avgpool"]),
    "global_pools": ([node("GlobalAveragePool", "x", "a"), node("GlobalMaxPool", "x", "b"), node("Sub", "a b")], X, {},
                     ["mean", "maxpool", "sub"]),
    "reduce_mean_all": ([node("ReduceMean", "x", keepdims=0)], X, {}, ["mean"]),
    "shapes": ([node("Flatten", "x", "a", axis=2), node("Unsqueeze", "a n", "b"), node("Squeeze", "b n", "c"),
                node("Transpose", "c", "d"), node("Identity", "d", "e"), node("Dropout", "e")], X,
               {"n": np.array([1], I64)}, ["reshape", "transpose"]),
    "slices": ([node("Slice", "x s e a", "p"), node("Split", "p z", "u v", axis=1), node("Concat", "v u", axis=-1)], X,
               {"s": np.array([-5, 2], I64), "e": np.array([99, -1], I64), "a": np.array([2, 3], I64),
                "z": np.array([2, 2], I64)}, ["slice", "slice", "slice", "slice", "concat"]),
    "slice_step": ([node("Slice", "x s e a t2")], X,
                   {"s": np.array([1], I64), "e": np.array([99], I64), "a": np.array([3], I64),
                    "t2": np.array([2], I64)}, ["reshape", "slice", "reshape"]),
    "gather_index": ([node("Gather", "t i", axis=1)], T, {"i": np.array(0, I64)}, ["slice", "reshape"]),
    "gather_range": ([node("Gather", "t i", axis=1)], T, {"i": np.array([1, 2, 3], I64)}, ["slice"]),
    "expand": ([node("Expand", "f s")], (3, 8), {"s": np.array([2, 1, 8], I64)}, ["expand"]),
    "resize_nearest": ([node("Resize", "x - s", mode="nearest", coordinate_transformation_mode="asymmetric",
                             nearest_mode="floor")], X, {"s": np.array([1, 1, 2, 3], np.float32)}, ["resize"]),
    "resize_nearest_half_pixel": ([node("Resize", "x - s")], X, {"s": np.array([1, 1, 2, 2], np.float32)}, ["resize"]),
    "resize_linear": ([node("Resize", "x - - s", mode="linear")], X, {"s": np.array([1, 4, 9, 5], I64)}, ["resize"]),
    "shape_arithmetic": ([node("Shape", "x", "s"), node("Gather", "s zero", "n"), node("Concat", "n rest", "r", axis=0),
                          node("Reshape", "x r")], X,
                         {"zero": np.array([0], I64), "rest": np.array([-1], I64)}, ["reshape"]),
    "softmax_neg": ([node("Neg", "t", "n"), node("Softmax", "n", axis=1)], T, {}, ["mul", "softmax"]),
    "neutral": ([node("Relu", "t", "r"), node("Mul", "r one", "s"), node("Add", "s nil", "u"), node("Tanh", "u")], T,
                {"one": np.float32(1), "nil": np.float32(0)}, ["relu", "tanh"]),
    "mask": ([node("Add", "t m", "a"), node("Softmax", "a")], T,
             {"m": np.array([0, 0, -np.inf, 0, 0, 0, -np.inf, 0], np.float32)}, ["add", "softmax"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_lowering_agrees_with_the_reference_evaluator(case: str, tmp_path: Path) -> None:
    nodes, shape, constants, expected = CASES[case]
    name = next(name for name in ("x", "t", "f") if any(name in n.input for n in nodes))
    graph = checked(save(tmp_path, nodes, {name: shape}, constants), {name: 2 * noise(*shape)})
    assert kinds(graph) == expected
    assert graph.outputs == ("y",)


def test_reference_interpreter_covers_every_operator() -> None:
    assert set(REFERENCE) == set(OPERATORS)


def test_every_rule_watches_known_kinds() -> None:
    from compiler.frontend.draft import TRANSIENT

    assert set(RULES) | set(ELEMENTWISE) <= set(OPERATORS) | set(TRANSIENT)


@pytest.mark.parametrize("opset", [8, 12])
def test_old_softmax_spans_the_remaining_axes(opset: int, tmp_path: Path) -> None:
    """Spelled out, because the reference evaluator has the new meaning for every opset."""
    graph, params = import_onnx(save(tmp_path, [node("Softmax", "t")], {"t": T}, {}, opset))
    x = noise(*T)
    expected = np.exp(x) / np.exp(x).sum(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(evaluate(graph, params, {"t": x})[0], expected, rtol=1e-4)
    assert kinds(graph) == ["reshape", "softmax", "reshape"]


def test_negative_padding_crops(tmp_path: Path) -> None:
    path = save(tmp_path, [node("Pad", "t p")], {"t": T}, {"p": np.array([0, -1, 2, 0, 0, -3], I64)})
    graph, params = import_onnx(path)
    x = noise(*T)
    np.testing.assert_array_equal(evaluate(graph, params, {"t": x})[0], np.pad(x[:, 1:, :-3], ((0, 0), (0, 0), (2, 0))))


def test_tanh_gelu_becomes_gelu_within_its_known_error(tmp_path: Path) -> None:
    nodes = [
        node("Pow", "t three", "p"), node("Mul", "p c", "q"), node("Add", "t q", "r"), node("Mul", "r k", "s"),
        node("Tanh", "s", "u"), node("Add", "u one", "v"), node("Mul", "t v", "w"), node("Mul", "w half"),
    ]  # fmt: skip
    numbers = {"three": 3.0, "c": 0.044715, "k": (2 / np.pi) ** 0.5, "one": 1.0, "half": 0.5}
    path = save(tmp_path, nodes, {"t": T}, {name: np.float32(value) for name, value in numbers.items()})
    graph, params = import_onnx(path)
    x = 2 * noise(*T)
    assert kinds(graph) == ["gelu"]
    expected = ReferenceEvaluator(onnx.load(path)).run(None, {"t": x})[0]
    assert np.abs(evaluate(graph, params, {"t": x})[0] - expected).max() < 5e-4


def test_embedding_with_run_time_ids(tmp_path: Path) -> None:
    nodes = [node("Cast", "ids", "i", to=TensorProto.INT64), node("Gather", "table i")]
    graph = checked(save(tmp_path, nodes, {"ids": (1, 3)}, {"table": noise(9, 4)}), {"ids": np.array([[0, 8, 3]])})
    assert kinds(graph) == ["embedding"]


def test_fused_conv_of_onnx_runtime(tmp_path: Path) -> None:
    fused = node("FusedConv", "x w", activation="Relu")
    fused.domain = "com.microsoft"
    graph, _ = import_onnx(save(tmp_path, [fused], {"x": X}, {"w": noise(3, 4, 1, 1)}))
    assert kinds(graph) == ["conv", "relu"]


@QUICK
@given(
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    kind=st.sampled_from(["Conv", "MaxPool", "AveragePool"]),
    auto=st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]),
    ceil=st.integers(0, 1),
    count=st.integers(0, 1),
)
def test_windows_agree_with_torch(
    size: Any, kernel: Any, stride: Any, pads: Any, kind: str, auto: str, ceil: int, count: int, tmp_path: Path
) -> None:
    """Random windows keep the reference's values; torch's for ceil mode, which onnx's reference gets wrong."""
    if auto.startswith("SAME"):  # pooling: the reference evaluator disagrees with the specification
        kind, stride = "Conv", (min(stride[0], kernel[0]), min(stride[1], kernel[1]))
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "auto_pad": auto}
    if auto == "NOTSET":
        attributes["pads"] = [min(p, k // 2) for p, k in zip(pads, kernel * 2, strict=True)]
    x = noise(1, 2, *size)
    constants = {"w": noise(3, 2, *kernel)} if kind == "Conv" else {}
    if kind != "Conv" and ceil and auto == "NOTSET":
        _check_ceil(tmp_path, kind, attributes, bool(count), x)
        return
    path = save(tmp_path, [node(kind, "x w" if constants else "x", **attributes)], {"x": x.shape}, constants)
    checked(path, {"x": x})


def _check_ceil(folder: Path, kind: str, attributes: dict[str, Any], count: bool, x: np.ndarray) -> None:
    import torch
    from torch.nn import functional

    before = attributes["pads"][:2]
    attributes = attributes | {"pads": before * 2, "ceil_mode": 1}
    window = (attributes["kernel_shape"], attributes["strides"], before)
    if kind == "MaxPool":
        expected = functional.max_pool2d(torch.from_numpy(x), *window, ceil_mode=True)
    else:
        attributes["count_include_pad"] = int(count)
        expected = functional.avg_pool2d(torch.from_numpy(x), *window, ceil_mode=True, count_include_pad=count)
    graph, params = import_onnx(save(folder, [node(kind, "x", **attributes)], {"x": x.shape}, {}))
    np.testing.assert_allclose(evaluate(graph, params, {"x": x})[0], expected.numpy(), rtol=1e-4, atol=1e-5)


@QUICK
@given(
    size=st.integers(1, 7),
    wanted=st.integers(1, 12),
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    coordinates=st.sampled_from(sorted(COORDINATES)),
    rounding=st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]),
)
def test_interpolation_matrix_is_what_resize_does(
    size: int, wanted: int, mode: str, coordinates: str, rounding: str
) -> None:
    if coordinates == "pytorch_half_pixel" and wanted == 1:
        return  # the specification says 0 here, the reference evaluator takes -0.5
    resize = node("Resize", "x - - s", mode=mode, coordinate_transformation_mode=coordinates, nearest_mode=rounding)
    graph = helper.make_graph(
        [resize], "g", [onnx.ValueInfoProto(name=n) for n in ("x", "s")], [onnx.ValueInfoProto(name="y")]
    )
    x = noise(size)
    expected = ReferenceEvaluator(graph, opsets={"": 19}).run(None, {"x": x, "s": np.array([wanted])})[0]
    np.testing.assert_allclose(axis_matrix(size, wanted, mode, coordinates, rounding) @ x, expected, atol=1e-4)


def test_constant_resize_folds(tmp_path: Path) -> None:
    """A position table resized at compile time, as vision transformers export it."""
    nodes = [
        node("Resize", "table - - s", "r", mode="cubic", coordinate_transformation_mode="pytorch_half_pixel"),
        node("Add", "x r"),
    ]
    path = save(tmp_path, nodes, {"x": X}, {"table": noise(1, 4, 5, 5), "s": np.array(X, I64)})
    assert kinds(checked(path, {"x": noise(*X)})) == ["add"]


def test_weight_names(tmp_path: Path) -> None:
    """Initializers keep their names, made-up ones come from the bias or the node, folded transposes pass them on."""
    nodes = [
        helper.make_node("MatMul", ["t", "onnx::MatMul_12"], ["a"], name="/blocks/0/attn/qkv/MatMul"),
        helper.make_node("MatMul", ["a", "val_3"], ["b"], name="node_MatMul_7"),
        helper.make_node("Add", ["b", "blocks.0.mlp.fc1.bias"], ["c"], name="node_Add_8"),
        helper.make_node(
            "Transpose", ["head.weight"], ["/head/Transpose_output_0"], perm=[1, 0], name="/head/Transpose"
        ),
        helper.make_node("MatMul", ["c", "/head/Transpose_output_0"], ["y"], name="/head/MatMul"),
    ]
    constants = {"onnx::MatMul_12": noise(8, 3), "val_3": noise(3, 4), "blocks.0.mlp.fc1.bias": noise(4)}
    graph, params = import_onnx(save(tmp_path, nodes, {"t": T}, constants | {"head.weight": noise(6, 4)}))
    assert [op.inputs[1] for op in graph.weight_ops()] == [
        "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight", "head.weight",
    ]  # fmt: skip
    assert [op.name for op in graph.ops] == ["/blocks/0/attn/qkv/MatMul", "node_MatMul_7", "/head/MatMul"]
    assert params["head.weight"].shape == (6, 4)


def test_weights_in_constant_nodes_and_external_data(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(noise(8, 3), "value")
    nodes = [helper.make_node("Constant", [], ["fc.w"], value=weight), node("MatMul", "t fc.w")]
    path = save(tmp_path, nodes, {"t": T}, {})
    assert "fc.w" in checked(path, {"t": noise(*T)}).parameters
    external = save(tmp_path, [node("MatMul", "t w")], {"t": T}, {"w": noise(8, 300)})
    onnx.save_model(onnx.load(external), external, save_as_external_data=True, location="model.data", size_threshold=0)
    checked(external, {"t": noise(*T)})
    (tmp_path / "model.data").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"model\.onnx"):
        import_onnx(external)
    (tmp_path / "model.data").unlink()
    with pytest.raises(ModelError, match=r"model\.onnx.*model\.data"):
        import_onnx(external)


def test_symbolic_dimensions(tmp_path: Path) -> None:
    path = save(tmp_path, [node("Relu", "t")], {"t": ("batch", 3, "length")}, {})
    with pytest.raises(
        ModelError, match=r"input 't' has shape \[batch, 3, length\].*input_shapes=\{'t': \(1, 3, 1\)\}"
    ):
        import_onnx(path)
    assert import_onnx(path, {"t": (2, 3, 7)})[0].inputs["t"] == (2, 3, 7)
    for wrong in ((2, 4, 7), (2, 3), (2, 3, 0)):
        with pytest.raises(ModelError, match=r"input_shapes gives"):
            import_onnx(path, {"t": wrong})
    with pytest.raises(ModelError, match=r"no input 'tt'.*did you mean 't'"):
        import_onnx(path, {"tt": (1,)})
    batched = save(tmp_path, [node("Relu", "t")], {"t": ("N", 3)}, {})
    assert import_onnx(batched)[0].inputs["t"] == (1, 3)


def test_outputs_cut_the_graph(tmp_path: Path) -> None:
    nodes = [node("Relu", "t", "r"), node("Tanh", "r", "h"), node("LSTM", "h w", "y")]
    path = save(tmp_path, nodes, {"t": T}, {"w": noise(1)})
    graph, _ = import_onnx(path, outputs=["h", "r"])
    assert kinds(graph) == ["relu", "tanh"] and graph.outputs == ("h", "r")
    with pytest.raises(ModelError, match="no tensor 'hh' to cut at"):
        import_onnx(path, outputs=["hh"])
    with pytest.raises(ModelError, match=r"node '/y/LSTM': operator 'LSTM' cannot be lowered; supported: Add, Av"):
        import_onnx(path)


def _nan() -> np.ndarray:
    weight = noise(8, 3)
    weight[2, 1] = np.nan
    return weight


REFUSED: dict[str, tuple[list[Node], dict[str, Any], str]] = {
    "nan": ([node("MatMul", "t w")], {"w": _nan()}, "tensor 'w': 1 of 24 values are NaN or infinite"),
    "infinite": ([node("Mul", "t w")], {"w": np.float32(np.inf)}, "tensor 'w': 1 of 1 values"),
    "conv1d": ([node("Conv", "t w")], {"w": noise(4, 5, 3)},
               r"node '/y/Conv' \(Conv\): 1-D convolution of \[2, 5, 8\]"),
    "run_time_weight": ([node("Reshape", "t s", "x"), node("Conv", "x x")], {"s": np.array([2, 5, 4, 2], I64)},
                        "input 1 .* must be known at compile time"),
    "erf": ([node("Erf", "t")], {}, "node '/y/Erf': operator 'erf' cannot be lowered .*exact GELU"),
    "power": ([node("Pow", "t e")], {"e": np.float32(1.5)}, "power 1.5 cannot be lowered"),
    "truncating_cast": ([node("Cast", "t", to=TensorProto.INT32)], {}, "cast of a floating-point activation to int32"),
    "reflect": ([node("Pad", "t p", mode="reflect")], {"p": np.array([0, 0, 1, 0, 0, 1], I64)}, "mode 'reflect'"),
    "step": ([node("Slice", "t s e a d")], {"s": np.array([0]), "e": np.array([5]), "a": np.array([1]),
                                           "d": np.array([2])}, "step must divide"),
    "second_output": ([node("Reshape", "t s", "x"), node("MaxPool", "x", "p i", kernel_shape=[1, 1]),
                       node("Cast", "i", to=TensorProto.FLOAT)],
                      {"s": np.array([2, 5, 4, 2], I64)}, "reads tensor 'i', which nothing produces"),
    "bomb": ([node("ConstantOfShape", "s", "c"), node("Add", "t c")], {"s": np.array([2**40, 2**20])},
             "at most 268435456"),
    "random": ([node("RandomNormal", "-", "r", shape=[8]), node("Add", "t r")], {}, "is random"),
    "constant_output": ([node("Neg", "w")], {"w": noise(3)}, "output 'y' does not depend on any input"),
    "align_corners": ([node("Reshape", "t s", "x"),
                       node("Resize", "x - - z", mode="linear", coordinate_transformation_mode="align_corners")],
                      {"s": np.array([2, 5, 4, 2], I64), "z": np.array([2, 5, 8, 4], I64)}, "supported: nearest"),
    "same_with_holes": ([node("Reshape", "t s", "x"), node("Conv", "x w", auto_pad="SAME_UPPER", strides=[1, 4])],
                        {"s": np.array([1, 1, 10, 8], I64), "w": noise(1, 1, 1, 1)}, "skips 2 or more"),
    "misfit": ([node("Add", "t w")], {"w": noise(3)}, r"node '/y/Add' \(add\).*do not broadcast"),
    "bad_fold": ([node("Concat", "w v", "c", axis=0), node("Add", "t c")], {"w": noise(3), "v": noise(2, 2)},
                 r"node '/c/Concat' \(Concat\)"),
    "run_time_shape": ([node("Cast", "t", "i", to=TensorProto.FLOAT), node("Reshape", "t i")], {},
                       "must be known at compile time"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line_that_names_the_culprit(case: str, tmp_path: Path) -> None:
    nodes, constants, message = REFUSED[case]
    with pytest.raises(ModelError, match=message) as caught:
        import_onnx(save(tmp_path, nodes, {"t": T}, constants))
    assert "\n" not in str(caught.value)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    """Every prefix of a file, and files of noise, give a ``ModelError`` of one line, or (never) a model."""
    path = save(tmp_path, [node("MatMul", "t w")], {"t": T}, {"w": noise(8, 3)})
    whole = path.read_bytes()
    for data in [*(whole[:n] for n in range(0, len(whole), 7)), b"\x00" * 64, b"not an onnx file at all"]:
        path.write_bytes(data)
        with pytest.raises(ModelError) as caught:
            import_onnx(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="no such file"):
        import_onnx(tmp_path / "absent.onnx")


@QUICK
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_give_a_model_or_a_model_error(flips: list[tuple[int, int]], tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "c", auto_pad="SAME_UPPER", kernel_shape=[3, 3]),
        node("Transpose", "c", "p", perm=[0, 2, 3, 1]),
        node("Softmax", "p", "s", axis=-1), node("Slice", "s i j", "q"), node("MatMul", "q k"),
    ]  # fmt: skip
    constants = {"w": noise(4, 4, 3, 3), "i": np.array([0], I64), "j": np.array([1], I64), "k": noise(4, 2)}
    path = save(tmp_path, nodes, {"x": X}, constants)
    data = bytearray(path.read_bytes())
    for place, value in flips:
        data[place % len(data)] = value
    path.write_bytes(data)
    with contextlib.suppress(ModelError):
        import_onnx(path)


@QUICK
@given(data=st.data())
def test_random_chains(data: st.DataObject, tmp_path: Path) -> None:
    """Random sequences of shape-keeping, shaping and normalising nodes keep the reference's values."""
    steps = data.draw(st.lists(st.sampled_from(sorted(CHAIN)), min_size=2, max_size=7))
    nodes: list[Node] = []
    current = "t"
    for i, step in enumerate(steps):
        last = "y" if i == len(steps) - 1 else f"v{i}"
        nodes += CHAIN[step](current, last)
        current = last
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    numbers = {"half": np.float32(0.5), "gain": rng.random(8, np.float32), "w": rng.random((8, 8), np.float32) - 0.5}
    used = {name for n in nodes for name in n.input}
    checked(
        save(tmp_path, nodes, {"t": T}, {k: v for k, v in numbers.items() if k in used}),
        {"t": rng.standard_normal(T, np.float32)},
    )


CHAIN: dict[str, Any] = {
    "relu": lambda a, b: [node("Relu", a, b)],
    "linear": lambda a, b: [node("MatMul", f"{a} w", b)],
    "scale": lambda a, b: [node("Mul", f"half {a}", b)],
    "shift": lambda a, b: [node("Add", f"{a} gain", b)],
    "gain": lambda a, b: [node("Mul", f"{a} gain", b)],
    "residual": lambda a, b: [node("Add", f"{a} {a}", b)],
    "silu": lambda a, b: [node("Sigmoid", a, f"{b}s"), node("Mul", f"{b}s {a}", b)],
    "norm": lambda a, b: [node("LayerNormalization", f"{a} gain", b)],
    "twice": lambda a, b: [
        node("Transpose", a, f"{b}t", perm=[1, 0, 2]), node("Transpose", f"{b}t", b, perm=[1, 0, 2]),
    ],
    "scores": lambda a, b: [
        node("Transpose", a, f"{b}t", perm=[0, 2, 1]), node("MatMul", f"{a} {b}t", f"{b}m"),
        node("Softmax", f"{b}m", f"{b}p"), node("MatMul", f"{b}p {a}", b),
    ],
}  # fmt: skip


def test_operator_histogram_of_a_cnn(tmp_path: Path) -> None:
    """Conv, BatchNorm, Relu6, depthwise, residual, pooling, classifier in one file."""
    nodes = [
        node("Conv", "x w0", "a", pads=[1, 1, 1, 1]), node("BatchNormalization", "a g b m v", "bn"),
        node("Clip", "bn zero six", "c"), node("Conv", "c w1", "d", group=4, pads=[1, 1, 1, 1]),
        node("Add", "c d", "e"), node("GlobalAveragePool", "e", "p"), node("Flatten", "p", "f"),
        node("Gemm", "f fw fb", transB=1),
    ]  # fmt: skip
    constants = {
        "w0": noise(4, 4, 3, 3), "w1": noise(4, 1, 3, 3), "g": noise(4), "b": noise(4), "m": noise(4),
        "v": noise(4) ** 2, "zero": np.float32(0), "six": np.float32(6), "fw": noise(5, 4), "fb": noise(5),
    }  # fmt: skip
    graph = checked(save(tmp_path, nodes, {"x": ("N", 4, 6, 8)}, constants), {"x": noise(*X)})
    assert Counter(kinds(graph)) == Counter(["conv", "relu6", "conv", "add", "mean", "reshape", "gemm"])
