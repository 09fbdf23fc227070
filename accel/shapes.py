"""Shape inference: one function per operator family, dispatched by ``infer_shape``. The only place shapes come from."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from accel.errors import ModelError
from accel.graph import Op, Shape

ELEMENTWISE = ("add", "sub", "mul", "div")


def infer_shape(op: Op, shapes: Sequence[Shape]) -> Shape:
    """Shape of ``op``'s output; raises ``ModelError`` naming the node when the inputs do not fit together."""
    rule = _RULES.get(op.kind)
    shape = tuple(shapes[0]) if rule is None else rule(op, [tuple(s) for s in shapes])
    if any(size < 1 for size in shape):
        raise _misfit(op, shapes, f"gives shape {list(shape)}")
    return shape


def _misfit(op: Op, shapes: Sequence[Shape], why: str) -> ModelError:
    shown = ", ".join(str(list(shape)) for shape in shapes)
    return ModelError(f"node '{op.name}' ({op.kind}): inputs {shown}: {why}")


def _window(op: Op, shapes: Sequence[Shape], dilation: Sequence[int]) -> tuple[int, int]:
    height, width = shapes[0][2:]
    kh, kw = op.attributes["kernel"]
    sh, sw = op.attributes["stride"]
    top, left, bottom, right = op.attributes["padding"]
    if min(kh, kw, sh, sw, *dilation) < 1 or min(top, left, bottom, right) < 0:
        raise _misfit(op, shapes, f"impossible window {dict(op.attributes)}")
    return (
        (height + top + bottom - dilation[0] * (kh - 1) - 1) // sh + 1,
        (width + left + right - dilation[1] * (kw - 1) - 1) // sw + 1,
    )


def _conv(op: Op, shapes: Sequence[Shape]) -> Shape:
    x, w = shapes[:2]
    groups = op.attributes["groups"]
    kernel = tuple(op.attributes["kernel"])
    if len(x) != 4 or len(w) != 4 or w[2:] != kernel or groups < 1 or x[1] != w[1] * groups or w[0] % groups:
        raise _misfit(op, shapes, f"does not match kernel {list(kernel)} and groups {groups}")
    if len(shapes) == 3 and shapes[2] != (w[0],):
        raise _misfit(op, shapes, f"bias must have shape [{w[0]}]")
    return (x[0], w[0], *_window(op, shapes, op.attributes["dilation"]))


def _pool(op: Op, shapes: Sequence[Shape]) -> Shape:
    if len(shapes[0]) != 4:
        raise _misfit(op, shapes, "pooling needs NCHW")
    return (*shapes[0][:2], *_window(op, shapes, (1, 1)))


def _gemm(op: Op, shapes: Sequence[Shape]) -> Shape:
    x, w = shapes[:2]
    if len(w) != 2 or not x or x[-1] != w[1]:
        raise _misfit(op, shapes, "needs x[..., K] and w[N, K]")
    if len(shapes) == 3 and shapes[2] != (w[0],):
        raise _misfit(op, shapes, f"bias must have shape [{w[0]}]")
    return (*x[:-1], w[0])


def _matmul(op: Op, shapes: Sequence[Shape]) -> Shape:
    a, b = shapes
    if len(a) < 2 or len(b) < 2:
        raise _misfit(op, shapes, "needs at least two axes on both sides")
    k, n = (b[-1], b[-2]) if op.attributes["transpose_b"] else (b[-2], b[-1])
    if a[-1] != k or a[:-2] != b[:-2]:
        raise _misfit(op, shapes, "batch axes or contraction lengths differ")
    return (*a[:-1], n)


def _broadcast(op: Op, shapes: Sequence[Shape]) -> Shape:
    a, b = shapes
    rank = max(len(a), len(b))
    a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
    if any(x != y and 1 not in (x, y) for x, y in zip(a, b, strict=True)):
        raise _misfit(op, shapes, "do not broadcast")
    return tuple(max(x, y) for x, y in zip(a, b, strict=True))


def _mean(op: Op, shapes: Sequence[Shape]) -> Shape:
    rank = len(shapes[0])
    axes = {_axis(op, shapes, axis) for axis in op.attributes["axes"]}
    if op.attributes["keepdims"]:
        return tuple(1 if i in axes else size for i, size in enumerate(shapes[0]))
    return tuple(shapes[0][i] for i in range(rank) if i not in axes)


