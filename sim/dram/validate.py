"""Our cycles of every trace of ``accel/reference/dram.csv`` beside those of Ramulator and DRAMsim3."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

from accel.dram import DRAM_STANDARDS
from accel.dram_reference import DramReferenceRow, dram_reference_rows
from accel.validation import Bound, Comparison, Group, Section
from sim.dram.trace import Replay, replay_trace
from sim.dram.traces import TRACES, Accesses

Report = Callable[[float, float, str], None]

# (simulator, how names of standards begin): what every group of rows must keep.
BOUNDS: Mapping[tuple[str, str], Bound] = MappingProxyType(
    {
        ("Ramulator", "DDR4"): Bound(mean=0.003, largest=0.02),
        ("Ramulator", "LPDDR5"): Bound(mean=0.02, largest=0.08),
        ("Ramulator", "HBM2"): Bound(mean=0.02, largest=0.08),
        ("DRAMsim3", ""): Bound(mean=0.015, close=0.95),
    }
)


# What a simulator's configuration had different from ours, by the same keys.
CONFIGURED: Mapping[tuple[str, str], Mapping[str, int]] = MappingProxyType({("DRAMsim3", "DDR4"): {"trtrs": 1}})


def replay_reference(row: DramReferenceRow) -> Replay:
    """The trace of a reference row on the same channel."""
    standard, trace = DRAM_STANDARDS[row.standard], TRACES[row.trace]
    for (simulator, prefix), timing in CONFIGURED.items():
        if _is_of(row, simulator, prefix):
            standard = standard.with_timing(timing)
    accesses = _accesses(row.trace)
    return replay_trace(standard, row.width_bits, row.mapping, row.scheduler, *accesses, trace.outstanding)


@functools.cache
def _accesses(name: str) -> Accesses:
    return TRACES[name].make()


def dram_section(report: Report) -> Section:
    """All rows, replayed on all cores; ``report(done, total, what)`` is called after each."""
    rows = list(dram_reference_rows())
    groups: dict[tuple[str, Bound], list[Comparison]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # kernels run without the interpreter's lock
        for done, (row, replay) in enumerate(zip(rows, pool.map(replay_reference, rows), strict=True)):
            name = f"{row.simulator} {row.standard} x{row.width_bits} {row.mapping}"
            report(done, len(rows), f"{name} {row.trace}")
            group = groups.setdefault((name, bound_of(row)), [])
            group.append(Comparison(row.trace, replay.total_cycles, row.cycles))
    made = (Group(name, bound, tuple(comparisons)) for (name, bound), comparisons in groups.items())
    return Section("DRAM: cycles of traces", tuple(made))


def bound_of(row: DramReferenceRow) -> Bound:
    """The bound that a reference row's group must keep."""
    return next(bound for (simulator, prefix), bound in BOUNDS.items() if _is_of(row, simulator, prefix))


def _is_of(row: DramReferenceRow, simulator: str, prefix: str) -> bool:
    return row.simulator == simulator and row.standard.startswith(prefix)
