"""Inputs into DRAM and outputs out of it: names, shapes, types and codes of what the host writes and reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.arithmetic import from_bytes, to_bytes
from accel.errors import SimError, listed, nearest
from accel.program import INDEX_BYTES, Port, Program
from accel.quantisation import TensorScale, dequantise, quantise
from sim.functional.memory import Box, Bytes

Array = npt.NDArray[Any]


def port_box(port: Port, batch: int) -> Box:
    """First bytes of all elements of all items, ``[batch, *shape]``."""
    return Box(port.address, (batch, *port.shape), (port.item_bytes, *port.strides))


def check_names(inputs: Mapping[str, Array], program: Program) -> None:
    """Raise ``SimError`` unless there is one array for each input of the program."""
    if not isinstance(inputs, Mapping):
        raise SimError(f"inputs: a {type(inputs).__name__}; allowed: a dict from input name to array")
    known = [port.name for port in program.inputs]
    for name in inputs:
        if name not in known:
            raise SimError(f"input '{name}'; allowed: {listed(known)}{nearest(name, known)}")
    for name in known:
        if name not in inputs:
            raise SimError(f"input '{name}' is missing; the program reads {listed(known)}")


def input_codes(port: Port, values: Array, batch: int) -> Array:
    """Codes (or indices) ``[batch, *shape]`` of an input; raises ``SimError`` for another shape or type."""
    values = np.asarray(values)
    wanted = (batch, *port.shape)
    in_place = (batch, *port.shape[1:]) if port.shape[:1] == (1,) else wanted  # items for a leading size of 1
    allowed = (wanted, port.shape) if batch == 1 else tuple(dict.fromkeys((wanted, in_place)))
    if values.shape not in allowed:
        shapes = " or ".join(map(str, allowed))
        raise SimError(f"input '{port.name}' has shape {values.shape}; allowed: {shapes}")
    values = values.reshape(wanted)
    return _indices(port, values) if port.code is None else _codes(port, port.code, values)


def _indices(port: Port, values: Array) -> Array:
    if values.dtype.kind not in "iu":
        raise SimError(f"input '{port.name}' has type {values.dtype}; allowed: integers (indices)")
    if values.size and not 0 <= values.min() <= values.max() < 1 << 31:
        raise SimError(f"input '{port.name}' holds {values.min()} to {values.max()}; allowed: 0 to {(1 << 31) - 1}")
    return values.astype("<i4")


def _codes(port: Port, code: TensorScale, values: Array) -> Array:
    raw = np.dtype(np.uint8 if code.unsigned else np.int8)
    if values.dtype == raw:
        return values
    if values.dtype.kind != "f":
        allowed = f"float16, float32, float64, or {raw} (codes)"
        raise SimError(f"input '{port.name}' has type {values.dtype}; allowed: {allowed}")
    wrong = int(values.size - np.isfinite(values).sum())
    if wrong:
        raise SimError(f"input '{port.name}' holds {wrong} NaN or infinite values; allowed: finite ones")
    return np.stack([quantise(item, code) for item in values])


def write_input(port: Port, codes: Array, dram: Bytes) -> None:
    """Put ``input_codes`` where the program reads them."""
    box = port_box(port, len(codes))
    if port.code is not None:
        box.view(dram)[...] = to_bytes(codes)
        return
    data = np.ascontiguousarray(codes).view(np.uint8).reshape(*codes.shape, INDEX_BYTES)
    for at in range(INDEX_BYTES):
        Box(box.start + at, box.shape, box.strides).view(dram)[...] = data[..., at]


def code_array(data: Bytes, unsigned: bool) -> Array:
    """Bytes as uint8 or int8 codes; a copy."""
    return from_bytes(data, unsigned).astype(np.uint8 if unsigned else np.int8)


def real_values(codes: Array, code: TensorScale) -> npt.NDArray[np.float32]:
    """``dequantise`` of every item of ``codes[batch, *shape]``."""
    return np.stack([dequantise(item, code) for item in codes])


def saturated_share(codes: Array, unsigned: bool, zero_point: int = 0) -> float:
    """Share of codes at an end of their range, where values may have been cut off; 0 counts only if it is no zero."""
    if not codes.size:
        return 0.0
    if unsigned:
        ends = int(np.count_nonzero(codes == 255)) + (int(np.count_nonzero(codes == 0)) if zero_point else 0)
    else:
        ends = int(np.count_nonzero(codes == 127) + np.count_nonzero(codes == -128))
    return ends / codes.size


def random_inputs(program: Program, seed: int, rows: Mapping[str, int] | None = None) -> dict[str, Array]:
    """Standard normal values for every input, and indices below ``rows[name]``, by default 0 and 1: a program does not
    say how many rows its tables have."""
    rng = np.random.default_rng(seed)
    found: dict[str, Array] = {}
    for port in program.inputs:
        shape: Sequence[int] = (program.batch, *port.shape)
        if port.code is None:
            found[port.name] = rng.integers(0, (rows or {}).get(port.name, 2), shape).astype(np.int32)
        else:
            found[port.name] = rng.standard_normal(shape).astype(np.float32)
    return found
