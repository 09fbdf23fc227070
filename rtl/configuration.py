"""What a decoder is built for: one codec family and shape, how many vectors a cycle, how wide the input.

One frozen object with both faces: the codec whose ``decode`` is the oracle, and every number the hardware needs, from
the record format (``accel.codecs.records``) alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Literal

from accel.codecs import Codec
from accel.codecs.records import WORD_BITS, RecordLayout
from accel.decoder_timing import TIMING
from accel.errors import ConfigError, listed

LOOKUPS = (1, 2, 4, 8)
INPUT_BITS = (64, 128)
VECTOR_LENGTHS = (4, 8, 9, 16, 18)
MOST_CODE_BITS = 12
FAMILIES = ("int8", "int4", "vq", "ssvq", "lr2vq", "mvq")  # of codecs that are built; numbers in register BUILD
DISTRIBUTED_ENTRIES = 16  # codebooks up to here are LUT memory: one DPR16X4 is 16 deep

Kind = Literal["plain", "aligned", "superblock"]


@dataclass(frozen=True, slots=True)
class WordFormat:
    """How beats of the stream split into words of codes and of side bits, at one code width.

    ``plain``: codes only. ``aligned``: each beat holds records of ``record_bits``, whose codes and side bits are
    gathered apart. ``superblock``: ``code_words`` times 64 bits of codes, ``side_words`` times 64 side bits, in turns.
    ``code_bits`` is the width of a code, ``code_length`` and ``side_length`` the bits of a gathered word in use.
    """

    kind: Kind
    code_bits: int
    record_bits: int
    code_words: int
    side_words: int
    code_length: int
    side_length: int

    def field(self, name: str, side_bits: int) -> tuple[int, int]:
        """Bits of one vector's ``code`` or ``side``, and of a word of them."""
        return (side_bits, self.side_length) if name == "side" else (self.code_bits, self.code_length)


