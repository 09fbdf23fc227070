"""What a program holds, before it is run: instructions, static DRAM bytes by kind, SRAM, spills."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from accel.isa import BLOCK_BYTES, BY_OPCODE, OPCODE_BITS, QUEUES, Instruction, decode_program
from accel.metrics import TRAFFIC

if TYPE_CHECKING:
    from accel.program import Program


SPILLS_SHOWN = 8


def instruction_counts(program: Program) -> dict[str, int]:
    """Instructions by queue, in the order of ``QUEUES``."""
    counts = Counter((program.words[:, 0] & ((1 << OPCODE_BITS) - 1)).tolist())
    by_queue = Counter[str]()
    for opcode, count in counts.items():
        by_queue[BY_OPCODE[opcode].queue] += count
    return {queue: by_queue[queue] for queue in QUEUES}


def static_dram_bytes(program: Program) -> dict[str, int]:
    """Bytes each instruction that touches DRAM asks for, by instruction and kind, plus the instructions themselves.

    The simulator counts the same in whole blocks and splits weight streams into indices and signs.
    """
    sizes = Counter[str]()
    for instruction in decode_program(program.words):
        if measure := _DRAM_BYTES.get(instruction.mnemonic):
            sizes[f"{instruction.mnemonic} {_kind(instruction)}"] += measure(instruction)
    return {**sizes, "instructions": program.words.size}


_DRAM_BYTES: Mapping[str, Callable[[Instruction], int]] = {
    "LDA": lambda move: move["rows"] * move["row_bytes"],
    "STA": lambda move: move["rows"] * move["row_bytes"],
    "GTH": lambda gather: gather["rows"] * gather["row_bytes"],
    "LDW": lambda load: load["blocks"] * BLOCK_BYTES,
    "LDC": lambda load: load["bytes"],
}


def _kind(instruction: Instruction) -> str:
    fixed = {"GTH": "table rows", "LDW": "weight streams", "LDC": "codebooks"}
    kinds = tuple(TRAFFIC)
    return fixed.get(instruction.mnemonic) or kinds[instruction["kind"]]


def summary(program: Program) -> dict[str, Any]:
    """The summary as JSON values."""
    return {
        "model": program.model,
        "codec": program.codec,
        "source": dict(program.source),
        "machine": program.machine.name,
        "batch": program.batch,
        "digest": program.digest,
        "layers": len(program.layers),
        "macs": sum(layer.macs for layer in program.layers),
        "instructions": instruction_counts(program),
        "dram_bytes": static_dram_bytes(program),
        "image_bytes": len(program.image),
        "dram_bytes_addressed": program.dram_bytes,
        **program.report,
        "notes": list(program.notes),
    }


def summary_text(program: Program) -> str:
    """The summary for people: one figure a line, dictionaries with one line an entry."""
    return "\n".join(_lines(_abridged(summary(program)), 0)) + "\n"


def _abridged(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of many spilled tensors only the first, and how many bytes the others take."""
    spilled = document.get("spilled")
    if not spilled or len(spilled) <= SPILLS_SHOWN:
        return document
    first, others = list(spilled.items())[:SPILLS_SHOWN], list(spilled.values())[SPILLS_SHOWN:]
    return {**document, "spilled": dict(first) | {f"… and {len(others)} more (--json lists all)": sum(others)}}


def _lines(document: Mapping[str, Any], depth: int) -> Iterator[str]:
    indent = "  " * depth
    for key, value in document.items():
        head = f"{indent}{key if depth else key.replace('_', ' ')}"  # further in, names are those of tensors
        if isinstance(value, Mapping) and value:
            yield f"{head}:"
            yield from _lines(value, depth + 1)
        elif isinstance(value, list) and value:
            yield f"{head}:"
            yield from (f"{indent}  {entry}" for entry in value)
        else:
            yield f"{head:34}{_shown(value)}"


def _shown(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:>14,}"
    return str(value) if value not in ({}, []) else "none"
