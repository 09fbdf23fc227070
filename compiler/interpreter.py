"""The quantised graph, operator by operator, on whole tensors of codes: the obvious twin of compiled programs.

It knows no machine, tiles or addresses. What an output stage absorbs (``compiler.steps.OutputStage``) is rounded once,
as on the machine; every rounding is ``accel.arithmetic``'s.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from accel import arithmetic
from accel.arithmetic import EXPONENT_BIAS, Integers, from_bytes, multiplier, saturate, shared_multipliers
from accel.graph import ACTIVATION_FUNCTIONS, Op, weight_name
from accel.packed import Packed
from accel.quantisation import Quantisation, TensorScale, deferred_softmax, free_scalings, quantise
from compiler.lower import lower
from compiler.output_stage import function_table, quotients, stage_gain, sum_units, target_code, uses_table
from compiler.quantise import nominal
from compiler.scaled import ScaledModel, channel_units
from compiler.steps import OutputStage
from compiler.vector_numbers import norm_constants, softmax_factor

Observe = Callable[[str, Integers], None]


@dataclass(frozen=True, slots=True)
class _State:
    """Codes of tensors so far."""

    model: ScaledModel
    stages: Mapping[str, OutputStage]
    deferred: frozenset[str]
    free: frozenset[str]
    codes: dict[str, Integers] = field(default_factory=dict)

    def code(self, tensor: str) -> TensorScale:
        return self.model.code(tensor)


def interpret(packed: Packed, inputs: Mapping[str, npt.NDArray[Any]], observe: Observe | None = None) -> dict[str, Any]:
    """Codes of the outputs for real ``inputs`` (or int32 indices), all of the graph's shapes.

    ``observe`` is told every tensor a program stores, with its codes.
    """
    quantisation = packed.quantisation or nominal(packed.graph, packed.parameters)
    state = _start(packed, quantisation, inputs)
    stored = {stage.result for stage in state.stages.values()}
    absorbed = _absorbed(packed, state.stages)
    for op in packed.graph.ops:
        if op.output in absorbed:
            continue
        result = state.stages[op.output].result if op.output in state.stages else op.output
        state.codes[result] = _RULES[op.kind](state, op)
        assert state.codes[result].shape == packed.graph.shapes[result], op
        if observe is not None:
            observe(result, state.codes[result])
    assert stored <= set(state.codes)
    return {name: state.codes[name] for name in packed.graph.outputs}


def _start(packed: Packed, quantisation: Quantisation, inputs: Mapping[str, npt.NDArray[Any]]) -> _State:
    lowered = lower(packed.graph, packed.parameters, quantisation)
    deferred, free = deferred_softmax(packed.graph)[0], free_scalings(packed.graph, packed.parameters)
    state = _State(ScaledModel.of(packed, quantisation), lowered.stages, deferred, free)
    known = {**inputs, **packed.parameters}
    for name in known.keys() & set(packed.graph.shapes):
        code = quantisation.tensors.get(name)
        state.codes[name] = quantise(known[name], code) if code else np.asarray(known[name]).astype(np.int64)
    return state


def _absorbed(packed: Packed, stages: Mapping[str, OutputStage]) -> set[str]:
    """Tensors that operators behind a product make, which its output stage makes instead."""
    producers, found = {op.output: op for op in packed.graph.ops}, set()
    for first, stage in stages.items():
        tensor = stage.result
        while tensor != first:
            found.add(tensor)
            tensor = producers[tensor].inputs[0]
    return found


# --- the array ---


def _gemm(state: _State, op: Op) -> Integers:
    weights = _weights(state, op)
    return _weighted(state, op, _exact(_centred(state, op.inputs[0]), weights.T))


def _conv(state: _State, op: Op) -> Integers:
    """One tap after the other."""
    x, a = _padded(_centred(state, op.inputs[0]), op.attributes["padding"], 0), op.attributes
    groups, weights = a["groups"], _weights(state, op).reshape(state.model.packed.graph.shapes[weight_name(op)])
    out_channels, per_group = weights.shape[:2]
    split = weights.reshape(groups, out_channels // groups, per_group, *a["kernel"])
    sums: Any = 0
    for (i, j), tap in _taps(x, a["kernel"], a["stride"], a["dilation"]):
        n, _, height, width = tap.shape
        columns = tap.reshape(n, groups, per_group, height * width)
        sums = sums + _exact(split[..., i, j], columns).reshape(n, out_channels, height, width)
    return np.moveaxis(_weighted(state, op, np.moveaxis(sums, 1, -1)), -1, 1)


def _exact(a: Integers, b: Integers) -> Integers:
    """A product of small integers: sums stay far below 2**53."""
    return np.rint(a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64)


def _weights(state: _State, op: Op) -> Integers:
    layer = state.model.packed.layers[weight_name(op)]
    return layer.codec.decode(layer).astype(np.int64)


def _centred(state: _State, tensor: str) -> Integers:
    return state.codes[tensor] - state.code(tensor).zero_point


def _weighted(state: _State, op: Op, sums: Integers) -> Integers:
    """Output stage of ``sums[..., columns]``."""
    layer, stage = state.model.packed.layers[weight_name(op)], state.stages[op.output]
    target, channels = target_code(stage, state.model), layer.shape[0]
    bias_name = op.inputs[2] if len(op.inputs) > 2 else ""
    units = sum_units(stage, weight_name(op), bias_name, state.model)
    factors = units * stage_gain(stage, state.model) / channel_units(target, channels)
    biases = quotients(state.model.reals(bias_name) if bias_name else np.zeros(channels), units)
    out = np.empty(sums.shape, np.int64)
    for column, factor in enumerate(factors.tolist()):
        bias = math.floor(biases[column] + (target.zero_point / factor if target.zero_point else 0) + 0.5)
        one = multiplier(factor)
        out[..., column] = arithmetic.requantise(sums[..., column] + bias, one.mantissa, one.shift)
    return _finished(state, stage, out)


def _finished(state: _State, stage: OutputStage, values: Integers) -> Integers:
    """Saturated and, if the stage's function needs it, through its table."""
    codes = saturate(values, target_code(stage, state.model).unsigned)
    if not uses_table(stage, state.model):
        return codes
    source, target = state.code(stage.before), state.code(stage.result)
    table = function_table(stage.function, stage.bounds, stage.gain_after, source, target)
    return from_bytes(table[codes & 255], target.unsigned)


