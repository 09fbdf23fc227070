"""Where buffers live. Activations share the SRAM by lifetime; what does not fit is spilled to DRAM, and reported.

A visit with an operand in DRAM works on staged copies, in as few row parts as fit beside what is alive; two sets of
staging areas alternate, so that one part's transfers overlap the next part's work.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from accel.errors import CompileError
from compiler.cut import Cutter
from compiler.spill import Spilling
from compiler.sram import Lifetime, aligned, fit, gaps, pack
from compiler.steps import Buffer, Step, Visit
from compiler.views import View, dense_strides, physical_order


@dataclass(frozen=True, slots=True)
class Placement:
    """``address`` of every resident buffer in SRAM; the other buffers are in DRAM. ``visits`` carry the final parts.

    ``buffers`` are those placed: what was overwritten in place may have become several (``compiler.versions``).
    ``staging[visit]`` lists, per set (two when there are several parts), the SRAM address of each distinct DRAM operand
    in the order of ``dram_operands``. ``peak_bytes`` is the highest SRAM byte used.
    """

    address: Mapping[str, int]
    buffers: Mapping[str, Buffer]
    visits: tuple[Visit, ...]
    staging: Mapping[int, tuple[tuple[int, ...], ...]]
    spilled: tuple[str, ...]
    peak_bytes: int


def staged_view(view: View) -> View:
    """The dense copy of a DRAM view in SRAM (offset and buffer to be filled in); broadcast axes are stored once."""
    stored = tuple(1 if stride == 0 else size for size, stride in zip(view.shape, view.strides, strict=True))
    strides = dense_strides(stored, physical_order(view))
    strides = tuple(0 if old == 0 else new for old, new in zip(view.strides, strides, strict=True))
    return View("", 0, view.shape, strides)


def dram_operands(part: Step, address: Mapping[str, int]) -> tuple[View, ...]:
    """Distinct views of a part that are not resident, reads first."""
    views: list[View] = []
    for view in (*part.reads, part.writes):
        if view.buffer not in address and view not in views:
            views.append(view)
    return tuple(views)


def place(
    visits: Sequence[Visit],
    buffers: Mapping[str, Buffer],
    capacity_bytes: int,
    cutter: Cutter,
    names: Sequence[str],
) -> Placement:
    """Place everything in ``capacity_bytes``; ``names`` are those of the layers.

    Raises ``CompileError`` naming a layer that cannot work even with all operands spilled.
    """
    state = Spilling(visits, dict(buffers), {n for n, buffer in buffers.items() if buffer.home != "activation"})
    state.spill_overfull(capacity_bytes)
    stager = Stager(cutter)
    while True:
        lifetimes = state.lifetimes()
        address, victim = fit(lifetimes, capacity_bytes)
        if victim is None:
            staged = _stage(state.visits, lifetimes, address, capacity_bytes, stager)
            if not isinstance(staged, int):
                return _placement(staged, address, lifetimes, state.buffers, state.spilled)
            victim = state.worst_at(staged)
            if victim is None:
                visit = state.visits[staged]
                raise CompileError(_too_small(visit, names[visit.step.layer], capacity_bytes))
        state.spill(victim)


def _too_small(visit: Visit, name: str, capacity_bytes: int) -> str:
    return (
        f"layer '{name}': one row of the operands of its {list(visit.step.out.shape)} result does not fit "
        f"the {capacity_bytes} bytes of activation SRAM left beside biases and scales; "
        "allowed: a larger sram.activation_bytes"
    )


Holes = tuple[tuple[int, int], ...]  # address and room of free stretches of SRAM
StagedVisit = tuple[Visit, tuple[tuple[int, ...], ...]]  # final parts; staging addresses by set and operand
Staged = list[StagedVisit]


def _stage(
    visits: Sequence[Visit],
    lifetimes: Sequence[Lifetime],
    address: Mapping[str, int],
    capacity_bytes: int,
    stager: Stager,
) -> Staged | int:
    """Final parts and staging addresses of every visit, or the index of the first visit for which there is no room."""
    staged: Staged = []
    for index, visit in enumerate(visits):
        if not any(dram_operands(part, address) for part in visit.parts):
            staged.append((visit, ()))
            continue
        alive = [life.buffer for life in lifetimes if life.start <= index <= life.stop]
        taken = sorted((address[buffer.name], address[buffer.name] + aligned(buffer.size_bytes)) for buffer in alive)
        found = stager.stage(visit, tuple(gaps(taken, capacity_bytes))[:-1], address)
        if found is None:
            return index
        staged.append(found)
    return staged


@dataclass(frozen=True, slots=True)
class Stager:
    """Finds cuts and staging areas, and remembers them: spilling one buffer leaves most visits as they were."""

    cutter: Cutter
    known: dict[object, StagedVisit | None] = field(default_factory=dict)

    def stage(self, visit: Visit, holes: Holes, address: Mapping[str, int]) -> StagedVisit | None:
        """The first cut, in the cutter's order, whose operands fit the holes: in two sets if possible, else in one."""
        resident = tuple(view.buffer in address for part in visit.parts for view in (*part.reads, part.writes))
        key = visit, holes, resident
        if key not in self.known:
            fitting = (_fitting(cut, holes, address) for cut in self.cutter.cuts(visit))
            self.known[key] = next((found for found in fitting if found is not None), None)
        return self.known[key]


