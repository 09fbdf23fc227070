"""What benches of a decoder have met, in bins: code widths, places of groups in words of the input, and stalls.

Bins are counted from what was sent and from how ports stalled at the pins; which ones there are follows from a build's
record formats alone, so that a bin nobody thought of shows as missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from accel.codecs.records import WORD_BITS
from rtl.configuration import DecoderConfig, WordFormat
from rtl.layer import LayerPlan
from rtl.vectors import LayerVectors

Bin = tuple[object, ...]

# Bits that tb_decoder sets if, before a beat was taken, the output was not taken; the input had room and nothing came;
# the output was not taken and the input was refused in one and the same cycle.
STALLS: Mapping[str, int] = {"blocked": 1, "starved": 2, "both ends": 4}
NOTHING = "none"


@dataclass(frozen=True, slots=True)
class Group:
    """An output beat: ``vectors`` vectors of layer ``layer``; ``places``: where the first one's fields lie in words;
    ``end``: vectors of its strip up to its last one."""

    layer: int
    code_bits: int
    vectors: int
    places: Mapping[str, int]
    end: int
    begins_tile: bool
    ends_tile: bool
    ends_strip: bool

    def straddles(self, config: DecoderConfig, name: str) -> bool:
        """Whether its fields lie in two words."""
        bits, length = config.formats[self.code_bits].field(name, config.side_bits)
        return self.places[name] + self.vectors * bits > length


def fields(config: DecoderConfig) -> tuple[str, ...]:
    return ("code", "side") if config.side_bits else ("code",)


def groups(config: DecoderConfig, layers: Sequence[LayerVectors]) -> Iterator[Group]:
    """Every beat that ``layers`` bring out, in order."""
    for number, layer in enumerate(layers):
        if layer.plan.code_bits in config.formats:
            yield from _layer_groups(config, number, layer.plan)


def _layer_groups(config: DecoderConfig, number: int, plan: LayerPlan) -> Iterator[Group]:
    for strip in plan:
        at = 0
        for tile in range(strip.tiles):
            last = tile == strip.tiles - 1
            count = strip.last_vectors if last else strip.vectors
            for start in range(0, count, config.lookups):
                vectors = min(config.lookups, count - start)
                ends = start + vectors == count
                places = dict(_places(config, plan.code_bits, at + start))
                end = at + start + vectors
                yield Group(number, plan.code_bits, vectors, places, end, start == 0, ends, ends and last)
            at += count


def _places(config: DecoderConfig, code_bits: int, vector: int) -> Iterator[tuple[str, int]]:
    for name in fields(config):
        bits, length = config.formats[code_bits].field(name, config.side_bits)
        yield name, vector * bits % length


def met(config: DecoderConfig, layers: Sequence[LayerVectors], masks: Sequence[int]) -> Counter[Bin]:
    """How often each bin was met by ``layers``, whose beats came after these stalls."""
    found: Counter[Bin] = Counter()
    before: Group | None = None
    for group, mask in zip(groups(config, layers), masks, strict=True):
        found.update(_bins(config, group, mask, before))
        before = group
    return found


def _bins(config: DecoderConfig, group: Group, mask: int, before: Group | None) -> Iterator[Bin]:
    width, stalls = group.code_bits, [name for name, bit in STALLS.items() if mask & bit] or [NOTHING]
    yield "bank", width, group.layer % 2
    yield from (("width", width, stall) for stall in stalls)
    if before and before.layer != group.layer:
        yield "switch", width, _change(before.code_bits, width)
    for name in fields(config):
        if group.begins_tile:
            yield from ((f"first {name}", width, group.places[name], stall) for stall in stalls)
        if group.ends_tile:
            yield f"last {name}", width, group.vectors, group.straddles(config, name)
        if group.ends_strip:
            yield f"strip's last {name}", width, group.straddles(config, name)
            yield from _half_bins(config, config.formats[width], name, [group.end])
    if group.ends_tile and group.begins_tile:
        yield "tile of one group", width


def _change(before: int, now: int) -> str:
    return "same" if before == now else "wider" if now > before else "narrower"


def reachable(config: DecoderConfig) -> set[Bin]:
    """All bins of a build."""
    bins: set[Bin] = set()
    for width in config.formats:
        bins |= {("bank", width, bank) for bank in (0, 1)} | {("tile of one group", width)}
        bins |= {("width", width, stall) for stall in (*STALLS, NOTHING)}
        bins |= {("switch", width, change) for change in _changes(config, width)}
        for name in fields(config):
            bins.update(_field_bins(config, width, name))
    return bins


def _changes(config: DecoderConfig, width: int) -> Iterator[str]:
    yield from {_change(other, width) for other in config.formats}


def _field_bins(config: DecoderConfig, width: int, name: str) -> Iterator[Bin]:
    bits, length = config.formats[width].field(name, config.side_bits)
    places = {vector * bits % length for vector in range(length)}
    yield from (
        (f"first {name}", width, place, stall) for place in places for stall in (*STALLS, NOTHING) if stall != "starved"
    )
    yield from ((f"first {name}", width, place, "starved") for place in _awaiting(config, width, bits, length))
    for vectors in range(1, config.lookups + 1):
        for place in places:
            straddles = place + vectors * bits > length
            yield f"last {name}", width, vectors, straddles
            yield f"strip's last {name}", width, straddles
    yield from _half_bins(config, config.formats[width], name, range(1, 4 * config.input_bits))


def _half_bins(config: DecoderConfig, row: WordFormat, name: str, sizes: Iterable[int]) -> Iterator[Bin]:
    """Where beats have halves."""
    if config.halves and row.kind == "superblock":
        yield from ((f"strip's half {name}", row.code_bits, *strip_half(config, row, name, size)) for size in sizes)


def strip_half(config: DecoderConfig, row: WordFormat, name: str, vectors: int) -> tuple[int, int]:
    """In which half of a beat, and of a word, the last field of a superblock strip of so many vectors ends."""
    start, words = (row.code_words, row.side_words) if name == "side" else (0, row.code_words)
    last = (vectors * row.field(name, config.side_bits)[0] - 1) // WORD_BITS
    record, within = divmod(last, words)
    return (record * (row.code_words + row.side_words) + start + within) % 2, last % 2


def _awaiting(config: DecoderConfig, width: int, bits: int, length: int) -> set[int]:
    """Places of groups that may find the stream too slow: those that want a beat that none before them wanted."""
    row, lookups = config.formats[width], config.lookups
    vectors = range(1, 4 * config.input_bits)
    return {
        vector * bits % length
        for vector in vectors
        if _beat(config, row, vector + lookups - 1) > _beat(config, row, vector - 1)
    }


def _beat(config: DecoderConfig, row: WordFormat, vector: int) -> int:
    """Number of the last beat that holds bits of a vector of a strip."""
    beat = config.input_bits
    if row.kind == "plain":
        return ((vector + 1) * row.code_bits - 1) // beat
    if row.kind == "aligned":
        return vector // (row.code_length // row.code_bits)
    record, within = divmod(vector, row.code_words * WORD_BITS // row.code_bits)
    start = record * row.record_bits + row.code_words * WORD_BITS
    return (start + (within + 1) * config.side_bits - 1) // beat


def table(config: DecoderConfig, found: Mapping[Bin, int]) -> str:
    """Bins met of those there are, by kind of bin and width of codes."""
    wanted = reachable(config)
    kinds = sorted({str(name) for name, *_ in wanted})
    lines = [f"{config.codec} x{config.lookups}, {config.input_bits} bits", _row("", [f"{w}b" for w in config.formats])]
    for kind in kinds:
        lines.append(_row(kind, [_share(wanted, found, kind, width) for width in config.formats]))
    lines.append(f"{len(wanted & found.keys())} of {len(wanted)} bins met, in {_beats(found)} beats")
    return "\n".join(lines)


def _row(name: str, cells: Iterable[str]) -> str:
    return f"{name:20}" + "".join(f"{cell:>9}" for cell in cells)


def _share(wanted: set[Bin], found: Mapping[Bin, int], kind: str, width: int) -> str:
    bins = [row for row in wanted if row[:2] == (kind, width)]
    return f"{sum(row in found for row in bins)}/{len(bins)}"


def _beats(found: Mapping[Bin, int]) -> int:
    return sum(count for name, count in found.items() if name[0] == "bank")
