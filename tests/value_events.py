"""What a random model and its program exercise, by name: hypothesis counts these, and a test asks that all occur."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from differential import scales_of

from accel.graph import Op
from accel.isa import decode_program
from accel.packed import Packed
from accel.program import Program
from accel.quantisation import deferred_softmax
from compiler.lower import lower

EVENTS = (
    "scales: nominal", "scales: minmax", "scales: percentile:99", "scales: mse", "scales: random",
    "codes: signed and unsigned", "codes: zero points", "codes: exponents",
    "op: factor below 0", "op: factor 0", "op: div", "op: clip", "op: resize", "op: resize in parts",
    "op: grouped convolution", "op: depthwise convolution", "op: mean of channels", "op: mean with exponents",
    "op: concat", "op: embedding", "op: tied weight", "op: exponents in a sum",
    "stage: function after a gain", "stage: gain after a function", "stage: gains of columns",
    "stage: exponents after gains of columns",
    "softmax: divided by its product", "softmax: divided", "softmax: of another axis", "softmax: masked",
    "machine: weights loaded each pass", "machine: spilled", "machine: staged", "machine: one codebook buffer",
    "machine: no vector unit", "machine: ws", "machine: os", "machine: is", "machine: batch above 1",
)  # fmt: skip


def events_of(packed: Packed, program: Program) -> set[str]:
    """Those of ``EVENTS`` that apply."""
    return {*_of_codes(packed), *_of_operators(packed), *_of_stages(packed), *_of_machine(program)} & set(EVENTS)


def _of_codes(packed: Packed) -> Iterator[str]:
    codes = scales_of(packed).tensors.values()
    yield f"scales: {packed.quantisation.method if packed.quantisation else 'nominal'}"
    checks = {
        "signed and unsigned": len({code.unsigned for code in codes}) == 2,
        "zero points": any(code.zero_point for code in codes),
        "exponents": any(code.exponents for code in codes),
    }
    yield from (f"codes: {name}" for name, holds in checks.items() if holds)


def _of_operators(packed: Packed) -> Iterator[str]:
    weights = [op.inputs[1] for op in packed.graph.weight_ops()]
    tables = {op.inputs[0] for op in packed.graph.ops if op.kind == "embedding"}
    if len(set(weights)) < len(weights) or tables & set(weights):
        yield "op: tied weight"
    for op in packed.graph.ops:
        yield f"op: {op.kind}"
        yield from _of_one(packed, op)


def _of_one(packed: Packed, op: Op) -> Iterator[str]:
    graph, codes = packed.graph, scales_of(packed).tensors
    exponents = any(codes[name].exponents for name in (*op.inputs, op.output) if name in codes)
    last = len(graph.shapes[op.output]) - 1
    factor = packed.parameters.get(op.inputs[-1], np.ones(2))
    if op.kind in ("mul", "div") and factor.size == 1 and factor.min() <= 0:
        yield "op: factor below 0" if factor.min() < 0 else "op: factor 0"
    if op.kind == "conv" and op.attributes["groups"] > 1:
        whole = op.attributes["groups"] == graph.shapes[op.inputs[0]][1]
        yield "op: depthwise convolution" if whole else "op: grouped convolution"
    if op.kind == "mean" and len(graph.shapes[op.inputs[0]]) - 1 in op.attributes["axes"]:
        yield "op: mean of channels"
    if op.kind == "mean" and exponents:
        yield "op: mean with exponents"
    if op.kind in ("add", "sub") and exponents:
        yield "op: exponents in a sum"
    if op.kind == "softmax":
        yield from _of_softmax(packed, op, last)


def _of_softmax(packed: Packed, op: Op, last: int) -> Iterator[str]:
    deferred = op.name in deferred_softmax(packed.graph)[0]
    yield "softmax: divided by its product" if deferred else "softmax: divided"
    if op.attributes["axis"] not in (-1, last):
        yield "softmax: of another axis"
    maker = next((each for each in packed.graph.ops if each.output == op.inputs[0]), None)
    if maker is not None and maker.kind in ("add", "sub") and maker.inputs[1] in packed.parameters:
        yield "softmax: masked"


def _of_stages(packed: Packed) -> Iterator[str]:
    scales = scales_of(packed)
    for stage in lower(packed.graph, packed.parameters, scales).stages.values():
        checks = {
            "function after a gain": stage.function and (stage.gain != 1 or stage.column_gains),
            "gain after a function": stage.function and stage.gain_after != 1,
            "gains of columns": stage.column_gains,
            "exponents after gains of columns": stage.column_gains and scales.tensors[stage.result].exponents,
        }
        yield from (f"stage: {name}" for name, holds in checks.items() if holds)


def _of_machine(program: Program) -> Iterator[str]:
    machine, instructions = program.machine, decode_program(program.words)
    moves = [each for each in instructions if each.mnemonic == "LDA"]
    yield f"machine: {machine.array.dataflow}"
    if any(each.mnemonic == "VRS" and each["out_row"] for each in instructions):
        yield "op: resize in parts"
    checks = {
        "weights loaded each pass": program.report["reloaded_weights"],
        "spilled": program.report["spilled"],
        "staged": any(move["kind"] for move in moves) and program.report["spilled"],
        "one codebook buffer": machine.decoder.codebook_buffers == 1 and any(i.mnemonic == "LDC" for i in instructions),
        "no vector unit": machine.vector.lanes == 0,
        "batch above 1": program.batch > 1,
    }
    yield from (f"machine: {name}" for name, holds in checks.items() if holds)
