"""Where buffers live. Activations share the SRAM by lifetime; what does not fit is spilled to DRAM, and reported.

A visit with an operand in DRAM works on staged copies, in as few row parts as fit beside what is alive; two sets of
staging areas alternate, so that one part's transfers overlap the next part's work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from accel.errors import CompileError
from accel.isa import BLOCK_BYTES
from compiler.cut import Cutter
from compiler.steps import Buffer, Visit
from compiler.versions import split_versions
from compiler.views import View, dense_strides, physical_order

RETRIES = 24  # restarts of a placement per ordering before something is spilled


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


@dataclass(frozen=True, slots=True)
class Lifetime:
    """A resident buffer is alive from visit ``start`` to ``stop``, both included."""

    buffer: Buffer
    start: int
    stop: int


def staged_view(view: View) -> View:
    """The dense copy of a DRAM view in SRAM (offset and buffer to be filled in); broadcast axes are stored once."""
    stored = tuple(1 if stride == 0 else size for size, stride in zip(view.shape, view.strides, strict=True))
    strides = dense_strides(stored, physical_order(view))
    strides = tuple(0 if old == 0 else new for old, new in zip(view.strides, strides, strict=True))
    return View("", 0, view.shape, strides)


def aligned(size: int) -> int:
    """Rounded up to whole blocks, so that everything starts on one."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


def dram_operands(visit_part: object, address: Mapping[str, int]) -> tuple[View, ...]:
    """Distinct views of a part that are not resident, reads first."""
    views: list[View] = []
    for view in (*visit_part.reads, visit_part.writes):  # type: ignore[attr-defined]
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
    state = _Spilling(visits, dict(buffers), {n for n, buffer in buffers.items() if buffer.home != "activation"})
    state.spill_overfull(capacity_bytes)
    while True:
        lifetimes = state.lifetimes()
        address, victim = _fit(lifetimes, capacity_bytes)
        if victim is None:
            staged = _stage(state.visits, lifetimes, address, capacity_bytes, cutter)
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


def _uses(visits: Sequence[Visit]) -> dict[str, list[int]]:
    """Visits in which each buffer is touched, ascending."""
    uses: dict[str, list[int]] = {}
    for index, visit in enumerate(visits):
        for part in visit.parts:
            for view in (*part.reads, part.writes):
                touched = uses.setdefault(view.buffer, [])
                if not touched or touched[-1] != index:
                    touched.append(index)
    return uses


