"""Energy of a run: accesses, counted from the instructions, times joules each. An estimate for comparison, no sign-off.

Constants come from different technologies (45 nm arithmetic, a published accelerator's memories); leakage, clock tree,
instruction handling and codebook look-ups are not in the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel.isa import BLOCK_BYTES, VECTOR_FUNCTIONS
from accel.machine import Array
from accel.systolic import DATAFLOWS
from sim.columns import in_force, vector_elements, vector_operations, vector_windows
from sim.decode import Decoded, Rows

COMPONENTS = ("dram", "sram_activation", "sram_weight", "accumulators", "array", "vector")
ACCUMULATOR_BYTES = 4  # int32


@dataclass(frozen=True, slots=True)
class EnergyRow:
    """One row of ``ENERGY``: ``joules`` for each ``unit`` of the accesses called ``access``."""

    access: str
    component: str
    joules: float
    unit: str
    source: str


_EVA = "EVA simulator constants, arXiv 2605.24144"
_HOROWITZ = "Horowitz, ISSCC 2014, 45 nm"
_PICO, _BITS = 1e-12, 8
ENERGY: tuple[EnergyRow, ...] = (
    EnergyRow("dram", "dram", 12.23 * _BITS * _PICO, "B", f"12.23 pJ/bit: {_EVA}"),
    EnergyRow("activation_read", "sram_activation", 0.12 * _BITS * _PICO, "B", f"0.12 pJ/bit: {_EVA}"),
    EnergyRow("activation_written", "sram_activation", 0.13 * _BITS * _PICO, "B", f"0.13 pJ/bit: {_EVA}"),
    EnergyRow("weight_read", "sram_weight", 0.0185 * _BITS * _PICO, "B", f"0.0185 pJ/bit: {_EVA}"),
    EnergyRow("weight_written", "sram_weight", 0.0407 * _BITS * _PICO, "B", f"0.0407 pJ/bit: {_EVA}"),
    EnergyRow("accumulator_read", "accumulators", 0.12 * _BITS * _PICO, "B", f"as activation SRAM: {_EVA}"),
    EnergyRow("accumulator_written", "accumulators", 0.13 * _BITS * _PICO, "B", f"as activation SRAM: {_EVA}"),
    EnergyRow("macs", "array", (0.2 + 0.1) * _PICO, "MAC", f"int8 multiply 0.2 pJ, int32 add 0.1 pJ: {_HOROWITZ}"),
    EnergyRow("lane_operations", "vector", (0.2 + 0.1) * _PICO, "operation", f"counted as a MAC: {_HOROWITZ}"),
)


def energy_joules(decoded: Decoded, dram_bytes: int, array: Array) -> dict[str, float]:
    """Joules by component of a program that moved ``dram_bytes``, by the rows of ``ENERGY``."""
    accesses = count_accesses(decoded, dram_bytes, array)
    joules = dict.fromkeys(COMPONENTS, 0.0)
    for row in ENERGY:
        joules[row.component] += row.joules * accesses[row.access]
    return joules


def count_accesses(decoded: Decoded, dram_bytes: int, array: Array) -> Mapping[str, int]:
    """Accesses by name, in the units of ``ENERGY``.

    - Weight SRAM: every block of LDW is written once; DEC reads each strip once a pass.
    - Activation SRAM: a GEMM reads operand a once a strip of columns (all groups of a tile side by side), also where
      it is what stays in the array; GMS its operand b once a chunk; results are written once. LDA, GTH write what they
      bring, STA reads it. VEC reads each operand (each tap of a window) and writes one byte an element.
    - Accumulators: every partial sum that leaves a tile is read, added to, and written back; output stationary, sums
      leave the array complete and there are none.
    """
    totals = {row.access: 0 for row in ENERGY} | {"dram": dram_bytes}
    totals["weight_written"] = int(decoded["LDW"]["blocks"].sum()) * BLOCK_BYTES
    totals["weight_read"] = _ring_bytes_read(decoded["DEC"])
    for mnemonic, access in (("LDA", "activation_written"), ("GTH", "activation_written"), ("STA", "activation_read")):
        totals[access] += int((decoded[mnemonic]["rows"] * decoded[mnemonic]["row_bytes"]).sum())
    for mnemonic in ("GEM", "GMS"):
        _count_gemm(decoded, decoded[mnemonic], totals, DATAFLOWS[array.dataflow].streamed != "k")
    _count_vector(decoded, totals)
    return totals


def _ring_bytes_read(dec: Rows) -> int:
    """Record bytes DEC takes in, padding of vectors included, of blocks not."""
    length = dec["vector_length"]
    along, across = np.where(dec["axis_in"], (dec["rows"], dec["columns"]), (dec["columns"], dec["rows"]))
    bits = dec["code_bits"] + dec["signed"] * length
    return int((_ceil_divide(along, length) * across * bits * dec["passes"] // _BITS).sum())


def _count_gemm(decoded: Decoded, gemm: Rows, totals: dict[str, int], accumulates: bool) -> None:
    output = decoded["GMO"]
    names = ("reduction", "tile_rows", "tile_columns")
    reduction, tile_rows, tile_columns = (in_force(output, name, gemm.index, 1) for name in names)
    rows, columns = gemm["rows"], gemm["columns"]
    groups = gemm.fields.get("groups_per_tile", np.ones_like(rows))
    results = rows * columns
    strips, tiles = _ceil_divide(columns, tile_columns), _ceil_divide(reduction, tile_rows)
    totals["macs"] += int((results * reduction).sum())
    totals["activation_read"] += int((rows * reduction * groups * strips).sum())
    totals["activation_written"] += int(results.sum())
    partial_bytes = int((results * tiles).sum()) * ACCUMULATOR_BYTES * accumulates
    totals["accumulator_read"] += partial_bytes
    totals["accumulator_written"] += partial_bytes
    if "b" in gemm.fields:
        totals["activation_read"] += int((reduction * columns * _ceil_divide(rows, gemm["chunk"])).sum())


def _count_vector(decoded: Decoded, totals: dict[str, int]) -> None:
    operands = np.array([row.operands for row in VECTOR_FUNCTIONS])[decoded["VEC"]["function"]]
    elements = vector_elements(decoded)
    totals["lane_operations"] = int(vector_operations(decoded).sum())
    totals["activation_read"] += int((elements * vector_windows(decoded) * operands).sum())
    totals["activation_written"] += int(elements.sum())


def _ceil_divide(numerator: npt.NDArray[np.int64], denominator: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return -(-numerator // denominator)
