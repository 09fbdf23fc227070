"""Weights flow LDW -> ring -> DEC -> tiles -> GEM without tokens: what one end sends, the other must expect.

Both ends are compared as run-length coded sequences, in order, so splitting a matrix over several instructions is fine.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from accel.codecs.records import RecordLayout
from accel.errors import IsaError
from accel.footprint import QueueState
from accel.isa import BLOCK_BYTES, Instruction, disassemble
from accel.legality import place
from accel.machine import Machine
from accel.tiles import Region, TileShape, ceil_div, layout_of, region_of, tile_runs

Item = TypeVar("Item")
Run = tuple[int, Item, int]  # instruction index, item, how many of it


def check_weight_flow(instructions: Sequence[Instruction], machine: Machine) -> int:
    """Check that LDW bytes suit DEC and DEC tiles suit GEM; return the number of tiles. Raises ``IsaError``.

    ``instructions`` are legal one by one.
    """
    for index, instruction in enumerate(instructions):
        if instruction.mnemonic == "DEC":
            _check_ring(index, instruction, machine)
    _compare(instructions, _loaded_blocks(instructions), _consumed_blocks(instructions), "64-byte blocks")
    return _compare(instructions, _decoded_tiles(instructions), used_tiles(instructions), "tiles")


def _check_ring(index: int, dec: Instruction, machine: Machine) -> None:
    """What is decoded more than once must lie in the ring as a whole."""
    region, ring = region_of(dec), machine.sram.weight_bytes // BLOCK_BYTES * BLOCK_BYTES
    if not region.releases and region.stored_bytes > ring:
        what = f"release = 0 keeps {region.stored_bytes} bytes"
    elif region.passes > 1 and region.full.stored_bytes > ring and region.strips > 1:
        what = f"{region.passes} passes over strips of {region.full.stored_bytes} bytes"
    elif region.passes > 1 and region.last.stored_bytes > ring:
        what = f"{region.passes} passes over a strip of {region.last.stored_bytes} bytes"
    else:
        return
    raise IsaError(f"{place(index, dec)}: {what}; allowed: at most the {ring} bytes of the weight ring")


def _loaded_blocks(instructions: Sequence[Instruction]) -> Iterator[Run[RecordLayout]]:
    for index, load in enumerate(instructions):
        if load.mnemonic == "LDW":
            yield index, layout_of(load), load["blocks"]


def _consumed_blocks(instructions: Sequence[Instruction]) -> Iterator[Run[RecordLayout]]:
    """Blocks each DEC takes out of the ring for good; one that rewinds must be followed by one over the same bytes."""
    kept: tuple[int, Region] | None = None
    for index, dec in enumerate(instructions):
        if dec.mnemonic != "DEC":
            continue
        region = region_of(dec)
        if kept and (kept[1].layout, kept[1].stored_bytes) != (region.layout, region.stored_bytes):
            raise _not_reread(kept[0], instructions)
        kept = None if region.releases else (index, region)
        if region.releases:
            yield index, region.layout, region.stored_bytes // BLOCK_BYTES
    if kept:
        raise _not_reread(kept[0], instructions)


def _not_reread(index: int, instructions: Sequence[Instruction]) -> IsaError:
    return IsaError(
        f"{place(index, instructions[index])}: release = 0 rewinds the ring, but the next DEC does not walk the same "
        "bytes again; allowed: a DEC of the same record layout and size, and release = 1 in the last one"
    )


def _decoded_tiles(instructions: Sequence[Instruction]) -> Iterator[Run[TileShape]]:
    for index, dec in enumerate(instructions):
        if dec.mnemonic == "DEC":
            tile = TileShape(dec["tile_rows"], dec["tile_columns"], dec["groups_per_tile"])
            for run in tile_runs(dec["rows"], dec["columns"], tile, dec["passes"]):
                yield index, run.shape, run.count


def used_tiles(instructions: Sequence[Instruction]) -> Iterator[Run[TileShape]]:
    """Runs of equal tiles that each GEM takes from the decoder, in order: (instruction index, shape, count)."""
    state = QueueState()
    for index, gem in enumerate(instructions):
        state.update(gem)
        if gem.mnemonic == "GEM":
            output = state.required("GMO", gem)
            tile = TileShape(output["tile_rows"], output["tile_columns"], gem["groups_per_tile"])
            passes = ceil_div(gem["rows"], gem["chunk"])
            for run in tile_runs(output["reduction"], gem["columns"], tile, passes):
                yield index, run.shape, run.count


def _compare(
    instructions: Sequence[Instruction], sent: Iterable[Run[Item]], expected: Iterable[Run[Item]], what: str
) -> int:
    """Match two run-length coded sequences; return their common length."""
    total = 0
    left, right = iter(sent), iter(expected)
    source, target = next(left, None), next(right, None)
    while source and target:
        if source[1] != target[1]:
            raise _mismatch(instructions, source, target, what)
        count = min(source[2], target[2])
        total += count
        source = (*source[:2], source[2] - count) if source[2] > count else next(left, None)
        target = (*target[:2], target[2] - count) if target[2] > count else next(right, None)
    if source:
        raise _left_over(instructions, source, what, "are sent and never used")
    if target:
        raise _left_over(instructions, target, what, "are expected and never sent")
    return total


def _mismatch(instructions: Sequence[Instruction], source: Run[Item], target: Run[Item], what: str) -> IsaError:
    sender = f"{place(source[0], instructions[source[0]])} sends {what} of {source[1]}"
    receiver = f"instruction {target[0]} '{disassemble(instructions[target[0]])}' expects {target[1]}"
    return IsaError(f"{sender}; {receiver}")


def _left_over(instructions: Sequence[Instruction], run: Run[Item], what: str, why: str) -> IsaError:
    return IsaError(f"{place(run[0], instructions[run[0]])}: {run[2]} {what} of {run[1]} {why}")
