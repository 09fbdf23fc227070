"""The interpreter's codes against torch in double precision, operator by operator: each within the error its roundings
explain.

Every operator is evaluated on the real values of its operands' codes, together with what its output stage absorbs, so
that errors never add up over a network, and a wrong gain, sign or zero point anywhere shows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from differential import scales_of

from accel.graph import Op, weight_name
from accel.packed import Packed
from accel.quantisation import TensorScale, deferred_softmax, free_scalings, quantise
from compiler.interpreter import interpret
from compiler.lower import lower
from compiler.output_stage import uses_table
from compiler.quantise import packed_values
from compiler.scaled import ScaledModel, channel_units
from compiler.steps import OutputStage
from compiler.training.operators import TORCH

Reals = np.ndarray
STEEPEST = 1.6  # of the activation functions' slopes: hardswish has 1.5
LEAST_UNITS = 2**30  # a bias takes at most 2**31 units of its sum, half of them where reductions are long
FINE = 2.0**-20  # relative error of a multiplier, generously


@dataclass(frozen=True)
class _Model:
    packed: Packed
    scaled: ScaledModel
    stages: Mapping[str, OutputStage]
    codes: Mapping[str, np.ndarray]
    values: Mapping[str, np.ndarray]

    def code(self, tensor: str) -> TensorScale:
        return self.scaled.code(tensor)

    def step(self, tensor: str) -> Reals:
        """Size of one code step, to broadcast over the tensor."""
        return np.abs(self.code(tensor).units(len(self.packed.graph.shapes[tensor])))

    def real(self, tensor: str) -> Reals:
        """Real values of a tensor's codes; of parameters no code belongs to, as they are."""
        if tensor not in self.codes:
            return np.asarray(self.values[tensor], np.float64)
        code = self.scaled.quantisation.tensors.get(tensor)
        codes = self.codes[tensor]
        return codes if code is None else (codes - code.zero_point) * code.units(codes.ndim)


def check_close(packed: Packed, inputs: Mapping[str, np.ndarray]) -> int:
    """Raise ``AssertionError`` unless all tensors are close; returns how many have been compared."""
    model = _model(packed, inputs)
    count = 0
    for op, stage in _computed(model):
        with np.errstate(all="ignore"):
            wanted, error = _expected(model, op, stage)
            _compare(model, op, stage, wanted, error)
        count += 1
    return count


def _model(packed: Packed, inputs: Mapping[str, np.ndarray]) -> _Model:
    quantisation = scales_of(packed)
    codes: dict[str, np.ndarray] = {}
    interpret(packed, inputs, codes.__setitem__)
    for name, array in {**packed.parameters, **inputs}.items():
        if name in quantisation.tensors:
            codes[name] = quantise(array, quantisation.tensors[name])
        elif name in inputs:
            codes[name] = array
    stages = lower(packed.graph, packed.parameters, quantisation).stages
    return _Model(packed, ScaledModel.of(packed, quantisation), stages, codes, packed_values(packed))


def _computed(model: _Model) -> Iterator[tuple[Op, OutputStage | None]]:
    """Operators whose results are stored, themselves or at the end of their output stage."""
    absorbed = {each.output for stage in model.stages.values() for each in _behind(model, stage)}
    for op in model.packed.graph.ops:
        if op.output not in absorbed:
            yield op, model.stages.get(op.output)


def _behind(model: _Model, stage: OutputStage) -> list[Op]:
    """Operators a stage absorbs, first to last."""
    first = next(name for name, each in model.stages.items() if each is stage)
    found: list[Op] = []
    tensor = stage.result
    while tensor != first:
        found.insert(0, model.scaled.producers[tensor])
        tensor = found[0].inputs[0]
    return found


def _torch(op: Op, operands: list[Reals]) -> Reals:
    tensors = [torch.from_numpy(np.ascontiguousarray(each)) for each in operands]
    return TORCH[op.kind](op.attributes, *tensors).numpy()


def _expected(model: _Model, op: Op, stage: OutputStage | None) -> tuple[Reals, Reals]:
    """Real result and how far the rounded one may be off, result's rounding and saturation apart."""
    operands = [model.real(name) for name in op.inputs]
    if op.kind in ("gemm", "conv"):
        operands[1:] = [_weights(model, op), *(np.asarray(model.values[name], np.float64) for name in op.inputs[2:])]
    if op.name in free_scalings(model.packed.graph, model.packed.parameters):
        operands[1] = np.asarray(model.values[op.inputs[1]], np.float64)
    if op.name in deferred_softmax(model.packed.graph)[1]:
        operands[0] = operands[0] / operands[0].sum(-1, keepdims=True)
    if op.name in deferred_softmax(model.packed.graph)[0]:
        scores = operands[0]
        wanted = np.exp(scores - scores.max(-1, keepdims=True))
    else:
        wanted = _torch(op, operands)
    error = _own_error(model, op, operands, wanted)
    return (wanted, error) if stage is None else _staged(model, stage, wanted, error)


def _weights(model: _Model, op: Op) -> Reals:
    """Decoded and without the exponents folded into them."""
    layer = model.packed.layers[weight_name(op)]
    weights = layer.codec.decode(layer) * layer.scale.astype(np.float64)[:, None]
    weights = weights.reshape(model.packed.graph.parameters[weight_name(op)])
    exponents = model.code(op.inputs[0]).exponents
    return weights / 2.0 ** np.array(exponents) if exponents else weights


