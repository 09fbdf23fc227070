"""The machine: frozen, validated tables of numbers, loaded from a preset or a TOML file, one key overridable at a time.

Keys are spelled ``table.key`` everywhere (TOML, ``--set``, run files). Unknown keys are refused with the nearest known.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from accel.dram import DRAM_STANDARDS, DramStandard
from accel.errors import ConfigError, listed, nearest
from accel.machine_tables import (
    IDEAL,
    INPUT_BITS,
    STANDARD_VALUE,
    Array,
    Clock,
    Decoder,
    Dram,
    DramTimingChanges,
    Sram,
    Vector,
)
from accel.systolic import ArrayShape

__all__ = [
    "FIXED_KEYS",
    "IDEAL",
    "INPUT_BITS",
    "KEYS",
    "Array",
    "Clock",
    "Decoder",
    "Dram",
    "Machine",
    "Sram",
    "Vector",
    "changes_from_preset",
    "load_machine",
    "machine_digest",
    "machine_from_document",
    "machine_to_document",
    "preset_names",
    "with_overrides",
]

MAX_CLOCK_RATIO = 1 << 18  # of DRAM and accelerator, either way: four ticks of the simulator a clock of the faster


@dataclass(frozen=True, slots=True)
class Machine:
    """One accelerator. Built by ``load_machine``; every number a tool uses comes from here."""

    name: str
    description: str
    clock: Clock
    array: Array
    sram: Sram
    decoder: Decoder
    vector: Vector
    dram: Dram
    dram_timing: DramTimingChanges = field(default_factory=DramTimingChanges)  # type: ignore[valid-type]

    def __post_init__(self) -> None:
        if self.is_banked:
            self._check_banks()
        elif any(value != STANDARD_VALUE for value in asdict(self.dram_timing).values()):
            raise ConfigError("machine table [dram_timing] changes a DRAM standard, but dram.standard = ideal")
        row_bytes = 4 * self.array.columns
        if self.sram.accumulator_bytes < row_bytes:
            raise ConfigError(
                f"machine key sram.accumulator_bytes = {self.sram.accumulator_bytes}: one row of int32 accumulators "
                f"for array.columns = {self.array.columns} takes {row_bytes} bytes; allowed: at least that"
            )

    @property
    def accumulator_rows(self) -> int:
        """Output rows, as wide as the array, whose sums the accumulators hold."""
        return self.sram.accumulator_bytes // (4 * self.array.columns)

    @property
    def array_shape(self) -> ArrayShape:
        """The array as the closed forms of ``accel.systolic`` take it."""
        array = self.array
        return ArrayShape(array.rows, array.columns, array.dataflow, array.model, self.accumulator_rows)

    @property
    def chunk_rows(self) -> int:
        """The most output rows one pass over a weight tile covers, before an instruction's fields limit them."""
        return self.array_shape.chunk_rows

    @property
    def macs_per_cycle(self) -> int:
        """Peak multiply-accumulates a cycle."""
        return self.array.rows * self.array.columns

    def _check_banks(self) -> None:
        clock = 1e12 / self.dram_standard.timing.tck_ps
        low, high = clock / MAX_CLOCK_RATIO, clock * MAX_CLOCK_RATIO
        if not low <= self.clock.hz <= high:
            raise ConfigError(f"machine key clock.hz = {self.clock.hz:g}; allowed with this DRAM: {low:g} to {high:g}")

    @property
    def is_banked(self) -> bool:
        """Whether the DRAM is a standard, timed bank by bank, rather than a stated ideal."""
        return self.dram.standard != IDEAL

    @property
    def dram_standard(self) -> DramStandard:
        """The standard with this machine's timing; only if ``is_banked``."""
        changes = {key: value for key, value in asdict(self.dram_timing).items() if value != STANDARD_VALUE}
        return DRAM_STANDARDS[self.dram.standard].with_timing(changes)

    @property
    def bandwidth_bytes_per_cycle(self) -> float:
        """DRAM bytes per accelerator cycle: of the ideal memory, or the peak of the standard's data buses."""
        if not self.is_banked:
            return self.dram.bandwidth_bytes_per_cycle
        peak = self.dram_standard.peak_bytes_per_second(self.dram.data_width_bits) * self.dram.channels
        return peak / self.clock.hz

    @property
    def sustained_bandwidth_bytes_per_cycle(self) -> float:
        """What refresh leaves of it: no access pattern moves more."""
        if not self.is_banked:
            return self.dram.bandwidth_bytes_per_cycle
        timing = self.dram_standard.timing
        return self.bandwidth_bytes_per_cycle * (1 - timing.trfc / timing.trefi)

    def with_bandwidth(self, bandwidth_bytes_per_cycle: float) -> Machine:
        """The same machine with more or less DRAM bandwidth; a standard's clock runs faster or slower for it."""
        if not self.is_banked:
            return replace(self, dram=replace(self.dram, bandwidth_bytes_per_cycle=bandwidth_bytes_per_cycle))
        slower = self.bandwidth_bytes_per_cycle / bandwidth_bytes_per_cycle
        tck_ps = max(1, round(self.dram_standard.timing.tck_ps * slower))
        return replace(self, dram_timing=replace(self.dram_timing, tck_ps=tck_ps))

    def flat(self) -> dict[str, Any]:
        """``{"table.key": value}`` in the order of the tables; of ``dram_timing`` only what differs."""
        tables = machine_to_document(self)
        return {f"{table}.{key}": value for table in TABLES for key, value in tables.get(table, {}).items()}


