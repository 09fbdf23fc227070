"""Small hand-assembled programs around an SRAM full of known bytes, and what they leave in it."""

from __future__ import annotations

import numpy as np

from accel.isa import Instruction, assemble_program, encode_program
from accel.machine import load_machine
from accel.program import Layer, Port, Program
from accel.quantisation import TensorScale

SIZE = 1 << 13  # bytes of SRAM that LOAD fills from the front of the image and STORE puts behind it
MACHINE = load_machine("edge64-ideal")
LOAD = Instruction("LDA", {"kind": 6, "rows": 1, "row_bytes": SIZE}, push=("compute", "vector"))
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
    """LOAD, the body (in the vector or compute queue), STORE of all of SRAM as output 'sram'."""
    tail = [Instruction("VST", pop=("compute",)), Instruction("VBT", {"count": 1}, push=("store",))]
    compute = any(i.spec.queue == "compute" for i in body)
    first, *rest = body
    queue = first.spec.queue
    load = LOAD if compute else Instruction("LDA", LOAD.values, push=("vector",))
    first = Instruction(first.mnemonic, first.values, pop=("load",))
    if not compute:
        tail = [Instruction("VBT", {"count": 1}, push=("store",))]
        return program_of(
            [load, first, *rest, *tail, STORE, Instruction("FIN")], sram, outputs=[byte_port("sram", SIZE, SIZE)]
        )
    assert queue == "compute"
    last = rest[-1]
    rest[-1] = Instruction(last.mnemonic, last.values, push=("vector",))
    tail[0] = Instruction("VST", pop=("load", "compute"))
    return program_of(
        [load, first, *rest, *tail, STORE, Instruction("FIN")], sram, outputs=[byte_port("sram", SIZE, SIZE)]
    )
