"""The energy table: picojoules of one access or operation, each figure with its source, and replacements from a file.

Figures are of different years and technologies, and leakage, clock tree, wires between blocks and control are in none
of them: good for comparing formats on a machine, no sign-off. On-chip figures are all 45 nm, so that they fit one
another; the energy of a memory follows from the size of one of its banks. Reads and writes cost the same.
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from accel.errors import ConfigError, listed, nearest

COMPONENTS: Mapping[str, str] = MappingProxyType(
    {
        "dram": "every byte of dram_bytes, instructions included, at the figure of the machine's standard",
        "sram_activation": "operands and table entries read, results and loads written; one of array.rows banks each; "
        "biases, multipliers, norm parameters and channel exponents not counted",
        "sram_weight": "the weight ring: every block written once, records read once a pass; one bank",
        "accumulators": "partial sums read and written back; one of array.columns banks at a time",
        "decoder": "codewords read, codebooks written (a copy a port), sign bits and "
        "masks applied (add.int8 a weight), codewords of further stages added (likewise), codebooks folded (as "
        "array); FIFOs not counted",
        "array": "multiply.int8 and add.int32 for each multiply-accumulate",
        "vector": "multiply.int8 and add.int32 for each lane operation; requantising, reciprocals, roots not counted",
    }
)


@dataclass(frozen=True, slots=True)
class EnergyRow:
    """One row of ``ENERGY_ROWS``: picojoules for each ``unit`` (``bit`` moved or ``operation``)."""

    name: str
    unit: str
    picojoules: float
    source: str

    @property
    def key(self) -> str:
        """The name of its figure in a file."""
        return f"pj_per_{self.unit}"


_HOROWITZ = "Horowitz, Computing's Energy Problem, ISSCC 2014, 45 nm"
_DDR4 = (
    f"640 pJ per 32 bits: {_HOROWITZ}. Currents of a DDR4-2400 data sheet (Ramulator 2's) give 21.4 for streamed "
    "reads; no source tells the speed grades apart"
)
_HBM2 = "O'Connor et al., Fine-Grained DRAM, MICRO 2017"
_SRAM = f"{{}} pJ per 64 bits: {_HOROWITZ}, caches"
ENERGY_ROWS: Mapping[str, EnergyRow] = MappingProxyType(
    {
        row.name: row
        for row in (
            EnergyRow("dram.ideal", "bit", 12.23, "no standard; the constant of the EVA simulator, arXiv 2605.24144"),
            EnergyRow("dram.DDR4-2400", "bit", 20.0, _DDR4),
            EnergyRow("dram.DDR4-3200", "bit", 20.0, _DDR4),
            EnergyRow(
                "dram.LPDDR4-3200", "bit", 8.0,
                "Accelergy's CACTI plug-in, from public data; Ha (thesis, Stanford 2018) simulates 13 to 14: the lower "
                "figure is taken",
            ),
            EnergyRow(
                "dram.LPDDR5-6400", "bit", 6.4,
                "an estimate: LPDDR4 less 20 %, which vendors claim for a generation; no measurement was found",
            ),
            EnergyRow("dram.HBM2-2000", "bit", 3.92, _HBM2),
            EnergyRow("dram.HBM2-2000-legacy", "bit", 3.92, _HBM2),
            EnergyRow("sram.8KiB", "bit", 10 / 64, _SRAM.format(10)),
            EnergyRow("sram.32KiB", "bit", 20 / 64, _SRAM.format(20)),
            EnergyRow("sram.1MiB", "bit", 100 / 64, _SRAM.format(100)),
            EnergyRow("multiply.int8", "operation", 0.2, _HOROWITZ),
            EnergyRow("add.int8", "operation", 0.03, _HOROWITZ),
            EnergyRow("add.int32", "operation", 0.1, _HOROWITZ),
        )
    }
)  # fmt: skip
_SRAM_SIZES = {"sram.8KiB": 8 << 10, "sram.32KiB": 32 << 10, "sram.1MiB": 1 << 20}
_DRAM_PREFIX = "dram."
_PICO = 1e-12


@dataclass(frozen=True, slots=True)
class EnergyTable:
    """The default rows with some figures ``changed`` (picojoules by row name), and where the changes are from.

    Raises ``ConfigError`` for unknown rows and for figures that are negative or not finite.
    """

    changed: Mapping[str, float] = field(default_factory=dict)
    source: str = "default"

    def __post_init__(self) -> None:
        for name, value in self.changed.items():
            _known_row(name, self.source)
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"energy '{self.source}': {name} = {value} pJ; allowed: finite numbers from 0 on")
        differing = {n: float(v) for n, v in self.changed.items() if v != ENERGY_ROWS[n].picojoules}
        object.__setattr__(self, "changed", MappingProxyType(differing))

    def joules(self, name: str) -> float:
        """Joules of one unit of a row."""
        return self.changed.get(name, ENERGY_ROWS[name].picojoules) * _PICO

    def dram_joules(self, standard: str) -> float:
        """Joules of a bit to or from DRAM of a standard."""
        return self.joules(_known_row(_DRAM_PREFIX + standard, self.source).name)

    def sram_joules(self, bank_bytes: float) -> float:
        """Joules of a bit of a memory whose banks hold ``bank_bytes``: a power law of the size between the rows, that
        of the nearest two beyond them (from 8 to 32 KiB the square root; CACTI finds the same at 128 B)."""
        points = [(math.log(size), self.joules(name)) for name, size in _SRAM_SIZES.items()]
        at = math.log(max(1.0, bank_bytes))
        (x0, y0), (x1, y1) = next((pair for pair in pairwise(points) if at <= pair[1][0]), points[-2:])
        return float(y0 * (y1 / y0) ** ((at - x0) / (x1 - x0))) if y0 and y1 else max(y0, y1)

    def document(self) -> dict[str, Any]:
        """What a run file records: where the table is from, a digest of all figures, and those that were changed."""
        figures = {name: self.joules(name) for name in ENERGY_ROWS}
        digest = hashlib.sha256(json.dumps(figures).encode()).hexdigest()
        return {"source": self.source, "sha256": digest, "changed_picojoules": dict(self.changed)}


def _known_row(name: str, where: str) -> EnergyRow:
    if name not in ENERGY_ROWS:
        raise ConfigError(
            f"energy '{where}': no row '{name}'; allowed: {listed(ENERGY_ROWS)}{nearest(name, ENERGY_ROWS)}"
        )
    return ENERGY_ROWS[name]


DEFAULT_ENERGY = EnergyTable()


def load_energy(path: str) -> EnergyTable:
    """The default table with the rows of a TOML file in place of its own; raises ``ConfigError``.

    ``[energy]``, then a line a row: ``dram.LPDDR4-3200 = { pj_per_bit = 5.1, source = "our board" }``.
    """
    try:
        document = tomllib.loads(Path(path).read_text())
    except OSError as error:
        raise ConfigError(f"energy file '{path}': {error.strerror or error}") from error
    except ValueError as error:  # not text, or not TOML
        raise ConfigError(f"energy file '{path}': {error}") from error
    if set(document) != {"energy"} or not isinstance(document["energy"], dict):
        raise ConfigError(f"energy file '{path}': tables {listed(document) or 'none'}; allowed: [energy]")
    return EnergyTable(dict(_figures(document["energy"], path)), path)


def _figures(tables: Mapping[str, Any], path: str) -> Iterator[tuple[str, float]]:
    """Row names and picojoules; TOML splits a row's name at its dot."""
    for group, rows in tables.items():
        if not isinstance(rows, dict):
            raise ConfigError(
                f"energy '{path}': {group} = {rows!r}; allowed: rows like dram.ideal = {{ pj_per_bit = 1 }}"
            )
        for name, values in rows.items():
            row = _known_row(f"{group}.{name}", path)
            yield row.name, _figure(row, values, path)


def _figure(row: EnergyRow, values: object, path: str) -> float:
    given = set(values) if isinstance(values, dict) else set()
    if not isinstance(values, dict) or not {row.key} <= given <= {row.key, "source"}:
        raise ConfigError(f"energy '{path}': {row.name} = {values!r}; allowed: {row.key} and, if you like, source")
    figure = values[row.key]
    if isinstance(figure, bool) or not isinstance(figure, int | float):
        raise ConfigError(f"energy '{path}': {row.name}: {row.key} = {figure!r}; allowed: a number")
    return float(figure)
