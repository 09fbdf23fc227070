"""How long the decoder's front end takes for every tile of every DEC: a table the kernel looks up, and its totals.

With a copy of the codebook for each port the times of a strip's tiles depend on their shapes only: two strips are timed
for each kind of DEC. With banks they depend on the indices, so every strip is
timed, with the indices the program's DRAM image holds. DRAM that no image covers reads as zeros: the indices of a
program without weights are all 0, and all codes of a group wait for bank 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from accel.codecs.records import RecordLayout, unpack_records
from accel.errors import SimError
from accel.isa import BLOCK_BYTES, Instruction
from accel.metrics import DECODER
from accel.tiles import RECORD_FIELDS, ceil_div, layout_of, region_of, tile_codes
from sim.decode import Column, Rows
from sim.params import Params
from sim.ring import Bytes, Ring, memory_blocks

Figures = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lookups:
    """What the front end costs. Tile t of strip s of DEC n takes ``cycles[at[n] + row * (period[n] + 1) + column]``.

    ``row`` is s if ``per_strip[n]``, else 1 for the last strip and 0 for all others; ``column`` is ``period[n]`` for
    the last tile of a strip, else t modulo ``period[n]``. ``totals[n]``: the counters of ``accel.metrics.DECODER``.
    """

    cycles: Column
    at: Column
    period: Column
    per_strip: Column
    totals: Figures


class _Front(NamedTuple):
    """What the times of codes that meet in no bank depend on: the fields of ``Params`` of these names."""

    lookups: int
    input_bits: int
    fifo_words: int


def _front(params: Params) -> _Front:
    return _Front(params.lookups, params.input_bits, params.fifo_words)


@dataclass(frozen=True, slots=True)
class _Table:
    """The part of ``Lookups`` that the DECs numbered ``members`` share.

    ``figures[row, column]`` are those of ``sim.unpacker``; ``times[row, column]`` is how often each occurs in a pass.
    """

    members: Column
    figures: Figures
    times: Figures
    per_strip: bool


def plan_lookups(dec: Rows, ring: Ring, image: Bytes, params: Params) -> Lookups:
    """Time the tiles of all DECs; raises ``SimError`` if a FIFO is too small for one of them."""
    at, period, per_strip = (np.full(len(dec.index), value) for value in (0, 1, 0))
    totals, parts, size = np.zeros((len(dec.index), len(DECODER)), np.int64), [np.zeros(0, np.int64)], 0
    tables = _banked_tables(dec, ring, image, params) if params.codebook_banks else _shape_tables(dec, params)
    for table in tables:
        members, columns = table.members, table.figures.shape[1]
        at[members], period[members], per_strip[members] = size, columns - 1, table.per_strip
        totals[members] = (table.figures[..., 1:] * table.times[..., None]).sum(axis=(0, 1))
        parts.append(table.figures[..., 0].reshape(-1))
        size += parts[-1].size
    return Lookups(np.concatenate(parts), at, period, per_strip, totals * dec["passes"][:, None])


@dataclass(frozen=True, slots=True)
class _Cut:
    """How a DEC cuts its weights; ``place`` names it in errors."""

    place: str
    dec: Instruction

    @property
    def layout(self) -> RecordLayout:
        return layout_of(self.dec)

    @property
    def strips(self) -> int:
        return ceil_div(self.dec["columns"], self.dec["tile_columns"])

    @property
    def tiles(self) -> int:
        """Tiles of a strip."""
        return ceil_div(self.dec["rows"], self.dec["tile_rows"])

    def counts(self, strip: int) -> Column:
        """Codes of each tile of a strip."""
        dec = self.dec
        width = min(dec["tile_columns"], dec["columns"] - strip * dec["tile_columns"])
        last = dec["rows"] - (self.tiles - 1) * dec["tile_rows"]
        rows = [dec["tile_rows"]] * (self.tiles - 1) + [last]
        length, axis_in, each = dec["vector_length"], bool(dec["axis_in"]), self.layout.codes_per_vector
        return np.array([tile_codes(count, width, length, axis_in, each) for count in rows])


def _cut(dec: Rows, n: int) -> _Cut:
    values = {name: int(column[n]) for name, column in dec.fields.items()}
    return _Cut(f"instruction {dec.index[n]} DEC", Instruction("DEC", values))


_SHAPE = (*RECORD_FIELDS, "axis_in", "rows", "columns", "tile_rows", "tile_columns")


def _shape_tables(dec: Rows, params: Params) -> Iterator[_Table]:
    """One table for all DECs of a shape: a row for full strips, one for the last, a column for each place of a tile."""
    with_codebook = np.flatnonzero(dec["codebook"])
    shapes = np.stack([dec[name][with_codebook] for name in _SHAPE], axis=1)
    _, first, which = np.unique(shapes, axis=0, return_index=True, return_inverse=True)
    front = _front(params)
    for kind, n in enumerate(first.tolist()):
        cut = _cut(dec, with_codebook[n])
        figures = _shape_figures(cut.place, tuple(cut.dec.values.items()), front)
        yield _table(with_codebook[which.reshape(-1) == kind], list(figures), np.array([cut.strips - 1, 1]), False)


@lru_cache(maxsize=1024)  # a sweep asks for few shapes, of each thousands of times
def _shape_figures(place: str, dec: tuple[tuple[str, int], ...], front: _Front) -> tuple[Figures, ...]:
    """Of a full strip and of the last one."""
    cut = _Cut(place, Instruction("DEC", dict(dec)))
    return tuple(_figures(cut, cut.counts(strip), None, front) for strip in (0, cut.strips - 1))


def _table(members: Column, figures: list[Figures], strips: Column, per_strip: bool) -> _Table:
    """``figures[row]`` of the tiles of ``strips[row]`` strips; of a single tile, twice: no column may be missing."""
    tiles = len(figures[0])
    columns = np.ones(tiles, np.int64) if tiles > 1 else np.array([0, 1])
    both = np.stack(figures)
    return _Table(members, both if tiles > 1 else both.repeat(2, axis=1), strips[:, None] * columns, per_strip)


def _banked_tables(dec: Rows, ring: Ring, image: Bytes, params: Params) -> Iterator[_Table]:
    """A table for each DEC, with a row a strip and a column a tile (two for a single one: neither may be missing)."""
    memory, base, loaded = memory_blocks(image), 0, int(ring.blocks.sum())
    for n in range(len(dec.index)):
        cut = _cut(dec, n)
        region = region_of(cut.dec)
        end = base + region.stored_bytes // BLOCK_BYTES
        if dec["codebook"][n] and end <= loaded:  # else: integers, or it waits for ever and needs no times
            yield _banked_table(cut, np.array([n]), ring, memory, base, params)
        base = end if region.releases else base


def _banked_table(cut: _Cut, members: Column, ring: Ring, memory: Bytes, block: int, params: Params) -> _Table:
    from sim.unpacker import bank_cycles

    rows = []
    for strip in range(cut.strips):
        count = cut.counts(strip)
        blocks = ceil_div(cut.layout.stream_bytes(int(count.sum())), BLOCK_BYTES)
        codes, _ = unpack_records(ring.blocks_read(memory, block, blocks), int(count.sum()), cut.layout)
        banks = _banks(codes, cut.layout, params.codebook_banks)
        costs = bank_cycles(banks, count, params.lookups, params.codebook_banks)
        rows.append(_figures(cut, count, costs, _front(params)))
        block += blocks
    return _table(members, rows, np.ones(cut.strips, np.int64), per_strip=True)


def _banks(codes: npt.NDArray[np.uint16], layout: RecordLayout, banks: int) -> npt.NDArray[np.uint16]:
    """The bank that holds the codeword of each code, modulo ``banks``: stages lie one after the other."""
    if layout.codes_per_vector == 1:
        return codes
    stages = np.arange(layout.codes_per_vector, dtype=np.uint32) << np.uint32(layout.code_bits)
    return ((codes.reshape(-1, layout.codes_per_vector) + stages) % banks).astype(np.uint16).reshape(-1)


def _figures(cut: _Cut, count: Column, costs: Column | None, params: _Front) -> Figures:
    """``sim.unpacker.tile_figures`` of a strip; refuses FIFOs that could never take what a group needs."""
    from sim.unpacker import tile_figures
    from sim.words import Strip, flow_of, front_of, least_queue

    front = front_of(cut.layout, params.input_bits, params.lookups)
    flow = flow_of([Strip(front, count.tolist(), ends_layer=True)], cost=costs)
    if (least := least_queue(flow)) > params.fifo_words:
        raise _too_small(cut, params, least)
    return tile_figures(flow, params.fifo_words)


def _too_small(cut: _Cut, params: _Front, least: int) -> SimError:
    what = "signs" if cut.dec["signed"] else "mask bits"
    beside = f" with {cut.layout.side_bits} {what} each" if cut.layout.side_bits else ""
    return SimError(
        f"machine key decoder.fifo_words = {params.fifo_words}: {params.lookups} look-ups a cycle of "
        f"{cut.layout.code_bits}-bit codes{beside} from beats of {params.input_bits} bits need at least {least} "
        f"({cut.place})"
    )
