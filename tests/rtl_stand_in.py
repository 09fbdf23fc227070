"""A small component in place of a decoder: a writable table, a stalling two-stage read of it, a sum of two fields.

On ECP5 the table is one DP16KD with its output register, as a platform-conditional instance, so that everything around
a decoder meets what decoders are made of.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

WORDS, BITS = 512, 36
LATENCY = 3  # enabled cycles from an address to its sum


class StandIn(wiring.Component):
    """``word`` is that at the ``read_address`` of two enabled cycles ago, ``total`` the sum of its low two bytes."""

    def __init__(self) -> None:
        super().__init__(
            {
                "write_enable": In(1),
                "write_address": In(9),
                "write_data": In(BITS),
                "enable": In(1),
                "read_address": In(9),
                "word": Out(BITS),
                "total": Out(9),
            }
        )

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        hard = getattr(platform, "block_ram", None) == "DP16KD"
        m.submodules.table = self._hard_table() if hard else self._soft_table(m)
        with m.If(self.enable):
            m.d.sync += self.total.eq(self.word[:8] + self.word[8:16])
        return m

    def _soft_table(self, m: Module) -> Any:
        table = memory.Memory(shape=BITS, depth=WORDS, init=[])
        write, read = table.write_port(), table.read_port()
        m.d.comb += [write.en.eq(self.write_enable), write.addr.eq(self.write_address), write.data.eq(self.write_data)]
        m.d.comb += [read.en.eq(self.enable), read.addr.eq(self.read_address)]
        with m.If(self.enable):
            m.d.sync += self.word.eq(read.data)
        return table

    def _hard_table(self) -> Instance:
        write, read = Cat(Const(15, 5), self.write_address), Cat(Const(0, 5), self.read_address)
        pins: dict[str, Any] = {
            f"i_AD{port}{i}": bus[i] for port, bus in (("A", write), ("B", read)) for i in range(14)
        }
        for port, low in (("A", 0), ("B", 18)):
            pins |= {f"i_DI{port}{i}": self.write_data[low + i] for i in range(18)}
            pins |= {f"o_DO{port}{i}": self.word[low + i] for i in range(18)}
            pins |= {f"i_CLK{port}": ClockSignal(), f"i_RST{port}": Const(0), f"i_OCE{port}": self.enable}
            pins |= {f"i_CS{port}{i}": Const(0) for i in range(3)}
            pins |= {f"p_DATA_WIDTH_{port}": BITS, f"p_REGMODE_{port}": "OUTREG"}
        enables = {"i_CEA": self.write_enable, "i_WEA": Const(1), "i_CEB": self.enable, "i_WEB": Const(0)}
        return Instance("DP16KD", p_GSR="DISABLED", **enables, **pins)


class Broken(wiring.Component):
    """Refers to a cell nobody has."""

    def __init__(self) -> None:
        super().__init__({"a": In(1), "q": Out(1)})

    def elaborate(self, platform: Any) -> Module:
        m = Module()
        m.submodules.cell = Instance("NO_SUCH_CELL", i_A=self.a, o_Q=self.q)
        m.d.sync += Signal().eq(self.a)
        return m
