"""What ``accel run`` writes on the way: the tensors of all layers, and a line for every instruction."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.atomic import open_atomic, write_text
from accel.cli.arrays import open_arrays
from accel.isa import decode_program, disassemble

if TYPE_CHECKING:
    from accel.program import Program
    from sim.functional import Captured, Observation

LAYERS_FILE, CODES_FILE, INDEX_FILE = "layers.npz", "codes.npz", "layers.csv"
INDEX_COLUMNS = (
    *("tensor", "key", "layer", "kind", "instruction", "space", "address", "shape", "type"),
    *("scale", "zero_point", "exponents", "exponents_axis", "minimum", "maximum", "saturated"),
)


@contextmanager
def layer_files(program: Program, folder: Path) -> Iterator[Callable[[Captured], None]]:
    """Takes captured tensors: real values go to ``layers.npz``, codes to ``codes.npz``, rows to ``layers.csv``."""
    from accel.reporting import to_csv

    rows: list[dict[str, Any]] = []
    taken: set[str] = set()
    with open_arrays(folder / LAYERS_FILE) as reals, open_arrays(folder / CODES_FILE) as codes:

        def take(captured: Captured) -> None:
            key = _key(captured.tensor.name, taken)
            reals.add(key, captured.values)
            codes.add(key, captured.codes)
            rows.append(_row(program, key, captured))

        yield take
    write_text(folder / INDEX_FILE, to_csv(_index(rows)))


def _key(name: str, taken: set[str]) -> str:
    """A name for an archive's member that is no path: unusual characters become underscores, repetitions a number."""
    safe = re.sub(r"[^\w.:-]+", "_", name).lstrip(".") or "_"
    key, count = safe, 1
    while key in taken:
        count += 1
        key = f"{safe}_{count}"
    taken.add(key)
    return key


def _row(program: Program, key: str, captured: Captured) -> dict[str, Any]:
    tensor, layer = captured.tensor, program.layers[captured.tensor.layer]
    return {
        "tensor": tensor.name,
        "key": key,
        "layer": layer.name,
        "kind": layer.kind,
        "instruction": tensor.instruction,
        "space": tensor.space,
        "address": tensor.address,
        "shape": "x".join(map(str, tensor.shape)),
        "type": str(captured.codes.dtype),
        "scale": tensor.code.scale,
        "zero_point": tensor.code.zero_point,
        "exponents": " ".join(map(str, tensor.code.exponents)),
        "exponents_axis": tensor.code.axis if tensor.code.exponents else None,
        "minimum": float(captured.values.min()),
        "maximum": float(captured.values.max()),
        "saturated": captured.saturated,
    }


def _index(rows: list[dict[str, Any]]) -> Any:
    from accel.reporting import Column, Table

    return Table("Tensors", tuple(Column(key, key) for key in INDEX_COLUMNS), tuple(rows))


@contextmanager
def trace_file(program: Program, path: Path) -> Iterator[Callable[[Observation], None]]:
    """Takes observations in the order of execution; a line of JSON each, with start and end cycle by ``accel sim``."""
    from sim import instruction_times

    times, instructions = instruction_times(program), decode_program(program.words)
    with open_atomic(path) as file:

        def take(seen: Observation) -> None:
            index = seen.instruction
            line: dict[str, Any] = {
                "instruction": index,
                "queue": instructions[index].spec.queue,
                "layer": program.layers[program.instruction_layer[index]].name,
                "text": disassemble(instructions[index]),
                "start_cycle": int(times.started[index]),
                "end_cycle": int(times.completed[index]),
            }
            if seen.space:
                line["wrote"] = {
                    "space": seen.space,
                    "first": seen.first,
                    "last": seen.last,
                    "bytes": seen.bytes,
                    "minimum": seen.minimum,
                    "maximum": seen.maximum,
                    "saturated": seen.saturated,
                }
            file.write(json.dumps(line).encode() + b"\n")

        yield take
