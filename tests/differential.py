"""A program and the quantised graph it was compiled from must give the same codes; if not, says where and why.

``check_values`` runs the functional simulator in every order and compares every stored tensor and output with the
interpreter's. A ``DifferentValuesError`` names the first tensor that differs, its first wrong element, the listing of
the layer that made it with the instructions that wrote the element, and the scales of everything around.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from accel.isa import decode_program, disassemble
from accel.packed import Packed
from accel.program import Program, StoredTensor
from accel.quantisation import Quantisation
from compiler.interpreter import interpret
from compiler.quantise import nominal
from compiler.quantise.samples import index_rows
from sim.functional import run_program

Arrays = Mapping[str, np.ndarray]


class DifferentValuesError(AssertionError):
    """Program and graph disagree."""


def scales_of(packed: Packed) -> Quantisation:
    """The model's scales, or the nominal ones the compiler takes instead."""
    return packed.quantisation or nominal(packed.graph, packed.parameters)


def random_inputs(packed: Packed, rng: np.random.Generator, batch: int = 1) -> dict[str, np.ndarray]:
    """Real values ``[batch, *shape]`` that reach and pass the ends of every input's code; indices of every row."""
    graph, codes, rows = packed.graph, scales_of(packed).tensors, index_rows(packed.graph)
    found: dict[str, np.ndarray] = {}
    for name, shape in graph.inputs.items():
        if name in rows:
            found[name] = rng.integers(0, rows[name], (batch, *shape)).astype(np.int32)
            continue
        code = codes[name]
        low, high = code.limits
        steps = rng.integers(low - 9, high + 10, (batch, *shape)) + rng.uniform(-0.4, 0.4, (batch, *shape))
        found[name] = (steps - code.zero_point) * code.units(len(shape))
    return found


def check_values(program: Program, packed: Packed, inputs: Arrays) -> dict[str, np.ndarray]:
    """Compare the program with the graph, for ``inputs[batch, *shape]``; the codes of all tensors of the first item."""
    items = [interpret(packed, {name: array[n] for name, array in inputs.items()}) for n in range(1, program.batch)]
    expected: dict[str, np.ndarray] = {}
    first = interpret(packed, {name: array[0] for name, array in inputs.items()}, expected.__setitem__)
    expected |= first
    wanted = {name: np.stack([first[name], *(item[name] for item in items)]) for name in packed.graph.outputs}
    captured = []
    options = {"allow_uncalibrated": not program.calibrated}
    ordered = run_program(program, inputs, order="program", on_tensor=captured.append, **options)
    for each in captured:
        _compare_tensor(program, packed, inputs, each.tensor, each.codes, expected)
    _compare_outputs(program, ordered.codes, wanted, "in program order")
    for order in ("eager", "lazy"):
        codes = run_program(program, inputs, order=order, **options).codes
        _compare_outputs(program, codes, wanted, f"in {order} order")
    return expected


def _compare_outputs(program: Program, found: Arrays, wanted: Arrays, when: str) -> None:
    for name, codes in wanted.items():
        result = found[name] if program.batch > 1 else found[name][None]
        if not np.array_equal(result, codes.reshape(result.shape)):
            raise DifferentValuesError(f"output '{name}' {when}: {_difference(result, codes.reshape(result.shape))}")


def _difference(found: np.ndarray, wanted: np.ndarray) -> str:
    wrong = np.argwhere(found != wanted)
    at = tuple(wrong[0].tolist())
    return f"{len(wrong)} of {found.size} codes differ, the first at {at}: {found[at]}, expected {wanted[at]}"


def _compare_tensor(
    program: Program, packed: Packed, inputs: Arrays, tensor: StoredTensor, codes: np.ndarray, expected: Arrays
) -> None:
    wanted = expected[tensor.name].reshape(codes.shape)
    if not np.array_equal(codes, wanted):
        at = np.argwhere(codes != wanted)[0]
        lines = [f"tensor '{tensor.name}': {_difference(codes, wanted)}"]
        lines += [*_scales(packed, tensor.name), *_listing(program, inputs, tensor, at)]
        raise DifferentValuesError("\n".join(lines))


def _scales(packed: Packed, tensor: str) -> Iterator[str]:
    """Operators from those whose results are stored to the tensor, with the code of all they touch."""
    codes, producers = scales_of(packed).tensors, {op.output: op for op in packed.graph.ops}
    waiting = [tensor]
    for _ in range(4):  # a product and what its output stage absorbs
        if not waiting or waiting[0] not in producers:
            return
        op = producers[waiting.pop(0)]
        yield f"  {op.kind} {op.inputs} -> {op.output} {dict(op.attributes)}"
        for name in (*op.inputs, op.output):
            note = f"{codes[name]}" if name in codes else f"constant {np.ravel(packed.parameters.get(name, []))[:4]}"
            yield f"    {name} {packed.graph.shapes[name]}: {note}"
        waiting += op.inputs[:1]


def _listing(program: Program, inputs: Arrays, tensor: StoredTensor, at: np.ndarray) -> Iterator[str]:
    """Instructions of the tensor's layer; ``>`` marks those that wrote the byte of element ``at``."""
    address = tensor.address + int(np.dot(at, tensor.strides))
    layer = program.layers[tensor.layer]
    yield f"  layer {tensor.layer} '{layer.name}' ({layer.kind}), byte {address} of {tensor.space}:"
    writers = _writers(program, inputs, tensor.space, address)
    for index, instruction in enumerate(decode_program(program.words)):
        if program.instruction_layer[index] == tensor.layer and index <= tensor.instruction:
            yield f"  {'>' if index in writers else ' '} {index:5} {disassemble(instruction)}"


def _writers(program: Program, inputs: Arrays, space: str, address: int) -> set[int]:
    """Instructions between whose first and last written byte the address lies."""
    found: set[int] = set()

    def watch(seen) -> None:
        if seen.space == space and seen.first <= address <= seen.last:
            found.add(seen.instruction)

    run_program(program, inputs, order="program", allow_uncalibrated=True, on_instruction=watch)
    return found
