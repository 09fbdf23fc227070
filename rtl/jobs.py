"""A job: what the decoder is told about one strip of a weight stream."""

from __future__ import annotations

from amaranth.lib import data

from rtl.configuration import DecoderConfig

COUNTS = ("beats", "code_end", "side_end", "tiles", "vectors", "last_vectors")


def job_layout(config: DecoderConfig) -> data.StructLayout:
    """Fields of a job. Words are counted from the strip's start.

    - ``code_bits``: width of a code.
    - ``beats``: input beats of the strip, padding to whole blocks included.
    - ``code_end``, ``side_end``: beats up to the last one that holds a code (side bits) of one of its vectors.
    - ``tiles``, ``vectors``, ``last_vectors``: tiles of the strip, vectors of each, and of the last.
    - ``first``, ``last``: whether it is the first (last) strip of a layer.
    - ``drop``: take the strip's beats and make nothing of them.
    """
    flags = ("first", "last", "drop")
    widths = {"code_bits": config.code_width_bits, **dict.fromkeys(COUNTS, config.count_bits), **dict.fromkeys(flags, 1)}
    return data.StructLayout(widths)
