"""How activations are stored: one byte an element, with a static scale a tensor and optional exponents a channel.

``real = scale * 2**exponents[channel] * (code - zero_point)``. Codes are int8 (-128..127) or uint8 (0..255). A zero
point occurs only where the array alone reads a tensor: it folds into biases. Exponents (power-of-two factors, FQ-ViT,
Lin et al., IJCAI 2022) let the channels of residual streams differ; a ``gemm`` that reads such a tensor has them folded
into its weights, ``W[:, c] * 2**exponents[c]``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.arithmetic import EXPONENT_LIMIT
from accel.errors import FormatError
from accel.graph import Graph, Op, weight_name

SMALLEST_SCALE, LARGEST_SCALE = 1e-30, 1e30
Reals = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True, slots=True)
class TensorScale:
    """The code of one tensor. ``exponents`` has one entry per index of ``axis``, or none; whoever knows the tensor's
    shape checks their number (``fits``). Raises ``FormatError`` for impossible values."""

    scale: float
    zero_point: int = 0
    unsigned: bool = False
    axis: int = 0
    exponents: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not SMALLEST_SCALE <= self.scale <= LARGEST_SCALE:
            raise FormatError(f"activation scale {self.scale}; allowed: {SMALLEST_SCALE} to {LARGEST_SCALE}")
        if not 0 <= self.zero_point <= (255 if self.unsigned else 0):
            raise FormatError(f"zero point {self.zero_point}; allowed: 0, or 0 to 255 for unsigned codes")
        if self.axis < 0 or any(not 0 <= exponent <= EXPONENT_LIMIT for exponent in self.exponents):
            raise FormatError(f"channel exponents {self.exponents[:8]}; allowed: 0 to {EXPONENT_LIMIT}")

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest code."""
        return (0, 255) if self.unsigned else (-128, 127)

    def fits(self, shape: tuple[int, ...]) -> bool:
        """Whether a tensor of ``shape`` has ``axis`` and one index of it for each exponent."""
        return not self.exponents or (self.axis < len(shape) and len(self.exponents) == shape[self.axis])

    def units(self, rank: int) -> Reals:
        """Real value of one code step, shaped to broadcast over a tensor of ``rank`` axes."""
        if not self.exponents:
            return np.full((1,) * rank, self.scale)
        shape = [1] * rank
        shape[self.axis] = -1
        return (self.scale * 2.0 ** np.array(self.exponents)).reshape(shape)


def quantise(values: Reals, code: TensorScale) -> npt.NDArray[np.int64]:
    """Codes of real values: rounded to nearest (ties up), saturated."""
    exact = np.asarray(values, np.float64) / code.units(np.ndim(values))
    rounded = np.floor(np.clip(exact, -1e6, 1e6) + 0.5).astype(np.int64)
    return np.clip(rounded + code.zero_point, *code.limits)


def clipped_share(values: Reals, code: TensorScale) -> float:
    """Share of ``values`` (items of the tensor's shape, along a leading axis) more than a step beyond any code."""
    low, high = code.limits
    exact = np.asarray(values, np.float64) / code.units(values.ndim - 1) + code.zero_point
    return float(np.mean((exact < low - 1) | (exact > high + 1)))


def dequantise(codes: npt.NDArray[Any], code: TensorScale) -> npt.NDArray[np.float32]:
    """Real values of codes."""
    exact = (codes.astype(np.float64) - code.zero_point) * code.units(codes.ndim)
    return exact.astype(np.float32)


@dataclass(frozen=True, slots=True)
class Quantisation:
    """Scales of every tensor a program stores: inputs, results of operators, constants; not of weights, biases, norm
    parameters and indices. ``calibrated`` is false for nominal scales, which time programs but give no useful values.
    ``method`` and ``samples`` say how scales were found."""

    tensors: Mapping[str, TensorScale]
    calibrated: bool = True
    method: str = ""
    samples: int = field(default=0)