def _axis(op: Op, shapes: Sequence[Shape], axis: int) -> int:
    rank = len(shapes[0])
    if not -rank <= axis < rank:
        raise _misfit(op, shapes, f"axis {axis} is outside -{rank}..{rank - 1}")
    return axis % rank


def _reshape(op: Op, shapes: Sequence[Shape]) -> Shape:
    shape = tuple(op.attributes["shape"])
    if math.prod(shape) != math.prod(shapes[0]):
        raise _misfit(op, shapes, f"cannot become {list(shape)}")
    return shape


def _transpose(op: Op, shapes: Sequence[Shape]) -> Shape:
    perm = tuple(op.attributes["perm"])
    if sorted(perm) != list(range(len(shapes[0]))):
        raise _misfit(op, shapes, f"{list(perm)} is no permutation of its axes")
    return tuple(shapes[0][axis] for axis in perm)


def _slice(op: Op, shapes: Sequence[Shape]) -> Shape:
    axis = _axis(op, shapes, op.attributes["axis"])
    start, stop = op.attributes["start"], op.attributes["stop"]
    if not 0 <= start < stop <= shapes[0][axis]:
        raise _misfit(op, shapes, f"range {start}:{stop} is outside axis {axis}")
    return tuple(stop - start if i == axis else size for i, size in enumerate(shapes[0]))


def _concat(op: Op, shapes: Sequence[Shape]) -> Shape:
    axis = _axis(op, shapes, op.attributes["axis"])
    rest = {tuple(size for i, size in enumerate(shape) if i != axis) for shape in shapes}
    if len(rest) != 1 or len({len(shape) for shape in shapes}) != 1:
        raise _misfit(op, shapes, f"differ outside axis {axis}")
    return tuple(sum(s[i] for s in shapes) if i == axis else size for i, size in enumerate(shapes[0]))


def _resize(op: Op, shapes: Sequence[Shape]) -> Shape:
    if len(shapes[0]) != 4 or op.attributes["mode"] not in ("nearest", "bilinear"):
        raise _misfit(op, shapes, f"resize needs NCHW and mode nearest or bilinear, got '{op.attributes['mode']}'")
    return (*shapes[0][:2], *op.attributes["size"])


def _pad(op: Op, shapes: Sequence[Shape]) -> Shape:
    before, after = op.attributes["before"], op.attributes["after"]
    if not len(before) == len(after) == len(shapes[0]) or min((*before, *after)) < 0:
        raise _misfit(op, shapes, f"padding {list(before)}, {list(after)} does not fit")
    return tuple(b + size + a for b, size, a in zip(before, shapes[0], after, strict=True))


def _expand(op: Op, shapes: Sequence[Shape]) -> Shape:
    shape = tuple(op.attributes["shape"])
    if _broadcast(op, [shapes[0], shape]) != shape:
        raise _misfit(op, shapes, f"cannot expand to {list(shape)}")
    return shape


def _embedding(op: Op, shapes: Sequence[Shape]) -> Shape:
    if len(shapes[0]) != 2:
        raise _misfit(op, shapes, "table must have shape [V, D]")
    return (*shapes[1], shapes[0][1])


def _layernorm(op: Op, shapes: Sequence[Shape]) -> Shape:
    if any(shape != shapes[0][-1:] for shape in shapes[1:]):
        raise _misfit(op, shapes, "gamma and beta must match the last axis")
    return shapes[0]


def _along_axis(op: Op, shapes: Sequence[Shape]) -> Shape:
    _axis(op, shapes, op.attributes["axis"])
    return shapes[0]


_RULES: dict[str, Callable[[Op, Sequence[Shape]], Shape]] = {
    "conv": _conv,
    "gemm": _gemm,
    "matmul": _matmul,
    "embedding": _embedding,
    "layernorm": _layernorm,
    "softmax": _along_axis,
    "roll": _along_axis,
    "maxpool": _pool,
    "avgpool": _pool,
    "mean": _mean,
    "resize": _resize,
    "pad": _pad,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "concat": _concat,
    "expand": _expand,
    **dict.fromkeys(ELEMENTWISE, _broadcast),
}
