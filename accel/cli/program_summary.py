"""What a program holds, before it is run: instructions, static DRAM bytes by kind, SRAM, spills."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from accel.isa import BY_OPCODE, OPCODE_BITS, QUEUES

if TYPE_CHECKING:
    from accel.program import Program


def instruction_counts(program: Program) -> dict[str, int]:
    """Instructions by queue, in the order of ``QUEUES``."""
    counts = Counter((program.words[:, 0] & ((1 << OPCODE_BITS) - 1)).tolist())
    by_queue = Counter[str]()
    for opcode, count in counts.items():
        by_queue[BY_OPCODE[opcode].queue] += count
    return {queue: by_queue[queue] for queue in QUEUES}


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
        "image_bytes": len(program.image),
        "dram_bytes_reserved": program.dram_bytes,
        **program.report,
        "notes": list(program.notes),
    }


def summary_text(program: Program) -> str:
    """The summary for people: one figure a line, dictionaries with one line an entry."""
    return "\n".join(_lines(summary(program), 0)) + "\n"


def _lines(document: dict[str, Any], depth: int) -> list[str]:
    lines = []
    for key, value in document.items():
        head = f"{'  ' * depth}{key.replace('_', ' ')}"
        if isinstance(value, dict):
            lines += [f"{head}:", *_lines(value, depth + 1)]
        elif isinstance(value, (list, tuple)):
            lines += [f"{head}: {'none' if not value else ''}".rstrip(), *(f"{'  ' * (depth + 1)}{x}" for x in value)]
        else:
            lines.append(f"{head:32}{value:,}" if isinstance(value, (int, float)) else f"{head:32}{value}")
    return lines
