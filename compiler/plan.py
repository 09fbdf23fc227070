"""Visits and how their weights are fetched: everything decided between lowering and emission."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from accel.errors import CompileError
from accel.isa import BLOCK_BYTES, BY_MNEMONIC
from accel.machine import Machine
from compiler.emit_vector import LIMIT
from compiler.split import WINDOWED, most_parts, shifted, split
from compiler.steps import Buffer, GemmStep, Lowered, Step, VectorStep, Visit
from compiler.tile import Tiling

IMAGE_ROWS = BY_MNEMONIC["GMC"].field("in_h").limit - 1  # a matrix is an image of one column


class Fetch(Enum):
    """How the parts of a visit get its weights."""

    ONCE = "every weight is loaded once and, for several parts, stays in the ring until the last"
    COLUMNS = "every part takes weights of its own: every weight is loaded once"
    STRIPS = "strip by strip, all parts in turn: every weight is loaded once, activations are walked once a strip"
    RELOAD = "every part loads the weights again"
    PASSES = "a strip exceeds the ring: every pass of a part's chunks of rows over a strip loads the strip again"


@dataclass(frozen=True, slots=True)
class WeightPlan:
    """Fetching of one visit's weights: ``blocks`` in all, the first ``ahead_blocks`` of them in one go."""

    fetch: Fetch
    blocks: int
    ahead_blocks: int

    @property
    def loads_again(self) -> bool:
        """Whether blocks are loaded more than once."""
        return self.fetch in (Fetch.RELOAD, Fetch.PASSES)


def chunk_rows(mnemonic: str, rows: int, machine: Machine) -> int:
    """Output rows that one pass of a GEM or GMS over its tiles covers, of ``rows``."""
    return min(rows, machine.chunk_rows, BY_MNEMONIC[mnemonic].field("chunk").limit - 1)


def loads_each_pass(step: GemmStep, tiling: Tiling, machine: Machine) -> bool:
    """Whether a step takes several passes over strips that do not stay in the ring from one to the next."""
    rows = step.out.shape[0] * step.out.shape[1]
    is_cut = chunk_rows("GEM", rows, machine) < rows
    return is_cut and tiling.strip_blocks(0) > machine.sram.weight_bytes // BLOCK_BYTES


def fetch_plan(visit: Visit, tiling: Tiling, machine: Machine, staged: bool) -> WeightPlan:
    """Choose how a visit gets its weights; ``staged`` when a part has operands in DRAM."""
    blocks, strip = tiling.gemms * tiling.gemm_blocks, tiling.strip_blocks(0)
    fetch = _fetch(visit, tiling, machine, staged)
    return WeightPlan(fetch, blocks, strip if fetch is Fetch.PASSES else blocks)


def _fetch(visit: Visit, tiling: Tiling, machine: Machine, staged: bool) -> Fetch:
    ring = machine.sram.weight_bytes // BLOCK_BYTES
    parts = [part for part in visit.parts if isinstance(part, GemmStep)]
    if any(loads_each_pass(part, tiling, machine) for part in parts):
        return Fetch.PASSES
    if len({part.first_column for part in parts}) > 1:
        return Fetch.COLUMNS
    if len(parts) == 1 or (tiling.gemm_blocks <= ring and tiling.gemms == 1):
        return Fetch.ONCE
    return Fetch.STRIPS if tiling.strip_blocks(0) <= ring and not staged else Fetch.RELOAD


def gem_columns(visit: Visit, plan: WeightPlan, tiling: Tiling) -> list[int]:
    """First output channel of every GEM of a visit, ascending."""
    if plan.fetch is Fetch.STRIPS:
        inner = range(0, tiling.columns, tiling.tile_columns)
        return [gemm * tiling.columns + first for gemm in range(tiling.gemms) for first in inner]
    firsts = {gemm * tiling.columns for gemm in range(tiling.gemms)}
    return sorted(firsts | {part.first_column for part in visit.parts if isinstance(part, GemmStep)})


def build_visits(lowered: Lowered, batch: int) -> list[Visit]:
    """Group steps that share a weight stream, repeat them for the batch, cut what no instruction can cover whole."""
    visits: list[list[Step]] = []
    for step in lowered.steps:
        pieces = [p for item in _items(step, lowered.buffers, batch) for p in _legal(item)]
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


def _legal(step: Step) -> Sequence[Step]:
    rows_limit = _rows_limit(step)
    rows = step.out.shape[0] * step.out.shape[1] if len(step.out.shape) == 3 else step.out.shape[0]
    if rows_limit is None or rows <= rows_limit:
        return [step]
    per_line = rows // step.out.shape[0]
    if per_line > rows_limit:
        name = step.weight if isinstance(step, GemmStep) else f"layer {step.layer}"
        raise CompileError(f"'{name}': one line of {per_line} output pixels; allowed: {rows_limit} at a time")
    lines = max(1, rows_limit // per_line)
    return split(step, min(-(-step.out.shape[0] // lines), most_parts(step)))


def _rows_limit(step: Step) -> int | None:
    """Most output pixels one instruction may cover, or ``None`` when there is no limit."""
    if isinstance(step, GemmStep):
        return IMAGE_ROWS
    if isinstance(step, VectorStep) and step.function in WINDOWED:
        return LIMIT
    return None


def stays_in_ring(tilings: Mapping[str, Tiling], machine: Machine) -> set[str]:
    """Weights whose whole stream fits the ring, so that cutting their visits costs no second load."""
    ring = machine.sram.weight_bytes // BLOCK_BYTES
    return {name for name, tiling in tilings.items() if tiling.gemms == 1 and tiling.gemm_blocks <= ring}