def _matmul(state: _State, op: Op) -> Integers:
    a, b = (state.codes[tensor] for tensor in op.inputs)
    sums, stage = _exact(a, b.swapaxes(-1, -2) if op.attributes["transpose_b"] else b), state.stages[op.output]
    first, second = (state.code(tensor) for tensor in op.inputs)
    unit = first.scale * second.scale
    if stage.normalised:
        sums, unit = arithmetic.normalise_rows(sums, a.sum(-1)), second.scale * 2.0**-arithmetic.PROBABILITY_BITS
    one = multiplier(unit * stage_gain(stage, state.model) / target_code(stage, state.model).scale)
    return _finished(state, stage, arithmetic.requantise(sums, one.mantissa, one.shift))


# --- the vector unit ---


def _sum(state: _State, op: Op) -> Integers:
    a, b, out = (state.code(tensor) for tensor in (*op.inputs, op.output))
    sign = -1 if op.kind == "sub" else 1
    shift, (one, other) = shared_multipliers(a.scale / out.scale, sign * b.scale / out.scale)
    x, y = (state.codes[tensor] for tensor in op.inputs)
    if not any(code.exponents for code in (a, b, out)):
        return saturate(arithmetic.rounding_shift(x * one.mantissa + y * other.mantissa, shift), out.unsigned)
    channels = state.model.packed.graph.shapes[op.output][-1]
    bias = EXPONENT_BIAS - _exponents(out, channels)
    total = (x * one.mantissa << _exponents(a, channels) + bias) + (
        y * other.mantissa << _exponents(b, channels) + bias
    )
    return saturate(arithmetic.rounding_shift(total, shift + EXPONENT_BIAS), out.unsigned)


def _exponents(code: TensorScale, channels: int) -> Integers:
    return np.array(code.exponents or (0,) * channels, np.int64)


def _product(state: _State, op: Op) -> Integers:
    if op.name in state.free:
        return state.codes[op.inputs[0]].reshape(state.model.packed.graph.shapes[op.output])
    a, b, out = (state.code(tensor) for tensor in (*op.inputs, op.output))
    x, y = np.broadcast_arrays(*(state.codes[tensor] for tensor in op.inputs))
    if op.kind == "mul":
        one = multiplier(a.scale * b.scale / out.scale)
        return saturate(arithmetic.requantise(x * y, one.mantissa, one.shift), out.unsigned)
    one = multiplier(a.scale / b.scale / out.scale)
    return saturate(arithmetic.rounding_shift(arithmetic.divide(x * one.mantissa, y), one.shift), out.unsigned)


def _unary(state: _State, op: Op) -> Integers:
    source, target = state.code(op.inputs[0]), state.code(op.output)
    bounds = (op.attributes["low"], op.attributes["high"]) if op.kind == "clip" else (0.0, 0.0)
    table = function_table(op.kind, bounds, 1.0, source, target)
    return from_bytes(table[state.codes[op.inputs[0]] & 255], target.unsigned)


def _softmax(state: _State, op: Op) -> Integers:
    axis, code, out = op.attributes["axis"], state.code(op.inputs[0]), state.code(op.output)
    codes = np.moveaxis(state.codes[op.inputs[0]], axis, -1)
    if op.name in state.deferred:
        return np.moveaxis(arithmetic.row_exponentials(codes, softmax_factor(code)), -1, axis)
    one = multiplier(2.0**-arithmetic.SHARE_BITS / out.scale)
    shares = arithmetic.softmax(codes, softmax_factor(code), one.mantissa, one.shift)
    return np.moveaxis(saturate(shares, out.unsigned), -1, axis)


