"""What a decoder is told about a layer: from the shape of a weight stream to counts, and from counts to jobs.

A layer is ``strips`` strips, all ``full`` but the last (``edge``). Every strip is one packet of the input stream: a
whole number of 64-byte blocks, TLAST at its last beat.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from accel.codecs import parse_codec
from accel.codecs.records import WORD_BITS, RecordLayout
from accel.errors import ConfigError, listed
from accel.isa import BLOCK_BYTES
from accel.program import WeightStream
from accel.tiles import ceil_div, tile_codes
from rtl.configuration import INPUT_BITS, DecoderConfig
from rtl.jobs import turns, turns_layout

STRIP_COUNT_BITS = 16


@dataclass(frozen=True, slots=True)
class StripPlan:
    """Counts of one strip.

    ``tiles`` tiles of ``vectors`` vectors, the last one of ``last_vectors``; ``beats`` beats in all, padding included;
    ``code_words`` (``side_words``): 64-bit words up to and including the last one with a code (side bit) of a vector.
    """

    tiles: int
    vectors: int
    last_vectors: int
    beats: int
    code_words: int
    side_words: int

    @property
    def total_vectors(self) -> int:
        """Vectors of all tiles."""
        return (self.tiles - 1) * self.vectors + self.last_vectors


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """``strips`` strips of ``code_bits`` a code, all like ``full`` but the last, ``edge``; both have as many tiles."""

    code_bits: int
    strips: int
    full: StripPlan
    edge: StripPlan

    def __iter__(self) -> Iterator[StripPlan]:
        """Every strip, in order."""
        for index in range(self.strips):
            yield self.edge if index == self.strips - 1 else self.full


@dataclass(frozen=True, slots=True)
class Geometry:
    """A weight stream's ``rows`` (reduction) by ``columns`` (out), cut into tiles; vectors run along ``vector_axis``.

    Raises ``ConfigError`` unless all counts are at least 1 and the axis is ``out`` or ``in``.
    """

    rows: int
    columns: int
    tile_rows: int
    tile_columns: int
    vector_axis: str = "out"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and value < 1:
                raise ConfigError(f"layer: {field.name}={value}; allowed: at least 1")
        if self.vector_axis not in ("out", "in"):
            raise ConfigError(f"layer: vector_axis={self.vector_axis!r}; allowed: out, in")


def layer_plan(config: DecoderConfig, shape: Geometry, code_bits: int) -> LayerPlan:
    """The counts of a layer of ``code_bits`` a code. Raises ``ConfigError`` for what ``config`` cannot count."""
    if code_bits not in config.formats:
        raise ConfigError(f"layer: code_bits={code_bits}; allowed in this build: {listed(map(str, config.formats))}")
    strips = ceil_div(shape.columns, shape.tile_columns)
    rest = shape.columns - (strips - 1) * shape.tile_columns
    edge = _strip_plan(config, shape, rest, code_bits)
    full = _strip_plan(config, shape, shape.tile_columns, code_bits) if strips > 1 else edge
    plan = LayerPlan(code_bits, strips, full, edge)
    check_plan(plan, config)
    return plan


def plan_of_stream(config: DecoderConfig, stream: WeightStream) -> LayerPlan:
    """The counts of a weight stream of a compiled program. Raises ``ConfigError`` if it is of another codec family or
    shape than ``config``, and as ``layer_plan`` does."""
    codec = parse_codec(stream.codec)
    found, built = ((c.family, c.vector_length, c.layout.side_bits, c.mask) for c in (codec, config.codec))
    if found != built or codec.codebook_entries > config.codec.codebook_entries:
        raise ConfigError(f"weight '{stream.weight}': codec {codec}; allowed: {config.codec} or fewer codewords")
    shape = Geometry(stream.rows, stream.columns, stream.tile_rows, stream.tile_columns, stream.vector_axis)
    return layer_plan(config, shape, codec.code_bits)


def _strip_plan(config: DecoderConfig, shape: Geometry, columns: int, code_bits: int) -> StripPlan:
    tiles = ceil_div(shape.rows, shape.tile_rows)
    rows = (shape.tile_rows, shape.rows - (tiles - 1) * shape.tile_rows)
    axis_in = shape.vector_axis == "in"
    last, most = (tile_codes(count, columns, config.vector_length, axis_in) for count in reversed(rows))
    return strip_plan(config, code_bits, tiles, most if tiles > 1 else last, last)


def strip_plan(config: DecoderConfig, code_bits: int, tiles: int, vectors: int, last_vectors: int) -> StripPlan:
    """The counts of a strip of ``tiles`` tiles of ``vectors`` vectors each, the last of ``last_vectors``."""
    layout = RecordLayout(code_bits, config.vector_length, config.side_bits)
    total = (tiles - 1) * vectors + last_vectors
    blocks = ceil_div(layout.stream_bytes(total), BLOCK_BYTES)
    code_end, side_end = _ends(layout, total)
    beat = config.input_bits
    beats = blocks * BLOCK_BYTES * 8 // beat
    return StripPlan(tiles, vectors, last_vectors, beats, ceil_div(code_end, WORD_BITS), ceil_div(side_end, WORD_BITS))


def _ends(layout: RecordLayout, vectors: int) -> tuple[int, int]:
    """Bits of a strip up to the end of its last vector's code, and of its last vector's side bits."""
    code, side, per_record = layout.code_bits, layout.side_bits, layout.vectors_per_record
    if not side:
        return vectors * code, 0
    if layout.is_aligned:
        return (vectors - 1) * (code + side) + code, vectors * (code + side)
    records, within = divmod(vectors - 1, per_record)
    start = records * layout.record_bytes * 8
    return start + (within + 1) * code, start + per_record * code + (within + 1) * side


def limits(config: DecoderConfig) -> Mapping[str, int]:
    """The most of everything a build can count."""
    vectors = config.lookups << config.group_count_bits
    beats = 1 << config.beat_count_bits
    return {
        "strips": (1 << STRIP_COUNT_BITS) - 1,
        "tiles": 1 << config.tile_count_bits,
        **dict.fromkeys(("vectors", "last_vectors"), vectors),
        "beats": beats,
        **dict.fromkeys(("code_words", "side_words"), beats * config.input_bits // WORD_BITS),
    }


def check_plan(plan: LayerPlan, config: DecoderConfig) -> None:
    """Raise ``ConfigError`` for a count that is beyond ``limits(config)``."""
    counts = [("strips", plan.strips, "layer")]
    for name, strip in (("full strip", plan.full), ("edge strip", plan.edge)):
        counts += [(field.name, getattr(strip, field.name), name) for field in fields(StripPlan)]
    most = limits(config)
    for count, value, where in counts:
        if value > most[count]:
            raise ConfigError(f"{where}: {count}={value}; allowed in this build: at most {most[count]}")


def jobs(plan: LayerPlan, config: DecoderConfig) -> list[dict[str, Any]]:
    """The values of ``rtl.jobs.job_layout`` for every strip."""
    made = [_job(config, plan.code_bits, strip) for strip in plan]
    for index, job in enumerate(made):
        job |= {"first": int(index == 0), "last": int(index == plan.strips - 1), "drop": 0}
    return made


def _job(config: DecoderConfig, code_bits: int, strip: StripPlan) -> dict[str, Any]:
    row = config.formats[code_bits]
    return {
        "code_bits": code_bits,
        "strip": {
            "beats_less_2": strip.beats - 2,
            "code": _extent(config, strip.code_words),
            "side": _extent(config, strip.side_words),
            "aligned": int(row.kind == "aligned"),
            **{name: turns(row)[name] for name in turns_layout(config)},
        },
        "tiles_less_2": max(0, strip.tiles - 2),
        "single": int(strip.tiles == 1),
        "run": _run(config, strip.vectors),
        "last_run": _run(config, strip.last_vectors),
    }


def _extent(config: DecoderConfig, words: int) -> dict[str, int]:
    beats = ceil_div(words * WORD_BITS, config.input_bits)
    halves = {"short": int(words == 0 or words % 2)} if config.halves else {}
    return {"less_2": max(0, beats - 2), "single": int(beats <= 1), "double": int(beats == 2), **halves}


def _run(config: DecoderConfig, vectors: int) -> dict[str, int]:
    groups = ceil_div(vectors, config.lookups)
    return {"groups_less_2": max(0, groups - 2), "single": int(groups == 1), "extra": (vectors - 1) % config.lookups}


assert BLOCK_BYTES * 8 % (4 * max(INPUT_BITS)) == 0, "a strip has four beats or more at every width of the input"
