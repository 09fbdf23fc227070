"""Reads an ONNX file into a ``Graph`` and its parameters.

Whatever depends on weights and shapes only is computed here, node by node; the rest is lowered by the tables in
``onnx_math`` and ``onnx_layout`` and tidied by ``simplify``. Nothing is skipped silently: an operator that cannot be
lowered exactly is a ``ModelError``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from accel.errors import ModelError, listed, nearest
from accel.graph import Graph, Shape
from compiler.frontend.draft import Draft, Values, check_finite, unsupported
from compiler.frontend.onnx_fold import fold
from compiler.frontend.onnx_layout import LAYOUT
from compiler.frontend.onnx_math import MATH, Lowering
from compiler.frontend.onnx_node import OnnxNode, Walk
from compiler.frontend.simplify import simplify

LOWERINGS: Mapping[str, Lowering] = {**MATH, **LAYOUT}
DOMAINS = ("", "ai.onnx", "com.microsoft")
# Constant nodes that hand a weight on: the result keeps the weight's name.
KEEP_NAME = (
    "Identity",
    "Cast",
    "Transpose",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Expand",
    "DequantizeLinear",
)
INTEGER_KEPT = ("Identity", "Reshape", "Squeeze", "Unsqueeze", "Slice", "Transpose", "Flatten", "Expand", "Concat")
MIN_OPSET = 7
EXAMPLE_SIZE = 224  # stands for an unknown size where a message spells out what to type
# What our reading of a file raises when the file contradicts itself: absent attributes, axes that do not exist.
MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


def import_onnx(
    path: str | Path,
    input_shapes: Mapping[str, Shape] | None = None,
    outputs: Sequence[str] | None = None,
    note: Callable[[str], None] | None = None,
) -> tuple[Graph, dict[str, Values]]:
    """Graph and float32 parameter values of an ONNX file (external data beside it is read too).

    ``input_shapes`` gives symbolic dimensions values (a symbolic first dimension is 1 unless given, of which ``note``
    is told); ``outputs`` names tensors to cut the graph at instead of its own outputs. Raises ``ModelError``.
    """
    path = Path(path)
    model = _load(path)
    try:
        return _import_model(model, path, _input_shapes(model.graph, input_shapes or {}, path, note), outputs)
    except MALFORMED as error:
        raise ModelError(f"'{path}': malformed: {type(error).__name__}: {error}") from error


def _import_model(
    model: onnx.ModelProto, path: Path, shapes: Mapping[str, Shape], outputs: Sequence[str] | None
) -> tuple[Graph, dict[str, Values]]:
    draft = Draft(path.stem)
    walk = Walk(draft, _opset(model, path))
    _read_initializers(model.graph, walk, path)
    _declare_inputs(model.graph, walk, shapes)
    public = _wanted(model.graph, outputs, path)
    for proto in _needed(model.graph, public):
        _lower(proto, walk)
    draft.outputs = tuple(_output(walk, name, path) for name in public)
    simplify(draft)
    return draft.finish(public)


def _load(path: Path) -> onnx.ModelProto:
    if not path.is_file():
        raise ModelError(f"'{path}': no such file")
    try:
        model = onnx.load(str(path), load_external_data=False)
        _check_external(model.graph, path)
        onnx.load_external_data_for_model(model, str(path.parent))
    except ModelError:
        raise
    except Exception as error:  # protobuf, onnx and the operating system each raise their own classes
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ModelError(f"'{path}': not a readable ONNX file (truncated or corrupt?): {reason[0]}") from error
    if not model.graph.output or not model.opset_import:
        raise ModelError(f"'{path}': not a readable ONNX file (truncated or corrupt?): it has no outputs or no opset")
    return model


def _check_external(graph: onnx.GraphProto, path: Path) -> None:
    """Raise ``ModelError`` when a file that ``graph`` keeps weights in is missing."""
    for tensor in graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            name = {entry.key: entry.value for entry in tensor.external_data}.get("location", "")
            if not (path.parent / name).is_file():
                raise ModelError(f"'{path}': its weights are in '{name}', which is missing in folder '{path.parent}'")


def _opset(model: onnx.ModelProto, path: Path) -> int:
    opset = max((int(entry.version) for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=0)
    if not MIN_OPSET <= opset <= onnx.defs.onnx_opset_version():
        raise ModelError(
            f"'{path}': opset {opset}; supported: {MIN_OPSET} to {onnx.defs.onnx_opset_version()} "
            "(convert the file with onnx.version_converter)"
        )
    return opset


def _read_initializers(graph: onnx.GraphProto, walk: Walk, path: Path) -> None:
    if graph.sparse_initializer:
        raise ModelError(f"'{path}': sparse initializers cannot be read; store the weights densely")
    for tensor in graph.initializer:
        try:
            value = numpy_helper.to_array(tensor)
        except Exception as error:  # a size that contradicts the data, an unknown type
            raise ModelError(f"'{path}': tensor '{tensor.name}' cannot be read: {error}") from error
        walk.constant(tensor.name, value)


def _input_shapes(
    graph: onnx.GraphProto, given: Mapping[str, Shape], path: Path, note: Callable[[str], None] | None
) -> dict[str, Shape]:
    """Shape of every input, sizes of 1 for symbolic batches; ``note`` is told of those."""
    weights = {tensor.name for tensor in graph.initializer}
    inputs = {info.name: info for info in graph.input if info.name not in weights}
    for name in given:
        if name not in inputs:
            raise ModelError(f"'{path}': no input '{name}'; inputs: {listed(inputs)}{nearest(name, inputs)}")
    shapes = {name: _input_shape(info, given.get(name), path) for name, info in inputs.items()}
    for name, info in inputs.items():
        dims = info.type.tensor_type.shape.dim
        if note is not None and name not in given and dims and dims[0].dim_value <= 0:
            note(f"{path}: input '{name}' has shape {_shown(info)}; its first size is taken as 1")
    return shapes


def _declare_inputs(graph: onnx.GraphProto, walk: Walk, shapes: Mapping[str, Shape]) -> None:
    for info in (info for info in graph.input if info.name in shapes):
        walk.tensors[info.name] = walk.draft.input(info.name, shapes[info.name])
        if np.dtype(onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)).kind in "iub":
            walk.integer.add(info.name)


def _input_shape(info: onnx.ValueInfoProto, given: Shape | None, path: Path) -> Shape:
    kind = info.type.tensor_type
    if not info.type.HasField("tensor_type"):
        raise ModelError(f"'{path}': input '{info.name}' is no tensor (a sequence or map), which cannot be lowered")
    sizes = [dim.dim_value if dim.dim_value > 0 else None for dim in kind.shape.dim]
    if given is None:
        if not kind.HasField("shape") or None in sizes[1:]:
            example = "x".join(str(size or (EXAMPLE_SIZE if axis else 1)) for axis, size in enumerate(sizes))
            raise ModelError(
                f"'{path}': input '{info.name}' has shape {_shown(info)}, which is not fixed; "
                f"give all sizes, for example --input-shape {info.name}={example or 1} (from Python: input_shapes=)"
            )
        return tuple(size or 1 for size in sizes)
    fits = len(given) == len(sizes) and all(s in (None, g) and g > 0 for s, g in zip(sizes, given, strict=True))
    if kind.HasField("shape") and not fits:
        raise ModelError(f"'{path}': input '{info.name}' has shape {_shown(info)}; the shape given is {list(given)}")
    return tuple(int(size) for size in given)


def _shown(info: onnx.ValueInfoProto) -> str:
    """Its declared shape, symbols by name: ``[batch, 3, 224, 224]``."""
    dims = info.type.tensor_type.shape.dim
    return "[" + ", ".join(d.dim_param or (str(d.dim_value) if d.dim_value > 0 else "?") for d in dims) + "]"


def _wanted(graph: onnx.GraphProto, outputs: Sequence[str] | None, path: Path) -> tuple[str, ...]:
    if outputs is None:
        return tuple(info.name for info in graph.output)
    produced = [name for node in graph.node for name in node.output]
    for name in outputs:
        if name not in produced:
            raise ModelError(f"'{path}': no tensor '{name}' to cut at{nearest(name, produced)}")
    return tuple(outputs)


def _needed(graph: onnx.GraphProto, outputs: Iterable[str]) -> list[onnx.NodeProto]:
    """The nodes that ``outputs`` depend on, in the file's (topological) order."""
    wanted = set(outputs)
    kept = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1]


