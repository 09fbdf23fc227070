"""One stream for two readers, each at its own pace."""

from __future__ import annotations

from amaranth.hdl import Module, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

READERS = 2


class Fork(wiring.Component):
    """Each reader gets every payload of ``input``, and may be one ahead of the other, besides the one it works on."""

    def __init__(self, shape: ShapeLike) -> None:
        self._shape = shape
        super().__init__(
            {"input": In(stream.Signature(shape)), "output": Out(stream.Signature(shape)).array(READERS)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        had, load = Signal(READERS), Signal(READERS)
        m.d.comb += self.input.ready.eq((had | load).all())
        for index in range(READERS):
            output = self.output[index]
            m.d.comb += load[index].eq(self.input.valid & ~had[index] & (~output.valid | output.ready))
            with m.If(load[index]):
                m.d.sync += [output.valid.eq(1), output.payload.eq(self.input.payload)]
            with m.Elif(output.ready):
                m.d.sync += output.valid.eq(0)
        with m.If(self.input.ready & self.input.valid):
            m.d.sync += had.eq(0)
        with m.Else():
            m.d.sync += had.eq(had | load)
        return m