def _layernorm(state: _State, op: Op) -> Integers:
    code, norm = state.code(op.inputs[0]), norm_constants(op, state.model)
    values = state.codes[op.inputs[0]] << _exponents(code, norm.gains.size)
    return saturate(arithmetic.layernorm(values, norm), state.code(op.output).unsigned)


def _mean(state: _State, op: Op) -> Integers:
    axes, code, out = tuple(op.attributes["axes"]), state.code(op.inputs[0]), state.code(op.output)
    shape = state.model.packed.graph.shapes[op.inputs[0]]
    one = multiplier(code.scale / out.scale / math.prod(shape[axis] for axis in axes))
    sums = state.codes[op.inputs[0]].sum(axes, keepdims=op.attributes["keepdims"]) * one.mantissa
    if not (code.exponents or out.exponents):
        return saturate(arithmetic.rounding_shift(sums, one.shift), out.unsigned)
    moved = _exponents(code, shape[-1]) - _exponents(out, shape[-1]) + EXPONENT_BIAS
    return saturate(arithmetic.rounding_shift(sums << moved, one.shift + EXPONENT_BIAS), out.unsigned)


def _pool(state: _State, op: Op) -> Integers:
    """Taps outside the image are 0 for a mean, and do not count for a maximum (none inside: 0)."""
    a, code, out = op.attributes, state.code(op.inputs[0]), state.code(op.output)
    lowest = -1000  # below any code
    x = _padded(state.codes[op.inputs[0]], a["padding"], 0 if op.kind == "avgpool" else lowest)
    taps = np.stack([tap for _, tap in _taps(x, a["kernel"], a["stride"], (1, 1))])
    if op.kind == "maxpool":
        largest = taps.max(0)
        return np.where(largest == lowest, 0, largest)
    one = multiplier(code.scale / out.scale / len(taps))
    return saturate(arithmetic.requantise(taps.sum(0), one.mantissa, one.shift), out.unsigned)


def _padded(x: Integers, padding: tuple[int, ...], value: int) -> Integers:
    top, left, bottom, right = padding
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def _taps(x: Integers, kernel: Any, stride: Any, dilation: Any) -> Iterator[tuple[tuple[int, int], Integers]]:
    """``(row, column)`` of every tap and what it sees, ``[N, C, out_height, out_width]``."""
    height, width = (
        (size - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1 for axis, size in enumerate(x.shape[2:])
    )
    for i, j in np.ndindex(*kernel):
        rows, columns = i * dilation[0], j * dilation[1]
        seen = x[:, :, rows : rows + stride[0] * height : stride[0], columns : columns + stride[1] * width : stride[1]]
        yield (i, j), seen[:, :, :height, :width]


def _resize(state: _State, op: Op) -> Integers:
    x, size = state.codes[op.inputs[0]], op.attributes["size"]
    if op.attributes["mode"] == "nearest":
        rows, columns = (arithmetic.nearest_source(np.arange(n), x.shape[2 + i], n) for i, n in enumerate(size))
        return x[:, :, rows][:, :, :, columns]
    (up, down, below), (left, right, beside) = (
        arithmetic.linear_source(np.arange(n), x.shape[2 + i], n) for i, n in enumerate(size)
    )
    upper, lower = x[:, :, up], x[:, :, down]
    taps = upper[..., left], upper[..., right], lower[..., left], lower[..., right]
    return arithmetic.blend(taps, below[:, None], beside)


# --- moves ---


def _first(state: _State, op: Op) -> Integers:
    return state.codes[op.inputs[0]]


def _slice(state: _State, op: Op) -> Integers:
    a = op.attributes
    return _first(state, op).take(np.arange(a["start"], a["stop"]), a["axis"])


def _pad(state: _State, op: Op) -> Integers:
    return np.pad(_first(state, op), list(zip(op.attributes["before"], op.attributes["after"], strict=True)))


_RULES: Mapping[str, Callable[[_State, Op], Integers]] = {
    "conv": _conv,
    "gemm": _gemm,
    "matmul": _matmul,
    "add": _sum,
    "sub": _sum,
    "mul": _product,
    "div": _product,
    **dict.fromkeys(ACTIVATION_FUNCTIONS, _unary),
    "softmax": _softmax,
    "layernorm": _layernorm,
    "mean": _mean,
    "maxpool": _pool,
    "avgpool": _pool,
    "resize": _resize,
    "embedding": lambda state, op: _first(state, op)[state.codes[op.inputs[1]]],
    "reshape": lambda state, op: _first(state, op).reshape(op.attributes["shape"]),
    "transpose": lambda state, op: _first(state, op).transpose(op.attributes["perm"]),
    "slice": _slice,
    "concat": lambda state, op: np.concatenate([state.codes[name] for name in op.inputs], op.attributes["axis"]),
    "roll": lambda state, op: np.roll(_first(state, op), op.attributes["shift"], op.attributes["axis"]),
    "pad": _pad,
    "expand": lambda state, op: np.broadcast_to(_first(state, op), op.attributes["shape"]),
}
