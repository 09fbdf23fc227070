"""Energy of a run: accesses, counted from the instructions, times the joules of ``accel.energy`` for each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel.energy import COMPONENTS, DEFAULT_ENERGY, EnergyTable
from accel.isa import BLOCK_BYTES, VECTOR_FUNCTIONS
from accel.machine import Machine
from accel.systolic import DATAFLOWS
from sim.columns import (
    fold_macs,
    folded_bytes,
    in_force,
    record_layouts,
    vector_elements,
    vector_operations,
    vector_windows,
)
from sim.decode import Decoded, Rows

ACCUMULATOR_BYTES = 4  # int32
_BITS = 8


@dataclass(frozen=True, slots=True)
class Cost:
    """One access of a kind: what it is charged to, and joules a byte or an operation."""

    component: str
    joules: float


def access_costs(machine: Machine, energy: EnergyTable) -> Mapping[str, Cost]:
    """Costs of the accesses ``count_accesses`` counts. Memories that feed the array are one bank a row or column."""
    sram, array, decoder = machine.sram, machine.array, machine.decoder
    banks = {
        "activation": Cost("sram_activation", energy.sram_joules(sram.activation_bytes / array.rows)),
        "weight": Cost("sram_weight", energy.sram_joules(sram.weight_bytes)),
        "accumulator": Cost("accumulators", energy.sram_joules(sram.accumulator_bytes / array.columns)),
        "codebook": Cost("decoder", energy.sram_joules(decoder.codebook_bytes / max(1, decoder.codebook_banks))),
    }
    mac = energy.joules("multiply.int8") + energy.joules("add.int32")
    memories = {
        f"{name}_{done}": Cost(cost.component, cost.joules * _BITS)
        for name, cost in banks.items()
        for done in ("read", "written")
    }
    return memories | {
        "dram": Cost("dram", energy.dram_joules(machine.dram.standard) * _BITS),
        "signs_applied": Cost("decoder", energy.joules("add.int8")),
        "masks_applied": Cost("decoder", energy.joules("add.int8")),
        "codewords_added": Cost("decoder", energy.joules("add.int8")),
        "fold_macs": Cost("decoder", mac),
        "macs": Cost("array", mac),
        "lane_operations": Cost("vector", mac),
    }


def energy_joules(
    decoded: Decoded, dram_bytes: int, machine: Machine, energy: EnergyTable = DEFAULT_ENERGY
) -> dict[str, float]:
    """Joules by component of a program that moved ``dram_bytes``."""
    accesses, joules = count_accesses(decoded, dram_bytes, machine), dict.fromkeys(COMPONENTS, 0.0)
    for access, cost in access_costs(machine, energy).items():
        joules[cost.component] += cost.joules * accesses[access]
    return joules


def count_accesses(decoded: Decoded, dram_bytes: int, machine: Machine) -> Mapping[str, int]:
    """Accesses by name: bytes of memories, else operations.

    - Weight SRAM: every block of LDW is written once; DEC reads each strip once a pass.
    - Activation SRAM: a GEMM reads operand a once a strip of columns (all groups of a tile side by side), also where
      it is what stays in the array; GMS its operand b once a chunk; results are written once. LDA, GTH write what they
      bring, STA reads it. VEC reads each operand (each tap of a window) and writes one byte an element.
    - Accumulators: every partial sum that leaves a tile is read, added to, and written back; output stationary, sums
      leave the array complete and there are none.
    - Codebook: each code a DEC looks up reads one codeword of one copy; LDC writes every copy, folded if it folds.
    - A mask is charged like signs: one operation a weight, kept or not. That is an upper bound; it takes no adder.
    - Stages of residual codecs: each but the first costs an addition a weight (int8; sums are two to three bits wider).
    """
    totals = dict.fromkeys(access_costs(machine, DEFAULT_ENERGY), 0) | {"dram": dram_bytes}
    totals["weight_written"] = int(decoded["LDW"]["blocks"].sum()) * BLOCK_BYTES
    totals["weight_read"] = _ring_bytes_read(decoded["DEC"])
    for mnemonic, access in (("LDA", "activation_written"), ("GTH", "activation_written"), ("STA", "activation_read")):
        totals[access] += int((decoded[mnemonic]["rows"] * decoded[mnemonic]["row_bytes"]).sum())
    for mnemonic in ("GEM", "GMS"):
        _count_gemm(decoded, decoded[mnemonic], totals, DATAFLOWS[machine.array.dataflow].streamed != "k")
    _count_vector(decoded, totals)
    copies = 1 if machine.decoder.codebook_banks else machine.decoder.lookups_per_cycle
    ldc = decoded["LDC"]
    totals["codebook_written"] = int(np.where(ldc["rank"] > 0, folded_bytes(ldc), ldc["bytes"]).sum()) * copies
    totals["fold_macs"] = int(fold_macs(ldc).sum())
    _count_lookups(decoded["DEC"], totals)
    return totals


def _ring_bytes_read(dec: Rows) -> int:
    """Record bytes DEC takes in, padding of vectors included, of blocks not."""
    layouts, which = record_layouts(dec)
    bits = np.array([each.code_bits * each.codes_per_vector + each.side_bits for each in layouts], np.int64)[which]
    return int((_vectors(dec) * bits // _BITS).sum())


def _vectors(dec: Rows) -> npt.NDArray[np.int64]:
    """Vectors each DEC decodes in all passes, padding included."""
    along, across = np.where(dec["axis_in"], (dec["rows"], dec["columns"]), (dec["columns"], dec["rows"]))
    return np.asarray(_ceil_divide(along, dec["vector_length"]) * across * dec["passes"], np.int64)


def _count_lookups(dec: Rows, totals: dict[str, int]) -> None:
    layouts, which = record_layouts(dec)
    codes = np.array([layout.codes_per_vector for layout in layouts], np.int64)[which]
    weights = _vectors(dec) * dec["vector_length"]
    totals["codebook_read"] = int((weights * codes * dec["codebook"]).sum())
    totals["signs_applied"] = int((weights * dec["signed"]).sum())
    totals["masks_applied"] = int((weights * (dec["mask_group"] > 0) * (codes == 1)).sum())
    totals["codewords_added"] = int((weights * (codes - 1)).sum())


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
    totals["activation_read"] += int((results * in_force(output, "table", gemm.index, 0)).sum())
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
