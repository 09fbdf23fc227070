"""A place to put what was sent before the sender knew that the reader had stopped."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out


class SkidBuffer(wiring.Component):
    """Passes a stream on without delay; ``input.ready`` is a register: it does not depend on ``output.ready``."""

    def __init__(self, shape: ShapeLike) -> None:
        self._shape = shape
        super().__init__({"input": In(stream.Signature(shape)), "output": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        full, kept = Signal(), Signal(self._shape, reset_less=True)
        m.d.comb += [
            self.input.ready.eq(~full),
            self.output.valid.eq(full | self.input.valid),
            self.output.payload.eq(Mux(full, kept, self.input.payload)),
        ]
        m.d.sync += full.eq(self.output.valid & ~self.output.ready)
        with m.If(~full):
            m.d.sync += kept.eq(self.input.payload)
        return m
