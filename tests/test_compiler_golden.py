"""Disassembly of three tiny programs, pinned. After a change that is meant: ``ACCEL_UPDATE_GOLDEN=1 pytest`` this file
and read the difference before committing it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from strategies import pack_randomly
from tiny_models import TINY

from accel.isa import decode_program, disassemble
from compiler import compile_model

GOLDEN = Path(__file__).parent / "golden"
UPDATE = "ACCEL_UPDATE_GOLDEN"


def listing(name: str) -> str:
    """One instruction a line, the layer's name where it changes."""
    model = TINY[name]
    program = compile_model(pack_randomly(model.graph, model.coding), model.machine, verify=True)
    lines, layer = [], -1
    for instruction, at in zip(decode_program(program.words), program.instruction_layer.tolist(), strict=True):
        if at != layer:
            lines.append(f"# {program.layers[at].name}")
        layer = at
        lines.append(disassemble(instruction))
    return "\n".join([*lines, *(f"# note: {note}" for note in program.notes)]) + "\n"


@pytest.mark.parametrize("name", TINY)
def test_disassembly_is_unchanged(name: str) -> None:
    path = GOLDEN / f"{name}.txt"
    if os.environ.get(UPDATE):
        path.write_text(listing(name))
    assert listing(name) == path.read_text(), f"set {UPDATE}=1 to accept the new program"
