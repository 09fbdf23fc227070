"""An AXI4-Lite subordinate: 32 bits, one write and one read at a time, every output a register."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

OKAY, SLVERR = 0, 2
DATA_BITS = 32
READ_CYCLES = 2  # from ``read_address`` to ``read_data``
SETTLE_CYCLES = 4  # that ``write_data`` and ``write_address`` stand still before ``write``
EFFECT_CYCLES = 6  # from there to its response: by then STATUS, EVENTS and irq show what it did


def axi_lite_ports(address_bits: int) -> dict[str, wiring.Member]:
    """The signals of the bus by name, as the subordinate sees them. Addresses are of bytes."""
    return {
        "awaddr": In(address_bits),
        "awvalid": In(1),
        "awready": Out(1, init=1),
        "wdata": In(DATA_BITS),
        "wstrb": In(DATA_BITS // 8),
        "wvalid": In(1),
        "wready": Out(1, init=1),
        "bresp": Out(2),
        "bvalid": Out(1),
        "bready": In(1),
        "araddr": In(address_bits),
        "arvalid": In(1),
        "arready": Out(1, init=1),
        "rdata": Out(DATA_BITS),
        "rresp": Out(2),
        "rvalid": Out(1),
        "rready": In(1),
    }


class AxiLite(wiring.Component):
    """The bus on one side, word addresses on the other.

    ``write`` pulses when ``write_address`` and ``write_data`` have been stable for ``SETTLE_CYCLES``: what is derived
    from them may take registers on its way. ``write_refused`` says then that there is nothing to write. ``read_data``
    and ``read_refused`` are taken ``READ_CYCLES`` after ``read_address``. Refused accesses, and writes of less than a
    word, get SLVERR.
    """

    def __init__(self, address_bits: int) -> None:
        word_bits = address_bits - 2
        super().__init__(
            {
                **axi_lite_ports(address_bits),
                "write": Out(1),
                "write_address": Out(word_bits),
                "write_data": Out(DATA_BITS),
                "write_refused": In(1),
                "read_address": Out(word_bits),
                "read_data": In(DATA_BITS),
                "read_refused": In(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self._write(m)
        self._read(m)
        return m

    def _write(self, m: Module) -> None:
        both, whole, answered, refused = Signal(), Signal(), Signal(), Signal()
        waited, request, answer = Signal(SETTLE_CYCLES + EFFECT_CYCLES), Signal(), Signal()
        with m.If(self.awvalid & self.awready):
            m.d.sync += [self.awready.eq(0), self.write_address.eq(self.awaddr[2:])]
        with m.If(self.wvalid & self.wready):
            m.d.sync += [self.wready.eq(0), self.write_data.eq(self.wdata), whole.eq(self.wstrb.all())]
        m.d.comb += [
            both.eq(~self.awready & ~self.wready),
            request.eq(waited[SETTLE_CYCLES - 1] & ~waited[SETTLE_CYCLES]),
            refused.eq(self.write_refused | ~whole),
            answer.eq(waited[-1] & ~answered),
        ]
        m.d.sync += self.write.eq(request & ~refused)
        m.d.sync += [waited.eq(Mux(both, (waited << 1) | 1, 0)), answered.eq(both & (answered | answer))]
        m.d.sync += self.bvalid.eq(answer | (self.bvalid & ~self.bready))  # no flag resets itself: see rtl.sequencer
        with m.If(answer):
            m.d.sync += self.bresp.eq(Mux(refused, SLVERR, OKAY))
        with m.If(self.bvalid & self.bready):
            m.d.sync += [self.awready.eq(1), self.wready.eq(1)]

    def _read(self, m: Module) -> None:
        accepted, waited = Signal(), Signal(READ_CYCLES + 1)
        m.d.comb += accepted.eq(self.arvalid & self.arready)
        m.d.sync += waited.eq((waited << 1) | accepted)
        with m.If(accepted):
            m.d.sync += [self.arready.eq(0), self.read_address.eq(self.araddr[2:])]
        m.d.sync += self.rvalid.eq(waited[-1] | (self.rvalid & ~self.rready))
        with m.If(waited[-1]):
            m.d.sync += [self.rdata.eq(self.read_data), self.rresp.eq(Mux(self.read_refused, SLVERR, OKAY))]
        with m.If(self.rvalid & self.rready):
            m.d.sync += self.arready.eq(1)
