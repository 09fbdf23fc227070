"""What the built-in architectures share: a builder that also records how a checkpoint maps onto the graph.

A graph's parameters are what the hardware holds. A checkpoint holds what training needed: batch normalisation
still separate, bias tables not yet expanded. ``Blueprint`` carries both and the rules that lead from one to the
other, so that ``compiler.frontend.weights`` needs to know nothing about any architecture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.graph import Graph, GraphBuilder, Shape

Array = npt.NDArray[np.float32]
Tensors = Mapping[str, Array]
Derivation = Callable[[Tensors], Array]

STATISTICS = (".running_mean", ".running_var")
"""Suffixes of batch-normalisation buffers: stored in checkpoints, not counted as parameters."""

NEVER_NEEDED = ("*.num_batches_tracked",)
"""Checkpoint entries (glob patterns) that no inference needs."""


@dataclass(frozen=True, slots=True)
class Blueprint:
    """A graph and how a checkpoint fills it.

    ``tensors``: every checkpoint entry needed, in the source framework's order, with its shape. ``derived``: graph
    parameters computed from those; ``constants``: graph parameters that are fixed numbers; all others are copied
    under their own name. ``ignored``: glob patterns of checkpoint entries that may be present and are not used.
    """

    graph: Graph
    tensors: Mapping[str, Shape]
    derived: Mapping[str, Derivation]
    constants: Mapping[str, Array]
    ignored: tuple[str, ...]

    @property
    def parameter_count(self) -> int:
        """Trainable numbers in the checkpoint: what papers and model cards call "parameters"."""
        return sum(math.prod(shape) for name, shape in self.tensors.items() if not name.endswith(STATISTICS))


@dataclass(frozen=True, slots=True)
class Convolution:
    """Geometry of a convolution with a square kernel; ``padding`` None means the symmetric ``dilation*(k-1)/2``."""

    channels: int
    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    padding: int | None = None
    same: bool = False

    def attributes(self, height: int, width: int) -> dict[str, Any]:
        """Attributes of the graph's ``conv`` for an input of ``height`` by ``width``."""
        top, bottom = self._padding(height)
        left, right = self._padding(width)
        return {
            "kernel": (self.kernel, self.kernel),
            "stride": (self.stride, self.stride),
            "padding": (top, left, bottom, right),
            "dilation": (self.dilation, self.dilation),
            "groups": self.groups,
        }

    def _padding(self, size: int) -> tuple[int, int]:
        reach = self.dilation * (self.kernel - 1)
        if self.same:  # TensorFlow's SAME: whatever is odd goes to the far side
            total = max((math.ceil(size / self.stride) - 1) * self.stride + reach + 1 - size, 0)
            return total // 2, total - total // 2
        each = reach // 2 if self.padding is None else self.padding
        return each, each


