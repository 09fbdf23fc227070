"""Where the codes and side bits of each group lie: groups get steps, steps get places. It runs ahead of the data."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.configuration import DecoderConfig
from rtl.extractor import Pointer, place_layout, step_layout
from rtl.sequencer import group_layout


def placed_layout(config: DecoderConfig) -> data.StructLayout:
    """A group and the places of its codes and side bits."""
    place = place_layout(config.input_bits)
    return data.StructLayout({"group": group_layout(config), "code": place, "side": place})


NEXT_STRADDLES = ("code_issued", "code_else", "side_issued", "side_else")


class Placer(wiring.Component):
    """Groups in, the same groups with their places out, one a cycle, two cycles later.

    A group is let in (``start``) only with ``credit`` for its results: when it is issued nothing but its words counts.
    ``straddles``: what ``placed.code.straddle`` will be in the next cycle if ``placed`` is taken, and if it is not;
    likewise for side bits.
    """

    def __init__(self, config: DecoderConfig) -> None:
        self._config = config
        super().__init__(
            {
                "group": In(stream.Signature(group_layout(config))),
                "placed": Out(stream.Signature(placed_layout(config))),
                "credit": In(1),
                "start": Out(1),
                "straddles": Out(data.StructLayout(dict.fromkeys(NEXT_STRADDLES, 1))),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config, placed = self._config, self.placed
        stepped, group, go = Signal(), Signal(group_layout(config), reset_less=True), Signal()
        m.d.comb += [
            go.eq(~placed.valid | placed.ready),
            self.group.ready.eq(go & self.credit),
            self.start.eq(self.group.valid & self.group.ready),
        ]
        with m.If(go):
            m.d.sync += [
                stepped.eq(self.group.valid & self.credit),
                group.eq(self.group.p),
                placed.valid.eq(stepped),
                placed.p.group.eq(group),
            ]
        for name in ("code", "side") if config.side_bits else ("code",):
            step = self._step(m, name, go)
            m.submodules[f"{name}_pointer"] = pointer = Pointer(config.input_bits)
            m.d.comb += [pointer.step.eq(step), pointer.end.eq(group.strip_end), pointer.advance.eq(go & stepped)]
            place = pointer.place
            straddle = place.straddle & config.straddles(name)
            m.d.comb += [
                self.straddles[f"{name}_issued"].eq(straddle),
                self.straddles[f"{name}_else"].eq(Mux(placed.valid, placed.p[name].straddle, straddle)),
            ]
            with m.If(go):
                m.d.sync += [placed.p[name].eq(place), placed.p[name].straddle.eq(straddle)]
        return m

    def _step(self, m: Module, name: str, go: Signal) -> data.View:
        """How far each group goes: a table of code widths and vectors."""
        step = Signal(step_layout(self._config.input_bits), name=f"{name}_step", reset_less=True)
        group = self.group.p
        with m.If(go), m.Switch(Cat(group.extra, group.code_bits)):
            for row in self._config.formats.values():
                each, length = row.field(name, self._config.side_bits)
                for extra in range(self._config.lookups):
                    bits = (extra + 1) * each
                    values = {"bits": bits, "less_length": bits - length, "less_length_1": bits - length - 1}
                    with m.Case(extra | row.code_bits << len(group.extra)):
                        m.d.sync += [step[key].eq(value) for key, value in values.items()]
        return step
