"""Random small networks, codecs and machines for tests of the whole chain, drawn by hypothesis.

A network is a path of blocks: each takes one earlier tensor (usually the latest) and adds operators behind it. Images
are ``[N, C, H, W]``, tokens ``[B, T, C]``; some blocks lead from one to the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from accel.codecs import Codec, EncodedLayer, codes_shape, parse_codec
from accel.graph import ACTIVATION_FUNCTIONS, Graph, GraphBuilder, gemm_shape, weight_name
from accel.machine import Array, Decoder, Dram, Machine, Sram, Vector, load_machine
from accel.packed import Packed, Source, plain_parameters, weight_parameters

LARGEST_TENSOR = 6000  # elements: keeps every example a matter of milliseconds
UNARY = tuple(name for name in ACTIVATION_FUNCTIONS if name != "clip")
CODECS = ("int8", "int4", "vq:k=4,d=2", "vq:k=16,d=4", "vq:k=8,d=3", "ssvq:k=16,d=8", "ssvq:k=4,d=4", "ssvq:k=256,d=8")


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
        return self.op("resize", x, size=(self.size(1, 9), self.size(1, 9)), mode=self.pick("nearest", "bilinear"))

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
        scores = self._scores(q, k)
        mixed = self.op("matmul", self.op("softmax", scores, axis=-1), v, transpose_b=False)
        merged = self.op("reshape", self.op("transpose", mixed, perm=(0, 2, 1, 3)), shape=(b, t, both))
        return self.op("gemm", merged, self.parameter(self.size(1, 24), both))

    def _scores(self, q, k):
        if self.pick(True, False):
            scores = self.op("matmul", q, k, transpose_b=True)
        else:
            scores = self.op("matmul", q, self.op("transpose", k, perm=(0, 1, 3, 2)), transpose_b=False)
        if self.pick(True, False):
            scores = self.op("mul", scores, self.parameter(1))
        if self.pick(True, False):
            _, heads, t, _ = self.shape(scores)
            scores = self.op("add", scores, self.parameter(self.pick(1, heads), t, t))
        return scores

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


BOTH = ("unary", "residual", "constant", "concat", "slice", "softmax", "transpose", "fold", "roll", "pad")
IMAGE = ("conv", "conv", "conv", "pool", "resize", "channel_scale", "squeeze_excite", "to_tokens", "global_mean")
TOKENS = ("gemm", "gemm", "mlp", "attention", "attention", "layernorm", "product", "class_token", "to_image")
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
    return net.op("embedding", table, net.builder.input("ids", (batch, net.size(1, 20))))


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


@dataclass(frozen=True)
class Coding:
    """How a model is compressed: codec, vector axis, one scale or one an output channel."""

    codec: str
    axis: str
    channel_scales: bool


def codings() -> st.SearchStrategy[Coding]:
    """Any codec along either axis with either kind of scale."""
    return st.builds(Coding, st.sampled_from(CODECS), st.sampled_from(("out", "in")), st.booleans())


def encode_randomly(shape: tuple[int, int], coding: Coding, rng: np.random.Generator) -> EncodedLayer:
    """A layer with random codes, signs, codebook and scales: every bit pattern, without any k-means."""
    codec: Codec = parse_codec(coding.codec)
    grid = codes_shape(codec, shape, coding.axis)
    codes = rng.integers(0, 1 << codec.code_bits, grid).astype(np.uint16)
    if not codec.codebook_entries:
        codes[codes == 1 << (codec.code_bits - 1)] = 0  # the integer symmetric codecs do not use
    low = 0 if codec.has_signs else -127
    book = rng.integers(low, 128, (codec.codebook_entries, codec.vector_length)).astype(np.int8)
    negative = rng.integers(0, 2, (*grid, codec.vector_length)).astype(np.bool_) if codec.has_signs else None
    scale = rng.uniform(0.01, 1, shape[0] if coding.channel_scales else 1).astype(np.float32)
    return EncodedLayer(codec, shape, coding.axis, codes, negative, book if codec.codebook_entries else None, scale)


def pack_randomly(graph: Graph, coding: Coding, seed: int = 0) -> Packed:
    """The graph with random compressed weights and parameters."""
    rng = np.random.default_rng(seed)
    layers = {n: encode_randomly(gemm_shape(graph.parameters[n]), coding, rng) for n in weight_parameters(graph)}
    plain = {n: rng.normal(size=graph.parameters[n]).astype(np.float32) for n in plain_parameters(graph)}
    plain |= {n: np.abs(array) + 0.1 for n, array in plain.items() if array.size == 1}  # scalings are positive
    return Packed(graph, layers, plain, Source("0" * 64))


def uses_of_weights(graph: Graph) -> dict[str, int]:
    """How many operators multiply by each weight."""
    names = [weight_name(op) for op in graph.weight_ops()]
    return {name: names.count(name) for name in names}


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    """Arrays of 4 to 64, memories from hopeless to ample, any speed of decoder, vector unit and DRAM."""
    side = st.sampled_from((4, 5, 8, 12, 16, 32, 64))
    model = draw(st.sampled_from(("pipelined", "pipelined", "scalesim", "stonne")))
    dataflow = "os" if model == "stonne" else draw(st.sampled_from(("ws", "os", "is")))
    array = Array(draw(side), draw(side), dataflow, model)
    activation = draw(st.sampled_from((1024, 1536, 2048, 3000, 4096, 8192, 16384, 1 << 18)))
    ring = draw(st.sampled_from((256, 320, 512, 1000, 2048, 8192, 1 << 20)))
    accumulators = max(64, 4 * array.columns * draw(st.sampled_from((1, 3, 16, 100, 512))))
    codebook, lookups = draw(st.sampled_from((64, 2048, 2048))), draw(st.sampled_from((1, 2, 4, 8)))
    buffers, banks = draw(st.sampled_from((1, 2, 2))), draw(st.sampled_from((0, 0, 1, 4)))
    decoder = Decoder(codebook, lookups, codebook_buffers=buffers, codebook_banks=banks)
    vector = Vector(draw(st.sampled_from((0, 1, 16, 64))))
    bandwidth, latency = draw(st.sampled_from((0.7, 2.0, 5.12, 16.0, 64.0))), draw(st.sampled_from((0, 10, 100)))
    dram = Dram("ideal", bandwidth_bytes_per_cycle=bandwidth, latency_cycles=latency)
    base = load_machine("edge64-ideal")
    return replace(base, array=array, sram=Sram(activation, ring, accumulators), decoder=decoder, vector=vector,
                   dram=dram)  # fmt: skip