class ModelBuilder(GraphBuilder):
    """A ``GraphBuilder`` whose parameters are tied to checkpoint entries; layers carry the checkpoint's names."""

    def __init__(self, name: str, ignored: tuple[str, ...] = ()) -> None:
        super().__init__(name)
        self.tensors: dict[str, Shape] = {}
        self.derived: dict[str, Derivation] = {}
        self.constants: dict[str, Array] = {}
        self.ignored = NEVER_NEEDED + ignored

    def finish(self, *outputs: str) -> Blueprint:
        """The checked graph with its checkpoint mapping."""
        return Blueprint(self.build(*outputs), self.tensors, self.derived, self.constants, self.ignored)

    def weight(self, name: str, shape: Shape) -> str:
        """A parameter copied from the checkpoint entry of the same name."""
        self.tensors[name] = shape
        return self.parameter(name, shape)

    def derive(self, name: str, shape: Shape, rule: Derivation) -> str:
        """A parameter that ``rule`` computes from checkpoint entries (declare those in ``tensors``)."""
        self.derived[name] = rule
        return self.parameter(name, shape)

    def constant(self, name: str, value: npt.ArrayLike) -> str:
        """A parameter that is the same for every checkpoint."""
        array = np.asarray(value, dtype=np.float32)
        self.constants[name] = array
        return self.parameter(name, array.shape)

    def linear(self, x: str, name: str, features: int, bias: bool = True) -> str:
        """``x[..., K] @ name.weight[features, K].T (+ name.bias)``."""
        operands = [x, self.weight(f"{name}.weight", (features, self.shapes[x][-1]))]
        if bias:
            operands.append(self.weight(f"{name}.bias", (features,)))
        return self.op("gemm", *operands, name=name)

    def layernorm(self, x: str, name: str, epsilon: float) -> str:
        """Layer normalisation over the last axis with ``name.weight`` and ``name.bias``."""
        width = self.shapes[x][-1:]
        gamma, beta = self.weight(f"{name}.weight", width), self.weight(f"{name}.bias", width)
        return self.op("layernorm", x, gamma, beta, name=name, epsilon=epsilon)

    def conv(self, x: str, name: str, shape: Convolution) -> str:
        """A convolution with its own bias."""
        weight = self._kernel(x, name, shape)
        return self._convolve(x, name, shape, weight, self.weight(f"{name}.bias", (shape.channels,)))

    def conv_norm(
        self, x: str, name: str, norm: str, shape: Convolution, epsilon: float, activation: str | None = None
    ) -> str:
        """A bias-free convolution ``name`` with batch normalisation ``norm`` folded in, then ``activation``."""
        self._kernel(x, name, shape)
        weight, bias = f"{name}.weight", f"{name}.bias"
        for entry in ("weight", "bias", "running_mean", "running_var"):
            self.tensors[f"{norm}.{entry}"] = (shape.channels,)
        self.derived[weight] = lambda t: fold_weight(t, name, norm, epsilon)
        self.derive(bias, (shape.channels,), lambda t: fold_bias(t, norm, epsilon))
        out = self._convolve(x, name, shape, weight, bias)
        return self.op(activation, out, name=f"{norm}.{activation}") if activation else out

    def _kernel(self, x: str, name: str, shape: Convolution) -> str:
        channels = self.shapes[x][1] // shape.groups
        return self.weight(f"{name}.weight", (shape.channels, channels, shape.kernel, shape.kernel))

    def _convolve(self, x: str, name: str, shape: Convolution, weight: str, bias: str) -> str:
        height, width = self.shapes[x][2:]
        return self.op("conv", x, weight, bias, name=name, **shape.attributes(height, width))

    def reshape(self, x: str, *shape: int, name: str = "") -> str:
        """The same elements, row-major, in another shape."""
        return self.op("reshape", x, name=name, shape=shape)

    def transpose(self, x: str, *perm: int, name: str = "") -> str:
        """Permute axes."""
        return self.op("transpose", x, name=name, perm=perm)

    def pick(self, x: str, axis: int, index: int) -> str:
        """``x`` at one ``index`` of ``axis``, that axis removed: a view."""
        part = self.op("slice", x, axis=axis, start=index, stop=index + 1)
        shape = self.shapes[x]
        return self.reshape(part, *shape[:axis], *shape[axis + 1 :])

    def tokens(self, x: str) -> str:
        """Feature map [B,C,H,W] as tokens [B,H*W,C]."""
        batch, channels, height, width = self.shapes[x]
        return self.transpose(self.reshape(x, batch, channels, height * width), 0, 2, 1)

    def attend(self, query: str, key: str, value: str, name: str, biases: tuple[str, ...] = ()) -> str:
        """Scaled dot-product attention over [B,heads,T,d] views; ``biases`` are added to the scaled scores.

        Returns [B,T,heads*d], heads side by side (Vaswani et al. 2017, section 3.2).
        """
        batch, heads, count, depth = self.shapes[query]
        scores = self.op("matmul", query, key, name=f"{name}.scores", transpose_b=True)
        scale = self.constant(f"attention_scale_{depth}", [depth**-0.5])
        scores = self.op("mul", scores, scale, name=f"{name}.scaled")
        for index, bias in enumerate(biases):
            scores = self.op("add", scores, bias, name=f"{name}.biased.{index}")
        weights = self.op("softmax", scores, name=f"{name}.softmax", axis=-1)
        mixed = self.op("matmul", weights, value, name=f"{name}.context", transpose_b=False)
        return self.reshape(self.transpose(mixed, 0, 2, 1, 3), batch, count, heads * depth)

    def split_heads(self, x: str, heads: int) -> str:
        """[B,T,D] as the view [B,heads,T,D/heads]."""
        batch, count, width = self.shapes[x]
        return self.transpose(self.reshape(x, batch, count, heads, width // heads), 0, 2, 1, 3)

    def fused_attention(self, x: str, name: str, heads: int, biases: tuple[str, ...] = ()) -> str:
        """timm's attention: one ``qkv`` GEMM whose rows are q, k, v, then ``proj``. ``x`` is [B,T,D]."""
        batch, count, width = self.shapes[x]
        qkv = self.linear(x, f"{name}.qkv", 3 * width)
        split = self.transpose(self.reshape(qkv, batch, count, 3, heads, width // heads), 2, 0, 3, 1, 4)
        query, key, value = (self.pick(split, 0, index) for index in range(3))
        return self.linear(self.attend(query, key, value, name, biases), f"{name}.proj", width)

    def mlp(self, x: str, fc1: str, fc2: str, features: int) -> str:
        """Two GEMMs with GELU between, back to the width of ``x``."""
        hidden = self.op("gelu", self.linear(x, fc1, features), name=f"{fc1}.gelu")
        return self.linear(hidden, fc2, self.shapes[x][-1])


def fold_weight(tensors: Tensors, conv: str, norm: str, epsilon: float) -> Array:
    """Convolution weights with the gain of the batch normalisation that follows (Jacob et al. 2018, section 3.2)."""
    return tensors[f"{conv}.weight"] * _gain(tensors, norm, epsilon)[:, None, None, None]


def fold_bias(tensors: Tensors, norm: str, epsilon: float) -> Array:
    """The bias that batch normalisation ``norm`` leaves behind in the convolution before it."""
    shift: Array = tensors[f"{norm}.bias"] - tensors[f"{norm}.running_mean"] * _gain(tensors, norm, epsilon)
    return shift


def _gain(tensors: Tensors, norm: str, epsilon: float) -> Array:
    gain: Array = tensors[f"{norm}.weight"] / np.sqrt(tensors[f"{norm}.running_var"] + np.float32(epsilon))
    return gain