def _lower(proto: onnx.NodeProto, walk: Walk) -> None:
    node = OnnxNode(proto, walk)
    if any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in proto.attribute):
        raise unsupported(node.name, node.kind, LOWERINGS, " (control flow)")
    if proto.op_type == "Shape" and node.has(0) and not node.is_constant(0):
        shape = node.draft.shapes[node.tensor(0)]
        ends = slice(node.attribute("start"), node.attribute("end"))
        walk.constant(proto.output[0], np.asarray(shape[ends], dtype=np.int64))
    elif proto.domain in DOMAINS[:2] and all(name in walk.constants for name in proto.input if name):
        _fold(node, walk)
    else:
        _emit(node, walk)


def _fold(node: OnnxNode, walk: Walk) -> None:
    inputs = [walk.constants[name] if name else None for name in node.proto.input]
    origin = walk.origins.get(node.proto.input[0]) if node.kind in KEEP_NAME and inputs else None
    names = [name for name in node.proto.output if name]
    for name, value in zip(names, fold(node.proto, inputs, walk.opset), strict=True):
        walk.constant(name, value, origin)


def _emit(node: OnnxNode, walk: Walk) -> None:
    lowering = LOWERINGS.get(node.kind)
    if lowering is None or node.proto.domain not in DOMAINS:
        kind = f"{node.proto.domain}.{node.kind}" if node.proto.domain else node.kind
        raise unsupported(node.name, kind, LOWERINGS)
    try:
        results = lowering(node)
    except ModelError as error:
        raise error if str(error).startswith("node ") else node.error(str(error)) from error
    except MALFORMED as error:
        raise node.error(f"malformed: {type(error).__name__}: {error}") from error
    results = [results] if isinstance(results, str) else results
    # Second outputs (masks, statistics) stay unknown: whoever reads one is told that nothing produces it.
    for name, tensor in zip(node.proto.output, results, strict=False):
        walk.tensors[name] = tensor
        if node.kind in INTEGER_KEPT and node.proto.input[0] in walk.integer:
            walk.integer.add(name)


def _output(walk: Walk, name: str, path: Path) -> str:
    if name in walk.constants:
        check_finite(name, walk.constants[name])
        raise ModelError(f"'{path}': output '{name}' does not depend on any input")
    if name not in walk.tensors:
        raise ModelError(f"'{path}': output '{name}' is produced by no node")
    return walk.tensors[name]
