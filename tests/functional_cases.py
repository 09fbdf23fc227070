"""Small hand-assembled programs around an SRAM full of known bytes, and what they leave in it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from accel.isa import Instruction, assemble_program, encode_program
from accel.machine import load_machine
from accel.program import Layer, Port, Program
from accel.quantisation import TensorScale

SIZE = 1 << 13  # bytes of SRAM that LOAD fills from the front of the image and STORE puts behind it
MACHINE = load_machine("edge64-ideal")
LOAD = Instruction("LDA", {"kind": 6, "rows": 1, "row_bytes": SIZE})
STORE = Instruction("STA", {"kind": 7, "address": SIZE, "rows": 1, "row_bytes": SIZE}, pop=("vector",))


def program_of(instructions, image, *, inputs=(), outputs=(), dram=None, calibrated=True, batch=1, tensors=()):
    """A program of instructions (or assembler text) on the ideal machine."""
    if isinstance(instructions, str):
        instructions = assemble_program(instructions)
    image = np.frombuffer(bytes(image), np.uint8)
    return Program(
        model="test", codec="none", source={}, packed_digest="", machine=MACHINE, batch=batch,
        words=encode_program(instructions), instruction_layer=np.zeros(len(instructions), np.int32), image=image,
        dram_bytes=dram or image.size + SIZE, layers=(Layer("layer", "vector"),), streams=(), inputs=tuple(inputs),
        outputs=tuple(outputs), calibrated=calibrated, tensors=tuple(tensors),
    )  # fmt: skip


def byte_port(name, address, size, code=None, shape=None):
    """A port of ``size`` dense bytes."""
    return Port(name, shape or (size,), (1,), address, size, size, code or TensorScale(1.0, unsigned=True))


def sram_program(body, sram):
    """LOAD, the body (all of it in the vector or in the compute queue), STORE of all of SRAM as output 'sram'."""
    queue = body[0].spec.queue
    first, *rest = [replace(body[0], pop=("load",)), *body[1:]]
    end = Instruction("VBT", {"count": 1}, push=("store",))
    if queue == "compute":
        rest[-1] = replace(rest[-1], push=("vector",))
        end = replace(end, pop=("load", "compute"))
    load = replace(LOAD, push=tuple({queue: 1, "vector": 1}))
    program = [load, first, *rest, end, STORE, Instruction("FIN")]
    return program_of(program, sram, outputs=[byte_port("sram", SIZE, SIZE)])
