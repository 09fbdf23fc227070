"""State of one lowering: where every tensor lies, and the steps and layers so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import CompileError
from accel.graph import ACTIVATION_FUNCTIONS, Graph, Op
from accel.program import Layer
from accel.quantisation import Quantisation, deferred_softmax, free_scalings
from compiler.layouts import default_strides
from compiler.steps import Buffer, Home, OutputStage, Step, VectorStep
from compiler.views import View, dense_strides

UNARY = frozenset(ACTIVATION_FUNCTIONS)  # element-wise functions a GEMM's output stage can do on the way out


@dataclass(slots=True)
class Lowering:
    """State of one lowering: where every tensor lies, and the steps so far."""

    graph: Graph
    values: Mapping[str, npt.NDArray[Any]]
    quantisation: Quantisation
    planned: dict[str, View] = field(default_factory=dict)
    views: dict[str, View] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    buffers: dict[str, Buffer] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    done: set[str] = field(default_factory=set)
    stages: dict[str, OutputStage] = field(default_factory=dict)
    consumers: dict[str, list[Op]] = field(default_factory=dict)
    deferred: frozenset[str] = frozenset()
    normalised: frozenset[str] = frozenset()
    free: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        self.consumers = self.graph.consumers()
        self.deferred, self.normalised = deferred_softmax(self.graph)
        self.free = free_scalings(self.graph, self.values)

    def shape(self, tensor: str) -> tuple[int, ...]:
        """Shape of a tensor; a single number counts as a vector of one."""
        return self.graph.shapes[tensor] or (1,)

    def new_buffer(self, name: str, size_bytes: int, home: Home = "activation") -> str:
        """Add a buffer under a name nobody has yet."""
        while name in self.buffers:
            name += "'"
        self.buffers[name] = Buffer(name, size_bytes, home)
        return name

    def allocate(self, tensor: str, like: View | None = None, image: bool = False) -> View:
        """The view an operator writes ``tensor`` to: as planned, or a new buffer (laid out like ``like``)."""
        if tensor not in self.views:
            if tensor in self.planned:
                view = self.planned[tensor]
                if view.buffer not in self.buffers:
                    self.buffers[view.buffer] = Buffer(view.buffer, self._planned_bytes(view.buffer))
            else:
                shape = self.shape(tensor)
                buffer = self.new_buffer(tensor, math.prod(shape))
                view = View(buffer, 0, shape, default_strides(shape, like, image))
                self.fresh.add(tensor)
            self.views[tensor] = view
        return self.views[tensor]

    def _planned_bytes(self, buffer: str) -> int:
        return max(v.offset + v.span_bytes for v in self.planned.values() if v.buffer == buffer)

    def operand(self, tensor: str) -> View:
        """The view of an input of an operator; constants get a DRAM buffer of their own on first use."""
        if tensor not in self.views:
            shape = self.shape(tensor)
            assert tensor in self.graph.parameters, tensor
            self.new_buffer(tensor, math.prod(shape), "constant")
            self.views[tensor] = View(tensor, 0, shape, dense_strides(shape))
        return self.views[tensor]

    def alias(self, op: Op, view: View) -> None:
        """Let ``op``'s output be ``view`` of its input's storage."""
        self.views[op.output] = view
        if op.inputs[0] in self.fresh and self.only_consumer(op.inputs[0]) is op:
            self.fresh.add(op.output)

    def only_consumer(self, tensor: str) -> Op | None:
        """The single operator that reads ``tensor``, if there is just one and it is no network output."""
        readers = self.consumers[tensor]
        return readers[0] if len(readers) == 1 and tensor not in self.graph.outputs else None

    def layer(self, op: Op, kind: str, **figures: Any) -> int:
        """Add a row to the layer map and return its index."""
        self.layers.append(Layer(op.name, kind, **figures))
        return len(self.layers) - 1

    def dense(self, view: View, layer: int, why: str) -> View:
        """A gapless row-major copy of ``view``: vector work, charged to ``layer``."""
        buffer = self.new_buffer(f"{view.buffer}/{why}", view.elements)
        out = View(buffer, 0, view.shape, dense_strides(view.shape))
        self.steps.append(VectorStep(layer, "copy", view, out))
        return out

    def is_scalar(self, tensor: str) -> bool:
        """Whether a tensor is a single compile-time number."""
        return tensor in self.graph.parameters and math.prod(self.shape(tensor)) == 1

    def is_free_scaling(self, op: Op) -> bool:
        """Whether an operator only multiplies by one positive constant: its result has the bytes of its operand."""
        return op.name in self.free

    def gain(self, op: Op) -> float:
        """The constant by which a ``mul`` or ``div`` multiplies its first operand. Raises ``CompileError`` for 1/0."""
        value = float(np.reshape(self.values[op.inputs[1]], ()))
        if op.kind == "div" and not value:
            raise CompileError(f"node '{op.name}' (div): divides by the constant 0; allowed: other constants")
        return value if op.kind == "mul" else 1 / value

    def has_exponents(self, *tensors: str) -> bool:
        """Whether the channels of any of the tensors have exponents."""
        return any(self.quantisation.tensors[tensor].exponents for tensor in tensors)
