"""Fields of fixed stride from a stream of words: where a group of them lies (pointer), and what takes it out (barrel).

The position of a group depends on the sequence of groups only, not on data: the pointer runs ahead of the words, so
that what the words have to wait for are flags in registers.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from accel.decoder_timing import TIMING
from rtl.multiplexer import one_of_four


def place_layout(word_bits: int, halves: bool = False) -> data.StructLayout:
    """Where a group lies: ``shift`` in the current word; ``straddle``: its end lies in the next one; ``leave``: the
    current word is done with; ``leave_both``: so is the next one. ``upper``, of words written by ``halves``: its end
    lies in the upper half of its word."""
    upper = {"upper": 1} if halves else {}
    return data.StructLayout({"shift": range(word_bits), "straddle": 1, "leave": 1, "leave_both": 1, **upper})


def step_layout(word_bits: int, halves: bool = False) -> data.StructLayout:
    """What the pointer adds to its position: the ``bits`` of a group, the same less the length of a word, and that
    less one; with ``halves``, the bits less one."""
    negative = signed((2 * word_bits).bit_length())
    less_1 = {"bits_less_1": range(word_bits)} if halves else {}
    return data.StructLayout(
        {"bits": range(word_bits + 1), "less_length": negative, "less_length_1": negative, **less_1}
    )


class Pointer(wiring.Component):
    """The place of each group in words of some length.

    Combinational from the position register: ``place`` is that of the group whose ``step`` is given; ``advance`` moves
    on to the next one. ``end`` marks the last group of a strip: the next one begins with a new word.
    """

    def __init__(self, word_bits: int, halves: bool = False) -> None:
        self._word_bits, self._halves = word_bits, halves
        super().__init__(
            {
                "step": In(step_layout(word_bits, halves)),
                "end": In(1),
                "advance": In(1),
                "place": Out(place_layout(word_bits, halves)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        position = Signal(range(self._word_bits))
        bits = len(position)
        total, excess, beyond = (Signal(bits + 2, name=name) for name in ("total", "excess", "beyond"))
        # Three sums side by side: whether the word's end is reached, or passed, is the sign of one.
        m.d.comb += [
            total.eq(position + self.step.bits),
            excess.eq(position + self.step.less_length),
            beyond.eq(position + self.step.less_length_1),
            self.place.shift.eq(position),
            self.place.straddle.eq(~beyond[-1]),
            self.place.leave.eq(~excess[-1] | self.end),
            self.place.leave_both.eq(~beyond[-1] & self.end),
        ]
        if self._halves:
            m.d.comb += self.place.upper.eq((position + self.step.bits_less_1)[bits - 1])
        with m.If(self.advance):
            m.d.sync += position.eq(Mux(self.end, 0, Mux(excess[-1], total, excess)[:bits]))
        return m


@dataclass(frozen=True, slots=True)
class BarrelShape:
    """``bits`` of a window begin at a shift below ``word_bits`` that is a multiple of ``grain``.

    ``joints``: for each way words are used, ``(length, reach)``: the bits of a word in use, and how many of the next
    one a window can want.
    """

    word_bits: int
    bits: int
    grain: int
    joints: tuple[tuple[int, int], ...]

    @property
    def stages(self) -> tuple[tuple[int, int], ...]:
        """``(lowest shift bit, shift bits)`` of every register stage, coarsest first: at most 4 to 1 each."""
        low = (self.grain & -self.grain).bit_length() - 1
        high = (max(length for length, _ in self.joints) - 1).bit_length()
        count = max(1, -(-(high - low) // STAGE_SHIFT_BITS))
        edges = [low + (high - low) * i // count for i in range(count + 1)]
        return tuple((a, b - a) for a, b in reversed(list(pairwise(edges))))

    @property
    def cycles(self) -> int:
        """One to take words over, and the stages."""
        return TIMING.takeover + len(self.stages)


STAGE_SHIFT_BITS = TIMING.stage_shift_bits


class Barrel(wiring.Component):
    """Takes ``bits`` from two neighbouring words at ``shift``, in ``shape.cycles``, one window a cycle.

    ``joint``: which of ``shape.joints`` is in use.
    """

    def __init__(self, shape: BarrelShape) -> None:
        self._shape = shape
        super().__init__(
            {
                "current": In(shape.word_bits),
                "following": In(shape.word_bits),
                "joint": In(range(max(2, len(shape.joints)))),
                "shift": In(range(shape.word_bits)),
                "window": Out(shape.bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shape = self._shape
        joined, first_shift = Signal(2 * shape.word_bits, reset_less=True), Signal.like(self.shift)
        m.d.sync += [joined.eq(Cat(self.current, self.following)), first_shift.eq(self.shift)]
        with m.Switch(self.joint):
            for index, (length, reach) in enumerate(shape.joints):
                with m.Case(index):
                    m.d.sync += joined[length : length + reach].eq(self.following)
        bits: Value = joined
        shift: Value = first_shift
        for low, count in shape.stages:
            kept = shape.bits + (1 << low) - 1 if low > _lowest(shape) else shape.bits
            stage, later = Signal(kept, name=f"window{low}"), Signal(len(shift), name=f"shift{low}")
            m.d.sync += stage.eq(shifted(m, platform, bits, shift[low : low + count], low, kept))
            m.d.sync += later.eq(shift)
            bits, shift = stage, later
        m.d.comb += self.window.eq(bits)
        return m


def shifted(m: Module, platform: object, bits: Value, shift: Value, low: int, kept: int) -> Value:
    """The low ``kept`` bits of ``bits >> (shift << low)``: one stage, of two or four places to begin at."""
    if len(shift) == 1:
        return Mux(shift, bits[1 << low :], bits)
    return one_of_four(m, platform, shift, [bits[place << low :][:kept] for place in range(1 << len(shift))])


def _lowest(shape: BarrelShape) -> int:
    return shape.stages[-1][0]
