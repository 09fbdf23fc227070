"""Where arrays stand on an axis of multipliers: on a logarithmic scale, but never so close that names would collide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

_APART = 0.4  # octaves between neighbours, at least


@dataclass(frozen=True, slots=True)
class ArrayAxis:
    """Shapes of arrays by ascending number of multipliers, ``sizes``, and where each stands."""

    names: tuple[str, ...]
    sizes: tuple[float, ...]
    places: tuple[float, ...]

    @classmethod
    def of(cls, names: Sequence[object], sizes: Sequence[float]) -> ArrayAxis:
        """Raises ``ValueError`` unless there are sizes, finite, above zero and ascending, with a name for each."""
        counts = tuple(map(float, sizes))
        ascend = all(low <= high for low, high in pairwise(counts))
        legal = counts and ascend and all(0 < size < math.inf for size in counts)
        if len(names) != len(counts) or not legal:
            raise ValueError(f"arrays: {len(names)} names of {len(counts)} ascending sizes")
        return cls(tuple(map(str, names)), counts, _places(counts))

    @property
    def order(self) -> str:
        """How the shapes are placed, for the label of the axis."""
        moved = any(not math.isclose(*pair) for pair in zip(self.sizes, self.places, strict=True))
        return f"log scale of multipliers{' (shapes of about as many side by side)' if moved else ''}"

    def place(self, size: float, name: str = "") -> float:
        """Where so many multipliers stand; of shapes with as many, ``name`` is the one that is meant."""
        if name in self.names:
            return self.places[self.names.index(name)]
        if size in self.sizes:
            alike = [place for each, place in zip(self.sizes, self.places, strict=True) if each == size]
            return math.sqrt(alike[0] * alike[-1])
        return self._between(size)

    def _between(self, size: float) -> float:
        """In proportion between the shapes that have fewer and more; beyond all of them as far as on the scale."""
        pairs = list(zip(self.sizes, self.places, strict=True))
        below = max((pair for pair in pairs if pair[0] < size), default=None)
        above = min((pair for pair in pairs if pair[0] > size), default=None)
        if below is None or above is None:
            near, place = below or above or (size, size)
            return place * size / near
        share = math.log(size / below[0]) / math.log(above[0] / below[0])
        return float(below[1] * (above[1] / below[1]) ** share)


def _places(sizes: tuple[float, ...]) -> tuple[float, ...]:
    """Shapes of equal size next to each other, around it; what comes too close to the one before moves on."""
    places: list[float] = []
    for index, size in enumerate(sizes):
        others, before = sizes.count(size) - 1, sizes[:index].count(size)
        wanted = size * 2 ** (_APART * (before - others / 2))
        places.append(max(wanted, places[-1] * 2**_APART) if places else wanted)
    return tuple(places)
