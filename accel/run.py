"""A run: what one simulation measured, as JSON of schema ``accel.run/1``. Sums are checked when it is built."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from accel import __version__
from accel.atomic import write_text
from accel.energy import DEFAULT_ENERGY
from accel.errors import AccelError, FormatError
from accel.machine import Machine, machine_from_document, machine_to_document
from accel.metrics import CAUSES, DECODER, RUN_SCHEMA, TRAFFIC
from accel.schemas import misplaced, schema_of

MOST_COUNTED = 2**63 - 1  # of anything: the simulator counts in 64 bits
NO_LOOKUPS: Mapping[str, int] = MappingProxyType(dict.fromkeys(DECODER, 0))


@dataclass(frozen=True, slots=True)
class LayerRun:
    """One layer's share of a run. ``bound`` is the cause with most cycles, in the words of ``CAUSES``."""

    name: str
    kind: str
    macs: int
    cycles: int
    cycles_by_cause: Mapping[str, int]
    dram_bytes: Mapping[str, int]
    bound: str
    decoder: Mapping[str, int] = field(default_factory=lambda: dict(NO_LOOKUPS))


@dataclass(frozen=True, slots=True)
class MemoryLevel:
    """How full one memory on chip is: ``held_bytes[i]`` from cycle ``cycles[i]`` (ascending) to ``cycles[i + 1]``, the
    last to the end of the run; of a long run, the highest level in each of equal stretches of time."""

    memory: str
    capacity_bytes: int
    cycles: tuple[float, ...]
    held_bytes: tuple[int, ...]

    def __post_init__(self) -> None:
        ascending = all(a < b for a, b in itertools.pairwise(self.cycles))
        if len(self.cycles) != len(self.held_bytes) or not ascending:
            raise FormatError(f"run occupancy of {self.memory}: cycles must ascend, one for each of held_bytes")


@dataclass(frozen=True, slots=True)
class Run:
    """Result of ``sim.simulate``; see ``accel.metrics`` for units and definitions."""

    machine: Machine
    program: Mapping[str, Any]
    total_cycles: int
    macs: int
    cycles_by_cause: Mapping[str, int]
    dram_bytes: Mapping[str, int]
    energy_joules: Mapping[str, float]
    layers: tuple[LayerRun, ...]
    notes: tuple[str, ...] = ()
    decoder: Mapping[str, int] = field(default_factory=lambda: dict(NO_LOOKUPS))
    energy_table: Mapping[str, Any] = field(default_factory=DEFAULT_ENERGY.document)
    occupancy: tuple[MemoryLevel, ...] = ()
    tool: str = field(default=__version__)

    def __post_init__(self) -> None:
        _check_keys("cycles_by_cause", self.cycles_by_cause, CAUSES)
        _check_keys("dram_bytes", self.dram_bytes, TRAFFIC)
        _check_keys("decoder", self.decoder, DECODER)
        _check_sum("cycles_by_cause", sum(self.cycles_by_cause.values()), self.total_cycles)
        _check_sum("cycles of layers", sum(layer.cycles for layer in self.layers), self.total_cycles)
        for layer in self.layers:
            _check_sum(f"cycles_by_cause of layer '{layer.name}'", sum(layer.cycles_by_cause.values()), layer.cycles)
        for split in ("cycles_by_cause", "dram_bytes", "decoder"):
            for name, total in getattr(self, split).items():
                by_layer = sum(getattr(layer, split).get(name, 0) for layer in self.layers)
                _check_sum(f"{split}.{name} of layers", by_layer, total)

    @property
    def seconds(self) -> float:
        """Total time at the machine's clock."""
        return self.total_cycles / self.machine.clock.hz

    @property
    def dram_bytes_total(self) -> int:
        """All DRAM traffic, instructions included."""
        return sum(self.dram_bytes.values())

    @property
    def utilisation(self) -> float:
        """Achieved share of the array's peak multiply-accumulates."""
        return self.macs / (self.total_cycles * self.machine.macs_per_cycle) if self.total_cycles else 0.0

    @property
    def conflict_factor(self) -> float | None:
        """Cycles a group of look-ups takes on average; ``None`` if nothing is looked up."""
        groups = self.decoder["lookup_groups"]
        return self.decoder["lookup_cycles"] / groups if groups else None

    @property
    def energy_total(self) -> float:
        """Joules over all components."""
        return math.fsum(self.energy_joules.values())


def _check_keys(where: str, values: Mapping[str, int], table: Mapping[str, str]) -> None:
    if set(values) != set(table):
        raise FormatError(f"run {where}: keys {sorted(values)}; expected {sorted(table)}")


def _check_sum(where: str, found: int, expected: int) -> None:
    if found != expected:
        raise FormatError(f"run {where}: sums to {found}; expected {expected}")