def word_format(layout: RecordLayout, input_bits: int) -> WordFormat:
    """The format of one record layout, for FIFO words made of ``input_bits`` of the stream."""
    code, side = layout.code_bits, layout.side_bits
    if not side:
        return WordFormat("plain", code, code, 1, 0, input_bits, 0)
    if layout.is_aligned:
        records = input_bits // (code + side)
        return WordFormat("aligned", code, code + side, 1, 1, records * code, records * side)
    vectors = layout.vectors_per_record
    words = (vectors * code // WORD_BITS, vectors * side // WORD_BITS)
    return WordFormat("superblock", code, vectors * (code + side), *words, input_bits, input_bits)


@dataclass(frozen=True)
class DecoderConfig:
    """A decoder of ``codec`` (its k the largest), ``lookups`` vectors a cycle, ``input_bits`` of the stream a cycle.

    Raises ``ConfigError`` for what cannot be built; the message says what is allowed.
    """

    codec: Codec
    lookups: int = 1
    input_bits: int = 64
    beat_count_bits: int = 16
    tile_count_bits: int = 12
    group_count_bits: int = 12

    def __post_init__(self) -> None:
        _require("lookups", self.lookups, LOOKUPS)
        _require("input_bits", self.input_bits, INPUT_BITS)
        if self.codec.codes_per_vector > 1:
            raise ConfigError(
                f"decoder of {self.codec}: adding the codewords of several stages is not built in hardware; "
                "allowed: codecs with one code a vector"
            )
        _require("codec family", self.codec.family, FAMILIES)
        if self.has_codebook:
            _require("d", self.vector_length, VECTOR_LENGTHS)
        if self.codec.code_bits > MOST_CODE_BITS:
            most = 1 << MOST_CODE_BITS
            raise ConfigError(f"decoder of {self.codec}: k={self.codec.codebook_entries}; allowed: 2 to {most}")
        if self.codec.code_bits not in self.formats:
            raise ConfigError(f"decoder of {self.codec}: {self.lookups} lookups a cycle {self._shortage}")

    @property
    def _shortage(self) -> str:
        needs = self.lookups * max(self.codec.code_bits, self.side_bits)
        return f"take {needs} bits of one input word of {self.input_bits}; use fewer lookups or a wider input"

    @property
    def vector_length(self) -> int:
        """d: weights of one vector."""
        return self.codec.vector_length

    @property
    def has_codebook(self) -> bool:
        """Whether codes are looked up; else they are the weights."""
        return self.codec.codebook_entries > 0

    @property
    def side_bits(self) -> int:
        """Bits stored beside the code of one vector: signs, or the indices of a mask."""
        return self.codec.layout.side_bits

    @cached_property
    def formats(self) -> Mapping[int, WordFormat]:
        """By code width: how the stream is cut. Widths whose ``lookups`` vectors exceed one word are left out."""
        widths = range(1, self.codec.code_bits + 1) if self.has_codebook else (self.codec.code_bits,)
        layouts = [RecordLayout(width, self.vector_length, self.side_bits) for width in widths]
        formats = {layout.code_bits: word_format(layout, self.input_bits) for layout in layouts}
        return MappingProxyType({width: row for width, row in formats.items() if self._fits(row)})

    def _fits(self, row: WordFormat) -> bool:
        sides = not self.side_bits or self.lookups * self.side_bits <= row.side_length
        return self.lookups * row.code_bits <= row.code_length and sides

    @cached_property
    def halves(self) -> bool:
        """Whether codes and side bits may change amid a beat: superblocks of 64-bit words in beats of 128."""
        return self.input_bits > WORD_BITS and any(row.kind == "superblock" for row in self.formats.values())

    def reach(self, row: WordFormat, name: str) -> int:
        """Bits of the next word that a group of the fields ``name`` (``code``, ``side``) can want."""
        bits, length = row.field(name, self.side_bits)
        whole = self.lookups == 1 and length % bits == 0
        return 0 if whole else self.lookups * bits - math.gcd(bits, length)

    def straddles(self, name: str) -> bool:
        """Whether any group of these fields can lie in two words."""
        return any(self.reach(row, name) for row in self.formats.values())

    @property
    def codebook_memory(self) -> Literal["none", "distributed", "block"]:
        """Where codewords are kept."""
        if not self.has_codebook:
            return "none"
        return "distributed" if self.codec.codebook_entries <= DISTRIBUTED_ENTRIES else "block"

    @property
    def sustained_vectors_per_cycle(self) -> float:
        """What the input allows of ``lookups``, with codes of full width and records without padding."""
        return min(self.lookups, self.input_bits / (self.codec.code_bits + self.side_bits))

    @property
    def barrel_stages(self) -> int:
        """Register stages of the slower barrel."""
        rows = self.formats.values()
        code = TIMING.window([row.code_length for row in rows], [row.code_bits for row in rows])
        side = TIMING.window([row.side_length for row in rows], [self.side_bits]) if self.side_bits else 0
        return max(code, side)

    @property
    def latency_cycles(self) -> int:
        """From the cycle in which the beat that completes a group is taken to the one in which its weights are offered,
        with nothing in between them."""
        return TIMING.beat_to_issue + TIMING.issue_to_output(self.barrel_stages)

    @property
    def code_width_bits(self) -> int:
        """Bits of a number that says how wide a code is."""
        return self.codec.code_bits.bit_length()

    @property
    def record_word_bits(self) -> int:
        """Bits of the number of code or side words of 64 bits in a superblock."""
        return max(max(row.code_words, row.side_words) for row in self.formats.values()).bit_length()

    @property
    def output_bytes(self) -> int:
        """Weights of one output beat."""
        return self.lookups * self.vector_length


def _require(name: str, value: int | str, allowed: tuple[int | str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"decoder: {name}={value}; allowed: {listed(map(str, allowed))}")
