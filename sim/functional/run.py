"""Runs a program: memories, order, one function an instruction, and what is looked at on the way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.errors import SimError
from accel.isa import decode_program
from accel.legality import check_instructions
from accel.program import Port, Program, StoredTensor
from accel.quantisation import dequantise
from sim.decode import decode_words
from sim.functional.array import gem, gms
from sim.functional.flow import WeightFlow
from sim.functional.memory import Box
from sim.functional.moves import gather, load, load_codebook, load_weights, store
from sim.functional.ports import (
    check_names,
    code_array,
    input_codes,
    port_box,
    real_values,
    saturated_share,
    write_input,
)
from sim.functional.schedule import Order, first_blocks, schedule
from sim.functional.vector import vec
from sim.functional.work import Memories, Work, Written, memories_of, works_of
from sim.proof import prove
from sim.ring import weight_ring

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Observation:
    """What instruction ``instruction`` stored: ``bytes`` of memory ``space``, the first and the last, and the range of
    its codes. Copied bytes count as int8. Instructions that store nothing have an empty ``space``."""

    instruction: int
    space: str = ""
    first: int = 0
    last: int = 0
    bytes: int = 0
    minimum: int = 0
    maximum: int = 0
    saturated: float = 0.0


@dataclass(frozen=True, slots=True)
class Captured:
    """A tensor of the graph as it lay in memory: ``codes`` and real ``values``, and the share of saturated codes."""

    tensor: StoredTensor
    codes: Array
    values: npt.NDArray[np.float32]
    saturated: float


@dataclass(frozen=True, slots=True)
class Execution:
    """``outputs``: real values by port, ``codes``: what the program stored, ``[batch, *shape]`` (without the batch if
    it is 1). ``saturated``: share of codes at an end of their range. ``sram_bytes``: bytes of activation SRAM used."""

    outputs: Mapping[str, Array]
    codes: Mapping[str, Array]
    saturated: Mapping[str, float]
    instructions: int
    sram_bytes: int


def run_program(
    program: Program,
    inputs: Mapping[str, Array],
    *,
    order: Order = "eager",
    allow_uncalibrated: bool = False,
    on_instruction: Callable[[Observation], None] | None = None,
    on_tensor: Callable[[Captured], None] | None = None,
) -> Execution:
    """Execute ``program`` on ``inputs``: real values or codes of every input port, int32 or int64 indices.

    ``on_instruction`` sees what every instruction stored, ``on_tensor`` every tensor of ``program.tensors``, as soon as
    it is complete (with it, use order "program": in another, one may already be partly replaced).

    Raises ``IsaError`` naming the instruction, whatever the order, if the program is illegal, reaches beyond its
    memories, races or deadlocks; ``SimError`` for inputs that do not fit, a program without calibrated activations
    (unless allowed), and what only data tell: a sum that overflows, an index outside its table, an operand whose
    arithmetic is not exact; and for outputs the program does not write in full.
    """
    prove(program, program.machine, program.digest)
    return run_unproven(
        program,
        inputs,
        order=order,
        allow_uncalibrated=allow_uncalibrated,
        on_instruction=on_instruction,
        on_tensor=on_tensor,
    )


def run_unproven(
    program: Program,
    inputs: Mapping[str, Array],
    *,
    order: Order = "eager",
    allow_uncalibrated: bool = False,
    on_instruction: Callable[[Observation], None] | None = None,
    on_tensor: Callable[[Captured], None] | None = None,
) -> Execution:
    """``run_program`` of a program that may race: tests execute broken ones with it. ``SimError`` where ``order`` lets
    an instruction read what nobody or a later one has written, or leaves one waiting for ever."""
    if not (program.calibrated or allow_uncalibrated):
        raise SimError(
            f"program of '{program.model}' was compiled from a model without calibrated activations; its values would "
            "mean nothing: compress or import with --calibrate"
        )
    check_names(inputs, program)
    codes = {port.name: input_codes(port, inputs[port.name], program.batch) for port in program.inputs}
    instructions = decode_program(program.words)
    check_instructions(instructions, program.machine, program.dram_bytes)
    memories = memories_of(program, instructions)
    for port in program.inputs:
        write_input(port, codes[port.name], memories.dram.data)
    flow = WeightFlow(weight_ring(decode_words(program.words)["LDW"]), first_blocks(instructions))
    actions = _actions(flow)
    works, tensors = works_of(instructions), _by_instruction(program.tensors if on_tensor else ())
    for index in schedule(instructions, order):
        memories.written = None
        action = actions.get(instructions[index].mnemonic)
        if action:
            action(works[index], memories)
        if on_instruction:
            on_instruction(_observed(index, memories))
        for tensor in tensors.get(index, ()):
            assert on_tensor is not None
            on_tensor(_captured(tensor, memories))
    return _execution(program, memories)


def _actions(flow: WeightFlow) -> Mapping[str, Callable[[Work, Memories], None]]:
    """What each instruction does; those that only configure a queue are not listed."""
    return {
        "LDA": load,
        "LDW": load_weights,
        "LDC": load_codebook,
        "GTH": gather,
        "DEC": flow.decode,
        "GEM": lambda work, memories: gem(work, memories, flow),
        "GMS": gms,
        "VEC": vec,
        "STA": store,
    }


def _by_instruction(tensors: Iterable[StoredTensor]) -> dict[int, list[StoredTensor]]:
    found: dict[int, list[StoredTensor]] = {}
    for tensor in tensors:
        found.setdefault(tensor.instruction, []).append(tensor)
    return found


def _observed(index: int, memories: Memories) -> Observation:
    written: Written | None = memories.written
    if written is None:
        return Observation(index)
    memory = {"dram": memories.dram, "activation": memories.sram, "codebook": memories.codebooks}[written.space]
    codes = code_array(memory.peek(written.box), bool(written.unsigned))
    low, high = int(codes.min()), int(codes.max())
    share = saturated_share(codes, bool(written.unsigned))
    return Observation(index, written.space, written.box.start, written.box.stop - 1, codes.size, low, high, share)


def _captured(tensor: StoredTensor, memories: Memories) -> Captured:
    memory = memories.dram if tensor.space == "dram" else memories.sram
    codes = code_array(memory.peek(Box(tensor.address, tensor.shape, tensor.strides)), tensor.code.unsigned)
    share = saturated_share(codes, tensor.code.unsigned, tensor.code.zero_point)
    return Captured(tensor, codes, dequantise(codes, tensor.code), share)


def _execution(program: Program, memories: Memories) -> Execution:
    codes, values, saturated = {}, {}, {}
    for port in program.outputs:
        found = _output(port, program.batch, memories, len(program.words))
        zero = 0 if port.code is None else port.code.zero_point
        saturated[port.name] = 0.0 if port.code is None else saturated_share(found, port.code.unsigned, zero)
        real = found if port.code is None else real_values(found, port.code)
        codes[port.name] = found if program.batch > 1 else found[0]
        values[port.name] = real if program.batch > 1 else real[0]
    return Execution(values, codes, saturated, len(program.words), memories.sram.touched)


def _output(port: Port, batch: int, memories: Memories, end: int) -> Array:
    """Codes of an output; raises ``SimError`` if the program never wrote one of them."""
    box = port_box(port, batch)
    if memories.dram.unwritten(box):
        raise SimError(f"output '{port.name}': the program ends without having written all of it")
    if port.code is not None:
        return code_array(memories.dram.peek(box), port.code.unsigned)
    data = [memories.dram.peek(Box(box.start + at, box.shape, box.strides)) for at in range(4)]
    return np.ascontiguousarray(np.stack(data, axis=-1)).view("<i4")[..., 0]
