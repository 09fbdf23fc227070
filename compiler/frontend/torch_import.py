"""Reads a torch module, or a ``.pt2`` file, into a ``Graph`` and its parameters, through ``torch.export``.

Parameters keep their ``state_dict`` names. Whatever depends on weights and shapes only is computed with torch itself;
the rest is lowered by the table in ``torch_ops`` and tidied by ``simplify``. torch is imported on the first call.
"""

from __future__ import annotations

import logging
import operator
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accel.errors import ModelError
from accel.graph import Graph, Shape
from compiler.frontend.draft import Draft, Values, unsupported
from compiler.frontend.simplify import simplify
from compiler.frontend.torch_node import Activation, TorchNode, flattened, substitute

# Operators on a constant that hand a weight on: the result keeps the weight's name.
KEEP_NAME = (
    *("view", "_unsafe_view", "reshape", "flatten", "permute", "transpose", "t", "unsqueeze", "squeeze", "expand"),
    *("clone", "alias", "detach", "contiguous", "to", "_to_copy", "lift_fresh_copy"),
)

# What our lowering raises when a node has arguments we did not foresee.
MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def import_torch(module: Any, example_inputs: Sequence[Any]) -> tuple[Graph, dict[str, Values]]:
    """Graph and float32 parameter values of a module in evaluation mode; shapes are those of ``example_inputs``.

    Raises ``ModelError`` when ``torch.export`` cannot trace the module or an operator cannot be lowered.
    """
    torch = _torch()
    name = type(module).__name__
    if module.training:
        raise ModelError(f"module '{name}' is in training mode; call eval() on it first")
    try:
        with _quiet(torch):
            program = torch.export.export(module, tuple(example_inputs))
    except Exception as error:  # torch.export has no common base for its refusals
        raise ModelError(f"module '{name}': torch.export cannot trace it: {_line(error)}") from error
    return _import_program(torch, program, name)


def import_pt2(path: str | Path) -> tuple[Graph, dict[str, Values]]:
    """Graph and parameter values of a file written by ``torch.export.save``; raises ``ModelError``."""
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"'{path}': no such file")
    if not zipfile.is_zipfile(path):
        raise ModelError(f"'{path}': not a readable .pt2 file: no zip archive (truncated, or not of torch.export.save)")
    torch = _torch()
    try:
        with _quiet(torch):
            program = torch.export.load(path)
    except Exception as error:  # zipfile, JSON and torch each raise their own classes
        reason = "" if "warnings above" in str(error) else f": {_line(error)}"  # those we keep quiet say nothing more
        kinds = "corrupt, of another torch, or not of torch.export.save"
        raise ModelError(f"'{path}': not a readable .pt2 file ({kinds}){reason}") from error
    return _import_program(torch, program, path.stem)


def _import_program(torch: Any, program: Any, name: str) -> tuple[Graph, dict[str, Values]]:
    try:
        with _quiet(torch):
            program = program.run_decompositions({})  # only makes it functional: no in-place operators left
    except Exception as error:
        raise ModelError(f"model '{name}': torch cannot make it functional: {_line(error)}") from error
    draft = Draft(name)
    environment: dict[Any, Any] = {}
    origins: dict[int, str] = {}
    constants = _constants(program)
    with _quiet(torch):
        for node in program.graph.nodes:
            if node.op == "placeholder":
                environment[node] = _placeholder(torch, node, constants, origins, draft)
            elif node.op == "call_function":
                environment[node] = _call(torch, node, environment, origins, draft)
    results = [environment[n] for n in program.graph.output_node().all_input_nodes]
    if not all(isinstance(result, Activation) for result in results):
        raise ModelError(f"model '{name}': an output does not depend on any input, or is no tensor")
    draft.outputs = tuple(results)
    simplify(draft)
    return draft.finish([str(n.name) for n in program.graph.output_node().all_input_nodes])


def _constants(program: Any) -> dict[str, tuple[str, Any]]:
    """State-dict name and value by placeholder: parameters, buffers and lifted constants."""
    signature = program.graph_signature
    state = {**program.constants, **program.state_dict}
    named = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    return {placeholder: (name, state[name]) for placeholder, name in named.items()}


def _placeholder(
    torch: Any, node: Any, constants: Mapping[str, tuple[str, Any]], origins: dict[int, str], draft: Draft
) -> Any:
    if node.name in constants:
        name, value = constants[node.name]
        value = value.detach()
        origins[id(value)] = name
        return value
    value = node.meta["val"]
    if not isinstance(value, torch.Tensor):
        raise ModelError(f"input '{node.name}' is {type(value).__name__}, not a tensor; pass it as a constant")
    draft.input(node.name, _static_shape(node.name, value))
    return Activation(node.name)


def _static_shape(name: str, value: Any) -> Shape:
    if any(not isinstance(size, int) for size in value.shape):
        shown = ", ".join(map(str, value.shape))
        raise ModelError(f"input '{name}' has shape [{shown}], which is not fixed; export it without dynamic_shapes")
    return tuple(value.shape)


def _call(torch: Any, node: Any, environment: Mapping[Any, Any], origins: dict[int, str], draft: Draft) -> Any:
    from compiler.frontend.torch_ops import LOWERINGS

    args = substitute(node.args, environment)
    kwargs = substitute(node.kwargs, environment)
    if node.target is operator.getitem:
        return _item(node, *args)
    view = TorchNode(node, args, kwargs, draft, origins)
    if not any(isinstance(value, Activation) for value in flattened((args, kwargs))):
        return _fold(torch, view, origins)
    if view.kind.startswith("_assert"):
        return None  # a check of sizes and types that torch itself has just passed; it computes nothing
    lowering = LOWERINGS.get(view.kind)
    if lowering is None:
        raise unsupported(view.name, str(node.target), LOWERINGS)
    try:
        return lowering(view)
    except MALFORMED as error:
        raise view.error(f"{type(error).__name__}: {error}") from error


def _item(node: Any, results: Any, index: int) -> Any:
    if isinstance(results, Activation):
        results = [results]
    if not 0 <= index < len(results):
        raise ModelError(f"node '{node.name}': reads result {index} of an operator of which only the first is lowered")
    return results[index]


def _fold(torch: Any, node: TorchNode, origins: dict[int, str]) -> Any:
    """Compute a node whose inputs are all known."""
    if node.kind in ("rand", "randn", "randint", "rand_like", "randn_like", "bernoulli", "dropout"):
        raise ModelError(f"node '{node.name}': '{node.kind}' is random; a model must be deterministic")
    try:
        with torch.no_grad():
            result = node.fx.target(*node.args, **node.kwargs)
    except Exception as error:
        raise ModelError(f"node '{node.name}' ({node.kind}): {_line(error)}") from error
    source = origins.get(id(node.args[0])) if node.args else None
    if source is not None and node.kind in KEEP_NAME:
        origins[id(result)] = source
    return result


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise ModelError("reading torch models needs torch: pip install 'accel-codesign[torch]'") from error
    return torch


@contextmanager
def _quiet(torch: Any) -> Iterator[None]:
    """torch warns about its own deprecations and logs the tracebacks of what it then raises: nothing to act on."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
