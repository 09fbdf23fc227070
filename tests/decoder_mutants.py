"""Decoders broken on purpose: one place each in the text of one module. A bench that lets one pass is worth nothing."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
from decoder_bench import random_plan
from decoder_scenarios import BURSTS, SLOW, Scenario, Stalls, book_faults, faults
from formal_flow import Mutant, broken

from accel.codecs import parse_codec
from rtl.configuration import DecoderConfig
from rtl.vectors import random_layer

# Small, yet with aligned records (4 bits a code) and superblocks (fewer), and groups of up to four vectors.
SPELLING, LOOKUPS = "ssvq:k=16,d=4", 4

MUTANTS: Mapping[str, Mutant] = MappingProxyType(
    {
        "shift off by one": Mutant(
            "rtl.extractor", "self.place.shift.eq(position)", "self.place.shift.eq(position + 1)"
        ),
        "sign bits swapped": Mutant(
            "rtl.core",
            'delayed(m, side, SIDE_AHEAD, "signs")',
            'delayed(m, Cat(side[1], side[0], side[2:]), SIDE_AHEAD, "signs")',
        ),
        "carry of a negation lost": Mutant(
            "rtl.core", "flip3.eq(sign & magnitude[:3].any())", "flip3.eq(sign & magnitude[:2].any())"
        ),
        "beat dropped": Mutant(
            "rtl.splitter",
            "self.code_write.eq(accept.replicate(len(codes)) & codes)",
            "self.code_write.eq(accept.replicate(len(codes)) & codes & (index != 3))",
        ),
        "padding kept": Mutant("rtl.splitter", "& ~done),", "),"),
        "codes and side bits change places": Mutant(
            "rtl.splitter",
            "Mux(in_sides, strip.side_words_less_1, strip.code_words_less_1)",
            "Mux(in_sides, strip.code_words_less_1, strip.side_words_less_1)",
        ),
        "late TLAST not told": Mutant("rtl.splitter", "self.error_late.eq(missed)", "self.error_late.eq(0)"),
        "late TLAST not waited for": Mutant("rtl.splitter", "surplus.eq(missed | (surplus & ~over))", "surplus.eq(0)"),
        "codebook bank stuck": Mutant("rtl.core", "books.bank.eq(tag.group.bank)", "books.bank.eq(0)"),
        "codebook given back after a tile": Mutant(
            "rtl.core", "last.eq(tag.valid & tag.group.layer_end)", "last.eq(tag.valid & tag.group.tile_end)"
        ),
        "last codeword lost": Mutant(
            "rtl.codebook", "write.eq(taken & ~overflow)", "write.eq(taken & ~overflow & ~load.last)"
        ),
        "surplus codeword written": Mutant("rtl.codebook", "write.eq(taken & ~overflow)", "write.eq(taken)"),
        "only the first weight's range checked": Mutant("rtl.codebook", "return tops.any()", "return tops[0]"),
        "straddling group does not wait": Mutant("rtl.words", "two | (one & ~self.place.straddle)", "two | one"),
        "word length of aligned records": Mutant(
            "rtl.configuration", "1, 1, records * code, ", "1, 1, records * code - code, "
        ),
        "TLAST a group early": Mutant(
            "rtl.sequencer", "(index == tile.run.groups_less_2)", "(index + 1 == tile.run.groups_less_2)"
        ),
        "TKEEP a vector short": Mutant("rtl.decoder", "output.p.extra >= lane", "output.p.extra > lane"),
        "credit for one more": Mutant("rtl.credit_queue", "promised <= self._depth - 3", "promised <= self._depth - 2"),
        "layer to drop not dropped": Mutant("rtl.sequencer", "self.tile.valid.eq(~job.drop)", "self.tile.valid.eq(1)"),
        "place kept at a strip's end": Mutant(
            "rtl.extractor",
            "Mux(self.end, 0, Mux(excess[-1], total, excess)[:bits])",
            "Mux(excess[-1], total, excess)[:bits]",
        ),
        "second word kept at a strip's end": Mutant(
            "rtl.extractor", "self.place.leave_both.eq(~beyond[-1] & self.end)", "self.place.leave_both.eq(0)"
        ),
        "last group always full": Mutant(
            "rtl.sequencer", "Mux(end, tile.run.extra, self._config.lookups - 1)", "self._config.lookups - 1"
        ),
        "codes not cut to their width": Mutant(
            "rtl.core", "chosen(window, less_1, starts, width) & used", "chosen(window, less_1, starts, width)"
        ),
        "blocked cycles of all kinds": Mutant(
            "rtl.core", "self.blocked.eq(self.output.valid & ~self.output.ready)", "self.blocked.eq(self.output.valid)"
        ),
        "output changes while it waits": Mutant("rtl.queue", "read.en.eq(~self.valid | self.take)", "read.en.eq(1)"),
        "place in a codebook kept by a reset": Mutant(
            "rtl.codebook",
            "bank = Signal(range(entries)), Signal()",
            "bank = Signal(range(entries), reset_less=True), Signal()",
        ),
    }
)


# Of decoders with input twice as wide, whose superblocks change amid beats.
WIDE_MUTANTS: Mapping[str, Mutant] = MappingProxyType(
    {
        "halves never swapped": Mutant("rtl.packer", "odd ^ upper_alone", "upper_alone"),
        "strip goes on in an open word": Mutant("rtl.packer", " & ~self.close)", ")"),
        "open word not closed": Mutant("rtl.words", "tails[0] + self.write[0]", "tails[1] + self.write[1]"),
        "padding in the upper half kept": Mutant("rtl.splitter", "following[1] & ~cut_following", "following[1]"),
        "superblock a word long": Mutant("rtl.splitter", "passed != strip.words_less_2 + 1", "1"),
        "extent told in beats": Mutant("rtl.planner", "less_1[halvings:]", "less_1"),
    }
)


def mutant_config(input_bits: int = 64) -> DecoderConfig:
    return DecoderConfig(parse_codec(SPELLING), LOOKUPS, input_bits)


def mutant_verilog(mutant: Mutant, input_bits: int) -> str:
    """Of the decoder with that one place changed."""
    with broken(mutant):
        generate = importlib.import_module("rtl.generate")
        return str(generate.decoder_verilog(generate.DecoderRequest(SPELLING, LOOKUPS, input_bits)))


def mutant_scenarios(config: DecoderConfig) -> list[Scenario]:
    """Short, and yet enough to catch them all: every width in either bank, stalls that fill all queues, every fault."""
    rng = np.random.default_rng(2)
    widths = [*config.formats, *reversed(config.formats)]
    layers = [random_layer(config, random_plan(config, rng, width, 60), rng) for width in widths]
    chosen = ("late", "unknown_width", "book_overflow", "minus_128_within")
    return [
        Scenario("bursts", layers, BURSTS),
        Scenario("resets", layers[3:], SLOW, (300, 12)),
        Scenario("output_slow", layers[:3], Stalls(output=(0.7, 30))),
        Scenario("stream_slow", layers, Stalls(stream=(0.8, 3))),
        *(row for maker in (faults, book_faults) for row in maker(config, 5) if row.name in chosen),
    ]
