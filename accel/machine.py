"""The machine: frozen, validated tables of numbers, loaded from a preset or a TOML file, one key overridable at a time.

Keys are spelled ``table.key`` everywhere (TOML, ``--set``, run files). Unknown keys are refused with the nearest known.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_type_hints

from accel.errors import ConfigError, listed, nearest

DATAFLOWS = ("ws", "os", "is")
MAPPINGS = ("colLow", "bgLow", "MOP4CLXOR")
IDEAL = "ideal"


@dataclass(frozen=True, slots=True)
class DramStandard:
    """Peak rate of a DRAM standard and the share of it that the derated ideal model grants."""

    transfers_per_second: float
    derate: float
    source: str


# Until the banked model lands, a standard stands for its peak times this derate, and every report says so.
DRAM_STANDARDS: Mapping[str, DramStandard] = MappingProxyType(
    {"LPDDR4-3200": DramStandard(3.2e9, 0.8, "JESD209-4: 3200 MT/s; 80 % of peak, the usual streaming efficiency")}
)


def _require(condition: bool, key: str, value: object, allowed: str) -> None:
    if not condition:
        raise ConfigError(f"machine key {key} = {value!r}; allowed: {allowed}")


def _in_range(key: str, value: float, low: float, high: float) -> None:
    _require(math.isfinite(value) and low <= value <= high, key, value, f"{low:g} to {high:g}")


@dataclass(frozen=True, slots=True)
class Clock:
    """``hz``: cycles per second of the whole accelerator."""

    hz: float

    def __post_init__(self) -> None:
        _in_range("clock.hz", self.hz, 1e3, 1e11)


@dataclass(frozen=True, slots=True)
class Array:
    """Systolic array of int8 multipliers with int32 accumulators."""

    rows: int
    columns: int
    dataflow: str = "ws"

    def __post_init__(self) -> None:
        _in_range("array.rows", self.rows, 1, 1024)
        _in_range("array.columns", self.columns, 1, 1024)
        _require(self.dataflow in DATAFLOWS, "array.dataflow", self.dataflow, listed(DATAFLOWS))


@dataclass(frozen=True, slots=True)
class Sram:
    """On-chip buffers. ``weight_bytes`` holds *compressed* weights; decode happens at the array edge."""

    activation_bytes: int
    weight_bytes: int
    accumulator_bytes: int

    def __post_init__(self) -> None:
        _in_range("sram.activation_bytes", self.activation_bytes, 1024, 1 << 24)
        _in_range("sram.weight_bytes", self.weight_bytes, 256, 1 << 28)
        _in_range("sram.accumulator_bytes", self.accumulator_bytes, 64, 1 << 26)


@dataclass(frozen=True, slots=True)
class Decoder:
    """``codebook_bytes``: the largest codebook one bank holds (two banks: one decodes while the other loads).

    ``lookups_per_cycle`` codewords leave the decoder each cycle, from that many copies of the codebook.
    """

    codebook_bytes: int
    lookups_per_cycle: int

    def __post_init__(self) -> None:
        _in_range("decoder.codebook_bytes", self.codebook_bytes, 16, 1 << 20)
        _in_range("decoder.lookups_per_cycle", self.lookups_per_cycle, 1, 1024)


@dataclass(frozen=True, slots=True)
class Vector:
    """``lanes`` elements a cycle for softmax, norms, residuals, pooling; 0 makes vector work free (closed forms)."""

    lanes: int

    def __post_init__(self) -> None:
        _in_range("vector.lanes", self.lanes, 0, 4096)


@dataclass(frozen=True, slots=True)
class Dram:
    """``standard``: a row of ``DRAM_STANDARDS``, or ``ideal`` with a bandwidth and a latency of its own."""

    standard: str
    data_width_bits: int = 16
    channels: int = 1
    mapping: str = "bgLow"
    bandwidth_bytes_per_cycle: float = 0.0
    latency_cycles: int = 100

    def __post_init__(self) -> None:
        allowed = (IDEAL, *DRAM_STANDARDS)
        hint = f"{listed(allowed)}{nearest(self.standard, allowed)}"
        _require(self.standard in allowed, "dram.standard", self.standard, hint)
        _require(self.data_width_bits in (8, 16, 32, 64, 128), "dram.data_width_bits", self.data_width_bits, "8 to 128")
        _in_range("dram.channels", self.channels, 1, 64)
        _require(self.mapping in MAPPINGS, "dram.mapping", self.mapping, listed(MAPPINGS))
        _in_range("dram.latency_cycles", self.latency_cycles, 0, 100_000)
        low = 0.001 if self.standard == IDEAL else 0.0
        _in_range("dram.bandwidth_bytes_per_cycle", self.bandwidth_bytes_per_cycle, low, 65536)
        if self.standard != IDEAL and self.bandwidth_bytes_per_cycle:
            raise ConfigError(
                f"machine key dram.bandwidth_bytes_per_cycle = {self.bandwidth_bytes_per_cycle:g}: "
                f"{self.standard} fixes the bandwidth; set dram.standard = ideal to choose one"
            )


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

    def __post_init__(self) -> None:
        row_bytes = 4 * self.array.columns
        if self.sram.accumulator_bytes < row_bytes:
            raise ConfigError(
                f"machine key sram.accumulator_bytes = {self.sram.accumulator_bytes}: one row of int32 accumulators "
                f"for array.columns = {self.array.columns} takes {row_bytes} bytes; allowed: at least that"
            )

    @property
    def accumulator_rows(self) -> int:
        """Output rows the accumulators hold: the most one pass over a weight tile can process."""
        return self.sram.accumulator_bytes // (4 * self.array.columns)

    @property
    def macs_per_cycle(self) -> int:
        """Peak multiply-accumulates a cycle."""
        return self.array.rows * self.array.columns

    @property
    def is_derated(self) -> bool:
        """Whether the bandwidth is a derated peak of a DRAM standard rather than a stated ideal."""
        return self.dram.standard != IDEAL

    @property
    def bandwidth_bytes_per_cycle(self) -> float:
        """DRAM bytes per accelerator cycle the timing model grants."""
        if not self.is_derated:
            return self.dram.bandwidth_bytes_per_cycle
        standard = DRAM_STANDARDS[self.dram.standard]
        peak = standard.transfers_per_second * self.dram.data_width_bits / 8 * self.dram.channels
        return peak * standard.derate / self.clock.hz

    def flat(self) -> dict[str, Any]:
        """``{"table.key": value}`` for every key, in the order of the tables."""
        return {f"{t}.{k}": v for t, keys in asdict(self).items() if t in TABLES for k, v in keys.items()}


TABLES: Mapping[str, type] = MappingProxyType(
    {name: cls for name, cls in get_type_hints(Machine).items() if name not in ("name", "description")}
)
KEYS: tuple[str, ...] = tuple(f"{table}.{f.name}" for table, cls in TABLES.items() for f in fields(cls))


def preset_names() -> tuple[str, ...]:
    """Names of the machines that ship with Accel."""
    files = (resources.files("accel") / "presets").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


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
        if not equals or key not in KEYS:
            raise ConfigError(f"--set {override}; allowed: KEY=VALUE with KEY in {listed(KEYS)}{nearest(key, KEYS)}")
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
            raise ConfigError(f"machine '{where}': unknown key '{key}'; allowed: {listed(allowed)}{nearest(key, KEYS)}")
    tables = {name: _table(name, cls, document.get(name), where) for name, cls in TABLES.items()}
    name = str(document.get("name", Path(where).stem))
    return Machine(name=name, description=str(document.get("description", "")), **tables)


def _table(name: str, cls: type, values: object, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise ConfigError(f"machine '{where}': table [{name}] is missing")
    types = get_type_hints(cls)
    for key, value in values.items():
        if key not in types:
            near = nearest(f"{name}.{key}", KEYS)
            raise ConfigError(f"machine '{where}': unknown key '{name}.{key}'; allowed: {listed(types)}{near}")
        accepted = (int, float) if types[key] is float else types[key]
        if not isinstance(value, accepted) or isinstance(value, bool):
            raise ConfigError(f"machine '{where}': {name}.{key} = {value!r}; allowed: {types[key].__name__}")
    try:
        return cls(**values)
    except TypeError as error:
        missing = str(error).partition(": ")[2] or str(error)
        raise ConfigError(f"machine '{where}': table [{name}] lacks {missing}") from error


def machine_to_document(machine: Machine) -> dict[str, Any]:
    """Inverse of ``machine_from_document``."""
    return asdict(machine)
