"""Choosing what leaves the SRAM when not everything fits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from compiler.sram import Lifetime, aligned
from compiler.steps import Buffer, Visit
from compiler.versions import split_versions


@dataclass(slots=True)
class Spilling:
    """What is spilled so far, and what is alive where."""

    visits: Sequence[Visit]
    buffers: dict[str, Buffer]
    spilled: set[str]
    uses: dict[str, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        """What becomes an output by being overwritten in place needs no DRAM before that."""
        for buffer in [buffer for buffer in self.buffers.values() if buffer.home == "output"]:
            self._split(buffer)
        self.uses = _uses(self.visits)

    def lifetimes(self) -> list[Lifetime]:
        """Lifetimes of what is resident."""
        return [Lifetime(self.buffers[n], used[0], used[-1]) for n, used in self.uses.items() if n not in self.spilled]

    def spill(self, name: str) -> None:
        """Split a buffer that is overwritten in place into its versions; one that is not goes to DRAM."""
        if self._split(self.buffers[name]):
            self.uses = _uses(self.visits)
        else:
            self.spilled.add(name)

    def _split(self, buffer: Buffer) -> bool:
        versions = split_versions(self.visits, buffer)
        if versions is not None:
            self.visits = versions[0]
            self.buffers.update((version.name, version) for version in versions[1])
        return versions is not None

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
