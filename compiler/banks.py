"""Where DRAM streams begin: buffers used at the same time start in different bank groups, at least in different banks.

A stream stays in one bank for a stretch of bytes and then moves on to the next, so two streams that begin in different
banks and move at one pace never meet in a bank; two that begin in the same one close each other's rows all the way, and
two of one bank group wait for tCCD_L after every access. Mappings that spread every few lines over all banks
(MOP4CLXOR) leave nothing to place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from accel.dram import AddressMap, address_map
from accel.machine import Machine
from compiler.steps import GemmStep, Visit

Pieces = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class BankTurns:
    """A stream passes through ``banks`` banks in turn, ``stretch_bytes`` in each; every ``groups``-th of one group."""

    stretch_bytes: int
    banks: int
    groups: int

    def start(self, address: int) -> int:
        """The bank, in the order of turns, that a stream at ``address`` begins in."""
        return address // self.stretch_bytes % self.banks

    def padding(self, address: int, peers: Sequence[int]) -> int:
        """Bytes to skip at ``address`` so that a stream there meets the fewest of those at ``peers``."""
        if not peers or self.banks == 1:
            return 0
        starts = [self.start(peer) for peer in peers]
        skips = (0, *(self._skip(address, turns) for turns in range(1, self.banks)))
        return min(skips, key=lambda skip: (*self._meetings(address + skip, starts), skip))

    def _skip(self, address: int, turns: int) -> int:
        return (address // self.stretch_bytes + turns) * self.stretch_bytes - address

    def _meetings(self, address: int, starts: Sequence[int]) -> tuple[int, int]:
        """How many peers share its bank group, and how many its bank."""
        apart = [(self.start(address) - start) % self.banks for start in starts]
        same_group = sum(turns % self.groups == 0 for turns in apart) if self.groups > 1 else 0
        return same_group, sum(turns == 0 for turns in apart)


NO_TURNS = BankTurns(1, 1, 1)


def bank_turns(machine: Machine) -> BankTurns:
    """How streams move through the banks of this machine's DRAM; ``NO_TURNS`` where placing cannot matter."""
    if not machine.is_banked:
        return NO_TURNS
    dram = machine.dram
    layout = address_map(machine.dram_standard, dram.data_width_bits, dram.mapping)
    if layout.hashed:
        return NO_TURNS
    within, turning = _split(layout)
    groups = math.prod(1 << bits for field, bits in turning if field != "bank")
    banks = math.prod(1 << bits for _, bits in turning)
    return BankTurns((layout.access_bytes << sum(bits for _, bits in within)) * dram.channels, banks, groups)


def _split(layout: AddressMap) -> tuple[Pieces, Pieces]:
    """Pieces up to the column's highest (below it, lines at most alternate between groups), and those above it."""
    last = max(index for index, (field, _) in enumerate(layout.pieces) if field == "column")
    return layout.pieces[: last + 1], layout.pieces[last + 1 :]


def used_together(visits: Sequence[Visit]) -> Mapping[str, set[str]]:
    """For every buffer and weight the others whose transfers may overlap its own: of one visit, and of the next one's
    weights, which are fetched ahead."""
    peers: dict[str, set[str]] = {}
    for index, visit in enumerate(visits):
        names = _names(visit)
        if index + 1 < len(visits):
            names |= _weights(visits[index + 1])
        for name in names:
            peers.setdefault(name, set()).update(names - {name})
    return peers


def _names(visit: Visit) -> set[str]:
    views = (view for part in visit.parts for view in (*part.reads, part.writes))
    return {view.buffer for view in views} | _weights(visit)


def _weights(visit: Visit) -> set[str]:
    return {visit.step.weight} if isinstance(visit.step, GemmStep) else set()
