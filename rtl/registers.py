"""The registers of a decoder: one table, from which hardware, documentation, C header and drivers are made.

``STORAGE`` of a register says what it is made of and thereby how it may be accessed:

- ``constant``: wired. ``live``: signals of the decoder. ``counter``: counts cycles or events. All read-only.
- ``sticky``: bits set by events, cleared by writing ones. ``plain``: read and written.
- ``layer``: read and written; one count of the next layer. ``pulse``: acts when written, reads as zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from types import MappingProxyType
from typing import Literal

from accel.errors import ConfigError, listed, nearest
from rtl.configuration import FAMILIES, DecoderConfig
from rtl.layer import LayerPlan, StripPlan, limits

ADDRESS_BITS = 7
WORD_BYTES = 4
ID = 0x41434C44  # "ACLD"
VERSION = (2, 0)  # of this map; 1 counted codes and side bits in beats, not in 64-bit words

Access = Literal["RO", "RW", "WO", "W1C"]
Storage = Literal["constant", "live", "counter", "sticky", "plain", "layer", "pulse"]
ACCESS: Mapping[Storage, Access] = MappingProxyType(
    {
        "constant": "RO",
        "live": "RO",
        "counter": "RO",
        "sticky": "W1C",
        "plain": "RW",
        "layer": "RW",
        "pulse": "WO",
    }
)


@dataclass(frozen=True, slots=True)
class Field:
    """``width`` bits from bit ``lsb``; ``reset`` is their value after reset, or for good if constant."""

    name: str
    lsb: int
    width: int
    doc: str
    reset: int = 0

    @property
    def mask(self) -> int:
        """Its bits in the register."""
        return ((1 << self.width) - 1) << self.lsb


@dataclass(frozen=True, slots=True)
class Register:
    """A 32-bit register at byte ``offset``. Bits of no field read as zero and ignore what is written."""

    name: str
    offset: int
    storage: Storage
    fields: tuple[Field, ...]
    doc: str

    @property
    def access(self) -> Access:
        """Read-only, read and write, write-only, or write one to clear."""
        return ACCESS[self.storage]

    @property
    def reset(self) -> int:
        """Its value after reset."""
        return sum(field.reset << field.lsb for field in self.fields)

    def pack(self, **values: int) -> int:
        """A word with these fields, the others zero. Raises ``ConfigError`` for a value or name that does not fit."""
        known = {field.name: field for field in self.fields}
        for name, value in values.items():
            if name not in known:
                raise ConfigError(
                    f"register {self.name}: field '{name}'; allowed: {listed(known)}{nearest(name, known)}"
                )
            if not 0 <= value < 1 << known[name].width:
                most = (1 << known[name].width) - 1
                raise ConfigError(f"register {self.name}: {name}={value}; allowed: 0 to {most}")
        return sum(value << known[name].lsb for name, value in values.items())

    def unpack(self, word: int) -> dict[str, int]:
        """The fields of a word."""
        return {field.name: (word & field.mask) >> field.lsb for field in self.fields}


# Event -> what it means. The bit's place in EVENTS is its place here.
EVENTS: Mapping[str, str] = MappingProxyType(
    {
        "width": "CODE_BITS of a START is not in this build: the layer's packets are taken, nothing is made",
        "packet_early": "TLAST of a weight packet before its last beat: the rest of the strip is undefined",
        "packet_late": "no TLAST at the last beat of a weight packet: beats are dropped until it comes",
        "codebook_overflow": "more codewords than this build has room for: the surplus is ignored",
        "codebook_partial": "a codebook packet ends within a codeword, or without one: its last codeword is undefined",
        "codeword_range": "a codeword with an element of -128, or a negative one where signs are kept apart",
        "start_overrun": "START without room in the queue: the layer was not queued",
        "layer_done": "the last vector of a layer has left",
    }
)
ERRORS = tuple(name for name in EVENTS if name != "layer_done")

COUNTERS: Mapping[str, str] = MappingProxyType(
    {
        "BUSY_CYCLES": "Cycles with a layer queued or in work",
        "STARVED_CYCLES": "Cycles in which a group of vectors could have been started but its records were not there",
        "BLOCKED_CYCLES": "Cycles in which the output was not taken",
        "LAYERS_DONE": "Layers that have left, dropped ones included",
        "TILES_OUT": "Tiles that have left",
    }
)

_STRIP_DOCS: Mapping[str, str] = MappingProxyType(
    {
        "vectors": "Vectors of every tile but the last",
        "last_vectors": "Vectors of the last tile",
        "beats": "Beats of a packet, padding included",
        "code_words": "64-bit words up to and including the last with a code of a vector",
        "side_words": "64-bit words up to and including the last with a side bit of a vector; 0 without side bits",
    }
)
STRIP_KINDS = ("full", "edge")


def layer_values(plan: LayerPlan) -> dict[str, int]:
    """Register -> value: what a layer is told by."""
    values = {"CODE_BITS": plan.code_bits, "STRIPS": plan.strips, "TILES": plan.edge.tiles}
    for kind, strip in zip(STRIP_KINDS, (plan.full, plan.edge), strict=True):
        values |= {f"{kind}_{name}".upper(): getattr(strip, name) for name in _STRIP_DOCS}
    return values


@dataclass(frozen=True)
class RegisterMap:
    """All registers of one build, by ``map["NAME"]`` or in the order of their offsets."""

    registers: tuple[Register, ...]

    @cached_property
    def by_name(self) -> Mapping[str, Register]:
        """Name -> register."""
        return MappingProxyType({register.name: register for register in self.registers})

    def __getitem__(self, name: str) -> Register:
        if name not in self.by_name:
            raise ConfigError(f"register '{name}'; allowed: {listed(self.by_name)}{nearest(name, self.by_name)}")
        return self.by_name[name]

    def of(self, *storage: Storage) -> tuple[Register, ...]:
        """The registers made of one of these."""
        return tuple(register for register in self.registers if register.storage in storage)


def register_map(config: DecoderConfig) -> RegisterMap:
    """The registers of a build: the same names and offsets in every one, widths as its counts need them.

    Three areas, which the hardware reads apart: 0x00 state, 0x20 counters, 0x40 the next layer.
    """
    head = (
        _word("ID", 0x00, "constant", "Tells that this is a decoder", ID),
        Register("VERSION", 0x04, "constant", _VERSION_FIELDS, "Of this register map"),
        Register("BUILD", 0x08, "constant", _build_fields(config), "What the decoder was built for"),
        Register("LIMITS", 0x0C, "constant", _limit_fields(config), "How far its counters count"),
        Register("STATUS", 0x10, "live", _STATUS_FIELDS, "What it is doing"),
        Register("EVENTS", 0x14, "sticky", _EVENT_FIELDS, "What has happened; write ones to clear"),
        Register("IRQ_ENABLE", 0x18, "plain", _EVENT_FIELDS, "Events that raise `irq`"),
        Register("CONTROL", 0x1C, "pulse", _CONTROL_FIELDS, "Commands"),
    )
    counters = (_word(name, 0x20 + 4 * n, "counter", doc) for n, (name, doc) in enumerate(COUNTERS.items()))
    start = Register(
        "START", 0x7C, "pulse", _START_FIELDS, "Writing 1 queues the layer that the layer registers describe"
    )
    return RegisterMap((*head, *counters, *_layer_registers(config), start))


def _word(name: str, offset: int, storage: Storage, doc: str, reset: int = 0) -> Register:
    return Register(name, offset, storage, (Field("value", 0, 32, doc, reset),), doc)


_VERSION_FIELDS = (
    Field("minor", 0, 16, "Raised for additions", VERSION[1]),
    Field("major", 16, 16, "Raised for what breaks drivers", VERSION[0]),
)
_STATUS_FIELDS = (
    Field("busy", 0, 1, "A layer is queued or in work"),
    Field("room", 1, 1, "START will be taken", 1),
    Field("layers", 8, 8, "Layers queued or in work"),
)
_EVENT_FIELDS = tuple(Field(name, bit, 1, doc) for bit, (name, doc) in enumerate(EVENTS.items()))
_CONTROL_FIELDS = (Field("clear_counters", 0, 1, "Set all counters to zero"),)
_START_FIELDS = (Field("start", 0, 1, "Queue the layer; the layer registers keep their values"),)


def _build_fields(config: DecoderConfig) -> tuple[Field, ...]:
    names = ", ".join(f"{number} {name}" for number, name in enumerate(FAMILIES))
    bits = config.codec.code_bits
    return (
        Field("family", 0, 4, f"Codec: {names}", FAMILIES.index(config.codec.family)),
        Field("lookups", 4, 4, "Vectors decoded a cycle", config.lookups),
        Field("vector_length", 8, 8, "Weights of a vector (d)", config.vector_length),
        Field("input_bits", 16, 8, "Width of the weight stream", config.input_bits),
        Field("code_bits", 24, 8, "Widest code: log2 of the most codewords, or the integer's width", bits),
    )


def _limit_fields(config: DecoderConfig) -> tuple[Field, ...]:
    return (
        Field("beat_bits", 0, 8, "log2 of the most beats of a strip", config.beat_count_bits),
        Field("tile_bits", 8, 8, "log2 of the most tiles of a strip", config.tile_count_bits),
        Field("group_bits", 16, 8, "log2 of the most groups of `lookups` vectors of a tile", config.group_count_bits),
        Field("side_bits", 24, 8, "Side bits of a vector", config.side_bits),
    )


def _layer_registers(config: DecoderConfig) -> list[Register]:
    most = limits(config)
    rows = [
        ("CODE_BITS", 8, "Bits of a code: log2 of the codewords, or the integer's width"),
        ("STRIPS", most["strips"].bit_length(), "Strips: packets of the weight stream"),
        ("TILES", most["tiles"].bit_length(), "Tiles of every strip"),
    ]
    for kind in STRIP_KINDS:
        of = "the last strip" if kind == "edge" else "all strips but the last"
        rows += [
            (f"{kind}_{name}".upper(), most[name].bit_length(), f"{_STRIP_DOCS[name]}: {of}") for name in _STRIP_DOCS
        ]
    return [
        Register(name, 0x40 + WORD_BYTES * n, "layer", (Field("value", 0, width, doc),), doc)
        for n, (name, width, doc) in enumerate(rows)
    ]


assert {field.name for field in fields(StripPlan)} == {"tiles", *_STRIP_DOCS}, "every count of a strip has a register"
