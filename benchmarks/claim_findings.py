"""What ``python -m benchmarks claim`` simulates: speed-ups of DeiT-tiny, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

from accel.cli.pipeline_reference import MODEL, compressed
from accel.machine import Machine, load_machine
from accel.packed import Packed
from accel.program import Program
from benchmarks.quality_data import tell
from compiler import compile_model
from sim import simulate
from sim.levels import simulate_with_levels

ARRAYS = (16, 32, 64, 128)
BASELINE, CODECS = "int8", ("ssvq:k=16,d=8", "ssvq:k=256,d=8", "vq:k=256,d=4", "int4")
CLAIM = 3.0
BANDWIDTHS = tuple(2.0**exponent for exponent in range(-3, 8))  # B/cycle
LOOKUPS = (1, 2, 4, 8, 16, 32)
AMPLE_LOOKUPS = LOOKUPS[-1]
SUFFICIENT = 1.01  # a decoder is fast enough if the network takes at most that much longer than with AMPLE_LOOKUPS
RESOLUTION = 1.005  # of the bandwidth at which a speed-up is lost
PRESET = "edge64-ideal"
ROOMY = ("sram.weight_bytes=1048576", "decoder.input_bits=512")  # as accel.cli.pipeline_reference, and wide records
FREE_VECTOR = "vector.lanes=0"
REAL_PRESET = "edge64"  # every handicap at once: vector work, four look-ups, its own weight ring, LPDDR4


@dataclass(frozen=True, slots=True)
class Setting:
    """What a curve charges for: overrides of the machine, and how a table names them."""

    name: str
    overrides: tuple[str, ...]


CHIP = Setting("activations on chip, vector work free", (FREE_VECTOR,))
SETTINGS = (
    CHIP,
    Setting("64 vector lanes", ()),
    Setting("128 KiB for activations", (FREE_VECTOR, "sram.activation_bytes=131072")),
    Setting("32 KiB for activations", (FREE_VECTOR, "sram.activation_bytes=32768")),
)


@dataclass
class Bench:
    """Cycles of the network in any codec on any of the machines, each compiled once."""

    packed: dict[str, Packed] = field(default_factory=dict)
    programs: dict[tuple[object, ...], Program] = field(default_factory=dict)
    found: dict[tuple[object, ...], int] = field(default_factory=dict)

    def machine(self, array: int, bandwidth: float, setting: Setting = CHIP, lookups: int = AMPLE_LOOKUPS) -> Machine:
        """The preset with a square array of ``array`` rows."""
        size = (f"array.rows={array}", f"array.columns={array}", f"decoder.lookups_per_cycle={lookups}")
        return load_machine(PRESET, (*size, *ROOMY, f"dram.bandwidth_bytes_per_cycle={bandwidth}", *setting.overrides))

    def cycles(
        self, codec: str, array: int, bandwidth: float, setting: Setting = CHIP, lookups: int = AMPLE_LOOKUPS
    ) -> int:
        """Of one inference."""
        key = (codec, array, bandwidth, setting, lookups)
        if key not in self.found:
            machine = self.machine(array, bandwidth, setting, lookups)
            self.found[key] = simulate(self.program(codec, array, setting, lookups), machine).total_cycles
        return self.found[key]

    def program(self, codec: str, array: int, setting: Setting = CHIP, lookups: int = AMPLE_LOOKUPS) -> Program:
        """Bandwidth does not change what the compiler writes; look-ups may."""
        if codec not in self.packed:
            tell(f"compressing {MODEL}, {codec}")
            self.packed[codec] = compressed(codec)
        key = (codec, array, setting, lookups)
        if key not in self.programs:
            machine = self.machine(array, 1.0, setting, lookups)
            self.programs[key] = compile_model(self.packed[codec], machine)
        return self.programs[key]

    def peak_activation_bytes(self) -> int:
        """The most that activations hold at once in the baseline's run on ``PRESET``, where all are on chip."""
        self.program(BASELINE, ARRAYS[0])  # compresses it
        run = simulate_with_levels(compile_model(self.packed[BASELINE], load_machine(PRESET)))
        return next(max(level.held_bytes) for level in run.occupancy if level.memory == "activation")

    def as_is(self, codec: str, preset: str = REAL_PRESET) -> float:
        """Speed-up on a preset that nothing is changed of."""
        for each in (BASELINE, codec):
            self.program(each, ARRAYS[0])  # compresses it
        machine = load_machine(preset)
        cycles = (simulate(compile_model(self.packed[each], machine)).total_cycles for each in (BASELINE, codec))
        return next(cycles) / next(cycles)

    def speedup(
        self, codec: str, array: int, bandwidth: float, setting: Setting = CHIP, lookups: int = AMPLE_LOOKUPS
    ) -> float:
        """Over int8, which needs no decoder."""
        baseline = self.cycles(BASELINE, array, bandwidth, setting)
        return baseline / self.cycles(codec, array, bandwidth, setting, lookups)


@dataclass(frozen=True)
class Findings:
    """What the page is made of; everything is simulated when it is asked for, once."""

    bench: Bench
    arrays: tuple[int, ...] = ARRAYS
    bandwidths: tuple[float, ...] = BANDWIDTHS

    @cached_property
    def curves(self) -> dict[tuple[str, int, Setting], tuple[float, ...]]:
        """Speed-ups of every codec with activations on chip, and of the first codec in the other settings."""
        wanted = [(codec, array, CHIP) for codec in CODECS for array in self.arrays]
        wanted += [(CODECS[0], array, setting) for setting in SETTINGS[1:] for array in self.arrays]
        curves = {}
        for key in wanted:
            codec, array, setting = key
            tell(f"{codec} on {array}x{array}, {setting.name}")
            curves[key] = tuple(self.bench.speedup(codec, array, each, setting) for each in self.bandwidths)
        return curves

    def holds_to(self, codec: str, array: int, setting: Setting = CHIP, gain: float = CLAIM) -> float | None:
        """The largest bandwidth with a speed-up of ``gain``; ``None`` if there is none on the grid."""
        curve = self.curves[codec, array, setting]
        above = [index for index, value in enumerate(curve) if value >= gain]
        if not above or above[-1] == len(curve) - 1:
            return None
        low, high = self.bandwidths[above[-1]], self.bandwidths[above[-1] + 1]
        return _last(lambda each: self.bench.speedup(codec, array, each, setting) >= gain, low, high)

    def lookups_needed(self, codec: str, array: int, bandwidth: float) -> int:
        """The fewest of ``LOOKUPS`` that cost at most ``SUFFICIENT``."""
        ample = self.bench.cycles(codec, array, bandwidth)
        return next(n for n in LOOKUPS if self.bench.cycles(codec, array, bandwidth, CHIP, n) <= SUFFICIENT * ample)

    def harmful_from(self, codec: str, array: int, lookups: int) -> float | None:
        """The smallest bandwidth on the grid at which the format is slower than int8 with that decoder."""
        slower = (each for each in self.bandwidths if self.bench.speedup(codec, array, each, CHIP, lookups) < 0.995)
        return next(slower, None)


def _last(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where ``holds``, true at ``low`` and false at ``high``, ends, by bisection; true at what is returned."""
    while high / low > RESOLUTION:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low
