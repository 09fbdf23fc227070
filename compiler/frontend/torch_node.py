"""One exported torch node as its lowering sees it: arguments by their schema's names, tensors by name in the draft."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import ModelError
from accel.graph import Shape
from compiler.frontend.draft import Draft


class Activation(str):
    """Name of a draft tensor computed at run time; anything else in an argument is a constant."""

    __slots__ = ()


def flattened(value: Any) -> Iterator[Any]:
    """The leaves of nested lists, tuples and mappings."""
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from flattened(part)
    else:
        yield value


def substitute(value: Any, environment: Mapping[Any, Any]) -> Any:
    """``value`` with every fx node replaced by what it computed."""
    if isinstance(value, Mapping):
        return {key: substitute(part, environment) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(substitute(part, environment) for part in value)
    return environment[value] if hasattr(value, "op") and hasattr(value, "users") else value


class TorchNode:
    """``kind`` is the operator without overload (``add`` for ``aten.add.Tensor``); ``name`` is module path and kind."""

    def __init__(self, fx: Any, args: tuple[Any, ...], kwargs: dict[str, Any], draft: Draft, origins: dict[int, str]):
        self.fx = fx
        self.args = args
        self.kwargs = kwargs
        self.draft = draft
        self.origins = origins
        schema = getattr(fx.target, "_schema", None)
        self.kind = schema.name.split("::")[-1] if schema is not None else str(fx.target)
        stack = fx.meta.get("nn_module_stack") or {}
        path = next(reversed(stack.values()), ("",))[0] if stack else ""
        self.name = f"{path}/{self.kind}" if path else str(fx.name)
        self._bound = _bind(schema, args, kwargs)

    def __getitem__(self, name: str) -> Any:
        """An argument by its name in the operator's schema, defaults filled in; KeyError when it has none such."""
        return self._bound[name]

    def get(self, name: str, default: Any = None) -> Any:
        """As indexing, with a default."""
        return self._bound.get(name, default)

    def is_activation(self, name: str) -> bool:
        """Whether an argument is computed at run time."""
        return isinstance(self.get(name), Activation)

    def tensor(self, name: str = "self") -> str:
        """The draft tensor of an argument; a constant or number becomes a parameter."""
        if name == "self" and "self" not in self._bound:
            name = "input"
        return self.as_tensor(self[name], "constant")

    def as_tensor(self, value: Any, role: str) -> str:
        """The draft tensor of a value."""
        return str(value) if isinstance(value, Activation) else self.parameter(value, role)

    def parameter(self, value: Any, role: str, array: npt.NDArray[Any] | None = None) -> str:
        """A constant tensor (or ``array`` made from it) as a parameter, named as in the state dict if it is there."""
        if isinstance(value, Activation):
            raise self.error(f"its {role} must be known at compile time, but is computed at run time")
        name = self.origins.get(id(value), "")
        content = as_array(value) if array is None else array
        return self.draft.parameter(name or f"{self.name.replace('/', '.')}.{role}", content, guessed=not name)

    def shape(self, tensor: str) -> Shape:
        """Shape of a draft tensor."""
        return self.draft.shapes[tensor]

    def op(self, kind: str, *inputs: str, **attributes: Any) -> Activation:
        """Emit one operator under this node's name."""
        return Activation(self.draft.op(kind, *inputs, name=self.name, **attributes))

    def error(self, why: str) -> ModelError:
        """A ``ModelError`` that names this node."""
        return ModelError(f"node '{self.name}' ({self.fx.target}): {why}")


def as_array(value: Any) -> npt.NDArray[Any]:
    """A torch tensor or number as a NumPy array; NumPy has no bfloat16, float32 holds it exactly."""
    if not hasattr(value, "detach"):
        return np.asarray(value)
    dense = value.detach().cpu()
    array: npt.NDArray[Any] = (dense.float() if dense.is_floating_point() else dense).numpy()
    return array


def _bind(schema: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    if schema is None:
        return {}
    bound: dict[str, Any] = {}
    for position, argument in enumerate(schema.arguments):
        if position < len(args):
            bound[argument.name] = args[position]
        elif argument.name in kwargs:
            bound[argument.name] = kwargs[argument.name]
        elif argument.has_default_value():
            bound[argument.name] = argument.default_value
    return bound
