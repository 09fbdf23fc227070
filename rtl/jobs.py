"""A job: what the decoder is told about one strip of a weight stream, in the form its counters want."""

from __future__ import annotations

from amaranth.lib import data

from rtl.configuration import DecoderConfig, WordFormat


def run_layout(config: DecoderConfig) -> data.StructLayout:
    """Groups of a tile, all full but the last one, which has ``extra`` vectors besides its first.

    There are ``groups_less_2`` + 2 groups, or a ``single`` one.
    """
    return data.StructLayout({"groups_less_2": config.group_count_bits, "single": 1, "extra": range(config.lookups)})


def extent_layout(config: DecoderConfig) -> data.StructLayout:
    """How many beats codes (side bits) reach into: ``less_2`` + 2, of which ``double`` marks 2, or a ``single`` one.

    ``short``, where beats have halves: they do not reach into the upper half of the last one.
    """
    halves = {"short": 1} if config.halves else {}
    return data.StructLayout({"less_2": config.beat_count_bits, "single": 1, "double": 1, **halves})


def turns_layout(config: DecoderConfig) -> dict[str, int]:
    """Superblocks: ``code_words_less_1`` + 1 words of 64 bits of codes and ``side_words_less_1`` + 1 of side bits take
    turns; ``words_less_2`` + 2 in all, where beats have halves."""
    bits = config.record_word_bits
    halves = {"words_less_2": bits + 1} if config.halves else {}
    return {"code_words_less_1": bits, "side_words_less_1": bits, **halves}


def turns(row: WordFormat) -> dict[str, int]:
    """The values of ``turns_layout``."""
    code, side = row.code_words, max(1, row.side_words)
    return {"code_words_less_1": code - 1, "side_words_less_1": side - 1, "words_less_2": code + side - 2}


def strip_layout(config: DecoderConfig) -> data.StructLayout:
    """How the beats of a strip split up.

    - ``beats_less_2`` + 2 beats, at least 4: padding to whole blocks of 64 bytes is included.
    - ``aligned``: codes and side bits in every beat; else they take turns.
    """
    extents = dict.fromkeys(("code", "side"), extent_layout(config))
    return data.StructLayout({"beats_less_2": config.beat_count_bits, **extents, "aligned": 1, **turns_layout(config)})


def job_layout(config: DecoderConfig) -> data.StructLayout:
    """A strip: ``code_bits`` a code, ``tiles_less_2`` + 2 tiles or a ``single`` one, all ``run`` but the last one.

    ``first`` and ``last`` mark the strips of a layer; of one to ``drop``, beats are taken and nothing is made.
    """
    return data.StructLayout(
        {
            "code_bits": config.code_width_bits,
            "strip": strip_layout(config),
            "tiles_less_2": config.tile_count_bits,
            "single": 1,
            "run": run_layout(config),
            "last_run": run_layout(config),
            "first": 1,
            "last": 1,
            "drop": 1,
        }
    )
