"""A multiplexer of four as two LUTs of four inputs a bit, where logic synthesis makes three of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product, zip_longest

from amaranth.hdl import Cat, Const, Instance, Module, Mux, Signal, Value

_PINS = "ABCD"


def one_of_four(m: Module, platform: object, which: Value, values: Sequence[Value]) -> Value:
    """``values[which]``, zero where it is shorter than others.

    ``platform`` (None: plain Verilog) says whether there are LUTs to be named. It takes two for each bit: of the upper
    two values, the first LUT passes on which one it is.
    """
    first, second, third, fourth = values
    assert len(which) == 2 and not any(value.shape().signed for value in values)
    if getattr(platform, "lut", None) != "LUT4":
        return Mux(which[1], Mux(which[0], fourth, third), Mux(which[0], second, first))
    return Cat(_one_bit(m, which, *bits) for bits in zip_longest(*values, fillvalue=Const(0, 1)))


def _one_bit(m: Module, which: Value, first: Value, second: Value, third: Value, fourth: Value) -> Value:
    low, high = which[0], which[1]
    passed = _lut(m, lambda a, b, low, high: low if high else (b if low else a), first, second, low, high)
    return _lut(m, lambda a, b, passed, high: (b if passed else a) if high else passed, third, fourth, passed, high)


def _lut(m: Module, function: Callable[[int, int, int, int], int], *inputs: Value) -> Value:
    """A cell of ``function`` (ECP5; Lattice FPGA-TN-02206): bit DCBA of INIT is its value of the bits at A, B, C, D."""
    out = Signal()
    ones = sum(function(*bits[::-1]) << row for row, bits in enumerate(product((0, 1), repeat=len(_PINS))))
    pins = {f"i_{pin}": value for pin, value in zip(_PINS, inputs, strict=True)}
    m.submodules += Instance("LUT4", p_INIT=Const(ones, 1 << len(_PINS)), o_Z=out, **pins)
    return out
