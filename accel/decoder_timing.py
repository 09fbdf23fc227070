"""Depths and latencies of the decoder's pipeline: one table for hardware and simulator. Times are cycles.

A beat taken in cycle t has its words written in t + ``split``; they count ``counted`` later, and what is decided by
a count is a flag in a register, ``flag`` later: a group can be issued with them in t + ``beat_to_issue``. Its weights
stand at the output ``issue_to_output`` later.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import gcd
from typing import NamedTuple


class DecoderTiming(NamedTuple):
    """``word_queue``, ``output_queue``: entries, of which queues keep some free for what is under way: ``late_writes``
    words (room is known that late), ``late_credits`` groups, and one as a full queue would look empty.
    ``takeover``: registers between the words and the barrel. ``stage_shift_bits``: how much of a shift one register
    stage of the barrel does.
    """

    word_queue: int = 16
    output_queue: int = 16
    late_writes: int = 3
    late_credits: int = 2
    split: int = 1
    counted: int = 1
    flag: int = 1
    queue: int = 2
    takeover: int = 1
    codes: int = 1
    read: int = 2
    side: int = 2
    stage_shift_bits: int = 2

    @property
    def beat_to_issue(self) -> int:
        """From the cycle in which a beat is taken to the first in which a group can be issued with its words."""
        return self.split + self.counted + self.flag

    def window(self, word_bits: Iterable[int], field_bits: Iterable[int]) -> int:
        """Stages of a barrel for words of ``word_bits`` used bits and fields of ``field_bits``, at any code width of a
        build: windows begin at multiples of what divides all of them."""
        words = tuple(word_bits)
        grain = gcd(*words, *field_bits)
        bits = (max(words) - 1).bit_length() - ((grain & -grain).bit_length() - 1)
        return max(1, -(-bits // self.stage_shift_bits))

    def issue_to_output(self, window: int) -> int:
        """From a group's issue to the cycle in which its weights are offered, after barrels of ``window`` stages."""
        return self.takeover + window + self.codes + self.read + self.side + self.queue


TIMING = DecoderTiming()
