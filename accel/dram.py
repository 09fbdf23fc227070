"""DRAM standards: one row each with timing, organisation and source, and how addresses are spread over the banks.

All times are cycles of the command clock unless the name says otherwise. The row is what simulator, compiler (which
places streams in banks), command line and energy table read; a timing set that contradicts itself cannot be built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType

from accel.errors import ConfigError, listed, nearest

MAPPINGS = ("colLow", "bgLow", "MOP4CLXOR")
SCHEDULERS = ("row-hit", "dramsim3")
BITS_PER_BYTE = 8
MAX_PERIOD_PS = 1 << 40  # a second: sweeps scale the clock far
MAX_CYCLES = 1 << 20  # of any one timing parameter: far above all data sheets, and sums stay small


@dataclass(frozen=True, slots=True)
class DramTiming:
    """One timing set, in clock cycles (``tck_ps``: the clock's period in picoseconds).

    ``burst``: data bus cycles of one access. ``_s``, ``_l``: to another bank group, to the same. ``trp_all``: after a
    precharge of all banks. ``tppd``: between precharges. ``trtrs``: idle data bus
    cycles between a read burst and a write burst. LPDDR5 only, else 0: ``taad``, latest second half of a split
    ACTIVATE; ``twck_post``, how long the data clock runs on after a burst before it must be synchronised again;
    ``burst_extra``, how long a write keeps its bank group busy after its burst, before tWTR_L (BL/n_max - BL/n_min).
    """

    tck_ps: int
    burst: int
    cl: int
    cwl: int
    trcd_read: int
    trcd_write: int
    trp: int
    trp_all: int
    tras: int
    trc: int
    tccd_s: int
    tccd_l: int
    trrd_s: int
    trrd_l: int
    tfaw: int
    twtr_s: int
    twtr_l: int
    twr: int
    trtp: int
    trfc: int
    trefi: int
    tppd: int = 1
    trtrs: int = 2
    taad: int = 0
    twck_post: int = 0
    burst_extra: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value, low = getattr(self, field.name), 0 if field.name in _MAY_BE_ZERO else 1
            high = MAX_PERIOD_PS if field.name == "tck_ps" else MAX_CYCLES
            if not low <= value <= high:
                raise ConfigError(f"DRAM timing {field.name} = {value}; allowed: {low} to {high}")
        for least, (greater, smaller) in _ORDER.items():
            if getattr(self, greater) < sum(getattr(self, name) for name in smaller):
                values = ", ".join(f"{name} = {getattr(self, name)}" for name in (greater, *smaller))
                raise ConfigError(f"DRAM timing contradicts itself: {values}; allowed: {least}")
        if self.read_to_write < 1:
            limit = self.cwl + self.read_to_write
            raise ConfigError(f"DRAM timing cwl = {self.cwl}; allowed: less than cl + burst + trtrs = {limit}")

    @property
    def read_to_write(self) -> int:
        """Clocks from a READ to a WRITE."""
        return self.cl + self.burst + self.trtrs - self.cwl

    @property
    def write_to_read_group(self) -> int:
        """Clocks from a WRITE to a READ of the same bank group."""
        return self.cwl + self.burst + self.burst_extra + self.twtr_l


_OF_LPDDR5 = ("taad", "twck_post", "burst_extra")
_MAY_BE_ZERO = ("trtrs", *_OF_LPDDR5)
_ORDER: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {
        "trc >= tras + trp": ("trc", ("tras", "trp")),
        "tras >= trcd_read": ("tras", ("trcd_read",)),
        "tras >= trcd_write": ("tras", ("trcd_write",)),
        "trp_all >= trp": ("trp_all", ("trp",)),
        "tccd_s >= burst": ("tccd_s", ("burst",)),
        "tccd_l >= tccd_s": ("tccd_l", ("tccd_s",)),
        "trrd_l >= trrd_s": ("trrd_l", ("trrd_s",)),
        "tfaw >= trrd_s": ("tfaw", ("trrd_s",)),
        "twtr_l >= twtr_s": ("twtr_l", ("twtr_s",)),
    }
)
# What may be changed. Not the burst: an access is burst_length transfers of the bus, however they are timed.
TIMING_KEYS: tuple[str, ...] = tuple(field.name for field in fields(DramTiming) if field.name != "burst")


@dataclass(frozen=True, slots=True)
class DramStandard:
    """One row of ``DRAM_STANDARDS``.

    A channel of ``width_bits`` (one of ``widths``; the first is the default) is ``pseudo_channels`` independent parts
    of ``bank_groups`` x ``banks_per_group`` banks of ``rows`` rows each. Widening a channel widens its rows: a row
    holds ``row_bytes_per_lane`` for each 8 bits of a pseudo channel's width. ``burst_length`` transfers are one access.
    ``dual_command``: row and column commands have buses of their own (HBM); ``activate_clocks``: clocks an ACTIVATE
    takes on its bus. ``source`` says where the numbers come from.
    """

    name: str
    timing: DramTiming
    burst_length: int
    widths: tuple[int, ...]
    pseudo_channels: int
    bank_groups: int
    banks_per_group: int
    rows: int
    row_bytes_per_lane: int
    source: str
    dual_command: bool = False
    activate_clocks: int = 1

    def __post_init__(self) -> None:
        if self.timing.trefi < self.longest_refresh:
            raise ConfigError(
                f"DRAM timing trefi = {self.timing.trefi}; allowed: at least {self.longest_refresh}, so that a refresh "
                "is over and a row can be opened before the next falls due"
            )

    @property
    def longest_refresh(self) -> int:
        """Clocks from a refresh falling due until a row has been opened after it, at worst: every bank has an access
        under way, each turns the data bus around, then banks are closed one by one and pseudo channels in turn."""
        t = self.timing
        turn = max(t.tccd_l, t.write_to_read_group, t.read_to_write) + 2
        close = max(t.cwl + t.burst + t.twr, t.trtp) + self.banks * t.tppd + self.pseudo_channels * t.trp_all
        return self.banks * turn + t.taad + close + t.trfc + t.trc

    def access_bytes(self, width_bits: int) -> int:
        """Bytes of one access (burst) of a channel of ``width_bits``."""
        return self.burst_length * width_bits // self.pseudo_channels // BITS_PER_BYTE

    def row_bytes(self, width_bits: int) -> int:
        """Bytes of one row of one bank."""
        return self.row_bytes_per_lane * width_bits // self.pseudo_channels // BITS_PER_BYTE

    def capacity_bytes(self, width_bits: int) -> int:
        """Bytes of one channel."""
        return self.banks * self.rows * self.row_bytes(width_bits)

    @property
    def banks(self) -> int:
        """Banks of one channel, of all its pseudo channels."""
        return self.pseudo_channels * self.bank_groups * self.banks_per_group

    def peak_bytes_per_second(self, width_bits: int) -> float:
        """What the data bus could carry if every cycle transferred."""
        accesses_per_second = 1e12 / (self.timing.tck_ps * self.timing.burst)
        return self.pseudo_channels * self.access_bytes(width_bits) * accesses_per_second

    def with_timing(self, changes: Mapping[str, int]) -> DramStandard:
        """The same standard with some timing parameters changed; raises ``ConfigError`` if they contradict each other,
        or for a parameter of LPDDR5 that the standard does not have."""
        if not changes:
            return self
        for name in _OF_LPDDR5:
            if changes.get(name) and not getattr(self.timing, name):
                raise ConfigError(
                    f"DRAM timing {name} = {changes[name]}: {self.name} has no such parameter; allowed: 0"
                )
        try:
            return replace(self, timing=replace(self.timing, **changes))
        except ConfigError as error:
            raise ConfigError(f"{self.name}: {error}") from error


_JESD79 = "JESD79-4 (8 Gb x8 dies), as in Ramulator 2.1's DDR4_{} preset"
_ROWS = (
    DramStandard(
        "DDR4-2400",
        DramTiming(833, 4, 17, 12, 17, 17, 17, 17, 39, 56, 4, 6, 4, 6, 26, 3, 9, 18, 9, 420, 9360),
        burst_length=8,
        widths=(64, 32, 16, 8),
        pseudo_channels=1,
        bank_groups=4,
        banks_per_group=4,
        rows=65536,
        row_bytes_per_lane=1024,
        source=_JESD79.format("2400U") + ", tRFC 350 ns",
    ),
    DramStandard(
        "DDR4-3200",
        DramTiming(625, 4, 22, 16, 22, 22, 22, 22, 52, 74, 4, 8, 4, 8, 34, 4, 12, 24, 12, 560, 12480),
        burst_length=8,
        widths=(64, 32, 16, 8),
        pseudo_channels=1,
        bank_groups=4,
        banks_per_group=4,
        rows=65536,
        row_bytes_per_lane=1024,
        source=_JESD79.format("3200AA") + ", tRFC 350 ns",
    ),
    DramStandard(
        "LPDDR4-3200",
        DramTiming(625, 8, 28, 14, 29, 29, 29, 34, 68, 97, 8, 8, 16, 16, 64, 16, 16, 29, 12, 288, 6247, tppd=4),
        burst_length=16,
        widths=(32, 16),
        pseudo_channels=1,
        bank_groups=1,
        banks_per_group=8,
        rows=32768,
        row_bytes_per_lane=1024,
        source="JESD209-4: values of a 3200 MT/s die, all-bank refresh 180 ns",
    ),
    DramStandard(
        "LPDDR5-6400",
        DramTiming(
            *(1250, 2, 17, 9, 15, 15, 15, 17, 34, 49, 2, 4, 4, 4, 16, 5, 10, 28, 8, 168, 3125),
            tppd=2,
            taad=8,
            twck_post=1,
            burst_extra=2,
        ),
        burst_length=16,
        widths=(16, 32),
        pseudo_channels=1,
        bank_groups=4,
        banks_per_group=4,
        rows=32768,
        row_bytes_per_lane=1024,
        source="JESD209-5B, bank-group mode, CKR 4:1, as in Ramulator 2.1's LPDDR5_6400 preset, 8 Gb",
    ),
    DramStandard(
        "HBM2-2000",
        DramTiming(1000, 2, 14, 5, 14, 12, 14, 14, 34, 48, 2, 4, 4, 4, 15, 6, 8, 16, 5, 350, 3900),
        burst_length=4,
        widths=(128,),
        pseudo_channels=2,
        bank_groups=4,
        banks_per_group=4,
        rows=65536,
        row_bytes_per_lane=128,
        source="JESD235D pseudo-channel mode, as in Ramulator 2.1's HBM2_2000Mbps preset, 8 Gb a pseudo channel",
        dual_command=True,
        activate_clocks=2,
    ),
    DramStandard(
        "HBM2-2000-legacy",
        DramTiming(1000, 2, 14, 4, 14, 14, 14, 14, 34, 48, 2, 2, 4, 6, 30, 6, 8, 16, 5, 260, 3900),
        burst_length=4,
        widths=(128,),
        pseudo_channels=1,
        bank_groups=4,
        banks_per_group=4,
        rows=32768,
        row_bytes_per_lane=128,
        source="JESD235 legacy mode, as in DRAMsim3's HBM2_8Gb_x128, tCCD 2",
        dual_command=True,
    ),
)
DRAM_STANDARDS: Mapping[str, DramStandard] = MappingProxyType({row.name: row for row in _ROWS})


def dram_standard(name: str) -> DramStandard:
    """A row of ``DRAM_STANDARDS``; raises ``ConfigError`` naming the nearest."""
    if name not in DRAM_STANDARDS:
        near = nearest(name, DRAM_STANDARDS)
        raise ConfigError(f"DRAM standard '{name}'; allowed: {listed(DRAM_STANDARDS)}{near}")
    return DRAM_STANDARDS[name]


@dataclass(frozen=True, slots=True)
class AddressMap:
    """Which bits of an access number (address / access bytes) pick column, pseudo channel, bank group, bank and row.

    ``pieces``: (field, bits) from the lowest bit up; what is left is the row. ``hashed``: pseudo channel, group, bank
    and row are XORed with successive bits of the column (the "XOR" of MOP4CLXOR: four lines stay together, then the
    next bank, and strides of a power of two still spread).
    """

    access_bytes: int
    pieces: tuple[tuple[str, int], ...]
    hashed: bool

    def bits(self, field: str) -> int:
        """Bits of a field, over all its pieces."""
        return sum(bits for name, bits in self.pieces if name == field)

    def locate(self, address: int) -> dict[str, int]:
        """Fields of a byte address: ``pseudo_channel``, ``group``, ``bank``, ``column``, ``row``."""
        rest = address // self.access_bytes
        values, filled = dict.fromkeys(FIELDS, 0), dict.fromkeys(FIELDS, 0)
        for name, bits in self.pieces:
            values[name] |= (rest & ((1 << bits) - 1)) << filled[name]
            filled[name] += bits
            rest >>= bits
        values["row"] = rest
        if self.hashed:
            column = values["column"]
            for name in ("pseudo_channel", "group", "bank"):
                values[name] ^= column & ((1 << filled[name]) - 1)
                column >>= filled[name]
            values["row"] ^= column
        return values


FIELDS = ("column", "pseudo_channel", "group", "bank", "row")
_CLUSTER_BITS = 2  # of MOP4CLXOR: four lines of a row stay together


def address_map(standard: DramStandard, width_bits: int, mapping: str) -> AddressMap:
    """The map of one channel; raises ``ConfigError`` for an unknown mapping or a row too short for it.

    ``colLow``: column lowest (a row is read to its end before the next bank). ``bgLow``: pseudo channel and bank group
    lowest (neighbours alternate between groups). ``MOP4CLXOR``: as Ramulator's mapping of that name.
    """
    columns = _log2(standard.row_bytes(width_bits) // standard.access_bytes(width_bits))
    spread = (("pseudo_channel", _log2(standard.pseudo_channels)), ("group", _log2(standard.bank_groups)))
    bank, column = ("bank", _log2(standard.banks_per_group)), ("column", columns)
    access_bytes = standard.access_bytes(width_bits)
    if mapping == "colLow":
        return AddressMap(access_bytes, (column, *spread, bank), hashed=False)
    if mapping == "bgLow":
        return AddressMap(access_bytes, (*spread, column, bank), hashed=False)
    if mapping != "MOP4CLXOR":
        raise ConfigError(f"DRAM mapping '{mapping}'; allowed: {listed(MAPPINGS)}")
    cluster, others = ("column", _CLUSTER_BITS), ("column", columns - _CLUSTER_BITS)
    return AddressMap(access_bytes, (cluster, *spread, bank, others), hashed=True)


def _log2(value: int) -> int:
    assert value > 0 and value & (value - 1) == 0, "organisations are powers of two"
    return value.bit_length() - 1
