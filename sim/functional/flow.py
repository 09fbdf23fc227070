"""Decoded weights on their way to the array: what DEC decodes, GEM takes, tile by tile, in the same order."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from accel.errors import SimError
from accel.footprint import codebook_interval, decoder_codebook_bytes
from accel.isa import BLOCK_BYTES, Instruction
from accel.tiles import RECORD_FIELDS, TileShape, ceil_div
from sim.functional.memory import run_of
from sim.functional.work import Memories, Work
from sim.regions import Weights, decode_region, region_at
from sim.ring import Ring

_KEPT_REGIONS = 16  # strips that are loaded again for every pass are decoded once
_FORMAT = (*RECORD_FIELDS, "axis_in", "codebook")
_CUT = ("rows", "columns", "tile_rows", "tile_columns")


@dataclass(slots=True)
class _Run:
    """One strip of one pass of a DEC: ``weights[width, rows]``, cut into tiles; ``taken`` rows are gone."""

    where: str
    weights: Weights
    tile_rows: int
    groups: int
    taken: int = 0

    @property
    def next_tile(self) -> TileShape:
        """Shape of the tile the array takes next."""
        width, rows = self.weights.shape
        return TileShape(min(self.tile_rows, rows - self.taken), width, self.groups)


class WeightFlow:
    """Decoded and not yet used tiles. ``first_blocks``: where each DEC begins in the ``ring``'s stream."""

    def __init__(self, ring: Ring, first_blocks: Mapping[int, int]) -> None:
        self.ring, self.first_blocks = ring, first_blocks
        self.runs: deque[_Run] = deque()
        self.regions: OrderedDict[tuple[object, ...], Weights] = OrderedDict()

    def decode(self, work: Work, memories: Memories) -> None:
        """DEC: look its codes up in the bank's present contents."""
        dec = work.instruction
        region = region_at(dec, work.where)
        blocks = region.stored_bytes // BLOCK_BYTES
        data = self.ring.read(memories.dram.data, self.first_blocks[work.index], blocks, work.where)
        codebook = _codebook(work, memories)
        key = (data.tobytes(), None if codebook is None else codebook.tobytes(), *(dec[n] for n in (*_FORMAT, *_CUT)))
        if key not in self.regions:
            self.regions[key] = decode_region(data, dec, region, codebook, work.where)
            while len(self.regions) > _KEPT_REGIONS:
                self.regions.popitem(last=False)
        self._queue(work, self.regions[key])

    def _queue(self, work: Work, weights: Weights) -> None:
        dec = work.instruction
        for first in range(0, dec["columns"], dec["tile_columns"]):
            strip = weights[first : first + dec["tile_columns"]]
            for _ in range(dec["passes"]):
                self.runs.append(_Run(work.where, strip, dec["tile_rows"], dec["groups_per_tile"]))

    def take(self, work: Work) -> list[tuple[slice, Weights]]:
        """What a GEM multiplies its rows with: slices of rows and the ``int8[columns, reduction]`` each of them meets.

        Usually one, as every pass decodes the same weights. Raises ``SimError`` if tiles do not fit or run out.
        """
        gem, output = work.instruction, work.state.required("GMO", work.instruction)
        passes, width = ceil_div(gem["rows"], gem["chunk"]), output["tile_columns"]
        found: list[list[Weights]] = [[] for _ in range(passes)]
        for first in range(0, gem["columns"], width):
            columns = min(width, gem["columns"] - first)
            for strips in found:
                strips.append(self._strip(work, output, columns))
        return [(rows, _joined(strips)) for rows, strips in _merged(found, gem["chunk"])]

    def _strip(self, work: Work, output: Instruction, columns: int) -> Weights:
        """``int8[columns, reduction]``: the next tiles of decoded weights."""
        parts: list[Weights] = []
        reduction, at = output["reduction"], 0
        groups = work.instruction["groups_per_tile"]
        while at < reduction:
            wanted = TileShape(min(output["tile_rows"], reduction - at), columns, groups)
            run = self._next_run(work, wanted)
            whole = run.taken == 0 and at == 0 and run.weights.shape[1] == reduction
            rows = reduction if whole and run.tile_rows == output["tile_rows"] else wanted.rows
            parts.append(run.weights if rows == run.weights.shape[1] else run.weights[:, run.taken :][:, :rows])
            run.taken += rows
            at += rows
            if run.taken == run.weights.shape[1]:
                self.runs.popleft()
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def _next_run(self, work: Work, wanted: TileShape) -> _Run:
        if not self.runs:
            raise SimError(f"{work.where} needs a tile of {wanted}; none is decoded")
        run = self.runs[0]
        if run.next_tile != wanted:
            raise SimError(f"{work.where} needs a tile of {wanted}; {run.where} sends {run.next_tile}")
        return run


def _merged(found: Sequence[list[Weights]], chunk: int) -> list[tuple[slice, list[Weights]]]:
    """Rows of consecutive passes that meet the same weights, together."""
    merged: list[tuple[slice, list[Weights]]] = []
    for number, strips in enumerate(found):
        rows = slice(number * chunk, (number + 1) * chunk)
        if merged and all(a is b or np.array_equal(a, b) for a, b in zip(merged[-1][1], strips, strict=True)):
            merged[-1] = (slice(merged[-1][0].start, rows.stop), merged[-1][1])
        else:
            merged.append((rows, strips))
    return merged


def _joined(strips: Sequence[Weights]) -> Weights:
    return strips[0] if len(strips) == 1 else np.concatenate(strips)


def _codebook(work: Work, memories: Memories) -> Weights | None:
    """``int8[2**code_bits, d]``, of all stages, in the bank, or ``None`` for integers."""
    dec = work.instruction
    if not dec["codebook"]:
        return None
    size = decoder_codebook_bytes(dec)
    start, _ = codebook_interval(dec["bank"], size)
    if memories.codebooks.unwritten(run_of(start, size)):
        raise SimError(f"{work.where}: bank {dec['bank']} holds no codebook of {size} bytes when it starts")
    data = memories.codebooks.read(run_of(start, size), work.index)
    return data.view(np.int8).reshape(-1, dec["vector_length"])
