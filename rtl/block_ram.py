"""Block RAM cells named outright, where inference would leave out the output register that sets the clock rate."""

from __future__ import annotations

from amaranth.hdl import Cat, ClockSignal, Const, Instance, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

# ECP5 (Lattice FPGA-TN-02204, table 3.1): cell width and unused low address bits by depth.
DP16KD_SHAPES = {512: (36, 5), 1024: (18, 4), 2048: (9, 3), 4096: (4, 2), 8192: (2, 1), 16384: (1, 0)}
_PINS, _ADDRESS_BITS = 18, 14
_BYTE_ENABLES = {36: 0b1111, 18: 0b11}  # the low address bits of the write port


def has_dp16kd(platform: object) -> bool:
    """Whether ``platform`` (None: plain Verilog) has these cells."""
    return getattr(platform, "block_ram", None) == "DP16KD"


class Dp16kd(wiring.Component):
    """A write port and a read port of two cycles, the second one the cells' own output register."""

    def __init__(self, depth: int, width: int) -> None:
        self._depth = next(size for size in DP16KD_SHAPES if size >= depth)
        bits = (depth - 1).bit_length()
        super().__init__(
            {
                "write": In(1),
                "write_address": In(bits),
                "write_data": In(width),
                "read_address": In(bits),
                "read_data": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width, _ = DP16KD_SHAPES[self._depth]
        for start in range(0, len(self.write_data), width):
            m.submodules[f"cell{start // width}"] = self._cell(m, start, width)
        return m

    def _cell(self, m: Module, start: int, width: int) -> Instance:
        """Of 36 bits, the low half goes in and out on the pins of port A."""
        _, low = DP16KD_SHAPES[self._depth]
        wide = width > _PINS
        written = _padded(self.write_data[start : start + width], 2 * _PINS)
        low_out, high_out = Signal(_PINS, name=f"low{start}"), Signal(_PINS, name=f"high{start}")
        m.d.comb += self.read_data[start : start + width].eq(Cat(low_out, high_out) if wide else high_out)
        enables = Const(_BYTE_ENABLES.get(width, 0), low)
        return Instance(
            "DP16KD",
            **_parameters(width, wide),
            **_pins("i_ADA", _padded(Cat(enables, self.write_address), _ADDRESS_BITS)),
            **_pins("i_ADB", _padded(Cat(Const(0, low), self.read_address), _ADDRESS_BITS)),
            **_pins("i_DIA", written[:_PINS]),
            **_pins("i_DIB", written[_PINS:]),
            **(_pins("o_DOA", low_out) if wide else {}),
            **_pins("o_DOB", high_out),
            **_controls(self.write, wide),
        )


def _parameters(width: int, wide: bool) -> dict[str, str | int]:
    ports: dict[str, str | int] = {"DATA_WIDTH": width, "CSDECODE": "0b000", "WRITEMODE": "NORMAL"}
    return {
        **{f"p_{name}_{port}": value for name, value in ports.items() for port in "AB"},
        "p_REGMODE_A": "OUTREG" if wide else "NOREG",
        "p_REGMODE_B": "OUTREG",
        "p_RESETMODE": "SYNC",
        "p_ASYNC_RESET_RELEASE": "SYNC",
        "p_CLKAMUX": "CLKA",
        "p_CLKBMUX": "CLKB",
        "p_GSR": "DISABLED",
    }


def _controls(write: Value, wide: bool) -> dict[str, Value]:
    one, zero = Const(1, 1), Const(0, 1)
    selects = {f"i_CS{port}{index}": zero for port in "AB" for index in range(3)}
    both = {f"i_{name}{port}": value for name, value in (("RST", zero), ("CLK", ClockSignal())) for port in "AB"}
    enables = {"i_CEA": write, "i_WEA": one, "i_OCEA": Const(int(wide), 1), "i_CEB": one, "i_WEB": zero, "i_OCEB": one}
    return {**selects, **both, **enables}


def _padded(value: Value, width: int) -> Value:
    return Cat(value, Const(0, width - len(value)))


def _pins(prefix: str, value: Value) -> dict[str, Value]:
    return {f"{prefix}{index}": value[index] for index in range(len(value))}