TABLES: Mapping[str, type] = MappingProxyType(
    {name: cls for name, cls in get_type_hints(Machine).items() if name not in ("name", "description")}
)
_DEFAULTS: Mapping[str, Mapping[str, Any]] = MappingProxyType({"dram_timing": MappingProxyType({})})  # may be missing
KEYS: tuple[str, ...] = tuple(f"{table}.{f.name}" for table, cls in TABLES.items() for f in fields(cls))

# What tiling and placement are legal for; every other key may change under a compiled program.
FIXED_KEYS = (
    *(key for key in KEYS if key.partition(".")[0] in ("array", "sram")),
    "decoder.codebook_bytes",
    "decoder.codebook_buffers",
)


def preset_names() -> tuple[str, ...]:
    """Names of the machines that ship with Accel."""
    files = (resources.files("accel") / "presets").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


def changes_from_preset(machine: Machine) -> dict[str, Any]:
    """``{"table.key": value}`` where a machine that bears a preset's name differs from it."""
    if machine.name not in preset_names():
        return {}
    usual = _preset_keys(machine.name)
    return {key: value for key, value in machine.flat().items() if value != usual.get(key)}


@cache
def _preset_keys(name: str) -> dict[str, Any]:
    return load_machine(name).flat()


def load_machine(spec: str, overrides: Iterable[str] = ()) -> Machine:
    """A preset name or TOML path, with ``key=value`` overrides. Raises ``ConfigError``."""
    return machine_from_document(with_overrides(_read(spec), overrides), spec)


def _read(spec: str) -> dict[str, Any]:
    if spec in preset_names():
        text = (resources.files("accel") / "presets" / f"{spec}.toml").read_text()
    elif spec.endswith(".toml"):
        try:
            text = Path(spec).read_text()
        except FileNotFoundError as error:
            raise ConfigError(f"machine file '{spec}': no such file") from error
        except OSError as error:
            raise ConfigError(f"machine file '{spec}': {error.strerror or error}") from error
        except ValueError as error:
            raise ConfigError(f"machine file '{spec}': not a text file") from error
    else:
        names = preset_names()
        raise ConfigError(f"machine '{spec}'; allowed: {listed(names)} or a path.toml{nearest(spec, names)}")
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"machine file '{spec}': {error}") from error


def with_overrides(document: dict[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """``document`` with every ``table.key=value`` applied; raises ``ConfigError`` for an unknown key or a bad value."""
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or key not in KEYS:  # the keys are many: what was meant comes before them
            near = key not in KEYS and nearest(key, KEYS)
            raise ConfigError(f"--set {override}{near or ';'} allowed: KEY=VALUE with KEY in {listed(KEYS)}")
        table, name = key.split(".")
        document.setdefault(table, {})[name] = _parse_value(key, text)
    return document


def _parse_value(key: str, text: str) -> str | int | float:
    table, name = key.split(".")
    kind = get_type_hints(TABLES[table])[name]
    if kind is str:
        return text
    try:
        return int(text, 0) if kind is int else float(text)
    except ValueError:
        raise ConfigError(f"--set {key}={text}; allowed: {'an integer' if kind is int else 'a number'}") from None


def machine_from_document(document: Mapping[str, Any], where: str) -> Machine:
    """Build a machine from parsed TOML or a run file's ``machine``; raises ``ConfigError`` naming key and place."""
    allowed = ("name", "description", *TABLES)
    for key in document:
        if key not in allowed:
            raise ConfigError(f"machine '{where}': unknown key {key!r}; allowed: {listed(allowed)}{nearest(key, KEYS)}")
    for key, value in (document.get("dram_timing") or {}).items():
        if isinstance(value, int) and value < 0:
            raise ConfigError(f"machine '{where}': dram_timing.{key} = {value}; allowed: at least 0")
    tables = {name: _table(name, cls, document.get(name, _DEFAULTS.get(name)), where) for name, cls in TABLES.items()}
    name = str(document.get("name", Path(where).stem))
    return Machine(name=name, description=str(document.get("description", "")), **tables)


def _table(name: str, cls: type, values: object, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"machine '{where}': table [{name}] is missing")
    types = get_type_hints(cls)
    for key, value in values.items():
        if key not in types:
            near = nearest(f"{name}.{key}", KEYS)
            raise ConfigError(f"machine '{where}': unknown key {f'{name}.{key}'!r}; allowed: {listed(types)}{near}")
        accepted = (int, float) if types[key] is float else types[key]
        if not isinstance(value, accepted) or isinstance(value, bool):
            raise ConfigError(f"machine '{where}': {name}.{key} = {value!r}; allowed: {types[key].__name__}")
    try:
        return cls(**values)
    except TypeError as error:
        missing = str(error).partition(": ")[2] or str(error)
        raise ConfigError(f"machine '{where}': table [{name}] lacks {missing}") from error


def machine_to_document(machine: Machine) -> dict[str, Any]:
    """Inverse of ``machine_from_document``; timing parameters as the standard has them are left out."""
    document = asdict(machine)
    changes = {key: value for key, value in document.pop("dram_timing").items() if value != STANDARD_VALUE}
    return document | ({"dram_timing": changes} if changes else {})


def machine_digest(machine: Machine) -> str:
    """SHA-256 over every key, name and description left out: machines that time alike have one."""
    return hashlib.sha256(json.dumps(machine.flat(), sort_keys=True).encode()).hexdigest()
