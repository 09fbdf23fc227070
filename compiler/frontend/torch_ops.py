"""Lowering of ATen operators that compute; those that only move data are in ``torch_layout``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from compiler.frontend import draft_ops as emit
from compiler.frontend.torch_layout import LAYOUT
from compiler.frontend.torch_node import Activation, TorchNode, as_array

Lowering = Callable[[TorchNode], Any]


def _pair(values: Any, default: tuple[int, int] = (1, 1)) -> tuple[int, int]:
    sizes = [int(v) for v in values] if isinstance(values, Sequence) else [int(values)]
    if not sizes:
        return default
    return (sizes[0], sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])


def conv(node: TorchNode) -> str:
    """conv2d and convolution (2-D, not transposed)."""
    x, weight = node.tensor("input"), node["weight"]
    if len(node.shape(x)) != 4 or node.get("transposed"):
        what = "transposed convolution" if node.get("transposed") else f"{len(node.shape(x)) - 2}-D convolution"
        raise node.error(f"{what} of {list(node.shape(x))}; only a 2-D convolution (NCHW) can be lowered")
    stride, dilation, kernel = _pair(node["stride"]), _pair(node["dilation"]), tuple(weight.shape[2:])
    inputs = [x, node.parameter(weight, "weight")]
    if node["bias"] is not None:
        inputs.append(node.parameter(node["bias"], "bias"))
    padding = _conv_padding(node, kernel, dilation)
    return node.op(
        "conv", *inputs, kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=int(node["groups"])
    )


def _conv_padding(node: TorchNode, kernel: Sequence[int], dilation: Sequence[int]) -> tuple[int, int, int, int]:
    padding = node["padding"]
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        totals = [dilation[i] * (kernel[i] - 1) for i in range(2)]
        return totals[0] // 2, totals[1] // 2, totals[0] - totals[0] // 2, totals[1] - totals[1] // 2
    height, width = _pair(padding)
    return height, width, height, width


def linear(node: TorchNode) -> str:
    """linear: weight [N, K] as it is."""
    return _gemm(node, node.tensor("input"), node["weight"], None, node["bias"])


def _gemm(node: TorchNode, x: str, source: Any, weight: np.ndarray | None, bias: Any) -> str:
    inputs = [x, node.parameter(source, "weight", weight)]
    if bias is None:
        return node.op("gemm", *inputs)
    vector = None if isinstance(bias, Activation) else as_array(bias)
    width = node.draft.shapes[inputs[1]][0]
    if vector is None or vector.size not in (1, width):
        return node.op("add", node.op("gemm", *inputs), node.as_tensor(bias, "bias"))
    full = vector if vector.shape == (width,) else np.broadcast_to(vector.reshape(-1), (width,))
    return node.op("gemm", *inputs, node.parameter(bias, "bias", full))


def addmm(node: TorchNode) -> str:
    """``beta*bias + alpha*(mat1 @ mat2)``."""
    if node["alpha"] != 1 or node["beta"] != 1:
        raise node.error(f"alpha {node['alpha']}, beta {node['beta']}; only 1 can be lowered")
    first, second = ("batch1", "batch2") if node.kind == "baddbmm" else ("mat1", "mat2")
    if node.is_activation(second) or not node.is_activation(first):
        return node.op("add", _product(node, node[first], node[second]), node.tensor())
    return _gemm(node, node.tensor(first), node[second], as_array(node[second]).T, node["self"])


def matmul(node: TorchNode) -> str:
    """matmul, mm, bmm: a constant side makes it a ``gemm``."""
    return _product(node, node["self"], node["other"] if node.kind == "matmul" else node["mat2"])


def _product(node: TorchNode, a: Any, b: Any) -> str:
    if isinstance(a, Activation) and isinstance(b, Activation):
        return Activation(emit.matmul(node.draft, a, b, node.name))
    constant = b if isinstance(a, Activation) else a
    matrix = emit.one_matrix(as_array(constant), node.name)
    if isinstance(a, Activation):
        return _gemm(node, a, constant, matrix.T, None)
    rank = len(node.shape(b))
    swap = (*range(rank - 2), rank - 1, rank - 2)
    product = _gemm(node, emit.transpose(node.draft, b, swap, node.name), constant, matrix, None)
    return Activation(emit.transpose(node.draft, product, swap, node.name))


def arithmetic(node: TorchNode) -> str:
    """add, sub, mul, div, rsub by tensors or numbers; the run-time operand of add and mul comes first."""
    if node.get("rounding_mode") is not None:
        raise node.error(f"rounding mode '{node['rounding_mode']}'; only true division can be lowered")
    a, b, kind = node["self"], node["other"], node.kind
    if kind == "rsub":
        a, b, kind = b, a, "sub"
    if node.get("alpha", 1) != 1:
        scaled = b if node.kind != "rsub" else a
        if isinstance(scaled, Activation):
            raise node.error(f"alpha {node['alpha']}; only 1 can be lowered")
        a, b = (a, scaled * node["alpha"]) if node.kind != "rsub" else (scaled * node["alpha"], b)
    if kind in ("add", "mul") and not isinstance(a, Activation):
        a, b = b, a
    return node.op(kind, _operand(node, a, kind), _operand(node, b, kind))


def _operand(node: TorchNode, value: Any, kind: str) -> str:
    """Minus infinity in an added mask becomes the lowest float32: the softmax behind it gives 0 for either."""
    if kind != "add" or isinstance(value, Activation):
        return node.as_tensor(value, "constant")
    array = as_array(value)
    return node.parameter(value, "constant", np.where(np.isneginf(array), -emit.FLOAT_LIMIT, array))


def power(node: TorchNode) -> str:
    """pow by a number, sqrt, rsqrt, square."""
    fixed = {"sqrt": 0.5, "rsqrt": -0.5, "square": 2.0}
    exponent = fixed.get(node.kind) or node["exponent"]
    if not isinstance(exponent, int | float):
        raise node.error("the exponent is a tensor; only a number can be lowered")
    return Activation(emit.power(node.draft, node.tensor(), float(exponent), node.name))


def negate(node: TorchNode) -> str:
    """neg, as multiplication by -1."""
    return Activation(emit.scaled(node.draft, "mul", node.tensor(), -1.0, node.name))


def unary(node: TorchNode) -> str:
    """Operators of one name on both sides; gelu's tanh form is taken as gelu."""
    return node.op(node.kind, node.tensor())


