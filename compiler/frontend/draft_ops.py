"""What both front ends emit into a ``Draft``: source operators expressed in ours, each exactly.

Every function takes the draft, the input tensor(s) and the node's ``name``, and returns the output tensor's name.
An operator that would do nothing returns its input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import ModelError
from accel.graph import Shape
from compiler.frontend.draft import Draft
from compiler.frontend.interpolation import axis_matrix

FLOAT_LIMIT = float(np.finfo(np.float32).max)


def reshape(draft: Draft, x: str, shape: Sequence[int], name: str) -> str:
    """Same elements in another shape."""
    wanted = tuple(int(size) for size in shape)
    return x if draft.shapes[x] == wanted else draft.op("reshape", x, name=name, shape=wanted)


def transpose(draft: Draft, x: str, perm: Sequence[int], name: str) -> str:
    """Permute axes (negative ones counted from the end)."""
    rank = len(draft.shapes[x])
    order = tuple(int(axis) % rank for axis in perm)
    return x if order == tuple(range(rank)) else draft.op("transpose", x, name=name, perm=order)


def narrow(draft: Draft, x: str, axis: int, start: int, stop: int, step: int, name: str) -> str:
    """``x[start:stop:step]`` along ``axis``, ends counted and clamped as Python does.

    A step becomes reshape, slice, reshape when it divides the axis and the range covers whole steps.
    """
    shape = draft.shapes[x]
    axis %= len(shape)
    start, stop, step = slice(start, stop, step).indices(shape[axis])
    if step == 1:
        if (start, stop) == (0, shape[axis]):
            return x
        return draft.op("slice", x, name=name, axis=axis, start=start, stop=stop)
    if step < 1 or shape[axis] % step or start >= step or len(range(start, stop, step)) != shape[axis] // step:
        raise ModelError(f"node '{name}': slice {start}:{stop}:{step} of {shape[axis]}: the step must divide the axis")
    whole = shape[axis] // step
    split = reshape(draft, x, (*shape[:axis], whole, step, *shape[axis + 1 :]), name)
    taken = draft.op("slice", split, name=name, axis=axis + 1, start=start, stop=start + 1)
    return reshape(draft, taken, (*shape[:axis], whole, *shape[axis + 1 :]), name)


def pick(draft: Draft, x: str, axis: int, index: int, name: str) -> str:
    """``x[index]`` along ``axis``, which disappears."""
    shape = draft.shapes[x]
    axis %= len(shape)
    if not -shape[axis] <= index < shape[axis]:
        raise ModelError(f"node '{name}': index {index} is outside axis {axis} of {list(shape)}")
    index %= shape[axis]
    taken = narrow(draft, x, axis, index, index + 1, 1, name)
    return reshape(draft, taken, (*shape[:axis], *shape[axis + 1 :]), name)


def split(draft: Draft, x: str, axis: int, sizes: Sequence[int], name: str) -> list[str]:
    """Consecutive ranges of one axis; ``sizes`` must add up to it."""
    axis %= len(draft.shapes[x])
    if sum(sizes) != draft.shapes[x][axis]:
        raise ModelError(f"node '{name}': split {list(sizes)} does not add up to axis {axis} of {draft.shapes[x]}")
    ends = np.cumsum(sizes).tolist()
    return [
        narrow(draft, x, axis, end - size, end, 1, f"{name}/{i}")
        for i, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]


def expand(draft: Draft, x: str, shape: Sequence[int], name: str) -> str:
    """Broadcast to ``shape`` (itself broadcast against the input's, as ONNX does)."""
    wanted = tuple(np.broadcast_shapes(draft.shapes[x], tuple(int(size) for size in shape)))
    return x if wanted == draft.shapes[x] else draft.op("expand", x, name=name, shape=wanted)


def pad(draft: Draft, x: str, before: Sequence[int], after: Sequence[int], name: str) -> str:
    """Zeros around each axis; negative counts crop."""
    for axis, (b, a) in enumerate(zip(before, after, strict=True)):
        size = draft.shapes[x][axis]
        x = narrow(draft, x, axis, max(0, -b), size - max(0, -a), 1, name)
    grown = tuple(max(0, b) for b in before), tuple(max(0, a) for a in after)
    return draft.op("pad", x, name=name, before=grown[0], after=grown[1]) if any(map(any, grown)) else x


def scaled(draft: Draft, kind: str, x: str, value: float, name: str) -> str:
    """``x kind value`` with the number kept as a parameter of shape [1]."""
    constant = draft.parameter(f"{name}.constant", np.float32(value), guessed=True)
    return draft.op(kind, x, constant, name=name)


def power(draft: Draft, x: str, exponent: float, name: str) -> str:
    """``x ** exponent`` for the exponents models use: 0.5, -0.5, 1, 2, 3."""
    if exponent == 1:
        return x
    if exponent in (0.5, -0.5):
        return draft.op("sqrt" if exponent > 0 else "rsqrt", x, name=name)
    if exponent not in (2, 3):
        raise ModelError(f"node '{name}': power {exponent:g} cannot be lowered; supported: -0.5, 0.5, 1, 2, 3")
    square = draft.op("mul", x, x, name=name)
    return square if exponent == 2 else draft.op("mul", square, x, name=name)


def clip(draft: Draft, x: str, low: float | None, high: float | None, name: str) -> str:
    """``min(max(x, low), high)``, spelled relu or relu6 when it is one; a missing limit is the largest float32."""
    if low == 0 and (high is None or high >= FLOAT_LIMIT):
        return draft.op("relu", x, name=name)
    if (low, high) == (0, 6):
        return draft.op("relu6", x, name=name)
    limits = {"low": -FLOAT_LIMIT if low is None else float(low), "high": FLOAT_LIMIT if high is None else float(high)}
    return draft.op("clip", x, name=name, **limits)


def hard_sigmoid(draft: Draft, x: str, alpha: float, beta: float, name: str) -> str:
    """``clip(alpha*x + beta, 0, 1)``; our ``hardsigmoid`` is the one with 1/6 and 1/2."""
    if math.isclose(alpha, 1 / 6, rel_tol=1e-4) and beta == 0.5:
        return draft.op("hardsigmoid", x, name=name)
    slope = scaled(draft, "mul", x, alpha, name)
    return clip(draft, scaled(draft, "add", slope, beta, f"{name}/shift"), 0.0, 1.0, name)


def softmax(draft: Draft, x: str, axis: int, name: str, flatten: bool = False) -> str:
    """Softmax over one axis, or (ONNX before opset 13) over all axes from ``axis`` on."""
    shape = draft.shapes[x]
    axis %= len(shape)
    if not flatten or math.prod(shape[axis + 1 :]) == 1:
        return draft.op("softmax", x, name=name, axis=axis)
    flat = reshape(draft, x, (*shape[:axis], math.prod(shape[axis:])), name)
    return reshape(draft, draft.op("softmax", flat, name=name, axis=axis), shape, name)


def layer_norm(draft: Draft, x: str, axes: int, gamma: str | None, beta: str | None, epsilon: float, name: str) -> str:
    """Normalise over the last ``axes`` axes (flattened when there are several)."""
    shape = draft.shapes[x]
    width = math.prod(shape[len(shape) - axes :])
    flat = reshape(draft, x, (*shape[: len(shape) - axes], width), name)
    gamma = _flat(draft, gamma, width) or draft.parameter(f"{name}.ones", np.ones(width), guessed=True)
    beta = _flat(draft, beta, width) or draft.parameter(f"{name}.zeros", np.zeros(width), guessed=True)
    normed = draft.op("layernorm", flat, gamma, beta, name=name, epsilon=float(epsilon))
    return reshape(draft, normed, shape, name)


def _flat(draft: Draft, parameter: str | None, width: int) -> str | None:
    if parameter is None or draft.shapes[parameter] == (width,):
        return parameter
    return draft.parameter(parameter, draft.values[parameter].reshape(width))


def one_matrix(value: npt.NDArray[Any], name: str) -> npt.NDArray[Any]:
    """The matrix a constant operand holds, also when it is repeated along batch axes; else ``ModelError``."""
    stacked = value.reshape(-1, *value.shape[-2:]) if value.ndim >= 2 else value
    if value.ndim < 2 or not np.array_equal(stacked, np.broadcast_to(stacked[:1], stacked.shape), equal_nan=True):
        raise ModelError(f"node '{name}': a constant operand of shape {list(value.shape)}; a weight must be one matrix")
    matrix: npt.NDArray[Any] = stacked[0]
    return matrix


def matmul(draft: Draft, a: str, b: str, name: str, transpose_b: bool = False) -> str:
    """Product of two activations; batch axes are broadcast explicitly, because ours do not broadcast."""
    rank = max(len(draft.shapes[a]), len(draft.shapes[b]))
    if min(len(draft.shapes[a]), len(draft.shapes[b])) < 2:
        raise ModelError(f"node '{name}': product of {draft.shapes[a]} and {draft.shapes[b]}; needs two axes each")
    batch = np.broadcast_shapes(draft.shapes[a][:-2], draft.shapes[b][:-2])
    a, b = (_batched(draft, side, rank, batch, name) for side in (a, b))
    return draft.op("matmul", a, b, name=name, transpose_b=transpose_b)


def _batched(draft: Draft, x: str, rank: int, batch: Shape, name: str) -> str:
    shape = (1,) * (rank - len(draft.shapes[x])) + draft.shapes[x]
    return expand(draft, reshape(draft, x, shape, name), (*batch, *shape[-2:]), name)


def attention(draft: Draft, q: str, k: str, v: str, mask: str | None, scale: float, name: str) -> str:
    """Scaled dot-product attention as matmul, mul, (add), softmax, matmul."""
    scores = matmul(draft, q, k, f"{name}/scores", transpose_b=True)
    scores = scaled(draft, "mul", scores, scale, f"{name}/scale")
    if mask is not None:
        scores = draft.op("add", scores, mask, name=f"{name}/mask")
    weights = draft.op("softmax", scores, name=f"{name}/softmax", axis=len(draft.shapes[scores]) - 1)
    return matmul(draft, weights, v, name)


def same_padding(size: int, kernel: int, stride: int, dilation: int, upper: bool) -> tuple[int, int]:
    """Padding (before, after) of one axis under ONNX ``SAME_UPPER`` or ``SAME_LOWER``.

    Where the windows leave out two or more elements, TensorFlow starts at the first and ONNX Runtime does not:
    a ``ModelError``.
    """
    total = (math.ceil(size / stride) - 1) * stride + dilation * (kernel - 1) + 1 - size
    if total < -1:
        raise ModelError(
            f"automatic padding of {size} elements for kernel {kernel}, stride {stride} skips 2 or more of them, "
            "which runtimes read differently; give explicit pads"
        )
    total = max(0, total)
    return (total // 2, total - total // 2) if upper else (total - total // 2, total // 2)


def pool(
    draft: Draft,
    kind: str,
    x: str,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    name: str,
    ceil: bool = False,
    count_padding: bool = False,
) -> str:
    """``maxpool`` or ``avgpool``; ceil mode becomes more padding, and our avgpool (which divides by the whole
    window) is rescaled where the source divides by fewer elements."""
    size = draft.shapes[x][2:]
    if len(size) != 2:
        raise ModelError(f"node '{name}': pooling of {list(draft.shapes[x])}; only 2-D pooling (NCHW) is supported")
    grown = list(padding)
    if ceil:
        for axis in range(2):
            grown[2 + axis] += _overhang(size[axis] + padding[axis], padding[2 + axis], kernel[axis], stride[axis])
    window = {"kernel": tuple(kernel), "stride": tuple(stride), "padding": tuple(grown)}
    pooled = draft.op(kind, x, name=name, **window)
    if kind == "maxpool" or not any(grown) or (count_padding and grown == list(padding)):
        return pooled
    counts: list[Any] = [
        _counts(size[axis], kernel[axis], stride[axis], (padding[axis], padding[2 + axis]), count, count_padding)
        for axis, count in enumerate(draft.shapes[pooled][2:])
    ]
    factor = math.prod(kernel) / np.outer(*counts)
    constant = draft.parameter(f"{name}.window", factor[None, None], guessed=True)
    return draft.op("mul", pooled, constant, name=f"{name}/window")


def _overhang(before: int, after: int, kernel: int, stride: int) -> int:
    """Padding that makes the floor rule give the ceil rule's count; a window may not start in the padding after."""
    count = math.ceil((before + after - kernel) / stride) + 1
    if (count - 1) * stride >= before:
        count -= 1
    return max(0, (count - 1) * stride + kernel - before - after)


def _counts(
    size: int, kernel: int, stride: int, padding: tuple[int, int], windows: int, count_padding: bool
) -> list[int]:
    """Elements the source divides by, for each window along one axis."""
    low, high = (-padding[0], size + padding[1]) if count_padding else (0, size)
    starts = [i * stride - padding[0] for i in range(windows)]
    return [min(start + kernel, high) - max(start, low) for start in starts]


def resize(
    draft: Draft, x: str, size: Sequence[int], mode: str, name: str, matrices: Sequence[np.ndarray] | None = None
) -> str:
    """Resize NCHW; ``matrices`` are what the source computes along height and width, and must be what ours does."""
    before, after = draft.shapes[x][2:], tuple(int(s) for s in size)
    if len(before) != 2 or mode not in ("nearest", "bilinear"):
        raise ModelError(
            f"node '{name}': resize '{mode}' of {list(draft.shapes[x])}; supported: nearest, bilinear, NCHW"
        )
    for axis, matrix in enumerate(matrices or ()):
        if not np.allclose(matrix, axis_matrix(before[axis], after[axis], mode), atol=1e-6):
            raise ModelError(
                f"node '{name}': resize '{mode}' from {list(before)} to {list(after)} with this coordinate mode; "
                "supported: nearest (asymmetric, floor), bilinear (half_pixel)"
            )
    return x if before == after else draft.op("resize", x, name=name, size=after, mode=mode)
