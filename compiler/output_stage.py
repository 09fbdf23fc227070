"""Numbers of the array's output stage: biases, multipliers and tables, from the codes of the tensors involved.

A sum is in units of ``scale(a) * scale(weight)``; times the stage's gains over the unit of the target it is a code.
Zero points fold into biases: ``-zero_point(a) * sum(weights)``, and the target's own. A function that saturation alone
does (relu, relu6) costs nothing; any other is a table from the code of ``before`` to that of ``result``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.arithmetic import LARGEST_FACTOR, LARGEST_SHIFT, MANTISSA_BITS, PROBABILITY_BITS, to_bytes
from accel.codecs.base import EncodedLayer
from accel.errors import CompileError
from accel.quantisation import TensorScale, dequantise, quantise
from compiler.functions import FUNCTIONS
from compiler.scaled import Reals, ScaledModel, channel_units
from compiler.steps import GemmStep, OutputStage, ProductStep, VectorStep

Bytes = npt.NDArray[np.uint8]
SUM_LIMIT = 2**31  # first magnitude an int32 sum may not reach
LEAST_BIAS_LIMIT = 2**24  # units a bias may always take


@dataclass(frozen=True, slots=True)
class WeightSums:
    """Of every output channel's decoded integers: their sum, and the sum of their magnitudes."""

    signed: npt.NDArray[np.int64]
    magnitude: npt.NDArray[np.int64]

    @staticmethod
    def of(layer: EncodedLayer) -> WeightSums:
        """Sums of one layer."""
        weights = layer.codec.decode(layer)
        return WeightSums(weights.sum(1, dtype=np.int64), np.abs(weights).sum(1, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class StageNumbers:
    """``biases`` int32 or none, ``words`` one or one a column, ``table`` 256 bytes or none. ``excess``: most steps of a
    result that weights count too much beside biases that leave them no room."""

    biases: npt.NDArray[np.int32] | None
    words: npt.NDArray[np.uint32]
    table: Bytes | None
    excess: float = 0.0


def uses_table(stage: OutputStage, model: ScaledModel) -> bool:
    """Whether the stage's function needs a table: it has one, and saturation does not do the same."""
    return bool(stage.function) and not _saturates(stage, model.code(stage.result))


def _saturates(stage: OutputStage, code: TensorScale) -> bool:
    ceiling = {"relu": np.inf, "relu6": 6.0, "clip": stage.bounds[1]}.get(stage.function)
    floor_is_zero = stage.function != "clip" or stage.bounds[0] == 0
    if ceiling is None or not floor_is_zero or not code.unsigned or code.zero_point or stage.gain_after <= 0:
        return False
    return bool(np.floor(ceiling * stage.gain_after / code.scale + 0.5) >= code.limits[1])


def target_code(stage: OutputStage, model: ScaledModel) -> TensorScale:
    """The code sums are brought to: the table's index, or the result."""
    return model.code(stage.before if uses_table(stage, model) else stage.result)


def has_bias(step: GemmStep, model: ScaledModel) -> bool:
    """Whether the output stage adds biases: the layer's own, or zero points."""
    points = model.code(step.stage.operands[0]).zero_point, target_code(step.stage, model).zero_point
    return bool(step.bias) or any(points)


def has_channel_words(step: GemmStep, model: ScaledModel) -> bool:
    """Whether every column has a multiplier of its own."""
    layer = model.packed.layers[step.weight]
    if layer.scale.size > 1 or step.stage.column_gains or target_code(step.stage, model).exponents:
        return True
    return bool(np.ptp(sum_units(step.stage, step.weight, step.bias, model)))  # large biases set units of their own


def gemm_numbers(step: GemmStep, model: ScaledModel, sums: WeightSums) -> StageNumbers:
    """Biases, words and table of all output channels of a weight.

    Raises ``CompileError`` if a sum could overflow int32.
    """
    code, target = model.code(step.stage.operands[0]), target_code(step.stage, model)
    if code.exponents and step.window.kernel != (1, 1):
        raise CompileError(f"weight '{step.weight}': reads channel exponents through a window; allowed: plain products")
    columns = model.packed.layers[step.weight].shape[0]
    units = sum_units(step.stage, step.weight, step.bias, model)
    factors = units * stage_gain(step.stage, model) / channel_units(target, columns)
    biases = _biases(step, model, sums, units, factors) if has_bias(step, model) else None
    _check_sums(step.weight, code, sums, biases)
    shared = factors if has_channel_words(step, model) else factors[:1]
    excess = _excess(step, model, sums, units, factors)
    return StageNumbers(biases, words(shared), _table(step.stage, model), excess)


def sum_units(stage: OutputStage, weight: str, bias: str, model: ScaledModel) -> Reals:
    """Real value of one unit of every column's sums, before gains: input scale times weight scale.

    Where weights are next to nothing beside the bias (dead channels of trained networks), the bias sets the unit, lest
    it leave int32; ``excess`` tells what the weights then add too much. Without weights and bias a unit is 0.
    """
    layer, target = model.packed.layers[weight], target_code(stage, model)
    columns, code = layer.shape[0], model.code(stage.operands[0])
    exact = _exact_units(stage, weight, model)
    step = channel_units(target, columns)
    gain = np.broadcast_to(stage_gain(stage, model), columns)
    offsets = np.abs(quotients(target.zero_point * step, gain))
    if bias:
        offsets = offsets + np.abs(model.reals(bias))
    reach = layer.shape[1] * 127 * max(map(abs, code.limits))  # of the weights, whatever they are; zero points as much
    least = offsets / max(SUM_LIMIT - 2 - 2 * reach, LEAST_BIAS_LIMIT)
    return np.copysign(np.maximum(np.abs(exact), least), exact)  # gains folded into weights can be negative


def _exact_units(stage: OutputStage, weight: str, model: ScaledModel) -> Reals:
    scale = model.packed.layers[weight].scale.astype(np.float64)
    return np.broadcast_to(scale, model.packed.layers[weight].shape[0]) * model.code(stage.operands[0]).scale


def _excess(step: GemmStep, model: ScaledModel, sums: WeightSums, units: Reals, factors: Reals) -> float:
    """Most steps of the result by which weights beside a bias that sets the unit can count too much."""
    reach = sums.magnitude * max(map(abs, model.code(step.stage.operands[0]).limits))
    added = 1 - quotients(_exact_units(step.stage, step.weight, model), units)
    return float(np.abs(reach * added * factors).max())


def quotients(values: Reals, divisors: Reals) -> Reals:
    """``values / divisors``, 0 where a divisor is."""
    return np.divide(values, divisors, out=np.zeros(len(divisors)), where=divisors != 0)


def stage_gain(stage: OutputStage, model: ScaledModel) -> Any:
    """What the stage multiplies sums by before they become the target's codes: one number, or one a column."""
    gain: Any = stage.gain if uses_table(stage, model) else stage.gain * stage.gain_after
    for name in stage.column_gains:
        gain = gain * model.reals(name)
    return gain


def _biases(
    step: GemmStep, model: ScaledModel, sums: WeightSums, units: Reals, factors: Reals
) -> npt.NDArray[np.int32]:
    """In units of the sums, both zero points included."""
    points = model.code(step.stage.operands[0]).zero_point, target_code(step.stage, model).zero_point
    exact = quotients(model.reals(step.bias), units) if step.bias else np.zeros(len(units))
    if points[1]:
        if not factors.all():
            raise CompileError(f"weight '{step.weight}': a gain of 0 before a zero point; allowed: one of the two")
        exact = exact + points[1] / factors
    biases: npt.NDArray[np.int32] = (np.floor(exact + 0.5).astype(np.int64) - points[0] * sums.signed).astype(np.int32)
    return biases


def _check_sums(weight: str, code: TensorScale, sums: WeightSums, biases: npt.NDArray[np.int32] | None) -> None:
    """No input can make a sum leave int32: the largest code times the magnitudes of a channel's weights."""
    reach = sums.magnitude * max(map(abs, code.limits)) + (0 if biases is None else np.abs(biases.astype(np.int64)))
    if reach.max() >= SUM_LIMIT:
        raise CompileError(
            f"weight '{weight}': a sum of channel {int(reach.argmax())} can reach {int(reach.max())}; allowed: below "
            f"2**31, the int32 accumulators (a reduction of at most {SUM_LIMIT // (255 * 127)} of the largest weights)"
        )


def product_numbers(step: ProductStep, model: ScaledModel, name: str) -> StageNumbers:
    """Word and table of a product of activations; raises ``CompileError`` as ``gemm_numbers`` does."""
    stage, (a, b) = step.stage, (model.code(tensor) for tensor in step.stage.operands)
    target, reduction = target_code(stage, model), step.a.shape[1]
    if b.unsigned or a.zero_point or b.zero_point or target.zero_point or a.exponents or b.exponents:
        raise CompileError(
            f"layer '{name}': its second operand must be int8, and codes without zero point or exponents"
        )
    if reduction * max(map(abs, a.limits)) * 128 >= SUM_LIMIT:
        raise CompileError(f"layer '{name}': a reduction of {reduction} may overflow the int32 accumulators")
    unit = b.scale * (2.0**-PROBABILITY_BITS if stage.normalised else a.scale)
    factor = unit * stage_gain(stage, model) / target.scale
    return StageNumbers(None, words(np.array([factor])), _table(stage, model))


def _table(stage: OutputStage, model: ScaledModel) -> Bytes | None:
    if not uses_table(stage, model):
        return None
    codes = model.code(stage.before), model.code(stage.result)
    return function_table(stage.function, stage.bounds, stage.gain_after, *codes)


def function_table(
    function: str, bounds: tuple[float, float], gain: float, source: TensorScale, target: TensorScale
) -> Bytes:
    """256 bytes: for every byte of code ``source`` that of ``gain * function`` in code ``target``."""
    low, _ = source.limits
    codes = np.arange(low, low + 256)
    reals = dequantise(codes, source).astype(np.float64)
    table = np.empty(256, np.uint8)
    table[to_bytes(codes)] = to_bytes(quantise(gain * FUNCTIONS[function](reals, *bounds), target))
    return table


def unary_table(step: VectorStep, model: ScaledModel) -> Bytes:
    """The table of an element-wise function the vector unit does."""
    op = model.producers[step.result]
    bounds = (op.attributes["low"], op.attributes["high"]) if op.kind == "clip" else (0.0, 0.0)
    return function_table(op.kind, bounds, 1.0, model.code(op.inputs[0]), model.code(op.output))


def words(factors: Reals) -> npt.NDArray[np.uint32]:
    """Multiplier words (``accel.arithmetic.multiplier``) nearest to real factors: 23 significant bits."""
    factors = np.clip(factors, -LARGEST_FACTOR, LARGEST_FACTOR)
    exponents = np.frexp(factors)[1]
    top = 1 << (MANTISSA_BITS - 1)
    shifts = np.minimum(MANTISSA_BITS - 1 - exponents.astype(np.int64), LARGEST_SHIFT)
    mantissas = np.rint(np.ldexp(factors, shifts)).astype(np.int64)
    full = np.abs(mantissas) >= top
    shifts, mantissas = (
        shifts - full,
        np.where(full, np.rint(np.ldexp(factors, shifts - 1)), mantissas).astype(np.int64),
    )
    return ((mantissas & (2 * top - 1)) | shifts << MANTISSA_BITS).astype(np.uint32)
