"""What the kernel reads of a program: one record of integers per instruction, and who waits for whom. All by NumPy.

The k-th token popped from a queue is the k-th one pushed there, and both sides run in order, so every pop has one known
producer instruction: tokens turn into completion times of other instructions, and counters are not needed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from accel.codecs.records import RecordLayout
from accel.isa import BLOCK_BYTES, BY_MNEMONIC, INSTRUCTIONS, OPCODE_BITS, QUEUES, VECTOR_FUNCTIONS, Instruction
from accel.tiles import RECORD_FIELDS, layout_of
from sim.decode import Column, Decoded, Rows
from sim.lookups import Lookups
from sim.params import Params

CONFIGURE, TRANSFER, WEIGHTS, GATHER, DECODE_TILES, GEMM, GEMM_STATIONARY, VECTOR_WORK, FINISH = range(9)
ACTIONS = {
    "LDA": TRANSFER,
    "LDW": WEIGHTS,
    "LDC": TRANSFER,
    "GTH": GATHER,
    "DEC": DECODE_TILES,
    "GMC": CONFIGURE,
    "GMO": CONFIGURE,
    "GEM": GEMM,
    "GMS": GEMM_STATIONARY,
    "VST": CONFIGURE,
    "VBT": CONFIGURE,
    "VWN": CONFIGURE,
    "VRS": CONFIGURE,
    "VRQ": CONFIGURE,
    "VEC": VECTOR_WORK,
    "STA": TRANSFER,
    "FIN": FINISH,
}
NOBODY = -1
NO_TOKEN, NEVER = NOBODY, -2  # in ``producers``: nothing is popped from that queue; the token popped is never pushed


# One record per instruction; what an instruction does not use is 0. ``successor``, ``predecessor``: neighbours in its
# queue; ``slot_ahead``: the instruction that must have started for this one to find a free slot; ``next_array``: the
# first GEM or GMS at or behind it in its queue; all ``NOBODY`` where there is none. Transfers move ``rows`` ranges of
# ``row_bytes``, ``stride`` apart. ``cycles`` is vector work, or what LDC folds after its
# data have come. ``lookups_...`` is the place of a DEC in ``sim.lookups``.
# The rest are instruction fields.
FIELDS = (
    *("action", "queue", "layer", "successor", "predecessor", "slot_ahead", "next_array"),
    *("address", "rows", "row_bytes", "stride", "cycles"),
    *("columns", "reduction", "tile_rows", "tile_columns", "groups", "chunk", "passes", "fence", "transposed"),
    *("vector_length", "codes_per_vector", "axis_in", "codebook", "release"),
    *("vectors_per_record", "record_bits", "padded_bytes"),
    *("lookups_at", "lookups_period", "lookups_per_strip"),
)
Code = np.recarray[Any, np.dtype[np.record]]


def build_code(decoded: Decoded, instruction_layer: npt.NDArray[np.int32], params: Params, lookups: Lookups) -> Code:
    """The records of a program whose vector work runs on ``params.lanes`` and whose decoder takes ``lookups``."""
    code = np.recarray(len(decoded), [(name, np.int64) for name in FIELDS])
    code.view(np.int64)[:] = 0
    action_of_opcode = np.zeros(1 << OPCODE_BITS, np.int64)
    for row in INSTRUCTIONS:
        action_of_opcode[row.opcode] = ACTIONS[row.mnemonic]
    code["action"] = action_of_opcode[decoded.opcode]
    code["queue"], code["layer"] = decoded.queue, instruction_layer
    _link_queues(code, params.queue_depth)
    _fill_transfers(code, decoded, params.macs)
    _fill_decode(code, decoded["DEC"], lookups)
    _fill_gemm(code, decoded)
    code["cycles"][decoded["VEC"].index] = vector_cycles(decoded, params.lanes)
    return code


def pair_tokens(decoded: Decoded) -> npt.NDArray[np.int64]:
    """``int64[n, queues]``: the instruction each pop waits for, ``NO_TOKEN`` or ``NEVER``."""
    producers = np.full((len(decoded), len(QUEUES)), NO_TOKEN, np.int64)
    for source in range(len(QUEUES)):
        for target in range(len(QUEUES)):
            pushers = np.flatnonzero((decoded.queue == source) & (decoded.push >> target & 1 == 1))
            poppers = np.flatnonzero((decoded.queue == target) & (decoded.pop >> source & 1 == 1))
            matched = min(len(pushers), len(poppers))
            producers[poppers[:matched], source] = pushers[:matched]
            producers[poppers[matched:], source] = NEVER
    return producers


def last_before(index: Column, configuration: Column) -> Column:
    """For each of ``index``, the place in ``configuration`` (sorted) of the last one before it, or -1."""
    return np.searchsorted(configuration, index) - 1


def in_force(rows: Rows, name: str, index: Column, default: int) -> Column:
    """Value of a configuration field at each of ``index``; ``default`` before the first configuration."""
    places = last_before(index, rows.index)
    values = np.full(len(rows.index) + 1, default, np.int64)
    values[:-1] = rows[name]
    return values[places]


def vector_cycles(decoded: Decoded, lanes: int) -> Column:
    """Cycles of every VEC: ceil(lane operations / lanes), 0 without lanes."""
    operations = vector_operations(decoded)
    return -(-operations // lanes) if lanes else np.zeros_like(operations)


def vector_operations(decoded: Decoded) -> Column:
    """Lane operations of every VEC: elements x repetitions x passes, times the window for windowed functions."""
    passes = np.array([row.passes for row in VECTOR_FUNCTIONS], np.int64)
    return vector_elements(decoded) * vector_windows(decoded) * passes[decoded["VEC"]["function"]]


def vector_elements(decoded: Decoded) -> Column:
    """Elements of every VEC, repetitions included. Capped far above what fits a run, so that products cannot wrap."""
    vec = decoded["VEC"]
    repetitions = in_force(decoded["VBT"], "count", vec.index, 1)
    elements: Column = np.minimum(vec["rows"] * vec["columns"] * repetitions, 1 << 44)
    return elements


def vector_windows(decoded: Decoded) -> Column:
    """Taps of every VEC: the window in force for windowed functions, else 1."""
    vec, window = decoded["VEC"], decoded["VWN"]
    windowed = np.array([row.windowed for row in VECTOR_FUNCTIONS])
    taps = in_force(window, "kernel_h", vec.index, 1) * in_force(window, "kernel_w", vec.index, 1)
    return np.where(windowed[vec["function"]], taps, 1)


def _link_queues(code: Code, queue_depth: int) -> None:
    for queue in range(len(QUEUES)):
        members = np.flatnonzero(code["queue"] == queue)
        code["successor"][members] = np.append(members, NOBODY)[1:][: len(members)]
        code["predecessor"][members] = _delayed(members, 1)
        code["slot_ahead"][members] = _delayed(members, queue_depth)
        uses = np.isin(code["action"][members], (GEMM, GEMM_STATIONARY))
        places = np.append(np.flatnonzero(uses), len(members))
        following = places[np.searchsorted(places, np.arange(len(members)))]
        code["next_array"][members] = np.append(members, NOBODY)[following]


def _delayed(members: Column, places: int) -> Column:
    return np.concatenate([np.full(places, NOBODY, np.int64), members])[: len(members)]


def _fill_transfers(code: Code, decoded: Decoded, macs: int) -> None:
    for mnemonic in ("LDA", "STA"):
        move = decoded[mnemonic]
        dense = (move["stride"] == move["row_bytes"]) | (move["rows"] == 1)
        rows = np.where(dense, np.minimum(move["rows"], 1), move["rows"])
        row_bytes = np.where(dense, move["rows"] * move["row_bytes"], move["row_bytes"])
        _put_transfer(code, move.index, move["address"], rows, row_bytes, move["stride"])
    one, gather, blocks = 1, decoded["GTH"], decoded["LDW"]
    padded = -(-gather["row_bytes"] // BLOCK_BYTES) * BLOCK_BYTES
    aligned = gather["address"] // BLOCK_BYTES * BLOCK_BYTES
    code["fence"][gather.index] = 1  # its indices may be what an earlier load still brings
    _put_transfer(code, gather.index, aligned, gather["rows"], gather["row_bytes"], padded)
    _put_transfer(code, blocks.index, blocks["address"], one, blocks["blocks"] * BLOCK_BYTES, 0)
    codebook = decoded["LDC"]
    _put_transfer(code, codebook.index, codebook["address"], one, codebook["bytes"], 0)
    code["cycles"][codebook.index] = -(-fold_macs(codebook) // macs)


def fold_macs(ldc: Rows) -> Column:
    """Multiply-accumulates that fold the codebook of every LDC; 0 where it is loaded as it is."""
    return folded_bytes(ldc) * ldc["rank"]


def folded_bytes(ldc: Rows) -> Column:
    """Bytes of the codebook that every LDC folds; 0 where it is loaded as it is. ``accel.fold``, a column at once."""
    rank, length = ldc["rank"], ldc["vector_length"]
    codewords: Column = np.maximum(ldc["bytes"] // np.maximum(rank, 1) - length, 0)
    return np.where(rank > 0, codewords * length, 0)


def _put_transfer(
    code: Code,
    index: Column,
    address: Column,
    rows: Column | int,
    row_bytes: Column,
    stride: Column | int,
) -> None:
    for name, values in (("address", address), ("rows", rows), ("row_bytes", row_bytes), ("stride", stride)):
        code[name][index] = values


def _fill_decode(code: Code, dec: Rows, lookups: Lookups) -> None:
    for name in ("at", "period", "per_strip"):
        code[f"lookups_{name}"][dec.index] = getattr(lookups, name)
    for name in ("rows", "columns", "tile_rows", "tile_columns", "passes", "release", "axis_in", "codebook"):
        code[name][dec.index] = dec[name]
    code["vector_length"][dec.index] = dec["vector_length"]
    code["groups"][dec.index] = dec["groups_per_tile"]
    layouts, which = record_layouts(dec)
    sizes = np.array([_record(layout) for layout in layouts], np.int64).reshape(-1, 4)[which]
    names = ("codes_per_vector", "vectors_per_record", "record_bits", "padded_bytes")
    for name, size in zip(names, sizes.T, strict=True):
        code[name][dec.index] = size


def record_layouts(dec: Rows) -> tuple[list[RecordLayout], Column]:
    """The layouts that occur among DECs, and which of them each one has."""
    kinds, which = np.unique(np.stack([dec[name] for name in RECORD_FIELDS], axis=1), axis=0, return_inverse=True)
    decs = (Instruction("DEC", dict(zip(RECORD_FIELDS, kind, strict=True))) for kind in kinds.tolist())
    return [layout_of(dec) for dec in decs], which.reshape(-1)


def _record(layout: RecordLayout) -> tuple[int, int, int, int]:
    """Codes of a vector: it costs as many look-ups. Codes and bits that count as one when a tile's last byte is looked
    for: records with side bits, else codes. And the bytes a strip is padded to a multiple of: whole records."""
    if layout.side_bits:
        return layout.codes_per_vector, layout.vectors_per_record, layout.record_bytes * 8, layout.record_bytes
    return layout.codes_per_vector, 1, layout.code_bits, layout.record_bytes


def _fill_gemm(code: Code, decoded: Decoded) -> None:
    output = decoded["GMO"]
    for mnemonic in ("GEM", "GMS"):
        gemm = decoded[mnemonic]
        for name in ("rows", "columns", "chunk", "fence"):
            code[name][gemm.index] = gemm[name]
        for name in ("reduction", "tile_rows", "tile_columns"):
            code[name][gemm.index] = in_force(output, name, gemm.index, 0)
    code["groups"][decoded["GEM"].index] = decoded["GEM"]["groups_per_tile"]
    code["groups"][decoded["GMS"].index] = 1
    code["transposed"][decoded["GMS"].index] = decoded["GMS"]["transpose_b"]


assert set(ACTIONS) == set(BY_MNEMONIC), "every instruction has an action"