def clip(node: TorchNode) -> str:
    """clamp, hardtanh, clamp_min, clamp_max."""
    low, high = node.get("min_val", node.get("min")), node.get("max_val", node.get("max"))
    if any(isinstance(limit, str) or hasattr(limit, "shape") for limit in (low, high)):
        raise node.error("a limit is a tensor; only numbers can be lowered")
    return Activation(emit.clip(node.draft, node.tensor(), low, high, node.name))


def softmax(node: TorchNode) -> str:
    """softmax over one axis."""
    return Activation(emit.softmax(node.draft, node.tensor(), int(node["dim"]), node.name))


def layer_norm(node: TorchNode) -> str:
    """layer_norm and native_layer_norm over the last axes."""
    gamma, beta = (None if node[r] is None else node.parameter(node[r], r) for r in ("weight", "bias"))
    x, axes = node.tensor("input"), len(node["normalized_shape"])
    return Activation(emit.layer_norm(node.draft, x, axes, gamma, beta, float(node["eps"]), node.name))


def batch_norm(node: TorchNode) -> str:
    """batch_norm in evaluation mode; ``simplify`` folds it."""
    if node.get("training"):
        raise node.error("training mode; call eval() on the module before exporting it")
    mean, variance = node["running_mean"], node["running_var"]
    if mean is None or variance is None:
        raise node.error("no running statistics; only an evaluated batch normalisation can be lowered")
    size = mean.shape[0]
    gamma = np.ones(size) if node["weight"] is None else as_array(node["weight"])
    beta = np.zeros(size) if node["bias"] is None else as_array(node["bias"])
    values = (
        (node["weight"], "weight", gamma),
        (node["bias"], "bias", beta),
        (mean, "mean", None),
        (variance, "var", None),
    )
    inputs = [node.parameter(source, role, array) for source, role, array in values]
    return node.op("batchnorm", node.tensor("input"), *inputs, epsilon=float(node["eps"]))


