"""What ``accel compare`` concludes from its runs: speed-ups, the crossover of the curve, and why it is where it is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from accel.errors import ConfigError
from accel.machine import Machine
from accel.reporting import dram_busy, ratio
from accel.run import Run

WORTHWHILE_GAIN = 1.1  # a speed-up below this is called none
MEMORY_BOUND = 0.6  # DRAM busier than this makes a network one that fewer bytes can speed up
CROSSOVER_PRECISION = 0.005  # relative; three digits are printed
SLOWER = 0.995  # what rounds to 1.00x is not called slower
ARRAY_SCALES = (1 / 4, 1 / 2, 1, 2)  # of rows and columns: 16x16 to 128x128 for an array of 64x64
GRID_OCTAVES = tuple(k * 2 / 3 for k in range(-7, 7))  # 14 points, 1/25 to 16 times the machine's bandwidth


@dataclass(frozen=True, slots=True)
class CodecResult:
    """One codec on one machine. ``curve`` and ``gemm_curve`` are total cycles at each bandwidth of the sweep.

    ``gemm_only`` is the same program on the same machine with a free vector unit (``vector.lanes = 0``); ``others``
    says which layers have another codec, a sentence each group. ``output_cosine``: between the executed program's
    outputs and the float model's. ``array_curve``: total cycles on each of the machine's ``arrays``, ``None`` where the
    model cannot be compiled. ``cycles_at`` simulates any other bandwidth.
    """

    codec: str
    bits_per_weight: float
    relative_error: float
    whole: Run
    gemm_only: Run
    curve: tuple[int, ...]
    gemm_curve: tuple[int, ...]
    others: tuple[str, ...] = ()
    output_cosine: float | None = None
    array_curve: tuple[int | None, ...] = ()
    cycles_at: Callable[[float], int] | None = field(default=None, compare=False)

    @property
    def vector_share(self) -> float:
        """Share of the cycles that disappear when the vector unit is free."""
        return 1 - (ratio(self.gemm_only.total_cycles, self.whole.total_cycles) or 1.0)


@dataclass(frozen=True, slots=True)
class Crossover:
    """Where a falling speed-up curve passes ``WORTHWHILE_GAIN``; ``bandwidth`` in B/cycle only if it does so inside."""

    status: str  # "crosses", "never gains" or "always gains" within the sweep
    bandwidth: float | None = None


@dataclass(frozen=True, slots=True)
class MachineResult:
    """All codecs on one machine, int8 first; ``bandwidths`` (B/cycle, ascending) are those of the sweep.

    ``weights`` says where they come from, as ``LoadedModel.source`` does; ``arrays`` are the same machine with other
    sizes of array, ascending, itself among them.
    """

    machine: Machine
    weights: str
    bandwidths: tuple[float, ...]
    results: tuple[CodecResult, ...]
    arrays: tuple[Machine, ...] = ()

    @property
    def baseline(self) -> CodecResult:
        """The int8 result every ratio refers to."""
        return self.results[0]

    @property
    def best(self) -> CodecResult:
        """The compressed format with fewest cycles here, then fewest DRAM bytes; int8 itself when it is alone."""
        return min(self.results[1:] or self.results, key=lambda r: (r.whole.total_cycles, r.whole.dram_bytes_total))

    @property
    def highlights(self) -> tuple[CodecResult, ...]:
        """int8 and the best format: what verdicts and layer plots set side by side."""
        return (self.baseline,) if self.best is self.baseline else (self.baseline, self.best)

    def speedup(self, result: CodecResult) -> float:
        """Whole-network speed-up over int8 on the machine as it is."""
        return self.baseline.whole.total_cycles / result.whole.total_cycles

    def gemm_speedup(self, result: CodecResult) -> float:
        """Speed-up over int8 when vector work is free for both."""
        return self.baseline.gemm_only.total_cycles / result.gemm_only.total_cycles

    def traffic_ratio(self, result: CodecResult) -> float:
        """How many times fewer DRAM bytes than int8."""
        return self.baseline.whole.dram_bytes_total / result.whole.dram_bytes_total

    def speedup_curve(self, result: CodecResult) -> tuple[float, ...]:
        """Whole-network speed-up over int8 at each bandwidth of the sweep."""
        return _quotients(self.baseline.curve, result.curve)

    def gemm_speedup_curve(self, result: CodecResult) -> tuple[float, ...]:
        """The same with a free vector unit."""
        return _quotients(self.baseline.gemm_curve, result.gemm_curve)

    @property
    def crossover(self) -> Crossover:
        """Of the best format's whole-network curve."""
        return self.crossing(self.best, WORTHWHILE_GAIN)

    def crossing(self, result: CodecResult, level: float) -> Crossover:
        """Where a format's whole-network speed-up falls through ``level``: bracketed by the sweep, then simulated."""
        curve = self.speedup_curve(result)
        found = find_crossover(self.bandwidths, curve, level)
        ours, theirs = result.cycles_at, self.baseline.cycles_at
        if found.bandwidth is None or ours is None or theirs is None:
            return found
        last = max(i for i, speedup in enumerate(curve) if speedup >= level)
        low, high = self.bandwidths[last], self.bandwidths[last + 1]
        while high > low * (1 + CROSSOVER_PRECISION):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if theirs(middle) / ours(middle) >= level else (low, middle)
        return Crossover("crosses", low)

    @property
    def mapped_arrays(self) -> tuple[tuple[Machine, dict[str, float]], ...]:
        """Arrays that every format could be compiled for, with each format's speed-up over int8 on the same array."""
        columns = zip(*(each.array_curve for each in self.results), strict=True)
        return tuple(
            (array, {each.codec: cycles[0] / n for each, n in zip(self.results, cycles, strict=True)})
            for array, cycles in zip(self.arrays, columns, strict=True)
            if None not in cycles
        )

    @property
    def array_crossover(self) -> Crossover:
        """The array, in MAC a cycle, below which the best format gains less than ``WORTHWHILE_GAIN``."""
        mapped = self.mapped_arrays[::-1]
        inverse = [1 / array.macs_per_cycle for array, _ in mapped]
        found = find_crossover(inverse, [speedups[self.best.codec] for _, speedups in mapped])
        return Crossover(found.status, 1 / found.bandwidth if found.bandwidth else None)

    @property
    def gains_from_memory(self) -> bool:
        """Whether fewer DRAM bytes explain the best format's gain: int8 is short of DRAM, and more of it ends the gain.

        A sweep that ends at the machine's own bandwidth cannot tell the latter.
        """
        swept_above = self.bandwidths[-1] > self.machine.bandwidth_bytes_per_cycle
        lasting = swept_above and self.crossover.status == "always gains"
        return dram_busy(self.baseline.whole) >= MEMORY_BOUND and not lasting


