"""Lowering of ONNX operators that compute: products, convolutions, arithmetic, activations, norms, pooling."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from compiler.frontend import draft_ops as emit
from compiler.frontend.onnx_node import Array, OnnxNode

Lowering = Callable[[OnnxNode], str | list[str]]


def conv(node: OnnxNode) -> str:
    """2-D convolution: groups, dilation, explicit or automatic padding; the weight must be constant."""
    shape, weight = node.shape(0), node.constant(1)
    if len(shape) != 4 or weight.ndim != 4:
        raise node.error(f"{len(shape) - 2}-D convolution of {list(shape)}; only 2-D (NCHW) can be lowered")
    window = _window(node, weight.shape[2:])
    inputs = [node.tensor(0), node.parameter(1, "weight")]
    if node.has(2):
        inputs.append(node.parameter(2, "bias"))
    groups = int(node.attribute("group", 1))
    return node.draft.op("conv", *inputs, name=node.name, groups=groups, **window)


def fused_conv(node: OnnxNode) -> str:
    """ONNX Runtime's convolution with an activation behind it."""
    activation = node.attribute("activation", "")
    if node.has(3) or activation not in ("", "Relu", "Sigmoid", "Tanh"):
        raise node.error(f"fused activation '{activation}' or addition; supported: Relu, Sigmoid, Tanh")
    result = conv(node)
    return node.draft.op(activation.lower(), result, name=f"{node.name}/{activation}") if activation else result


