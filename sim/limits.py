"""Programs the kernel must not be given: sizes of zero where it divides, and work that no run could ever finish.

The static checker proves much more; this is what keeps the kernel safe on any words at all, and it is vectorised.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from accel.codecs.bits import MAX_BITS
from accel.codecs.records import MAX_STAGES, MAX_VECTOR_LENGTH
from accel.errors import SimError
from accel.isa import BLOCK_BYTES
from accel.machine import INPUT_BITS
from sim.columns import fold_macs, in_force, vector_cycles
from sim.decode import Decoded, Rows
from sim.params import TICKS, Params

MAX_EVENTS = 1 << 31  # blocks and tiles of one run: a quarter of an hour of simulation
MAX_CYCLES = 1 << 42  # so that ticks, and their sums, fit 64 bits

_AT_LEAST_ONE = {
    "DEC": ("rows", "columns", "tile_rows", "tile_columns", "groups_per_tile", "passes", "code_bits", "vector_length"),
    "GEM": ("rows", "columns", "chunk", "groups_per_tile"),
    "GMS": ("rows", "columns", "chunk"),
}
_CODE_CYCLES = 1 + 3 * -(-(MAX_BITS + MAX_VECTOR_LENGTH) // min(INPUT_BITS))
_CONFIGURED = ("reduction", "tile_rows", "tile_columns")

Real = npt.NDArray[np.float64]


def check_limits(decoded: Decoded, params: Params) -> None:
    """Raise ``SimError`` naming the instruction and field that make a program impossible to time."""
    for mnemonic, names in _AT_LEAST_ONE.items():
        for name in names:
            _check_range(mnemonic, name, decoded[mnemonic], decoded[mnemonic][name], None)
    _check_range("DEC", "code_bits", decoded["DEC"], decoded["DEC"]["code_bits"], MAX_BITS)
    _check_range("DEC", "vector_length", decoded["DEC"], decoded["DEC"]["vector_length"], MAX_VECTOR_LENGTH)
    for mnemonic in ("GEM", "GMS"):
        for name in _CONFIGURED:
            values = in_force(decoded["GMO"], name, decoded[mnemonic].index, 0)
            _check_range(mnemonic, f"{name} (of GMO)", decoded[mnemonic], values, None)
    _check_work(decoded, params)


def _check_range(mnemonic: str, name: str, rows: Rows, values: npt.NDArray[np.int64], most: int | None) -> None:
    bad = (values < 1) | (values > (most or values))
    if bad.any():
        at = int(np.argmax(bad))
        allowed = f"1 to {most}" if most else "at least 1"
        raise SimError(f"instruction {rows.index[at]} {mnemonic}: {name} = {values[at]}; allowed: {allowed}")


def _check_work(decoded: Decoded, params: Params) -> None:
    blocks, tiles = _block_bound(decoded), _tile_bound(decoded)
    events = blocks + tiles.sum()
    if events > MAX_EVENTS:
        raise SimError(
            f"the program moves {blocks:.3g} blocks and {tiles.sum():.3g} tiles; allowed: {MAX_EVENTS} in all"
        )
    longest = _tile_cycles(decoded, params)
    cycles = blocks * (params.longest_block_ticks + params.latency_ticks) / TICKS + (tiles * longest).sum()
    cycles += np.ceil(fold_macs(decoded["LDC"]) / params.macs).sum()
    cycles += vector_cycles(decoded, params.lanes).astype(np.float64).sum()
    if cycles > MAX_CYCLES:
        raise SimError(f"the program could take {cycles:.3g} cycles; allowed: {MAX_CYCLES}")


def _block_bound(decoded: Decoded) -> float:
    """At least as many blocks as the program moves."""
    total = len(decoded) / 4 + 1
    for mnemonic in ("LDA", "STA", "GTH"):
        move = decoded[mnemonic]
        total += float((move["rows"] * (move["row_bytes"] / BLOCK_BYTES + 2)).sum())
    return total + float(decoded["LDW"]["blocks"].sum()) + float((decoded["LDC"]["bytes"] / BLOCK_BYTES + 2).sum())


def _tile_bound(decoded: Decoded) -> Real:
    """Tiles of every DEC, GEM and GMS, as real numbers: hostile fields overflow integers."""
    dec = decoded["DEC"]
    counts = [_tiles(dec["rows"], dec["columns"], dec["tile_rows"], dec["tile_columns"]) * dec["passes"]]
    for mnemonic in ("GEM", "GMS"):
        gemm = decoded[mnemonic]
        reduction, rows, columns = (in_force(decoded["GMO"], name, gemm.index, 1) for name in _CONFIGURED)
        counts.append(_tiles(reduction, gemm["columns"], rows, columns) * np.ceil(gemm["rows"] / gemm["chunk"]))
    return np.concatenate(counts)


def _tile_cycles(decoded: Decoded, params: Params) -> Real:
    """At least the cycles one tile of every DEC, GEM and GMS takes to decode or load, stream and drain.

    Every code of a tile may wait for a bank, and for three cycles a beat until FIFOs take it: at most ``_CODE_CYCLES``.
    """
    dec, bounds = decoded["DEC"], []
    codes = np.where(dec["mask_group"] == 1, MAX_STAGES, 1) * dec["tile_columns"]
    slowest = np.maximum(_CODE_CYCLES * codes, dec["groups_per_tile"])
    bounds.append(1.0 * dec["tile_rows"] * slowest + MAX_VECTOR_LENGTH + _CODE_CYCLES)
    whole = 2 * params.edge_rows + params.edge_columns + max(0, params.overhead_cycles)
    for mnemonic in ("GEM", "GMS"):
        gemm = decoded[mnemonic]
        rows, columns = (in_force(decoded["GMO"], name, gemm.index, 1) for name in _CONFIGURED[1:])
        groups = gemm["groups_per_tile"] if mnemonic == "GEM" else 1
        bounds.append(3.0 * (gemm["chunk"] + rows * groups + columns) + whole)  # to load, to stream, to leave
    return np.concatenate(bounds)


def _tiles(
    rows: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    tile_rows: npt.NDArray[np.int64],
    tile_columns: npt.NDArray[np.int64],
) -> Real:
    return np.asarray(np.ceil(rows / tile_rows) * np.ceil(columns / tile_columns), np.float64)
