"""Sums over stretches of time that grow with the run: as many numbers for a long one as for a short one."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from sim.decode import Column

LEAST_CYCLES, MOST_WINDOWS = 64, 4096


@dataclass(slots=True)
class WindowSums:
    """``sums[w, s]``: what was added to series s in cycles ``first + w * width_cycles`` and on, for as many cycles.

    When a run outgrows them, windows are joined two by two.
    """

    series: int
    first: int = 0
    width_cycles: int = LEAST_CYCLES
    used: int = 0
    sums: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        self.sums = np.zeros((MOST_WINDOWS, self.series), np.int64)

    def add(self, cycles: Column, series: Column | int, amounts: Column) -> None:
        """Add ``amounts`` at ``cycles`` (at least ``first``) to ``series``."""
        if not len(cycles):
            return
        last = int(cycles.max()) - self.first
        while last // self.width_cycles >= MOST_WINDOWS:
            self._join()
        self.used = max(self.used, last // self.width_cycles + 1)
        windows = (cycles - self.first) // self.width_cycles
        np.add.at(self.sums, (windows, np.broadcast_to(series, windows.shape)), amounts)

    def _join(self) -> None:
        joined = self.sums.reshape(-1, 2, self.series).sum(axis=1)
        self.sums[: len(joined)], self.sums[len(joined) :] = joined, 0
        self.width_cycles, self.used = 2 * self.width_cycles, -(-self.used // 2)

    def edges(self) -> list[int]:
        """Cycles at which the windows in use begin, and the last one ends."""
        return [self.first + window * self.width_cycles for window in range(self.used + 1)]