def _quotients(numerators: Sequence[int], denominators: Sequence[int]) -> tuple[float, ...]:
    return tuple(a / b for a, b in zip(numerators, denominators, strict=True))


def bandwidth_grid(machine: Machine, wanted: Sequence[float] = ()) -> tuple[float, ...]:
    """Bandwidths of the sweep, B/cycle, ascending: those wanted or a logarithmic grid, and the machine's own."""
    own = machine.bandwidth_bytes_per_cycle
    return tuple(sorted({own, *(wanted or (own * 2**octaves for octaves in GRID_OCTAVES))}))


def array_grid(machine: Machine, wanted: Sequence[tuple[int, int]] = ()) -> tuple[Machine, ...]:
    """The machine with each array (rows, columns) wanted, or a quarter to twice its own, and its own, each once.

    Ascending in multipliers; of as many, in rows.
    """
    own = machine.array
    scaled = [(round(own.rows * scale), round(own.columns * scale)) for scale in ARRAY_SCALES]
    shapes = sorted({*(wanted or scaled), (own.rows, own.columns)}, key=lambda shape: (math.prod(shape), shape))
    grid = (_with_array(machine, *shape) for shape in shapes)
    return tuple(array for array in grid if array)


def _with_array(machine: Machine, rows: int, columns: int) -> Machine | None:
    """``None`` if there can be no such machine, as its accumulators would not fit or a size is zero."""
    try:
        return replace(machine, array=replace(machine.array, rows=rows, columns=columns))
    except ConfigError:
        return None


def find_crossover(bandwidths: Sequence[float], speedups: Sequence[float], level: float = WORTHWHILE_GAIN) -> Crossover:
    """The highest bandwidth at which the speed-up falls through ``level``, linear in log bandwidth."""
    above = [i for i, speedup in enumerate(speedups) if speedup >= level]
    if not above:
        return Crossover("never gains")
    last = above[-1]
    if last == len(speedups) - 1:
        return Crossover("always gains")
    high, low = speedups[last], speedups[last + 1]
    a, b = math.log2(bandwidths[last]), math.log2(bandwidths[last + 1])
    return Crossover("crosses", 2 ** (a + (b - a) * (high - level) / (high - low)))
