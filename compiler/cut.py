"""Ways to cut a visit whose operands do not all stay in SRAM, best first."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from accel.machine import Machine
from compiler.plan import loads_each_pass
from compiler.split import column_units, most_parts, split, split_columns
from compiler.steps import GemmStep, Step, Visit
from compiler.tile import Tiling

PARTS_FOR_OVERLAP = 4  # enough for transfers to overlap work, few enough to keep tiles tall
LARGE_BYTES = 16 * 1024  # below this overlap is not worth the extra instructions


@dataclass(frozen=True, slots=True)
class Cutter:
    """Proposes cuts. ``ring_weights`` stay in the weight ring between parts, so cutting rows loads nothing twice."""

    tilings: Mapping[str, Tiling]
    ring_weights: set[str]
    machine: Machine

    def cuts(self, visit: Visit) -> Iterator[Visit]:
        """Cuts of a visit in the order they should be tried.

        Weights that stay in the ring: row parts, several at once for overlap. Others: column parts (each weight still
        loaded once, unless every pass loads them anyway), whole, then as few row parts as fit (weights loaded again for
        each).
        """
        step = visit.step
        if isinstance(step, GemmStep) and step.weight not in self.ring_weights:
            if len(visit.parts) == 1 and not loads_each_pass(step, self.tilings[step.weight], self.machine):
                yield from self._columns(step)
            yield from self._rows(visit, 1)
        else:
            yield from self._rows(visit, self._overlapping_parts(visit))

    def _overlapping_parts(self, visit: Visit) -> int:
        """Parts worth making for overlap: none so flat that its tiles wait for the decoder, or leave the array idle."""
        step = visit.step
        if step.out.elements < LARGE_BYTES:
            return 1
        if not isinstance(step, GemmStep):
            return PARTS_FOR_OVERLAP
        tile_cycles = self.tilings[step.weight].tile_cycles(self.machine.decoder.lookups_per_cycle)
        array, rows = self.machine.array, step.out.shape[0] * step.out.shape[1]
        hides_decode = array.dataflow == "ws" and array.model == "pipelined"
        return max(1, min(PARTS_FOR_OVERLAP, rows // (tile_cycles if hides_decode else self.machine.chunk_rows)))

    def _columns(self, step: GemmStep) -> Iterator[Visit]:
        _, units = column_units(self.tilings[step.weight])
        for parts in _counts(min(PARTS_FOR_OVERLAP, units), units):
            yield Visit(split_columns(step, self.tilings[step.weight], parts))

    def _rows(self, visit: Visit, first: int) -> Iterator[Visit]:
        most = max(most_parts(part) for part in visit.parts)
        for parts in _counts(min(first, most), most):
            yield Visit(tuple(piece for part in visit.parts for piece in split(part, parts, self._unit(part))))

    def _unit(self, step: Step) -> int:
        """Lines of output to cut at, so that no chunk of rows is cut in two where its size is the array's."""
        if not isinstance(step, GemmStep) or self.machine.array.dataflow == "ws":
            return 1
        chunk = self.machine.chunk_rows
        return chunk // math.gcd(chunk, step.out.shape[1])


def _counts(first: int, last: int) -> Iterator[int]:
    """Growing numbers of parts from ``first`` to ``last``, ever coarser."""
    count = first
    while count < last:
        yield count
        count = max(count + 1, count * 4 // 3)
    if first <= last:
        yield last
