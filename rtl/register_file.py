"""The registers of ``rtl.registers`` as hardware, one kind of storage after the other."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from rtl.axi_lite import DATA_BITS
from rtl.registers import ADDRESS_BITS, WORD_BYTES, Register, RegisterMap

WORD_ADDRESS_BITS = ADDRESS_BITS - 2
_LAYER_AREA = 0x40


def signal_name(register: Register, field: str) -> str:
    """The port of ``RegisterFile`` for a field: ``events_width``, ``status_busy``."""
    return f"{register.name}_{field}".lower()


class RegisterFile(wiring.Component):
    """Ports by what registers are made of: of ``live`` ones, their fields; of ``sticky`` ones, what sets each bit; of
    ``counter`` ones, what they count; of ``pulse`` ones, a pulse a bit. ``irq``: an enabled event has happened.
    ``write_address`` and ``write_data`` stand still from the cycle before ``write`` on.

    ``read_data`` is two cycles behind ``read_address``; so is ``read_refused``.
    """

    def __init__(self, registers: RegisterMap, memory_style: str = "distributed") -> None:
        self._map, self._style = registers, memory_style
        ports = {
            "write": In(1),
            "write_address": In(WORD_ADDRESS_BITS),
            "write_data": In(DATA_BITS),
            "write_refused": Out(1),
            "read_address": In(WORD_ADDRESS_BITS),
            "read_data": Out(DATA_BITS),
            "read_refused": Out(1),
            "irq": Out(1),
        }
        for register in registers.of("live", "sticky"):
            ports |= {signal_name(register, field.name): In(field.width) for field in register.fields}
        for register in registers.of("pulse"):
            ports |= {signal_name(register, field.name): Out(1) for field in register.fields}
        ports |= {register.name.lower(): In(1) for register in registers.of("counter")}
        super().__init__(ports)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        words = {
            **{register.name: Const(register.reset, DATA_BITS) for register in self._map.of("constant")},
            **{register.name: self._placed(register, self._ports(register)) for register in self._map.of("live")},
            **{register.name: self._sticky(m, register) for register in self._map.of("sticky")},
            **{register.name: self._plain(m, register) for register in self._map.of("plain")},
        }
        self._pulses(m)
        words |= {register.name: self._counter(m, register) for register in self._map.of("counter")}
        self._read(m, words, self._layer(m))
        m.d.sync += self.irq.eq((words["EVENTS"] & words["IRQ_ENABLE"]).any())
        return m

    def _ports(self, register: Register) -> list[Value]:
        return [getattr(self, signal_name(register, field.name)) for field in register.fields]

    def _placed(self, register: Register, values: list[Value]) -> Value:
        """A word with ``values`` in the places of its fields."""
        word: Value = Const(0, DATA_BITS)
        for field, value in zip(register.fields, values, strict=True):
            word = word | (value << field.lsb)
        return word[:DATA_BITS]

    def _written(self, m: Module, register: Register) -> Value:
        """Addresses stand still before ``write``: they are compared ahead of it."""
        chosen = Signal(name=f"{register.name.lower()}_chosen")
        m.d.sync += chosen.eq(self.write_address == register.offset // WORD_BYTES)
        return self.write & chosen

    def _sticky(self, m: Module, register: Register) -> Value:
        word = Signal(len(register.fields), name=f"{register.name.lower()}_bits")
        cleared = Mux(self._written(m, register), self.write_data[: len(word)], 0)
        m.d.sync += word.eq((word & ~cleared) | Cat(self._ports(register)))
        return word

    def _plain(self, m: Module, register: Register) -> Value:
        word = Signal(len(register.fields), name=f"{register.name.lower()}_bits")
        with m.If(self._written(m, register)):
            m.d.sync += word.eq(self.write_data)
        return word

    def _pulses(self, m: Module) -> None:
        for register in self._map.of("pulse"):
            written = self._written(m, register)
            for field, port in zip(register.fields, self._ports(register), strict=True):
                m.d.sync += port.eq(written & self.write_data[field.lsb])

    def _counter(self, m: Module, register: Register) -> Value:
        count, event = Signal(DATA_BITS, name=f"{register.name.lower()}_count"), Signal()
        m.d.sync += event.eq(getattr(self, register.name.lower()))
        with m.If(self.control_clear_counters):
            m.d.sync += count.eq(0)
        with m.Elif(event):
            m.d.sync += count.eq(count + 1)
        return count

    def _layer(self, m: Module) -> Value:
        """What was written to the layer registers, to be read back: the planner keeps what it makes of it."""
        rows = self._map.of("layer")
        width = max(row.fields[0].width for row in rows)
        ram = memory.Memory(shape=width, depth=16, init=[], attrs={"ram_style": self._style})
        m.submodules.layer = ram
        write, read = ram.write_port(), ram.read_port(domain="comb")
        masks = Array(self._mask_at(index) for index in range(16))
        chosen, written = Signal(), Signal(DATA_BITS)  # what is written stands still before ``write``
        m.d.sync += [
            chosen.eq(Cat(self._is_layer(index) for index in range(32)).bit_select(self.write_address, 1)),
            written.eq(self.write_data & masks[self.write_address[:4]]),
        ]
        m.d.comb += [
            write.en.eq(self.write & chosen),
            write.addr.eq(self.write_address),
            write.data.eq(written),
            read.addr.eq(self.read_address),
        ]
        return read.data

    def _at(self, index: int) -> Register | None:
        return next((row for row in self._map.registers if row.offset == index * WORD_BYTES), None)

    def _is_layer(self, index: int) -> Const:
        row = self._at(index)
        return Const(row is not None and row.storage == "layer", 1)

    def _mask_at(self, index: int) -> Const:
        row = self._at(_LAYER_AREA // WORD_BYTES + index)
        return Const(row.fields[0].mask if row else 0, DATA_BITS)

    def _read(self, m: Module, words: dict[str, Value], layer: Value) -> None:
        """Three areas side by side, then the one of the address."""
        areas = [Signal(DATA_BITS, name=f"area{number}") for number in range(3)]
        low, zero = self.read_address[:3], Const(0, DATA_BITS)
        for number, area in enumerate(areas[:2]):
            rows = [self._at(8 * number + index) for index in range(8)]
            m.d.sync += area.eq(Array(words.get(row.name, zero) if row else zero for row in rows)[low])
        m.d.sync += areas[2].eq(layer)
        selected = Array([areas[0], areas[1], areas[2], areas[2]])[self.read_address[3:]]
        known = [self._at(index) for index in range(1 << WORD_ADDRESS_BITS)]
        readable = Cat(Const(row is not None, 1) for row in known).bit_select(self.read_address, 1)
        writable = Cat(Const(row is not None and row.access != "RO", 1) for row in known)
        m.d.sync += [
            self.read_data.eq(selected),
            self.read_refused.eq(~readable),
            self.write_refused.eq(~writable.bit_select(self.write_address, 1)),
        ]


assert ADDRESS_BITS == 7, "areas are told apart by the upper bits of an address"