def attention(node: TorchNode) -> str:
    """scaled_dot_product_attention with an optional constant mask or causality."""
    if node["dropout_p"] or node.get("enable_gqa"):
        raise node.error("dropout or grouped queries; only plain attention can be lowered")
    query, key = node.tensor("query"), node.tensor("key")
    scale = node["scale"] or 1 / math.sqrt(node.shape(query)[-1])
    mask = node["attn_mask"]
    if node["is_causal"]:
        mask = np.tri(node.shape(query)[-2], node.shape(key)[-2], dtype=bool)
    return Activation(
        emit.attention(node.draft, query, key, node.tensor("value"), _mask(node, mask), float(scale), node.name)
    )


def _mask(node: TorchNode, mask: Any) -> str | None:
    """The mask as something to add to the scores; what is masked out gets the lowest float32."""
    if mask is None or isinstance(mask, Activation):
        return mask
    values = as_array(mask)
    if values.dtype == bool:
        values = np.where(values, 0.0, -emit.FLOAT_LIMIT)
    return node.parameter(mask, "mask", np.where(np.isneginf(values), -emit.FLOAT_LIMIT, values))


def pool(node: TorchNode) -> str:
    """max_pool2d (with or without indices) and avg_pool2d."""
    if any(d != 1 for d in _pair(node.get("dilation", 1))) or node.get("divisor_override"):
        raise node.error("dilation or divisor_override; neither can be lowered")
    kernel = _pair(node["kernel_size"])
    height, width = _pair(node["padding"], (0, 0))
    return Activation(
        emit.pool(
            node.draft,
            "maxpool" if node.kind.startswith("max") else "avgpool",
            node.tensor(),
            kernel,
            _pair(node["stride"], kernel),
            (height, width, height, width),
            node.name,
            ceil=bool(node["ceil_mode"]),
            count_padding=bool(node.get("count_include_pad", True)),
        )
    )


def adaptive_pool(node: TorchNode) -> str:
    """adaptive_avg_pool2d to 1x1 (a mean) or to a size that divides the input's."""
    x = node.tensor()
    height, width = node.shape(x)[-2:]
    wanted = [old if new is None else int(new) for new, old in zip(node["output_size"], (height, width), strict=True)]
    if len(node.shape(x)) != 4 or height % wanted[0] or width % wanted[1]:
        raise node.error(f"adaptive pooling of {list(node.shape(x))} to {wanted}; the size must divide the input's")
    if wanted == [1, 1]:
        return node.op("mean", x, axes=(2, 3), keepdims=True)
    kernel = (height // wanted[0], width // wanted[1])
    return node.op("avgpool", x, kernel=kernel, stride=kernel, padding=(0, 0, 0, 0))


def mean(node: TorchNode) -> str:
    """mean over some axes or all."""
    x = node.tensor()
    rank = len(node.shape(x))
    axes = tuple(sorted(int(axis) % rank for axis in node.get("dim") or range(rank)))
    return node.op("mean", x, axes=axes, keepdims=bool(node.get("keepdim", False)))


def embedding(node: TorchNode) -> str:
    """Rows of a constant table."""
    return node.op("embedding", node.parameter(node["weight"], "weight"), node.tensor("indices"))


LOWERINGS: Mapping[str, Lowering] = MappingProxyType(
    {
        **LAYOUT,
        "conv2d": conv,
        "convolution": conv,
        "linear": linear,
        "addmm": addmm,
        "baddbmm": addmm,
        **dict.fromkeys(("matmul", "mm", "bmm"), matmul),
        **dict.fromkeys(("add", "sub", "mul", "div", "rsub"), arithmetic),
        **dict.fromkeys(("pow", "sqrt", "rsqrt", "square"), power),
        "neg": negate,
        **dict.fromkeys(("relu", "relu6", "gelu", "silu", "sigmoid", "tanh", "hardswish", "hardsigmoid", "erf"), unary),
        **dict.fromkeys(("clamp", "hardtanh", "clamp_min", "clamp_max"), clip),
        **dict.fromkeys(("softmax", "_softmax"), softmax),
        **dict.fromkeys(("layer_norm", "native_layer_norm"), layer_norm),
        **dict.fromkeys(("batch_norm", "_native_batch_norm_legit_no_training"), batch_norm),
        "scaled_dot_product_attention": attention,
        **dict.fromkeys(("max_pool2d", "max_pool2d_with_indices", "avg_pool2d"), pool),
        **dict.fromkeys(("adaptive_avg_pool2d", "_adaptive_avg_pool2d"), adaptive_pool),
        "mean": mean,
        "embedding": embedding,
    }
)
