"""Evaluates ONNX nodes whose inputs are all known at compile time, with onnx's own reference implementation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference import ReferenceEvaluator

from accel.errors import ModelError
from compiler.frontend.interpolation import axis_matrix

Array = npt.NDArray[Any]
MAX_FOLDED_ELEMENTS = 2**28  # 1 GiB of float32: no real constant is larger, a hostile file's may be
RANDOM = ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli")


def fold(proto: onnx.NodeProto, inputs: Sequence[Array | None], opset: int) -> list[Array]:
    """Outputs of one node from its inputs' values; ``ModelError`` when it cannot be computed."""
    if proto.op_type in RANDOM:
        raise ModelError(f"node '{proto.name}': operator '{proto.op_type}' is random; a model must be deterministic")
    _refuse_bomb(proto, inputs)
    try:
        if proto.op_type == "Resize" and inputs[0] is not None:
            return [_resize(proto, inputs)]
        feeds = {name: value for name, value in zip(proto.input, inputs, strict=True) if value is not None}
        results: Any = _evaluator(proto, opset).run(None, feeds)
    except ModelError:
        raise
    except Exception as error:  # onnx raises whatever numpy or its own code does; all of it is the model's fault
        raise ModelError(f"node '{proto.name}' ({proto.op_type}): {type(error).__name__}: {_line(error)}") from error
    return [np.asarray(result) for result in results]


def resize_matrices(attributes: dict[str, Any], inputs: Sequence[Array | None], shape: Sequence[int]) -> list[Array]:
    """One interpolation matrix an axis for an ONNX ``Resize`` (roi, scales, sizes as inputs 1..3) of ``shape``."""
    if attributes.get("antialias") or attributes.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
        raise ModelError("Resize with antialias or an aspect-ratio policy cannot be lowered")
    if attributes.get("exclude_outside") or "axes" in attributes:
        raise ModelError("Resize with exclude_outside or axes cannot be lowered")
    scales, sizes = (inputs[i] if i < len(inputs) else None for i in ((len(inputs) == 2 and 1) or 2, 3))
    if sizes is not None and sizes.size:
        wanted = [int(size) for size in sizes]
        factors = [new / old for new, old in zip(wanted, shape, strict=True)]
    elif scales is not None and scales.size:
        factors = [float(scale) for scale in scales]
        wanted = [math.floor(old * factor) for old, factor in zip(shape, factors, strict=True)]
    else:
        raise ModelError("Resize needs constant scales or sizes")
    mode = attributes.get("mode", b"nearest").decode()
    coordinates = attributes.get("coordinate_transformation_mode", b"half_pixel").decode()
    rounding = attributes.get("nearest_mode", b"round_prefer_floor").decode()
    cubic = attributes.get("cubic_coeff_a", -0.75)
    return [
        np.eye(old) if factor == 1 else axis_matrix(old, new, mode, coordinates, rounding, factor, cubic)
        for old, new, factor in zip(shape, wanted, factors, strict=True)
    ]


def _resize(proto: onnx.NodeProto, inputs: Sequence[Array | None]) -> Array:
    """The reference implementation walks output elements in Python; axis by axis it is a few matrix products."""
    value = inputs[0]
    assert value is not None
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in proto.attribute}
    for axis, matrix in enumerate(resize_matrices(attributes, inputs, value.shape)):
        value = np.moveaxis(np.tensordot(matrix, value, axes=(1, axis)), 0, axis)
    return value.astype(np.float32)


def _evaluator(proto: onnx.NodeProto, opset: int) -> ReferenceEvaluator:
    graph = onnx.GraphProto(name="fold")
    graph.node.append(proto)
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(proto.input) if name)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in proto.output if name)
    return ReferenceEvaluator(graph, opsets={"": opset})


def _refuse_bomb(proto: onnx.NodeProto, inputs: Sequence[Array | None]) -> None:
    if proto.op_type in ("ConstantOfShape", "Expand", "Tile") and inputs[-1] is not None:
        size = math.prod(max(1, int(n)) for n in inputs[-1].flat)
        size *= 1 if proto.op_type != "Tile" or inputs[0] is None else inputs[0].size
        if size > MAX_FOLDED_ELEMENTS:
            raise ModelError(
                f"node '{proto.name}' ({proto.op_type}): makes a constant of {size} elements; "
                f"at most {MAX_FOLDED_ELEMENTS} are allowed"
            )


def _line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else "no details"
