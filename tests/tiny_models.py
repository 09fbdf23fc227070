"""Three tiny networks with a machine each, small enough to read the whole program."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from strategies import Coding

from accel.graph import Graph, GraphBuilder
from accel.machine import Machine, load_machine


@dataclass(frozen=True)
class TinyModel:
    """A network, how it is compressed, and the machine it is compiled for."""

    graph: Graph
    coding: Coding
    machine: Machine


def mlp() -> Graph:
    """Two linear layers with a GELU between and a residual around."""
    b = GraphBuilder("mlp")
    x = b.input("x", (1, 10, 16))
    hidden = b.op("gelu", b.op("gemm", x, b.parameter("w1", (24, 16)), b.parameter("b1", (24,))))
    return b.build(b.op("add", x, b.op("gemm", hidden, b.parameter("w2", (16, 24)), b.parameter("b2", (16,)))))


def cnn() -> Graph:
    """Convolution, depthwise convolution, pooling, classifier."""
    b = GraphBuilder("cnn")
    x = b.input("x", (1, 3, 9, 9))
    window = {"kernel": (3, 3), "padding": (1, 1, 1, 1), "dilation": (1, 1)}
    x = b.op("conv", x, b.parameter("stem", (8, 3, 3, 3)), b.parameter("bias", (8,)), stride=(2, 2), groups=1, **window)
    x = b.op("conv", b.op("relu", x), b.parameter("depthwise", (8, 1, 3, 3)), stride=(1, 1), groups=8, **window)
    x = b.op("maxpool", x, kernel=(2, 2), stride=(2, 2), padding=(0, 0, 0, 0))
    x = b.op("mean", x, axes=(2, 3), keepdims=False)
    return b.build(b.op("gemm", x, b.parameter("head", (5, 8))))


def attention() -> Graph:
    """Norm, two heads of self-attention, projection, residual."""
    b = GraphBuilder("attention")
    x = b.input("x", (1, 6, 16))
    normed = b.op("layernorm", x, b.parameter("gamma", (16,)), b.parameter("beta", (16,)), epsilon=1e-6)
    qkv = b.op("reshape", b.op("gemm", normed, b.parameter("qkv", (48, 16))), shape=(1, 6, 3, 2, 8))
    qkv = b.op("transpose", qkv, perm=(2, 0, 3, 1, 4))
    parts = (b.op("slice", qkv, axis=0, start=i, stop=i + 1) for i in range(3))
    q, k, v = (b.op("reshape", part, shape=(1, 2, 6, 8)) for part in parts)
    scores = b.op("softmax", b.op("matmul", q, k, transpose_b=True), axis=-1)
    mixed = b.op("transpose", b.op("matmul", scores, v, transpose_b=False), perm=(0, 2, 1, 3))
    projected = b.op("gemm", b.op("reshape", mixed, shape=(1, 6, 16)), b.parameter("proj", (16, 16)))
    return b.build(b.op("add", x, projected))


def machine(array: int, *settings: str) -> Machine:
    """``edge64-ideal`` with a small array."""
    return load_machine("edge64-ideal", [f"array.rows={array}", f"array.columns={array}", *settings])


TINY: Mapping[str, TinyModel] = {
    "mlp": TinyModel(mlp(), Coding("int8", "out", False), machine(8, "sram.weight_bytes=256")),
    "cnn": TinyModel(cnn(), Coding("vq:k=4,d=2", "out", True), machine(16, "sram.activation_bytes=1536")),
    "attention": TinyModel(attention(), Coding("ssvq:k=16,d=8", "out", False), machine(16)),
}