def _window(node: OnnxNode, kernel: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    stride = tuple(map(int, node.attribute("strides", (1, 1))))
    dilation = tuple(map(int, node.attribute("dilations", (1, 1))))
    padding = tuple(map(int, node.attribute("pads", (0, 0, 0, 0))))
    auto = node.attribute("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        sides = [
            emit.same_padding(node.shape(0)[2 + i], kernel[i], stride[i], dilation[i], auto == "SAME_UPPER")
            for i in range(2)
        ]
        padding = (sides[0][0], sides[1][0], sides[0][1], sides[1][1])
    elif auto == "VALID":
        padding = (0, 0, 0, 0)
    elif auto != "NOTSET":
        raise node.error(f"auto_pad '{auto}'; supported: NOTSET, SAME_UPPER, SAME_LOWER, VALID")
    return {"kernel": tuple(map(int, kernel)), "stride": stride, "padding": padding, "dilation": dilation}


def pool(node: OnnxNode) -> str:
    """MaxPool and AveragePool."""
    if len(node.shape(0)) != 4:
        raise node.error(f"pooling of {list(node.shape(0))}; only 2-D (NCHW) can be lowered")
    window = _window(node, tuple(node.attribute("kernel_shape")))
    if window["dilation"] != (1, 1):
        raise node.error(f"dilation {list(window['dilation'])}; pooling supports 1")
    return emit.pool(
        node.draft,
        {"MaxPool": "maxpool", "AveragePool": "avgpool"}[node.kind],
        node.tensor(0),
        window["kernel"],
        window["stride"],
        window["padding"],
        node.name,
        ceil=bool(node.attribute("ceil_mode", 0)),
        count_padding=bool(node.attribute("count_include_pad", 0)),
    )


def global_pool(node: OnnxNode) -> str:
    """GlobalAveragePool and GlobalMaxPool."""
    x, shape = node.tensor(0), node.shape(0)
    if node.kind == "GlobalAveragePool":
        return node.draft.op("mean", x, name=node.name, axes=tuple(range(2, len(shape))), keepdims=True)
    return emit.pool(node.draft, "maxpool", x, shape[2:], (1, 1), (0, 0, 0, 0), node.name)


def gemm(node: OnnxNode) -> str:
    """``alpha * A' @ B' + beta * C`` with constant B (and C); both factors go into the values."""
    x = node.tensor(0)
    if node.attribute("transA", 0):
        x = emit.transpose(node.draft, x, (1, 0), f"{node.name}/transpose")
    weight = node.constant(1) if node.attribute("transB", 0) else node.constant(1).T
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    inputs = [x, node.parameter(1, "weight", weight if alpha == 1 else weight * np.float32(alpha))]
    if not node.has(2):
        return node.draft.op("gemm", *inputs, name=node.name)
    if not node.is_constant(2) or node.constant(2).size not in (1, weight.shape[0]):
        product = node.draft.op("gemm", *inputs, name=node.name)
        other = node.tensor(2) if beta == 1 else emit.scaled(node.draft, "mul", node.tensor(2), beta, node.name)
        return node.draft.op("add", product, other, name=f"{node.name}/add")
    bias = np.broadcast_to(node.constant(2).reshape(-1), weight.shape[:1])
    inputs.append(node.parameter(2, "bias", bias if beta == 1 else bias * np.float32(beta)))
    return node.draft.op("gemm", *inputs, name=node.name)


def matmul(node: OnnxNode) -> str:
    """A constant side makes it a ``gemm`` with the weight as [N, K]; two activations make it a ``matmul``."""
    if node.is_constant(1):
        return _linear(node, node.tensor(0), 1, node.constant(1))
    if not node.is_constant(0):
        return emit.matmul(node.draft, node.tensor(0), node.tensor(1), node.name)
    x = node.tensor(1)
    rank = len(node.draft.shapes[x])
    swap = (*range(rank - 2), rank - 1, rank - 2)
    turned = emit.transpose(node.draft, x, swap, f"{node.name}/transpose")
    product = _linear(node, turned, 0, node.constant(0).swapaxes(-1, -2))
    return emit.transpose(node.draft, product, swap, f"{node.name}/transpose")


def _linear(node: OnnxNode, x: str, position: int, weight: Array) -> str:
    matrix = emit.one_matrix(weight, node.name).T
    return node.draft.op("gemm", x, node.parameter(position, "weight", matrix), name=node.name)


def arithmetic(node: OnnxNode) -> str:
    """Add, Sub, Mul, Div with broadcasting; for Add and Mul the run-time operand comes first."""
    kind = node.kind.lower()
    order = (1, 0) if kind in ("add", "mul") and node.is_constant(0) else (0, 1)
    return node.draft.op(kind, *(_operand(node, i, kind) for i in order), name=node.name)


def _operand(node: OnnxNode, position: int, kind: str) -> str:
    """Minus infinity in an added mask becomes the lowest float32: the softmax behind it gives 0 for either."""
    if kind != "add" or not node.is_constant(position):
        return node.tensor(position)
    value = node.constant(position)
    masked = np.where(np.isneginf(value), -emit.FLOAT_LIMIT, value) if value.dtype.kind == "f" else value
    return node.parameter(position, "constant", masked)


def power(node: OnnxNode) -> str:
    """Pow with a constant exponent, Sqrt."""
    if node.kind == "Sqrt":
        return node.draft.op("sqrt", node.tensor(0), name=node.name)
    exponent = node.constant(1)
    if exponent.size != 1:
        raise node.error(f"exponent of shape {list(exponent.shape)}; only a number can be lowered")
    return emit.power(node.draft, node.tensor(0), float(exponent.flat[0]), node.name)


def negate(node: OnnxNode) -> str:
    """Neg, as multiplication by -1."""
    return emit.scaled(node.draft, "mul", node.tensor(0), -1.0, node.name)


def unary(node: OnnxNode) -> str:
    """Operators with the same meaning and (lower-case) name on both sides; Gelu's tanh form is taken as Gelu."""
    kind = {"HardSwish": "hardswish", "FastGelu": "gelu", "Swish": "silu"}.get(node.kind, node.kind.lower())
    if kind == "silu" and node.attribute("alpha", 1.0) != 1.0:
        raise node.error(f"alpha {node.attribute('alpha')}; only 1 can be lowered")
    return node.draft.op(kind, node.tensor(0), name=node.name)


def clip(node: OnnxNode) -> str:
    """Clip: limits as attributes (before opset 11) or constant inputs."""
    low, high = (
        float(node.constant(i).flat[0]) if node.has(i) else node.attribute(name) for i, name in ((1, "min"), (2, "max"))
    )
    return emit.clip(node.draft, node.tensor(0), low, high, node.name)


def hard_sigmoid(node: OnnxNode) -> str:
    """HardSigmoid with any slope and offset."""
    alpha, beta = node.attribute("alpha", 0.2), node.attribute("beta", 0.5)
    return emit.hard_sigmoid(node.draft, node.tensor(0), alpha, beta, node.name)


def softmax(node: OnnxNode) -> str:
    """Softmax; before opset 13 it spans all axes from ``axis`` on."""
    old = node.opset < 13
    return emit.softmax(node.draft, node.tensor(0), node.attribute("axis", 1 if old else -1), node.name, flatten=old)


def layer_norm(node: OnnxNode) -> str:
    """LayerNormalization over the last axes."""
    x = node.tensor(0)
    rank = len(node.draft.shapes[x])
    axes = rank - int(node.attribute("axis", -1)) % rank
    beta = node.parameter(2, "bias") if node.has(2) else None
    gamma = node.parameter(1, "weight")
    return emit.layer_norm(node.draft, x, axes, gamma, beta, node.attribute("epsilon", 1e-5), node.name)


def batch_norm(node: OnnxNode) -> str:
    """BatchNormalization as evaluated (not trained); ``simplify`` folds it."""
    if node.attribute("training_mode", 0):
        raise node.error("training mode; export the model in evaluation mode")
    roles = ("weight", "bias", "mean", "variance")
    inputs = [node.tensor(0), *(node.parameter(i + 1, role) for i, role in enumerate(roles))]
    return node.draft.op("batchnorm", *inputs, name=node.name, epsilon=float(node.attribute("epsilon", 1e-5)))


def reduce_mean(node: OnnxNode) -> str:
    """ReduceMean, axes as attribute or (from opset 18) constant input."""
    x = node.tensor(0)
    rank = len(node.draft.shapes[x])
    axes = node.integers(1, "axes")
    if not axes:
        if node.attribute("noop_with_empty_axes", 0):
            return x
        axes = list(range(rank))
    keep = bool(node.attribute("keepdims", 1))
    return node.draft.op("mean", x, name=node.name, axes=tuple(sorted(a % rank for a in axes)), keepdims=keep)


MATH: Mapping[str, Lowering] = MappingProxyType(
    {
        "Conv": conv,
        "FusedConv": fused_conv,
        "MaxPool": pool,
        "AveragePool": pool,
        "GlobalAveragePool": global_pool,
        "GlobalMaxPool": global_pool,
        "Gemm": gemm,
        "MatMul": matmul,
        **dict.fromkeys(("Add", "Sub", "Mul", "Div"), arithmetic),
        "Pow": power,
        "Sqrt": power,
        "Neg": negate,
        **dict.fromkeys(
            ("Relu", "Sigmoid", "Tanh", "Erf", "Gelu", "FastGelu", "HardSwish", "Swish"),
            unary,
        ),
        "Clip": clip,
        "HardSigmoid": hard_sigmoid,
        "Softmax": softmax,
        "LayerNormalization": layer_norm,
        "BatchNormalization": batch_norm,
        "ReduceMean": reduce_mean,
    }
)
