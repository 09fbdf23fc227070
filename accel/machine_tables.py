"""The tables of a machine: one frozen class each, which cannot hold impossible numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, make_dataclass

from accel.decoder_timing import TIMING
from accel.dram import DRAM_STANDARDS, MAPPINGS, TIMING_KEYS
from accel.errors import ConfigError, listed, nearest
from accel.systolic import array_model

IDEAL = "ideal"
STANDARD_VALUE = -1  # of a key of ``dram_timing``: as the standard has it
INPUT_BITS = (64, 128, 256, 512)  # 16 lookups of 16-bit records need 256 bits a cycle; a DRAM block has 512


def _require(condition: bool, key: str, value: object, allowed: str) -> None:
    if not condition:
        raise ConfigError(f"machine key {key} = {value!r}; allowed: {allowed}")


def _in_range(key: str, value: float, low: float, high: float) -> None:
    _require(math.isfinite(value) and low <= value <= high, key, value, f"{low:g} to {high:g}")


@dataclass(frozen=True, slots=True)
class Clock:
    """``hz``: cycles per second of the whole accelerator."""

    hz: float

    def __post_init__(self) -> None:
        _in_range("clock.hz", self.hz, 1e3, 1e11)


@dataclass(frozen=True, slots=True)
class Array:
    """Systolic array of int8 multipliers with int32 accumulators; ``accel.systolic`` has dataflows and models."""

    rows: int
    columns: int
    dataflow: str = "ws"
    model: str = "pipelined"

    def __post_init__(self) -> None:
        _in_range("array.rows", self.rows, 1, 1024)
        _in_range("array.columns", self.columns, 1, 1024)
        array_model(self.model, self.dataflow)

    @property
    def label(self) -> str:
        """Size and dataflow in a few characters, and the model where it is not our own."""
        model = "" if self.model == "pipelined" else f", array model {self.model}"
        return f"{self.rows}x{self.columns} {self.dataflow}{model}"


@dataclass(frozen=True, slots=True)
class Sram:
    """On-chip buffers. ``weight_bytes`` holds *compressed* weights; decode happens at the array edge."""

    activation_bytes: int
    weight_bytes: int
    accumulator_bytes: int

    def __post_init__(self) -> None:
        _in_range("sram.activation_bytes", self.activation_bytes, 1024, 1 << 24)
        _in_range("sram.weight_bytes", self.weight_bytes, 256, 1 << 28)
        _in_range("sram.accumulator_bytes", self.accumulator_bytes, 64, 1 << 26)


@dataclass(frozen=True, slots=True)
class Decoder:
    """``codebook_bytes``: the largest codebook one buffer holds. With two ``codebook_buffers`` one loads while the
    other decodes (the instruction set calls a buffer bank 0 or 1).

    ``lookups_per_cycle`` codes are looked up each cycle: in that many copies of the codebook, or, with
    ``codebook_banks`` B >= 1, in one copy spread over B single-port banks (bank = index mod B), where those that meet
    in a bank take turns. A beat of ``input_bits`` of records a cycle is read into a FIFO for words of codes and one for
    words of signs or masks, ``fifo_words`` deep each (``sim.front_end`` has the exact rules).
    """

    codebook_bytes: int
    lookups_per_cycle: int
    codebook_buffers: int = 2
    codebook_banks: int = 0
    input_bits: int = 128
    fifo_words: int = TIMING.word_queue

    def __post_init__(self) -> None:
        _in_range("decoder.codebook_bytes", self.codebook_bytes, 16, 1 << 20)
        _in_range("decoder.lookups_per_cycle", self.lookups_per_cycle, 1, 1024)
        _in_range("decoder.codebook_buffers", self.codebook_buffers, 1, 2)
        _in_range("decoder.codebook_banks", self.codebook_banks, 0, 1024)
        _require(self.input_bits in INPUT_BITS, "decoder.input_bits", self.input_bits, listed(map(str, INPUT_BITS)))
        _in_range("decoder.fifo_words", self.fifo_words, TIMING.late_writes + 1, 1 << 16)


@dataclass(frozen=True, slots=True)
class Vector:
    """``lanes`` elements a cycle for softmax, norms, residuals, pooling; 0 makes vector work free (closed forms)."""

    lanes: int

    def __post_init__(self) -> None:
        _in_range("vector.lanes", self.lanes, 0, 4096)


@dataclass(frozen=True, slots=True)
class Dram:
    """``standard``: a row of ``DRAM_STANDARDS``, timed bank by bank, or ``ideal`` with a bandwidth of its own.

    ``latency_cycles``: of the ideal memory; for a standard, of the way between array and controller, on top of the
    DRAM's own. Blocks of 64 bytes alternate between ``channels``. ``load_engines``: load instructions that move data
    at the same time (one of them weights at most).
    """

    standard: str
    data_width_bits: int = 16
    channels: int = 1
    mapping: str = "bgLow"
    bandwidth_bytes_per_cycle: float = 0.0
    latency_cycles: int = 100
    load_engines: int = 1

    def __post_init__(self) -> None:
        allowed = (IDEAL, *DRAM_STANDARDS)
        hint = f"{listed(allowed)}{nearest(self.standard, allowed)}"
        _require(self.standard in allowed, "dram.standard", self.standard, hint)
        _in_range("dram.channels", self.channels, 1, 64)
        _require(self.channels & (self.channels - 1) == 0, "dram.channels", self.channels, "a power of two")
        _require(self.mapping in MAPPINGS, "dram.mapping", self.mapping, listed(MAPPINGS))
        _in_range("dram.latency_cycles", self.latency_cycles, 0, 100_000)
        _in_range("dram.load_engines", self.load_engines, 1, 8)
        low = 0.001 if self.standard == IDEAL else 0.0
        _in_range("dram.bandwidth_bytes_per_cycle", self.bandwidth_bytes_per_cycle, low, 65536)
        if self.standard == IDEAL:
            self._check_ideal()
        else:
            self._check_standard()

    def _check_ideal(self) -> None:
        defaults = {field.name: field.default for field in fields(self)}
        for key in ("data_width_bits", "channels", "mapping"):
            value, default = getattr(self, key), defaults[key]
            what = f"{default}, as dram.standard = {IDEAL} has none; set a standard, or dram.bandwidth_bytes_per_cycle"
            _require(value == default, f"dram.{key}", value, what)

    def _check_standard(self) -> None:
        widths = DRAM_STANDARDS[self.standard].widths
        hint = f"{listed(map(str, widths))} for {self.standard}"
        _require(self.data_width_bits in widths, "dram.data_width_bits", self.data_width_bits, hint)
        if self.bandwidth_bytes_per_cycle:
            raise ConfigError(
                f"machine key dram.bandwidth_bytes_per_cycle = {self.bandwidth_bytes_per_cycle:g}: "
                f"{self.standard} fixes the bandwidth; set dram.standard = ideal to choose one"
            )


DramTimingChanges = make_dataclass(
    "DramTimingChanges", [(key, int, STANDARD_VALUE) for key in TIMING_KEYS], frozen=True, slots=True
)
DramTimingChanges.__doc__ = "Timing parameters that differ from the standard's (see ``accel.dram.DramTiming``)."
