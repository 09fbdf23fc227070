"""Numbers of the vector unit's work: the fields of VRQ, and the bytes (norms, tables, exponents) a VEC reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt

from accel.arithmetic import (
    LARGEST_FACTOR,
    MANTISSA_BITS,
    NORM_FRACTION_BITS,
    SHARE_BITS,
    Norm,
    multiplier,
    shared_multipliers,
)
from accel.errors import CompileError
from accel.graph import ACTIVATION_FUNCTIONS, Op
from accel.legality import LARGEST_OFFSET_SHIFT
from accel.quantisation import TensorScale
from compiler.output_stage import unary_table
from compiler.scaled import Reals, ScaledModel, channel_units
from compiler.steps import VectorStep

Bytes = npt.NDArray[np.uint8]
Fields = dict[str, int]
_MASK = (1 << MANTISSA_BITS) - 1
_NORM_LIMIT = (1 << 15) - 1  # gains and offsets are int16
_VARIANCE_FRACTION_BITS = 16


def vector_fields(step: VectorStep, model: ScaledModel) -> Fields:
    """Fields of VRQ but ``parameters``; none for moves of bytes."""
    rule = _FIELDS.get(step.function)
    if rule is None or not step.result:
        return {}
    op = model.producers[step.result]
    code, target = model.code(op.inputs[0]), model.code(op.output)
    _check_plain(step, op, model)
    signs = {"a_unsigned": int(code.unsigned), "unsigned": int(target.unsigned), "exponents": int(step.exponents)}
    return signs | rule(step, op, model)


def _check_plain(step: VectorStep, op: Op, model: ScaledModel) -> None:
    """The vector unit knows neither zero points nor, but where asked, exponents."""
    activations = op.inputs[:1] if op.kind == "layernorm" else op.inputs
    for tensor in (*activations, op.output):
        code = model.code(tensor)
        if code.zero_point or (code.exponents and not step.exponents and step.function != "layernorm"):
            raise CompileError(
                f"node '{op.name}' ({op.kind}): '{tensor}' has a zero point or exponents; allowed: neither"
            )


def _sum_fields(step: VectorStep, op: Op, model: ScaledModel) -> Fields:
    """a + b or a - b."""
    a, b, out = (model.code(tensor) for tensor in (*op.inputs, op.output))
    sign = -1.0 if op.kind == "sub" else 1.0
    shift, (first, second) = shared_multipliers(a.scale / out.scale, sign * b.scale / out.scale)
    multipliers = {"a_multiplier": first.mantissa & _MASK, "b_multiplier": second.mantissa & _MASK}
    return multipliers | {"shift": shift, "b_unsigned": int(b.unsigned)}


def _scaled_fields(factor: float) -> Fields:
    one = multiplier(factor)
    return {"a_multiplier": one.mantissa & _MASK, "shift": one.shift}


def _product_fields(step: VectorStep, op: Op, model: ScaledModel) -> Fields:
    a, b, out = (model.code(tensor) for tensor in (*op.inputs, op.output))
    factor = a.scale * b.scale / out.scale if op.kind == "mul" else a.scale / b.scale / out.scale
    return {**_scaled_fields(factor), "b_unsigned": int(b.unsigned)}


def _mean_fields(step: VectorStep, op: Op, model: ScaledModel) -> Fields:
    """Mean of rows, or of the taps of a window (padding counts)."""
    code, out = model.code(op.inputs[0]), model.code(op.output)
    count = math.prod(op.attributes["kernel"]) if op.kind == "avgpool" else step.a.shape[0]
    return _scaled_fields(code.scale / out.scale / count)


def _softmax_fields(step: VectorStep, op: Op, model: ScaledModel) -> Fields:
    code, out = model.code(op.inputs[0]), model.code(op.output)
    factor = softmax_factor(code)
    if step.function == "exponentials":
        return {"a_multiplier": factor}
    shares = multiplier(2.0**-SHARE_BITS / out.scale)
    return {"a_multiplier": factor, "b_multiplier": shares.mantissa & _MASK, "shift": shares.shift}


def softmax_factor(code: TensorScale) -> int:
    """scale * log2(e) with 16 fraction bits; the largest there is where one code already divides by 2**128."""
    return min(round(code.scale * math.log2(math.e) * 2**16), LARGEST_FACTOR)


def _norm_fields(step: VectorStep, op: Op, model: ScaledModel) -> Fields:
    code = model.code(op.inputs[0])
    mantissa, epsilon_shift = _epsilon(op.attributes["epsilon"], code)
    norm = norm_constants(op, model)
    epsilon = {"b_multiplier": mantissa, "epsilon_shift": epsilon_shift}
    return epsilon | {"offset_shift": norm.offset_shift, "shift": norm.shift}


def _epsilon(epsilon: float, code: TensorScale) -> tuple[int, int]:
    """``(mantissa, shift)`` of epsilon in squared units of the input, 16 fraction bits; below 2**62."""
    exact = min(epsilon / code.scale**2 * 2.0**_VARIANCE_FRACTION_BITS, 2.0**61)
    shift = max(0, math.frexp(exact)[1] - MANTISSA_BITS + 1)
    return round(math.ldexp(exact, -shift)), shift


def norm_constants(op: Op, model: ScaledModel) -> Norm:
    """Gains and offsets of a layer normalisation with as many fraction bits as int16 leaves them.

    Raises ``CompileError`` if they exceed the range of the result by orders of magnitude.
    """
    gamma, beta = (model.reals(name) for name in op.inputs[1:])
    units = channel_units(model.code(op.output), gamma.size)
    gain_bits = _fraction_bits(gamma / units, LARGEST_OFFSET_SHIFT - NORM_FRACTION_BITS)
    shift = gain_bits + NORM_FRACTION_BITS
    offset_bits = _fraction_bits(beta / units, shift)
    if shift < 0 or shift - offset_bits > LARGEST_OFFSET_SHIFT:
        raise CompileError(f"node '{op.name}' (layernorm): gamma or beta far exceed the range of its result")
    gains, offsets = (np.rint(np.ldexp(v / units, n)) for v, n in ((gamma, gain_bits), (beta, offset_bits)))
    mantissa, left = _epsilon(op.attributes["epsilon"], model.code(op.inputs[0]))
    return Norm(mantissa << left, gains.astype(np.int64), offsets.astype(np.int64), shift, shift - offset_bits)


def _fraction_bits(values: Reals, most: int) -> int:
    """Fraction bits that bring the largest of ``values`` close to the limit of int16, at most ``most``."""
    largest = float(np.abs(values).max(initial=0.0))
    if not largest:
        return most
    bits = 15 - math.frexp(largest)[1]
    return min(most, bits - (round(math.ldexp(largest, bits)) > _NORM_LIMIT))


def _signs_only(step: VectorStep, op: Op, model: ScaledModel) -> Fields:
    return {}


def vector_block(step: VectorStep, model: ScaledModel) -> Bytes:
    """Bytes the step's VECs read beside their operands: gains, offsets and exponents of a norm, a table, exponents."""
    op = model.producers.get(step.result)
    if op is None:
        return np.zeros(0, np.uint8)
    if step.function == "layernorm":
        norm = norm_constants(op, model)
        exponents = np.array(model.code(op.inputs[0]).exponents, np.uint8)
        return np.concatenate([*(v.astype("<i2").view(np.uint8) for v in (norm.gains, norm.offsets)), exponents])
    if step.function in ACTIVATION_FUNCTIONS:
        return unary_table(step, model)
    return _exponent_bytes(op, model) if step.exponents else np.zeros(0, np.uint8)


def _exponent_bytes(op: Op, model: ScaledModel) -> Bytes:
    """A byte a channel: exponents of a (low four bits) and b over those of the result."""
    channels = model.packed.graph.shapes[op.output][-1]
    out = _exponents(model.code(op.output), channels)
    first, second = (_exponents(model.code(tensor), channels) - out for tensor in (op.inputs[0], op.inputs[-1]))
    return ((first & 15) | (second & 15) << 4).astype(np.uint8)


def _exponents(code: TensorScale, channels: int) -> npt.NDArray[np.int64]:
    return np.array(code.exponents or (0,) * channels, np.int64)


_FIELDS: Mapping[str, Callable[[VectorStep, Op, ScaledModel], Fields]] = {
    "add": _sum_fields,
    "sub": _sum_fields,
    "mul": _product_fields,
    "div": _product_fields,
    "softmax": _softmax_fields,
    "exponentials": _softmax_fields,
    "layernorm": _norm_fields,
    "mean": _mean_fields,
    "avgpool": _mean_fields,
    "maxpool": _signs_only,
    "resize_bilinear": _signs_only,
}
