"""Where the codes and side bits of each group lie: groups get steps, steps get places. It runs ahead of the data."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Module, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.configuration import DecoderConfig
from rtl.extractor import Pointer, place_layout, step_layout
from rtl.sequencer import group_layout


def placed_layout(config: DecoderConfig) -> data.StructLayout:
    """A group and the places of its codes and side bits."""
    place = place_layout(config.input_bits, config.halves)
    return data.StructLayout({"group": group_layout(config), "code": place, "side": place})


class Placer(wiring.Component):
    """Groups in, the same groups with their places out, one a cycle, three cycles later.

    A group is placed (``start``) only with ``credit`` for its results: when it is issued nothing but its words counts.
    """

    def __init__(self, config: DecoderConfig) -> None:
        self._config = config
        super().__init__(
            {
                "group": In(stream.Signature(group_layout(config))),
                "placed": Out(stream.Signature(placed_layout(config))),
                "credit": In(1),
                "start": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, placed = self._config, self.placed
        waiting, stepped, go, move = Signal(), Signal(), Signal(), Signal()
        first, group = (Signal(group_layout(config), reset_less=True, name=name) for name in ("first", "group"))
        asked = step_key(config, self.group.p)
        key = Signal(len(asked), reset_less=True)
        m.d.comb += [
            go.eq(~placed.valid | placed.ready),
            move.eq(go & self.credit),
            self.group.ready.eq(move),
            self.start.eq(move & stepped),
        ]
        with m.If(go):
            m.d.sync += placed.valid.eq(stepped & self.credit)
        with m.If(move):
            m.d.sync += [waiting.eq(self.group.valid), first.eq(self.group.p), key.eq(asked)]
            m.d.sync += [stepped.eq(waiting), group.eq(first), placed.p.group.eq(group)]
        for name in ("code", "side") if config.side_bits else ("code",):
            step = self._step(m, name, move, key)
            m.submodules[f"{name}_pointer"] = pointer = Pointer(config.input_bits, config.halves)
            m.d.comb += [pointer.step.eq(step), pointer.end.eq(group.strip_end), pointer.advance.eq(move & stepped)]
            with m.If(move):
                m.d.sync += placed.p[name].eq(pointer.place)
                if not config.straddles(name):
                    m.d.sync += placed.p[name].straddle.eq(0)
        return m

    def _step(self, m: Module, name: str, move: Signal, key: Value) -> data.View:
        """How far each group goes: a table of code widths and vectors."""
        step = Signal(step_layout(self._config.input_bits, self._config.halves), name=f"{name}_step", reset_less=True)
        with m.If(move):
            m.d.sync += step.as_value().eq(Array(step_table(self._config, name, len(key)))[key])
        return step


def step_key(config: DecoderConfig, group: data.View) -> Value:
    """What steps depend on: vectors besides the first, and the width of a code less one."""
    return Cat(group.extra, (group.code_bits - 1)[: (config.codec.code_bits - 1).bit_length()])


def step_table(config: DecoderConfig, name: str, key_bits: int) -> list[int]:
    """By ``step_key``: the bits of a group, and how far they are from a word's end and from what is beyond it."""
    layout, table = step_layout(config.input_bits, config.halves), [0] * (1 << key_bits)
    for row in config.formats.values():
        each, length = row.field(name, config.side_bits)
        for extra in range(config.lookups):
            bits = (extra + 1) * each
            key = extra | (row.code_bits - 1) << (config.lookups - 1).bit_length()
            values = {"bits": bits, "less_length": bits - length, "less_length_1": bits - length - 1}
            halves = {"bits_less_1": bits - 1} if config.halves else {}
            table[key] = layout.const({**values, **halves}).as_bits()
    return table
