"""Where the codes and side bits of each group lie: groups get steps, steps get places. It runs ahead of the data."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.configuration import DecoderConfig
from rtl.extractor import Pointer, place_layout
from rtl.sequencer import group_layout


def placed_layout(config: DecoderConfig) -> data.StructLayout:
    """A group and the places of its codes and side bits."""
    place = place_layout(config.input_bits)
    return data.StructLayout({"group": group_layout(config), "code": place, "side": place})


class Placer(wiring.Component):
    """Groups in, the same groups with their places out, one a cycle, two cycles later."""

    def __init__(self, config: DecoderConfig) -> None:
        self._config = config
        super().__init__(
            {
                "group": In(stream.Signature(group_layout(config))),
                "placed": Out(stream.Signature(placed_layout(config))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, placed = self._config, self.placed
        stepped, group = Signal(), Signal(group_layout(config))
        go_step, go_place = Signal(), Signal()
        m.d.comb += [
            go_place.eq(stepped & (~placed.valid | placed.ready)),
            go_step.eq(self.group.valid & (~stepped | go_place)),
            self.group.ready.eq(go_step),
        ]
        with m.If(placed.ready):
            m.d.sync += placed.valid.eq(0)
        with m.If(go_place):
            m.d.sync += [placed.valid.eq(1), placed.p.group.eq(group), stepped.eq(0)]
        with m.If(go_step):
            m.d.sync += [stepped.eq(1), group.eq(self.group.p)]
        for name, bits in self._fields():
            place = self._place(m, name, bits, go_step, go_place, group)
            with m.If(go_place):
                m.d.sync += placed.p[name].eq(place)
        return m

    def _fields(self) -> list[tuple[str, Value | Const]]:
        sides = [("side", Const(self._config.side_bits))] if self._config.side_bits else []
        return [("code", self.group.p.code_bits), *sides]

    def _place(self, m: Module, name: str, bits: Value, go_step: Value, go_place: Value, group: data.View) -> data.View:
        config = self._config
        widest = config.side_bits if name == "side" else config.codec.code_bits
        pointer = Pointer(config.input_bits, config.lookups * widest)
        m.submodules[f"{name}_pointer"] = pointer
        step = Signal(range(config.lookups * widest + 1), name=f"{name}_step")
        length = Signal(range(config.input_bits + 1), name=f"{name}_length")
        with m.If(go_step):
            m.d.sync += [step.eq(times(self.group.p.extra, bits)), length.eq(config.input_bits)]
            with m.Switch(self.group.p.code_bits):
                for row in config.formats.values():
                    with m.Case(row.code_bits):
                        m.d.sync += length.eq(row.side_length if name == "side" else row.code_length)
        m.d.comb += [
            pointer.step.eq(step),
            pointer.length.eq(length),
            pointer.end.eq(group.strip_end),
            pointer.advance.eq(go_place),
        ]
        return pointer.place


def times(extra: Value, bits: Value) -> Value:
    """``(extra + 1) * bits`` by shifts and sums: a multiplier block would be too much for three bits."""
    total: Value = bits
    for index in range(len(extra)):
        total = total + (Mux(extra[index], bits, 0) << index)
    return total