def _staged(model: _Model, stage: OutputStage, wanted: Reals, error: Reals) -> tuple[Reals, Reals]:
    """Through what the output stage absorbs."""
    for op in _behind(model, stage):
        if op.kind in ("mul", "div"):
            factor = np.asarray(model.values[op.inputs[1]], np.float64)
            factor = factor if op.kind == "mul" else 1 / factor
            wanted, error = wanted * factor, error * np.abs(factor)
            continue
        if uses_table(stage, model.scaled):
            wanted, error = _saturated(model, stage.before, wanted), error + 0.51 * model.step(stage.before)
        wanted, error = _torch(op, [wanted]), STEEPEST * error
    return wanted, error


def _saturated(model: _Model, tensor: str, values: Reals) -> Reals:
    code = model.code(tensor)
    ends = [(end - code.zero_point) * code.units(values.ndim) for end in code.limits]
    return np.clip(values, np.minimum(*ends), np.maximum(*ends))


def _compare(model: _Model, op: Op, stage: OutputStage | None, wanted: Reals, error: Reals) -> None:
    tensor = op.output if stage is None else stage.result
    found = model.real(tensor)
    bound = 0.502 * model.step(tensor) + error + FINE * np.abs(wanted)
    wanted = _saturated(model, tensor, wanted)
    wrong = (np.abs(found - wanted) > bound) & np.isfinite(wanted)
    if wrong.any():
        at = tuple(np.argwhere(wrong)[0].tolist())
        limit = np.broadcast_to(bound, wanted.shape)[at]
        code = model.code(tensor)
        raise AssertionError(
            f"{op.kind} '{op.name}' -> '{tensor}' {at}: {found[at]}, expected {wanted[at]} within {limit}\n"
            f"  {code}\n  {stage}\n  {[(name, model.scaled.quantisation.tensors.get(name)) for name in op.inputs]}"
        )


def _own_error(model: _Model, op: Op, operands: list[Reals], wanted: Reals) -> Reals:
    """Error of the operator's own arithmetic before the result is rounded to a code."""
    rule = {
        "gemm": _weighted_error, "conv": _weighted_error, "add": _sum_error, "sub": _sum_error, "div": _div_error,
        "softmax": _softmax_error, "layernorm": _norm_error, "resize": _resize_error,
    }.get(op.kind)  # fmt: skip
    return FINE * np.abs(wanted) if rule is None else FINE * np.abs(wanted) + rule(model, op, operands, wanted)


def _weighted_error(model: _Model, op: Op, operands: list[Reals], wanted: Reals) -> Reals:
    """A bias is rounded to the unit of the sums; where it sets that unit itself, weights count as too large."""
    code, layer = model.code(op.inputs[0]), model.packed.layers[weight_name(op)]
    stage = model.stages[op.output]
    target = stage.before if uses_table(stage, model.scaled) else stage.result
    channels = layer.shape[0]
    unit = np.broadcast_to(np.abs(code.scale * layer.scale.astype(np.float64)), channels)
    bias = np.abs(operands[2]) if len(operands) > 2 else np.zeros(channels)
    gains = np.ones(channels)
    for each in _behind(model, stage):
        if each.kind in ("mul", "div"):
            factor = np.abs(np.asarray(model.values[each.inputs[1]], np.float64)).reshape(-1)
            gains = gains * (factor if each.kind == "mul" else 1 / factor)
    gains = np.where(gains > 0, gains, np.inf)
    offset = model.code(target).zero_point * abs(model.code(target).scale) / gains
    reach = np.abs(layer.codec.decode(layer)).sum(1) * float(max(map(abs, code.limits)))
    slack = (bias + offset) / LEAST_UNITS
    error = unit + slack * (1 + reach)
    return error.reshape((-1, 1, 1)) if op.kind == "conv" else error


def _sum_error(model: _Model, op: Op, operands: list[Reals], wanted: Reals) -> Reals:
    """Both multipliers share a shift, set by the larger."""
    return np.asarray(255 * 2.0**-22 * max(float(model.step(name).max()) for name in op.inputs))


def _div_error(model: _Model, op: Op, operands: list[Reals], wanted: Reals) -> Reals:
    """Rounded twice; a divisor of 0 has no result."""
    return np.where(operands[1] == 0, np.inf, 0.5 * model.step(op.output))


def _softmax_error(model: _Model, op: Op, operands: list[Reals], wanted: Reals) -> Reals:
    """Exponents have eight fraction bits, powers fifteen."""
    return 8e-3 * np.abs(wanted) + 2.0**-15 * (1 + wanted.shape[op.attributes["axis"]])


def _norm_error(model: _Model, op: Op, operands: list[Reals], wanted: Reals) -> Reals:
    """Deviations have eight fraction bits of a code, normalised elements twelve, gains and offsets fifteen in all."""
    x, gamma, beta = operands
    centred, variance = x - x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    deviation = np.sqrt(variance + op.attributes["epsilon"])
    normal = np.abs(centred / deviation)
    units = np.abs(channel_units(model.code(op.output), gamma.size))
    grain = np.where(variance > 0, abs(model.code(op.inputs[0]).scale) / (256 * deviation), 0.0)
    coarse = 2.0**-13 * (np.abs(gamma / units).max() * normal + np.abs(beta / units).max()) * units
    return np.abs(gamma) * (normal * (4 * grain + 2.0**-10) + grain + 2.0**-11) + coarse


def _resize_error(model: _Model, op: Op, operands: list[Reals], wanted: Reals) -> Reals:
    """Weights of neighbours have eleven bits."""
    return 0.3 * model.step(op.output)