def _fitting(cut: Visit, holes: Holes, address: Mapping[str, int]) -> StagedVisit | None:
    sizes = _staging_sizes(cut, address)
    shared = _shared_slots(cut, address)
    alternating = [slot for slot in range(len(sizes)) if slot not in shared]
    for sets in (2, 1) if len(cut.parts) > 1 else (1,):
        found = pack([*sizes, *(sizes[slot] for slot in alternating * (sets - 1))], holes)
        if found is not None:
            return cut, _sets(found, len(sizes), alternating, sets)
    return None


def _sets(found: list[int], slots: int, alternating: list[int], sets: int) -> tuple[tuple[int, ...], ...]:
    """Addresses of each set: the second differs from the first in its alternating slots only."""
    first = found[:slots]
    if sets == 1:
        return (tuple(first),)
    other = dict(zip(alternating, found[slots:], strict=True))
    return tuple(first), tuple(other.get(slot, at) for slot, at in enumerate(first))


def _shared_slots(visit: Visit, address: Mapping[str, int]) -> set[int]:
    """Operands that every part reads alike: staged once."""
    operands = [dram_operands(part, address) for part in visit.parts]
    reads = {view for part in visit.parts for view in part.reads}
    return {
        slot
        for slot, view in enumerate(operands[0])
        if view in reads and all(len(other) > slot and other[slot] == view for other in operands)
    }


def _staging_sizes(visit: Visit, address: Mapping[str, int]) -> list[int]:
    """Bytes of each staging area: the most any part needs there."""
    sizes: list[int] = []
    for part in visit.parts:
        for slot, view in enumerate(dram_operands(part, address)):
            need = aligned(staged_bytes(view))
            sizes[slot : slot + 1] = [max(need, sizes[slot])] if slot < len(sizes) else [need]
    return sizes


def staged_bytes(view: View) -> int:
    """Bytes the dense copy of a view takes."""
    return staged_view(view).span_bytes


def _placement(
    staged: Staged,
    address: Mapping[str, int],
    lifetimes: Sequence[Lifetime],
    buffers: Mapping[str, Buffer],
    spilled: set[str],
) -> Placement:
    resident = [address[life.buffer.name] + aligned(life.buffer.size_bytes) for life in lifetimes]
    names = sorted(name for name in spilled if buffers[name].home == "activation")
    visits = tuple(visit for visit, _ in staged)
    staging = {index: sets for index, (_, sets) in enumerate(staged) if sets}
    placement = Placement(dict(address), dict(buffers), visits, staging, tuple(names), max([0, *resident]))
    areas = [stop for index in staging for _, stop in staging_areas(placement, index)]
    return replace(placement, peak_bytes=max([placement.peak_bytes, *areas]))


def staging_areas(placement: Placement, index: int) -> set[tuple[int, int]]:
    """First and last-plus-one byte of every staging area of a visit."""
    sizes = _staging_sizes(placement.visits[index], placement.address)
    sets = placement.staging.get(index, ())
    return {(at, at + size) for area in sets for at, size in zip(area, sizes, strict=True)}
