"""ONNX import against onnx's own reference evaluator, node by node and in small networks."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from graph_reference import evaluate
from onnx import TensorProto
from onnx.reference import ReferenceEvaluator
from onnx_models import I64, IMAGE, TOKENS, Node, checked, kinds, node, noise, save

from accel.graph import OPERATORS
from compiler.frontend.elementwise import ELEMENTWISE
from compiler.frontend.onnx_import import import_onnx
from compiler.frontend.simplify import RULES
from compiler.training.operators import TORCH

X, T = IMAGE, TOKENS  # short, because the table below names them on every line
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
    "transposes": ([node("Transpose", "t", "a", perm=[1, 0, 2]), node("Transpose", "a", "b", perm=[0, 2, 1]),
                    node("Relu", "b", "c"), node("Transpose", "c", "d", perm=[1, 0, 2]),
                    node("Transpose", "d", "e", perm=[1, 0, 2]), node("Tanh", "e")], T, {},
                   ["transpose", "relu", "tanh"]),
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
    assert set(TORCH) == set(OPERATORS)


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


def test_constant_resize_folds(tmp_path: Path) -> None:
    """A position table resized at compile time, as vision transformers export it."""
    nodes = [
        node("Resize", "table - - s", "r", mode="cubic", coordinate_transformation_mode="pytorch_half_pixel"),
        node("Add", "x r"),
    ]
    path = save(tmp_path, nodes, {"x": X}, {"table": noise(1, 4, 5, 5), "s": np.array(X, I64)})
    assert kinds(checked(path, {"x": noise(*X)})) == ["add"]


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
