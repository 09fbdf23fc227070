"""How DEC cuts a weight stream into strips and tiles, and how many bytes of it each tile needs.

A strip covers ``tile_columns`` columns and all rows; its tiles, of ``tile_rows`` rows each, follow one another in one
continuous record stream, which starts on a 64-byte block and is padded to whole blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from accel.codecs import Codec
from accel.codecs.masks import Mask
from accel.codecs.records import MAX_STAGES, RecordLayout, side_bits
from accel.errors import CodecError
from accel.isa import BLOCK_BYTES, Instruction

RECORD_FIELDS = ("code_bits", "vector_length", "signed", "mask_kept", "mask_group")  # of LDW and DEC
_STAGED = 1  # as ``mask_group``, which no mask has: there are none, and ``mask_kept`` counts the codes of a vector


@dataclass(frozen=True, slots=True)
class TileShape:
    """Rows and columns of one tile, and the convolution groups side by side in it."""

    rows: int
    columns: int
    groups: int


@dataclass(frozen=True, slots=True)
class TileRun:
    """``count`` equal tiles in a row."""

    shape: TileShape
    count: int


@dataclass(frozen=True, slots=True)
class Strip:
    """``needed[t]``: bytes from the strip's start that tile t needs; ``stored_bytes`` is a whole number of blocks."""

    needed: tuple[int, ...]
    stored_bytes: int


def ceil_div(numerator: int, denominator: int) -> int:
    """Quotient of non-negative integers, rounded up."""
    return -(-numerator // denominator)


def tile_codes(rows: int, columns: int, vector_length: int, axis_in: bool, codes_per_vector: int = 1) -> int:
    """Codes of a tile: vectors run along its columns (axis ``out``) or its rows (``in``), the last one padded."""
    if axis_in:
        return ceil_div(rows, vector_length) * columns * codes_per_vector
    return rows * ceil_div(columns, vector_length) * codes_per_vector


def record_stream_bytes(codes: int, layout: RecordLayout) -> int:
    """Bytes the decoder needs for the first ``codes`` codes: whole records with side bits, else whole bytes."""
    return layout.stream_bytes(codes) if layout.side_bits else ceil_div(codes * layout.code_bits, 8)


def mask_of(instruction: Instruction) -> Mask | None:
    """The masks in the records of an LDW or DEC, if any; raises ``CodecError`` for an impossible shape."""
    kept, group = instruction["mask_kept"], instruction["mask_group"]
    return None if group == _STAGED or not (kept or group) else Mask(kept, group)


def codes_per_vector_of(instruction: Instruction) -> int:
    """Codes of a vector, of an LDW or DEC; raises ``CodecError`` for an impossible number of stages."""
    if instruction["mask_group"] != _STAGED:
        return 1
    stages = instruction["mask_kept"]
    if not 2 <= stages <= MAX_STAGES:
        raise CodecError(f"mask_group = 1, mask_kept = {stages} codes a vector; allowed: 2 to {MAX_STAGES}")
    return stages


def layout_of(instruction: Instruction) -> RecordLayout:
    """The records an LDW loads or a DEC decodes; raises ``CodecError`` for an impossible one."""
    code_bits, length = instruction["code_bits"], instruction["vector_length"]
    beside = side_bits(length, bool(instruction["signed"]), mask_of(instruction))
    return RecordLayout(code_bits, length, beside, codes_per_vector_of(instruction))


def record_fields(codec: Codec) -> dict[str, int]:
    """What LDW and DEC say of the records of ``codec``: ``RECORD_FIELDS``."""
    kept, group = (codec.mask.kept, codec.mask.group) if codec.mask else (0, 0)
    if codec.codes_per_vector > 1:
        kept, group = codec.codes_per_vector, _STAGED
    values = (codec.code_bits, codec.vector_length, int(codec.has_signs), kept, group)
    return dict(zip(RECORD_FIELDS, values, strict=True))


@lru_cache(maxsize=1024)
def strip_of(layout: RecordLayout, axis_in: bool, rows: int, columns: int, tile_rows: int) -> Strip:
    """The strip of ``columns`` columns: bytes each of its tiles needs and bytes it occupies."""
    codes, needed = 0, []
    for first in range(0, rows, tile_rows):
        height = min(tile_rows, rows - first)
        codes += tile_codes(height, columns, layout.vector_length, axis_in, layout.codes_per_vector)
        needed.append(record_stream_bytes(codes, layout))
    needed[-1] = layout.stream_bytes(codes)  # a strip is left for good, its padding included
    return Strip(tuple(needed), ceil_div(layout.stream_bytes(codes), BLOCK_BYTES) * BLOCK_BYTES)


@dataclass(frozen=True, slots=True)
class Region:
    """The part of a weight stream one DEC walks: ``strips`` strips, all like ``full`` but the last."""

    layout: RecordLayout
    strips: int
    full: Strip
    last: Strip
    passes: int
    releases: bool

    @property
    def stored_bytes(self) -> int:
        """Ring bytes of the whole region."""
        return (self.strips - 1) * self.full.stored_bytes + self.last.stored_bytes

    @property
    def strip_tiles(self) -> int:
        """Tiles decoded per strip, all passes together."""
        return self.passes * len(self.last.needed)

    @property
    def tiles(self) -> int:
        """Tiles decoded in all."""
        return self.strips * self.strip_tiles

    def strip(self, index: int) -> Strip:
        """Strip number ``index``."""
        return self.full if index < self.strips - 1 else self.last

    def freed_bytes(self, tiles: int) -> int:
        """Ring bytes given back once ``tiles`` tiles are decoded: whole blocks, in each strip's last pass only."""
        if not self.releases:
            return 0
        if tiles >= self.tiles:
            return self.stored_bytes
        index, done = divmod(tiles, self.strip_tiles)
        strip = self.strip(index)
        done -= self.strip_tiles - len(strip.needed)
        partial = strip.needed[done - 1] // BLOCK_BYTES * BLOCK_BYTES if done > 0 else 0
        return index * self.full.stored_bytes + partial


def region_of(dec: Instruction) -> Region:
    """The region of a legal DEC."""
    layout = layout_of(dec)
    axis_in, rows, width = bool(dec["axis_in"]), dec["rows"], dec["tile_columns"]
    strips = ceil_div(dec["columns"], width)
    last_width = dec["columns"] - (strips - 1) * width
    full, last = (strip_of(layout, axis_in, rows, columns, dec["tile_rows"]) for columns in (width, last_width))
    return Region(layout, strips, full, last, dec["passes"], bool(dec["release"]))


def tile_runs(rows: int, columns: int, tile: TileShape, passes: int) -> Iterator[TileRun]:
    """Tiles in the order of decoding and of use: for each strip, ``passes`` times, down the rows."""
    full, rest = divmod(rows, tile.rows)
    for first in range(0, columns, tile.columns):
        width = min(tile.columns, columns - first)
        pair = [TileRun(TileShape(tile.rows, width, tile.groups), full)] if full else []
        pair += [TileRun(TileShape(rest, width, tile.groups), 1)] if rest else []
        for _ in range(passes):
            yield from pair
