"""What a worker of a sweep does: compile a model once for the points that can share the program, and simulate each."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel.atomic import write_bytes
from accel.cache import cache_folder, source_digest
from accel.errors import AccelError, CompileError, IsaError, SimError, ToolError
from accel.sweep.columns import DONE, REFUSED, run_columns
from accel.sweep.points import machine_of

if TYPE_CHECKING:
    from accel.energy import EnergyTable
    from accel.machine import Machine
    from accel.packed import Packed
    from sim import Prepared

SOURCES = ("accel", "compiler", "sim")
PROGRAMS_KEPT = 8  # by a worker; a program of DeiT-tiny takes 6 MB

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """Points of one packed model that share a program: their digests, and their machines as documents.

    ``packed`` is the digest of ``packed_path``; ``compiled_for`` is a machine as JSON, the same for all tasks of the
    program; ``energies`` are the figures that differ from the default table, from the file ``energy_source``. A task
    crosses to other processes and machines, so it holds plain values.
    """

    packed: str
    batch: int
    compiled_for: str
    keys: tuple[str, ...]
    machines: tuple[Mapping[str, Any], ...]
    energies: Mapping[str, float]
    energy_source: str
    tool: str


@lru_cache(maxsize=1)
def tool_digest() -> str:
    """Of all sources that results depend on."""
    return source_digest(SOURCES)


def work(task: Task, content: bytes | None = None) -> list[Result]:
    """A result for each machine of the task; ``content`` is that of the packed file, for machines that do not have it.

    Raises ``ToolError`` if this worker runs another version than the one that asks.
    """
    from accel.energy import EnergyTable

    if task.tool != tool_digest():
        raise ToolError("a worker runs another version of accel than this one; allowed: the same everywhere")
    packed = _local(task.packed, content)
    try:
        prepared = _prepared(packed, task.batch, task.compiled_for)
    except (CompileError, SimError, IsaError) as error:
        return [refusal(error)] * len(task.machines)
    energy = EnergyTable(task.energies, task.energy_source)
    return [_simulated(prepared, machine_of(document), energy) for document in task.machines]


def refusal(error: AccelError) -> Result:
    """What is kept of a point that cannot be."""
    return {"status": REFUSED, "reason": " ".join(str(error).split())}


def _simulated(prepared: Prepared, machine: Machine, energy: EnergyTable) -> Result:
    try:
        return {"status": DONE, "reason": "", **run_columns(prepared.simulate(machine, energy))}
    except AccelError as error:
        return refusal(error)


@lru_cache(maxsize=PROGRAMS_KEPT)
def _prepared(packed: Path, batch: int, compiled_for: str) -> Prepared:
    from compiler import compile_model
    from sim import prepare

    machine = machine_of(json.loads(compiled_for))
    return prepare(compile_model(_model(packed), machine, batch=batch), machine)


@lru_cache(maxsize=2)
def _model(path: Path) -> Packed:
    from accel.packed import read_packed

    return read_packed(path)


def packed_path(key: str) -> Path:
    """Where a worker, and who asks it, keep the packed model of a digest."""
    return cache_folder("sweep") / "packed" / f"{key}.vq.safetensors"


def _local(key: str, content: bytes | None) -> Path:
    path = packed_path(key)
    if content is not None and not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)
    return path