def quantisation_to_json(quantisation: Quantisation) -> dict[str, Any]:
    """As plain JSON values (FORMATS.md)."""
    rows = {name: {**asdict(code), "exponents": list(code.exponents)} for name, code in quantisation.tensors.items()}
    return {"method": quantisation.method, "samples": quantisation.samples, "tensors": rows}


def quantisation_from_json(document: Mapping[str, Any]) -> Quantisation:
    """Inverse of ``quantisation_to_json``; raises ``FormatError`` on anything else."""
    try:
        tensors = {str(name): _code_of(name, row) for name, row in document["tensors"].items()}
        samples = _integer(document["samples"])
        if samples < 0:
            raise FormatError(f"quantisation: samples = {samples}; allowed: 0 or more")
        return Quantisation(tensors, True, str(document["method"]), samples)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise FormatError(f"quantisation: {type(error).__name__}: {error}") from error


def _code_of(name: str, row: Any) -> TensorScale:
    try:
        return code_from_json(row)
    except FormatError as error:
        raise FormatError(f"'{name}': {error}") from error


_ENTRIES = ("scale", "zero_point", "unsigned", "axis", "exponents")


def code_from_json(row: Any) -> TensorScale:
    """One tensor's entry; raises ``FormatError``."""
    if not isinstance(row, dict) or row.keys() != set(_ENTRIES):
        raise FormatError(f"activation scale {_short(row)}; allowed: an object of {', '.join(_ENTRIES)}")
    if not isinstance(row["unsigned"], bool):
        raise FormatError(f"unsigned = {_short(row['unsigned'])}; allowed: true or false")
    if not isinstance(row["exponents"], list):
        raise FormatError(f"exponents = {_short(row['exponents'])}; allowed: a list of integers")
    exponents = tuple(_integer(value) for value in row["exponents"])
    zero_point, axis = _integer(row["zero_point"]), _integer(row["axis"])
    return TensorScale(_number(row["scale"]), zero_point, row["unsigned"], axis, exponents)


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise FormatError(f"activation scale {_short(value)}; allowed: a number")
    try:
        return float(value)
    except OverflowError as error:
        raise FormatError(f"activation scale beyond {LARGEST_SCALE}; allowed: at most that") from error


