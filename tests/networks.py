"""Random small networks for tests of the whole chain, drawn by hypothesis.

A network is a path of blocks: each takes one earlier tensor (usually the latest) and adds operators behind it. Images
are ``[N, C, H, W]``, tokens ``[B, T, C]``; some blocks lead from one to the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from hypothesis import strategies as st

from accel.graph import ACTIVATION_FUNCTIONS, Graph, GraphBuilder

NONE = 3.4e38  # a bound of a clip that is none
LARGEST_TENSOR = 6000  # elements: keeps every example a matter of milliseconds
UNARY = tuple(name for name in ACTIVATION_FUNCTIONS if name != "clip")


class Network:
    """A graph being drawn; ``draw`` is hypothesis's. Every block method takes a tensor and returns a new one."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw, self.builder, self.tensors = draw, GraphBuilder("random"), []
        self.count = 0

    def pick(self, *options):
        return self.draw(st.sampled_from(options))

    def size(self, low, high):
        return self.draw(st.integers(low, high))

    def shape(self, tensor):
        return self.builder.shapes[tensor]

    def parameter(self, *shape):
        self.count += 1
        return self.builder.parameter(f"p{self.count}", shape)

    def op(self, kind, *inputs, **attributes):
        return self.builder.op(kind, *inputs, **attributes)

    def like(self, tensor, keep):
        """An earlier tensor that differs from ``tensor`` only in the axes not in ``keep``, or ``tensor`` itself."""
        shape = self.shape(tensor)
        fits = [t for t in self.tensors if len(self.shape(t)) == len(shape)]
        fits = [t for t in fits if all(self.shape(t)[i] == shape[i] for i in keep)]
        return self.pick(tensor, *fits)

    # --- images ---

    def conv(self, x):
        _, channels, height, width = self.shape(x)
        divisors = [g for g in range(1, channels + 1) if channels % g == 0]
        groups = self.pick(1, 1, channels, self.pick(*divisors))
        out = groups * self.size(1, max(1, 24 // groups))
        kernel, dilation = (self.size(1, 3), self.size(1, 3)), (self.pick(1, 1, 2), self.pick(1, 1, 2))
        stride, padding = (self.pick(1, 1, 2), self.pick(1, 1, 2)), tuple(self.pick(0, 1, 2) for _ in range(4))
        reach = [1 + (k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        if height + padding[0] + padding[2] < reach[0] or width + padding[1] + padding[3] < reach[1]:
            kernel = (1, 1)
        weight = self.parameter(out, channels // groups, *kernel)
        bias = [self.parameter(out)] if self.pick(True, False) else []
        window = {"kernel": kernel, "stride": stride, "padding": padding}
        return self.op("conv", x, weight, *bias, **window, dilation=dilation, groups=groups)

    def pool(self, x):
        _, _, height, width = self.shape(x)
        kernel = (min(height, self.size(1, 3)), min(width, self.size(1, 3)))
        padding = tuple(self.pick(0, k // 2) for k in (*kernel, *kernel))
        stride = (self.pick(1, 2), self.pick(1, 2))
        return self.op(self.pick("maxpool", "avgpool"), x, kernel=kernel, stride=stride, padding=padding)

    def resize(self, x):
        return self.op("resize", x, size=(self.size(1, 24), self.size(1, 16)), mode=self.pick("nearest", "bilinear"))

    def channel_scale(self, x):
        return self.op("mul", x, self.parameter(self.shape(x)[1], 1, 1))

    def squeeze_excite(self, x):
        channels = self.shape(x)[1]
        squeezed = self.op("mean", x, axes=(2, 3), keepdims=True)
        gate = self.op("conv", squeezed, self.parameter(channels, channels, 1, 1), kernel=(1, 1), stride=(1, 1),
                       padding=(0, 0, 0, 0), dilation=(1, 1), groups=1)  # fmt: skip
        return self.op("mul", x, self.op("sigmoid", gate))

    def to_tokens(self, x):
        n, c, h, w = self.shape(x)
        return self.op("transpose", self.op("reshape", x, shape=(n, c, h * w)), perm=(0, 2, 1))

    def global_mean(self, x):
        n, c, _, _ = self.shape(x)
        return self.op("reshape", self.op("mean", x, axes=(2, 3), keepdims=False), shape=(n, 1, c))

    def channels_last(self, x):
        last = self.op("transpose", x, perm=(0, 2, 3, 1))
        normed = self.layernorm(last) if self.pick(True, False) else self.op(self.pick(*UNARY), last)
        return self.op("transpose", normed, perm=(0, 3, 1, 2))

    # --- tokens ---

    def gemm(self, x):
        bias = self.pick(True, False)
        columns, reduction = self.size(1, 40), self.shape(x)[-1]
        return self.op("gemm", x, self.parameter(columns, reduction), *([self.parameter(columns)] if bias else []))

    def layernorm(self, x):
        channels = self.shape(x)[-1]
        return self.op("layernorm", x, self.parameter(channels), self.parameter(channels), epsilon=1e-6)

    def mlp(self, x):
        wide, channels = self.size(1, 48), self.shape(x)[-1]
        hidden = self.op("gemm", self.layernorm(x), self.parameter(wide, channels), self.parameter(wide))
        return self.op("add", x, self.op("gemm", self.op("gelu", hidden), self.parameter(channels, wide)))

    def attention(self, x):
        b, t, _ = self.shape(x)
        heads, width = self.size(1, 3), self.size(1, 9)
        both = heads * width
        qkv = self.op("gemm", x, self.parameter(3 * both, self.shape(x)[-1]))
        if self.pick(True, False):
            split = self.op("transpose", self.op("reshape", qkv, shape=(b, t, 3, heads, width)), perm=(2, 0, 3, 1, 4))
            cut = (self.op("slice", split, axis=0, start=i, stop=i + 1) for i in range(3))
            q, k, v = (self.op("reshape", part, shape=(b, heads, t, width)) for part in cut)
        else:
            cut = (self.op("slice", qkv, axis=2, start=i * both, stop=i * both + both) for i in range(3))
            parts = (self.op("reshape", part, shape=(b, t, heads, width)) for part in cut)
            q, k, v = (self.op("transpose", part, perm=(0, 2, 1, 3)) for part in parts)
        mixed = self.op("matmul", self._powers(self._scores(q, k)), v, transpose_b=False)
        merged = self.op("reshape", self.op("transpose", mixed, perm=(0, 2, 1, 3)), shape=(b, t, both))
        return self.op("gemm", merged, self.parameter(self.size(1, 24), both))

    def _scores(self, q, k):
        if self.pick(True, False):
            scores = self.op("matmul", q, k, transpose_b=True)
        else:
            scores = self.op("matmul", q, self.op("transpose", k, perm=(0, 1, 3, 2)), transpose_b=False)
        if self.pick(True, False):
            scores = self.op(self.pick("mul", "div"), scores, self.parameter(1))
        for _ in range(self.pick(0, 0, 1, 1, 2)):
            kind = self.pick("add", "add", "sub", "mul")
            scores = self.op(kind, scores, self.parameter(*self._mask(scores)))
        return scores

    def _mask(self, scores):
        """Shape of a constant for all scores, for every head, row or column of them."""
        _, heads, t, _ = self.shape(scores)
        return self.pick((1, t, t), (heads, t, t), (t, t), (1, 1, 1, t), (1, 1, t, 1), (heads, 1, t))

    def _powers(self, scores):
        """Softmax along the rows, usually; sometimes along others, or with a function or reshape around it."""
        if self.pick(False, False, True):
            scores = self.op(self.pick(*UNARY), scores)
        found = self.op("softmax", scores, axis=self.pick(-1, -1, -1, 3, 2, 1))
        if self.pick(False, False, True):
            found = self.op("reshape", found, shape=self.shape(found))
        return self.op(self.pick(*UNARY), found) if self.pick(False, False, False, True) else found

    def staged_gemm(self, x):
        """A gemm and what its output stage may absorb, in any order."""
        return self._stage(self.gemm(x), ())

    def staged_conv(self, x):
        """A convolution and what its output stage may absorb, in any order."""
        return self._stage(self.conv(x), (1, 1))

    def _stage(self, x, tail):
        """Gains of all kinds around a function."""
        channels = self.shape(x)[1 if tail else -1]
        for _ in range(self.size(1, 3)):
            kind = self.pick("gain", "number", "function")
            if kind == "function":
                x = self.clip(x) if self.pick(True, False) else self.unary(x)
            else:
                shape = (channels, *tail) if kind == "gain" else (1,)
                x = self.op(self.pick("mul", "mul", "div"), x, self.parameter(*shape))
        return x

    def layer_scale(self, x):
        """A residual branch with a gain a channel."""
        channels = self.shape(x)[-1]
        branch = self.op("gemm", self.layernorm(x), self.parameter(channels, channels), self.parameter(channels))
        return self.op("add", x, self.op("mul", branch, self.parameter(channels)))

    def residual_stream(self, x):
        """A stream of sums between gemms and norms: its channels may have exponents."""
        width = self.size(2, 24)
        x = self.op("gemm", x, self.parameter(width, self.shape(x)[-1]), self.parameter(width))
        x = self.op("add", x, self.parameter(*self.pick((width,), self.shape(x)[1:])))
        for _ in range(self.size(1, 2)):
            x = self.pick(self.layer_scale, self.mlp)(x)
        if self.pick(True, False):
            x = self.op("mean", x, axes=(1,), keepdims=True)
        end = self.pick("gemm", "layernorm")
        return self.op("gemm", x, self.parameter(self.size(1, 9), width)) if end == "gemm" else self.layernorm(x)

    def tied(self, x):
        """Two gemms with one weight."""
        channels = self.shape(x)[-1]
        weight, bias = self.parameter(channels, channels), self.parameter(channels)
        return self.op("gemm", self.op("gemm", x, weight, bias), weight)

    def product(self, x):
        return self.op("matmul", x, x, transpose_b=True)

    def class_token(self, x):
        b, t, c = self.shape(x)
        token = self.op("expand", self.parameter(1, 1, c), shape=(b, 1, c))
        joined = self.op("concat", token, x, axis=1)
        return self.op("add", joined, self.parameter(1, t + 1, c))

    def to_image(self, x):
        b, t, c = self.shape(x)
        height = self.pick(*(n for n in range(1, t + 1) if t % n == 0))
        return self.op("reshape", self.op("transpose", x, perm=(0, 2, 1)), shape=(b, c, height, t // height))

    def mean_tokens(self, x):
        return self.op("mean", x, axes=(self.pick(1, 2),), keepdims=True)

    # --- both ---

    def unary(self, x):
        return self.op(self.pick(*UNARY), x)

    def clip(self, x):
        """Between bounds of any sign, or none at one end."""
        low, high = self.pick((-1.5, -1.0), (-1.0, 0.0), (-1.0, 1.0), (0, 1), (0.25, 9.0), (-NONE, 1.5), (0.5, NONE))
        return self.op("clip", x, low=low, high=high)

    def mean(self, x):
        rank = len(self.shape(x))
        axes = [axis for axis in range(rank) if self.pick(True, False)] or [rank - 1]
        return self.op("mean", x, axes=tuple(axes), keepdims=True)

    def residual(self, x):
        return self.op(self.pick("add", "sub", "mul", "div"), x, self.like(x, range(len(self.shape(x)))))

    def constant(self, x):
        shape = self.shape(x)
        kept = self.pick(shape, (1, *shape[1:]), shape[-1:], (1,))
        return self.op(self.pick("add", "sub", "mul", "div"), x, self.parameter(*kept))

    def concat(self, x):
        """Of two different tensors, no nests: the checker's intervals cannot tell pieces of pieces apart."""
        axis = self.size(0, len(self.shape(x)) - 1)
        other = self.like(x, [i for i in range(len(self.shape(x))) if i != axis])
        if other == x or any(op.kind == "concat" for op in self.builder.ops):
            other, x = self.unary(x), self.unary(x)
        return self.op("concat", *self.pick((x, other), (other, x)), axis=axis)

    def slice(self, x):
        axis = self.size(0, len(self.shape(x)) - 1)
        start = self.size(0, self.shape(x)[axis] - 1)
        return self.op("slice", x, axis=axis, start=start, stop=self.size(start + 1, self.shape(x)[axis]))

    def softmax(self, x):
        return self.op("softmax", x, axis=self.size(0, len(self.shape(x)) - 1))

    def transpose(self, x):
        return self.op("transpose", x, perm=tuple(self.draw(st.permutations(range(len(self.shape(x)))))))

    def fold(self, x):
        """The same elements and rank with the axes' sizes in another order."""
        return self.op("reshape", x, shape=tuple(self.draw(st.permutations(self.shape(x)))))

    def roll(self, x):
        axis = self.size(0, len(self.shape(x)) - 1)
        return self.op("roll", x, axis=axis, shift=self.size(0, 5))

    def pad(self, x):
        sizes = [tuple(self.pick(0, 0, 1, 2) for _ in self.shape(x)) for _ in range(2)]
        return self.op("pad", x, before=sizes[0], after=sizes[1])


BOTH = (
    "unary",
    "clip",
    "mean",
    "residual",
    "constant",
    "concat",
    "slice",
    "softmax",
    "transpose",
    "fold",
    "roll",
    "pad",
)
IMAGE = ("conv", "conv", "staged_conv", "staged_conv", "pool", "resize", "resize")
IMAGE += ("channel_scale", "squeeze_excite", "to_tokens", "global_mean")
TOKENS = ("gemm", "gemm", "mlp", "attention", "attention", "attention", "layernorm", "product", "class_token")
TOKENS += ("to_image", "staged_gemm", "staged_gemm", "layer_scale", "residual_stream", "tied")
BLOCKS = {4: (*IMAGE, "channels_last", *BOTH), 3: (*TOKENS, "mean_tokens", *BOTH)}


@st.composite
def graphs(draw: st.DrawFn, most_blocks: int = 5) -> Graph:
    """A network of up to ``most_blocks`` random blocks with at least one weight and one or two outputs."""
    net = Network(draw)
    latest = _start(net)
    net.tensors.append(latest)
    for _ in range(net.size(1, most_blocks)):
        source = net.pick(latest, latest, net.pick(*net.tensors))
        block: Callable[[str], str] = getattr(net, net.pick(*BLOCKS[len(net.shape(source))]))
        added = block(source)
        if math.prod(net.shape(added)) <= LARGEST_TENSOR:
            latest = added
            net.tensors.append(added)
    if not any(op.kind in ("conv", "gemm") for op in net.builder.ops):
        latest = net.gemm(latest)
    outputs = dict.fromkeys((latest, net.pick(latest, latest, *net.tensors[1:])))
    return _without_dead_ends(net.builder.build(*outputs))


def _start(net: Network) -> str:
    batch = net.pick(1, 1, 2)
    kind = net.pick("image", "tokens", "embedding")
    if kind == "image":
        return net.builder.input("x", (batch, net.size(1, 12), net.size(1, 10), net.size(1, 10)))
    if kind == "tokens":
        return net.builder.input("x", (batch, net.size(1, 24), net.size(1, 40)))
    table = net.parameter(net.size(2, 20), net.size(1, 40))
    found = net.op("embedding", table, net.builder.input("ids", (batch, net.size(1, 20))))
    return net.op("gemm", found, table) if net.pick(False, False, True) else found  # weights that are rows, too


def _without_dead_ends(graph: Graph) -> Graph:
    """The graph without operators whose results nothing needs."""
    needed, ops = set(graph.outputs), []
    for op in reversed(graph.ops):
        if op.output in needed or op.kind in ("conv", "gemm"):
            needed.update(op.inputs)
            ops.append(op)
    parameters = {name: shape for name, shape in graph.parameters.items() if name in needed}
    inputs = {name: shape for name, shape in graph.inputs.items() if name in needed}
    return Graph(graph.name, inputs, parameters, tuple(reversed(ops)), graph.outputs)