def run_to_document(run: Run) -> dict[str, Any]:
    """The run as JSON values, derived figures included."""
    return asdict(run) | {
        "machine": machine_to_document(run.machine),
        "schema": RUN_SCHEMA,
        "seconds": run.seconds,
        "dram_bytes_total": run.dram_bytes_total,
        "utilisation": run.utilisation,
        "conflict_factor": run.conflict_factor,
        "energy_total": run.energy_total,
        "bandwidth_bytes_per_cycle": run.machine.bandwidth_bytes_per_cycle,
    }


def run_to_json(run: Run) -> str:
    """The run as text of a ``*.run.json`` file."""
    return json.dumps(run_to_document(run), indent=1) + "\n"


def write_run(run: Run, path: str | Path) -> None:
    """Write ``path`` atomically."""
    write_text(path, run_to_json(run))


def read_run(path: str | Path) -> Run:
    """Read and check a run file; raises ``FormatError`` with one line for anything amiss."""
    try:
        return _from_document(_document(Path(path)))
    except KeyError as error:
        raise FormatError(f"run file '{path}': damaged: no {error}") from error
    except (TypeError, ValueError, AttributeError, RecursionError, OverflowError) as error:
        raise FormatError(f"run file '{path}': damaged: a value of the wrong type") from error
    except AccelError as error:
        raise FormatError(f"run file '{path}': {error}") from error


def _document(path: Path) -> dict[str, Any]:
    """The JSON object of a file of our schema; raises ``FormatError`` that does not name the file."""
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise FormatError("no such file") from error
    except OSError as error:
        raise FormatError(error.strerror or "cannot be read") from error
    except (ValueError, RecursionError) as error:
        raise FormatError(_other(path, "not JSON: truncated, or not a run of accel sim -o")) from error
    if not isinstance(document, dict) or "schema" not in document:
        raise FormatError(_other(path, f"JSON without a schema; a run of accel sim -o has '{RUN_SCHEMA}'"))
    if document["schema"] != RUN_SCHEMA:
        raise FormatError(misplaced(document["schema"], RUN_SCHEMA))
    return document


def _other(path: Path, unknown: str) -> str:
    """What a file is instead, if it is ours, else ``unknown``."""
    schema = schema_of(path)
    return misplaced(schema, RUN_SCHEMA) if schema else unknown


def _from_document(document: dict[str, Any]) -> Run:
    json.dumps(document, ensure_ascii=False).encode()  # raises where a text is half a surrogate pair
    return Run(
        machine=machine_from_document(document["machine"], "run file"),
        program=_program(document["program"]),
        total_cycles=_count(document["total_cycles"]),
        macs=_count(document["macs"]),
        cycles_by_cause=_counts(document["cycles_by_cause"]),
        dram_bytes=_counts(document["dram_bytes"]),
        energy_joules={str(name): _joules(value) for name, value in document["energy_joules"].items()},
        layers=tuple(map(_layer, document["layers"])),
        notes=tuple(document["notes"]),
        decoder=_counts(document.get("decoder", NO_LOOKUPS)),  # older runs count none
        energy_table=document.get("energy_table", {}),  # nor name their table
        occupancy=tuple(map(_level, document.get("occupancy", ()))),  # nor say how full memories are
        tool=str(document["tool"]),
    )


def _program(document: dict[str, Any]) -> dict[str, Any]:
    """What a program is, its tables where reports look for tables."""
    for table in (document, document.get("source", {}), document.get("source", {}).get("description", {})):
        if not isinstance(table, dict):
            raise TypeError("program")
    return document


def _count(value: Any) -> int:
    """A figure that counts; raises ``TypeError`` for anything that cannot have been counted."""
    if type(value) is not int or not 0 <= value <= MOST_COUNTED:
        raise TypeError(f"{value!r} counts nothing")
    return value


def _counts(values: Mapping[str, Any]) -> dict[str, int]:
    return {str(name): _count(value) for name, value in values.items()}


def _joules(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError(f"{value!r} is no energy")
    return float(value)


def _layer(row: dict[str, Any]) -> LayerRun:
    """A layer whose figures are whole numbers, so that no report stumbles over them later."""
    layer = LayerRun(**row)
    return replace(
        layer,
        name=str(layer.name),
        kind=str(layer.kind),
        macs=_count(layer.macs),
        cycles=_count(layer.cycles),
        cycles_by_cause=_counts(layer.cycles_by_cause),
        dram_bytes=_counts(layer.dram_bytes),
        bound=str(layer.bound),
        decoder=_counts(layer.decoder),
    )


def _level(document: dict[str, Any]) -> MemoryLevel:
    """A level whose times a plot can reach and whose memory has a size."""
    cycles, held = tuple(map(float, document["cycles"])), tuple(map(_count, document["held_bytes"]))
    if not all(map(math.isfinite, cycles)):
        raise ValueError("a time without end")
    return MemoryLevel(str(document["memory"]), _count(document["capacity_bytes"]), cycles, held)
