"""Visits and how their weights are fetched: everything decided between lowering and emission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from accel.errors import CompileError
from accel.isa import BLOCK_BYTES
from accel.machine import Machine
from compiler.emit_vector import LIMIT
from compiler.split import WINDOWED, most_parts, shifted, split
from compiler.steps import Buffer, GemmStep, Lowered, Step, VectorStep, Visit
from compiler.tile import Tiling


class Fetch(Enum):
    """How the parts of a visit get its weights."""

    ONCE = "every weight is loaded once and, for several parts, stays in the ring until the last"
    COLUMNS = "every part takes weights of its own: every weight is loaded once"
    STRIPS = "strip by strip, all parts in turn: every weight is loaded once, activations are walked once a strip"
    RELOAD = "every part loads the weights again"


@dataclass(frozen=True, slots=True)
class WeightPlan:
    """Fetching of one visit's weights."""

    fetch: Fetch
    blocks: int


def fetch_plan(visit: Visit, tiling: Tiling, machine: Machine, staged: bool) -> WeightPlan:
    """Choose how a visit gets its weights; ``staged`` when a part has operands in DRAM."""
    blocks, ring = tiling.gemms * tiling.gemm_blocks, machine.sram.weight_bytes // BLOCK_BYTES
    if len({part.first_column for part in visit.parts if isinstance(part, GemmStep)}) > 1:
        return WeightPlan(Fetch.COLUMNS, blocks)
    if len(visit.parts) == 1 or (blocks <= ring and tiling.gemms == 1):
        return WeightPlan(Fetch.ONCE, blocks)
    if not staged and tiling.strip_blocks(0) <= ring:
        return WeightPlan(Fetch.STRIPS, blocks)
    return WeightPlan(Fetch.RELOAD, blocks)


def gem_columns(visit: Visit, plan: WeightPlan, tiling: Tiling) -> list[int]:
    """First output channel of every GEM of a visit, ascending."""
    if plan.fetch is Fetch.STRIPS:
        inner = range(0, tiling.columns, tiling.tile_columns)
        return [gemm * tiling.columns + first for gemm in range(tiling.gemms) for first in inner]
    firsts = {gemm * tiling.columns for gemm in range(tiling.gemms)}
    return sorted(firsts | {part.first_column for part in visit.parts if isinstance(part, GemmStep)})


def build_visits(lowered: Lowered, tilings: Mapping[str, Tiling], machine: Machine, batch: int) -> list[Visit]:
    """Group steps that share a weight stream, repeat them for the batch, cut what no instruction can cover whole."""
    visits: list[list[Step]] = []
    for step in lowered.steps:
        pieces = [p for item in _items(step, lowered.buffers, batch) for p in _legal(item, tilings, machine)]
        last = visits[-1][0] if visits else None
        if isinstance(step, GemmStep) and isinstance(last, GemmStep) and last.layer == step.layer:
            visits[-1].extend(pieces)
        else:
            visits.append(pieces)
    return [Visit(tuple(parts)) for parts in visits]


def _items(step: Step, buffers: Mapping[str, Buffer], batch: int) -> Sequence[Step]:
    """One step per item of the batch; constants are shared, every other buffer holds ``batch`` copies."""
    sizes = {name: buffer.size_bytes for name, buffer in buffers.items() if buffer.home != "constant"}
    return [shifted(step, {name: item * size for name, size in sizes.items()}) for item in range(batch)]


def batched_buffers(buffers: Mapping[str, Buffer], batch: int) -> dict[str, Buffer]:
    """Buffers with room for every item of the batch."""
    return {
        name: Buffer(name, buffer.size_bytes * (1 if buffer.home == "constant" else batch), buffer.home)
        for name, buffer in buffers.items()
    }


def _legal(step: Step, tilings: Mapping[str, Tiling], machine: Machine) -> Sequence[Step]:
    rows_limit = _rows_limit(step, tilings, machine)
    rows = step.out.shape[0] * step.out.shape[1] if len(step.out.shape) == 3 else step.out.shape[0]
    if rows_limit is None or rows <= rows_limit:
        return [step]
    per_line = rows // step.out.shape[0]
    if per_line > rows_limit:
        name = step.weight if isinstance(step, GemmStep) else f"layer {step.layer}"
        raise CompileError(
            f"'{name}': one line of {per_line} output pixels; allowed on machine '{machine.name}': {rows_limit} at a "
            f"time, or a weight ring that holds the weights of {machine.array.columns} channels"
        )
    lines = max(1, rows_limit // per_line)
    return split(step, min(-(-step.out.shape[0] // lines), most_parts(step)))


def _rows_limit(step: Step, tilings: Mapping[str, Tiling], machine: Machine) -> int | None:
    """Most output pixels one instruction may cover, or ``None`` when there is no limit.

    A GEMM longer than the accumulators decodes each strip several times, which needs the strip to stay in the ring.
    """
    if isinstance(step, GemmStep):
        holds = tilings[step.weight].strip_blocks(0) * BLOCK_BYTES <= machine.sram.weight_bytes
        return (1 << 14) - 1 if holds else machine.accumulator_rows
    if isinstance(step, VectorStep) and step.function in WINDOWED:
        return LIMIT
    return None


def stays_in_ring(tilings: Mapping[str, Tiling], machine: Machine) -> set[str]:
    """Weights whose whole stream fits the ring, so that cutting their visits costs no second load."""
    ring = machine.sram.weight_bytes // BLOCK_BYTES
    return {name for name, tiling in tilings.items() if tiling.gemms == 1 and tiling.gemm_blocks <= ring}