def _integer(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise FormatError(f"{_short(value)} in the quantisation; allowed: an integer")
    return value


def _short(value: Any) -> str:
    return ascii(value)[:80]


_TIED = frozenset(("reshape", "transpose", "slice", "concat", "roll", "expand", "pad", "maxpool", "resize"))


def ties(graph: Graph, parameters: Mapping[str, npt.NDArray[Any]]) -> Iterator[tuple[str, str, float]]:
    """``(a, b, factor)``: tensors of one code, b's scale being ``factor`` times a's: they may share bytes.

    A scaling whose operand and result views already tie with another factor (``concat(x, 2 * x)``) is no tie.
    """
    stored = set(stored_tensors(graph))
    clusters = {name: {name: 1.0} for name in stored}
    for a, b, factor in (*_view_ties(graph), *_scaling_ties(graph, parameters)):
        if not {a, b} <= stored:
            continue
        one, other = clusters[a], clusters[b]
        if one is other and not math.isclose(one[a] * factor, one[b], rel_tol=1e-9):
            continue
        if one is not other:
            ratio = one[a] * factor / other[b]
            one |= {name: scale * ratio for name, scale in other.items()}
            clusters |= dict.fromkeys(other, one)
        yield a, b, factor


def _view_ties(graph: Graph) -> Iterator[tuple[str, str, float]]:
    for op in graph.ops:
        if op.kind in _TIED:
            yield from ((tensor, op.output, 1.0) for tensor in op.inputs)
        elif op.kind == "embedding":
            yield op.inputs[0], op.output, 1.0


def _scaling_ties(graph: Graph, parameters: Mapping[str, npt.NDArray[Any]]) -> Iterator[tuple[str, str, float]]:
    for op in graph.ops:
        if (factor := scaling(op, parameters)) is not None:
            yield op.inputs[0], op.output, factor


def free_scalings(graph: Graph, parameters: Mapping[str, npt.NDArray[Any]]) -> frozenset[str]:
    """Names of the operators that only scale and whose result has the bytes of their operand."""
    tied = {(a, b) for a, b, _ in ties(graph, parameters)}
    return frozenset(
        op.name for op in graph.ops if scaling(op, parameters) is not None and (op.inputs[0], op.output) in tied
    )


def scaling(op: Op, parameters: Mapping[str, npt.NDArray[Any]]) -> float | None:
    """The constant an operator multiplies its first operand by, if it does nothing else and it is positive."""
    if op.kind not in ("mul", "div") or op.inputs[1] not in parameters or parameters[op.inputs[1]].size != 1:
        return None
    value = float(parameters[op.inputs[1]].reshape(()))
    if not (math.isfinite(value) and value > 0):
        return None
    return value if op.kind == "mul" else 1 / value


def deferred_softmax(graph: Graph) -> tuple[frozenset[str], frozenset[str]]:
    """Names of the softmax operators whose division is left to the products that alone read them, and of these
    products (as ITA does: Islamoglu et al., ISLPED 2023)."""
    readers, softmaxes, products = graph.consumers(), set(), set()
    for op in graph.ops:
        last = len(graph.shapes[op.output]) - 1
        if op.kind == "softmax" and op.attributes["axis"] in (-1, last):
            found = _products(graph, readers, op.output)
            if found:
                softmaxes.add(op.name)
                products |= set(found)
    return frozenset(softmaxes), frozenset(products)


def _products(graph: Graph, readers: Mapping[str, list[Op]], tensor: str) -> list[str]:
    """Products that read rows of ``tensor`` as their moving operand, if nothing else reads it; else none."""
    found: list[str] = []
    if tensor in graph.outputs or not readers[tensor]:
        return []
    for op in readers[tensor]:
        if op.kind == "matmul" and op.inputs[0] == tensor != op.inputs[1]:
            found.append(op.name)
        elif op.kind == "reshape" and graph.shapes[op.output][-1:] == graph.shapes[tensor][-1:]:
            behind = _products(graph, readers, op.output)
            if not behind:
                return []
            found += behind
        else:
            return []
    return found


def stored_tensors(graph: Graph) -> tuple[str, ...]:
    """Tensors that need a scale: inputs, constants and results, not weights, biases, norm parameters or indices."""
    ids = _indices(graph)
    weights = {weight_name(op) for op in graph.weight_ops()}
    plain = set()
    for op in graph.ops:
        hidden = 1 if op.kind in ("conv", "gemm", "layernorm") else len(op.inputs)
        plain |= set(op.inputs[:hidden])
    constants = [name for name in graph.parameters if name in plain and (name not in weights or name in plain)]
    return tuple(n for n in (*graph.inputs, *constants, *(op.output for op in graph.ops)) if n not in ids)


def _indices(graph: Graph) -> set[str]:
    """Tensors of row numbers: what embeddings read, and what those are views of."""
    found = {op.inputs[1] for op in graph.ops if op.kind == "embedding"}
    for op in reversed(graph.ops):
        if op.output in found and op.kind in _TIED:
            found.update(op.inputs)
    return found


def check_quantisation(graph: Graph, quantisation: Quantisation, parameters: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raise ``FormatError`` unless every stored tensor has a scale that fits its shape and tied ones agree."""
    expected = set(stored_tensors(graph))
    for name in quantisation.tensors.keys() ^ expected:
        raise FormatError(f"activation scale of '{name}' is {'missing' if name in expected else 'unexpected'}")
    for name, code in quantisation.tensors.items():
        shape = graph.shapes[name]
        if not code.fits(shape):
            raise FormatError(f"'{name}': {len(code.exponents)} channel exponents along axis {code.axis} of {shape}")
    for a, b, factor in ties(graph, parameters):
        one, other = quantisation.tensors[a], quantisation.tensors[b]
        same = (one.unsigned, one.zero_point) == (other.unsigned, other.zero_point)
        if not same or not math.isclose(one.scale * factor, other.scale, rel_tol=1e-9):
            raise FormatError(f"activation scales of '{a}' and '{b}' differ; they share their bytes")
