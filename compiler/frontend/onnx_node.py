"""One ONNX node as its lowering sees it: inputs as draft tensors, parameters or constants; attributes by name."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from accel.errors import ModelError
from compiler.frontend.draft import Draft

Array = npt.NDArray[Any]

# Names exporters make up: onnx::MatMul_123, val_12, /layer/Transpose_output_0, 481, Constant_12.
ANONYMOUS = re.compile(r"(onnx::.*|val_\d+|.*_output_\d+|\d+|_?[cC]onst(ant)?[_\d]*|_v_\d+|t_\d+)(:0)?")


class OnnxNode:
    """A node to lower. ``name`` is unique enough for messages; ``scope`` is its module path with dots."""

    def __init__(self, proto: onnx.NodeProto, walk: Walk) -> None:
        self.proto = proto
        self.kind = proto.op_type
        self.name = proto.name or next((o for o in proto.output if o), proto.op_type)
        self.walk = walk
        self.draft: Draft = walk.draft
        self.opset = walk.opset
        self.attributes: dict[str, Any] = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute's value, text decoded; ``default`` when absent."""
        value = self.attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def has(self, position: int) -> bool:
        """Whether an optional input is given."""
        return position < len(self.proto.input) and self.proto.input[position] != ""

    def source(self, position: int) -> str:
        """The ONNX tensor name of an input; ``ModelError`` when it is missing."""
        if not self.has(position):
            raise self.error(f"input {position} is missing")
        return str(self.proto.input[position])

    def is_constant(self, position: int) -> bool:
        """Whether an input is known at compile time."""
        return self.source(position) in self.walk.constants

    def constant(self, position: int) -> Array:
        """The value of an input that must be known at compile time."""
        name = self.source(position)
        if name not in self.walk.constants:
            raise self.error(f"input {position} ('{name}') must be known at compile time, but is computed at run time")
        return self.walk.constants[name]

    def integers(self, position: int, attribute: str | None = None) -> list[int] | None:
        """A list of integers given as an attribute (old opsets) or a constant input; None when absent."""
        if attribute is not None and attribute in self.attributes:
            return [int(value) for value in np.atleast_1d(self.attributes[attribute])]
        return [int(value) for value in np.atleast_1d(self.constant(position))] if self.has(position) else None

    def tensor(self, position: int, role: str = "constant") -> str:
        """The draft tensor of an input: an activation, or a constant made a parameter."""
        name = self.source(position)
        if name in self.walk.constants:
            return self.parameter(position, role)
        if name not in self.walk.tensors:
            raise self.error(f"reads tensor '{name}', which nothing produces before it")
        return self.walk.tensors[name]

    def parameter(self, position: int, role: str, value: Array | None = None) -> str:
        """A constant input as a parameter, or ``value`` made from it, under the source's name if it has one."""
        array = self.constant(position)
        name = self.walk.origins.get(self.source(position), "")
        guessed = not name
        return self.draft.parameter(name or f"{self.scope(role)}.{role}", array if value is None else value, guessed)

    def shape(self, position: int) -> tuple[int, ...]:
        """Shape of an input."""
        if self.is_constant(position):
            return tuple(self.constant(position).shape)
        return self.draft.shapes[self.tensor(position)]

    def scope(self, role: str) -> str:
        """``blocks.0.attn.qkv`` for ``/blocks/0/attn/qkv/MatMul``; roles other than weight and bias keep the end."""
        parts = self.name.strip("/").split("/")
        if role in ("weight", "bias") and len(parts) > 1 and re.fullmatch(rf"{self.kind}(_\d+)?", parts[-1]):
            parts.pop()
        return ".".join(parts)

    def error(self, why: str) -> ModelError:
        """A ``ModelError`` that names this node."""
        return ModelError(f"node '{self.name}' ({self.kind}): {why}")


class Walk:
    """What is known while the nodes are lowered in order: ONNX tensor names to draft tensors or constants."""

    def __init__(self, draft: Draft, opset: int) -> None:
        self.draft = draft
        self.opset = opset
        self.constants: dict[str, Array] = {}
        self.tensors: dict[str, str] = {}
        self.origins: dict[str, str] = {}
        self.integer: set[str] = set()

    def constant(self, name: str, value: Array, origin: str | None = None) -> None:
        """Make ``value`` known; ``origin`` is the name it should have as a parameter (none: from its reader)."""
        self.constants[name] = value
        if origin is None and not ANONYMOUS.fullmatch(name):
            origin = name
        if origin:
            self.origins[name] = origin
