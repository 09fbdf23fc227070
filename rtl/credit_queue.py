"""The end of a pipeline that cannot stop: a queue with a place for everything on its way."""

from __future__ import annotations

from amaranth.hdl import Module, Shape, ShapeLike, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from rtl.queue import Queue


class CreditQueue(wiring.Component):
    """``start`` announces an entry that will be written (``write``) some cycles later; only while ``credit``.

    Announcements and entries taken are counted a cycle late, and the count is looked at a cycle later still: ``credit``
    ends three places early. What is started until that is known fills all ``depth`` of them.
    """

    def __init__(self, shape: ShapeLike, depth: int, memory_style: str) -> None:
        self._shape, self._depth, self._style = shape, depth, memory_style
        super().__init__(
            {
                "start": In(1),
                "credit": Out(1),
                "write": In(1),
                "write_data": In(shape),
                "output": Out(stream.Signature(shape)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        bits = Shape.cast(self._shape).width
        m.submodules.queue = queue = Queue(bits, self._depth, self._style)
        promised = Signal(range(self._depth + 3))
        started, taken = Signal(), Signal()
        m.d.comb += [
            queue.write.eq(self.write),
            queue.write_data.eq(self.write_data),
            self.output.valid.eq(queue.valid),
            self.output.payload.eq(queue.data),
            queue.take.eq(self.output.ready),
        ]
        m.d.sync += [
            started.eq(self.start),
            taken.eq(queue.valid & self.output.ready),
            promised.eq(promised + started - taken),
            self.credit.eq(promised <= self._depth - 3),
        ]
        return m
