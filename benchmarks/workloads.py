"""A network as systolic simulators see it: every convolution and matrix product, in execution order, nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from accel.graph import Graph, Op, Shape


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution; a matrix product of M x K by K x N is a 1x1 convolution of an M x 1 map, K channels to N.

    ``padding`` is top, left, bottom, right; ``weights`` the parameter's name, empty if both operands are activations.
    """

    name: str
    in_height: int
    in_width: int
    out_height: int
    out_width: int
    kernel_height: int
    kernel_width: int
    channels: int
    filters: int
    stride: int = 1
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    weights: str = ""

    @property
    def reach_height(self) -> int:
        """Rows the windows touch, padding included."""
        return (self.out_height - 1) * self.stride + self.kernel_height

    @property
    def reach_width(self) -> int:
        """Columns the windows touch, padding included."""
        return (self.out_width - 1) * self.stride + self.kernel_width

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        window = self.kernel_height * self.kernel_width * self.channels
        return self.out_height * self.out_width * window * self.filters


def network_layers(graph: Graph) -> tuple[Layer, ...]:
    """Layers of ``graph``, attention products once a head.

    Raises ``ValueError`` for what not every peer knows: groups, dilation, unequal strides, more than one image.
    """
    return tuple(layer for op in graph.ops for layer in _layers(op, graph))


def _layers(op: Op, graph: Graph) -> Iterator[Layer]:
    out = graph.shapes[op.output]
    if op.kind == "conv":
        yield _convolution(op, graph.shapes[op.inputs[0]], graph.shapes[op.inputs[1]], out)
    elif op.kind == "gemm":
        yield _product(op.name, math.prod(out[:-1]), graph.shapes[op.inputs[1]][1], out[-1], op.inputs[1])
    elif op.kind == "matmul":
        for _ in range(math.prod(out[:-2])):
            yield _product(op.name, out[-2], graph.shapes[op.inputs[0]][-1], out[-1])


def _convolution(op: Op, image: Shape, weight: Shape, out: Shape) -> Layer:
    attributes = op.attributes
    stride = attributes["stride"]
    if attributes["groups"] != 1 or set(attributes["dilation"]) != {1} or stride[0] != stride[1] or image[0] != 1:
        raise ValueError(f"'{op.name}': only plain convolutions of one image can be compared")
    (in_height, in_width), (out_height, out_width) = image[2:], out[2:]
    filters, channels, kernel_height, kernel_width = weight
    top, left, bottom, right = attributes["padding"]
    return Layer(
        op.name, in_height, in_width, out_height, out_width, kernel_height, kernel_width, channels, filters,
        stride=stride[0], padding=(top, left, bottom, right), weights=op.inputs[1],
    )  # fmt: skip


def _product(name: str, rows: int, reduction: int, columns: int, weights: str = "") -> Layer:
    return Layer(name, rows, 1, rows, 1, 1, 1, channels=reduction, filters=columns, weights=weights)