@dataclass(slots=True)
class _Spilling:
    """What is spilled so far, and what is alive where."""

    visits: Sequence[Visit]
    buffers: dict[str, Buffer]
    spilled: set[str]
    uses: dict[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        self.uses = _uses(self.visits)

    def lifetimes(self) -> list[Lifetime]:
        """Lifetimes of what is resident."""
        return [Lifetime(self.buffers[n], used[0], used[-1]) for n, used in self.uses.items() if n not in self.spilled]

    def spill(self, name: str) -> None:
        """Split a buffer that is overwritten in place into its versions; one that is not goes to DRAM."""
        versions = split_versions(self.visits, self.buffers[name])
        if versions is None:
            self.spilled.add(name)
            return
        self.visits, new = versions
        del self.buffers[name]
        self.buffers.update((buffer.name, buffer) for buffer in new)
        self.uses = _uses(self.visits)

    def alive(self, index: int) -> set[str]:
        """Resident buffers that hold something at a visit."""
        return {n for n, used in self.uses.items() if n not in self.spilled and used[0] <= index <= used[-1]}

    def spill_overfull(self, capacity_bytes: int) -> None:
        """First rough pass: wherever more is alive than fits, spill until it does."""
        for index in range(len(self.visits)):
            alive = self.alive(index)
            while sum(aligned(self.buffers[name].size_bytes) for name in alive) > capacity_bytes:
                self.spill(self._worst(alive, index))
                alive = self.alive(index)

    def worst_at(self, index: int) -> str | None:
        """What to spill at a visit, if anything is left."""
        alive = self.alive(index)
        return self._worst(alive, index) if alive else None

    def _worst(self, alive: set[str], index: int) -> str:
        """What the visit does not touch before what it does, then the largest, then the longest idle."""

        def key(name: str) -> tuple[bool, int, int, str]:
            later = [use for use in self.uses[name] if use > index]
            return index not in self.uses[name], self.buffers[name].size_bytes, later[0] if later else index, name

        return max(alive, key=key)


def _fit(lifetimes: Sequence[Lifetime], capacity_bytes: int) -> tuple[dict[str, int], str | None]:
    """Addresses for all lifetimes, or those found and the buffer that never fits.

    Largest first, then longest-lived first; each time the buffer that found no room moves to the front of the queue
    and the placement starts again (what is awkward to place goes first).
    """
    for key in (_by_size, _by_duration):
        order = sorted(lifetimes, key=key)
        for _ in range(RETRIES):
            address, failed = _first_fit(order, capacity_bytes)
            if failed is None:
                return address, None
            order.insert(0, order.pop(failed))
    return address, order[0].buffer.name


def _by_size(life: Lifetime) -> tuple[int, int, str]:
    return -life.buffer.size_bytes, life.start, life.buffer.name


def _by_duration(life: Lifetime) -> tuple[int, int, str]:
    return life.start - life.stop, life.start, life.buffer.name


def _first_fit(order: Sequence[Lifetime], capacity_bytes: int) -> tuple[dict[str, int], int | None]:
    """Each lifetime at the lowest address free for all of it; second is the index of the first that does not fit."""
    starts, stops, lows, highs = (np.zeros(len(order), np.int64) for _ in range(4))
    address: dict[str, int] = {}
    for count, life in enumerate(order):
        size = aligned(life.buffer.size_bytes)
        overlap = (starts[:count] <= life.stop) & (stops[:count] >= life.start)
        taken = sorted(zip(lows[:count][overlap].tolist(), highs[:count][overlap].tolist(), strict=True))
        low = next(at for at, room in _gaps(taken, capacity_bytes) if room >= size or room < 0)
        if low < 0:
            return address, count
        starts[count], stops[count], lows[count], highs[count] = life.start, life.stop, low, low + size
        address[life.buffer.name] = low
    return address, None


def _gaps(taken: Sequence[tuple[int, int]], capacity_bytes: int) -> Iterator[tuple[int, int]]:
    """``(address, room)`` of free stretches between sorted intervals; ends with ``(-1, -1)``."""
    at = 0
    for low, high in taken:
        if low > at:
            yield at, low - at
        at = max(at, high)
    if capacity_bytes > at:
        yield at, capacity_bytes - at
    yield -1, -1


Staged = list[tuple[Visit, tuple[tuple[int, ...], ...]]]


def _stage(
    visits: Sequence[Visit],
    lifetimes: Sequence[Lifetime],
    address: Mapping[str, int],
    capacity_bytes: int,
    cutter: Cutter,
) -> Staged | int:
    """Final parts and staging addresses of every visit, or the index of the first visit for which there is no room."""
    staged: Staged = []
    for index, visit in enumerate(visits):
        if not any(dram_operands(part, address) for part in visit.parts):
            staged.append((visit, ()))
            continue
        alive = [life for life in lifetimes if life.start <= index <= life.stop]
        taken = sorted((address[n.buffer.name], address[n.buffer.name] + aligned(n.buffer.size_bytes)) for n in alive)
        found = _stage_visit(visit, list(_gaps(taken, capacity_bytes))[:-1], address, cutter)
        if found is None:
            return index
        staged.append(found)
    return staged


def _stage_visit(
    visit: Visit, gaps: list[tuple[int, int]], address: Mapping[str, int], cutter: Cutter
) -> tuple[Visit, tuple[tuple[int, ...], ...]] | None:
    """The first cut, in the cutter's order, whose operands fit the gaps: in two sets if possible, else in one."""
    for cut in cutter.cuts(visit):
        sizes = _staging_sizes(cut, address)
        shared = _shared_slots(cut, address)
        for sets in (2, 1) if len(cut.parts) > 1 else (1,):
            alternating = [slot for slot in range(len(sizes)) if slot not in shared]
            wanted = [*sizes, *(sizes[slot] for slot in alternating * (sets - 1))]
            found = _pack(wanted, gaps)
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


def _pack(sizes: Sequence[int], gaps: list[tuple[int, int]]) -> list[int] | None:
    """An address for each size, largest placed first in the first gap with room; ``None`` when they do not fit."""
    free = [list(gap) for gap in gaps]
    found = [0] * len(sizes)
    for slot in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        gap = next((gap for gap in free if gap[1] >= sizes[slot]), None)
        if gap is None:
            return None
        found[slot] = gap[0]
        gap[0] += sizes[slot]
        gap[1] -= sizes[slot]
    return found


def _placement(
    staged: Staged,
    address: Mapping[str, int],
    lifetimes: Sequence[Lifetime],
    buffers: Mapping[str, Buffer],
    spilled: set[str],
) -> Placement:
    resident = [address[life.buffer.name] + aligned(life.buffer.size_bytes) for life in lifetimes]
    areas = [
        at + size
        for visit, sets in staged
        for area in sets
        for at, size in zip(area, _staging_sizes(visit, address), strict=True)
    ]
    names = sorted(name for name in spilled if buffers[name].home == "activation")
    visits = tuple(visit for visit, _ in staged)
    staging = {index: sets for index, (_, sets) in enumerate(staged) if sets}
    return Placement(dict(address), dict(buffers), visits, staging, tuple(names), max([0, *resident, *areas]))
