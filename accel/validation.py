"""Our figures beside other people's: comparisons, the bounds they must keep, and the table of both."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from accel.reporting import Column, Table

CLOSE = 0.05  # a figure off by at most this counts as close


@dataclass(frozen=True, slots=True)
class Comparison:
    """One figure (``case``) of ours and of a reference."""

    case: str
    ours: float
    reference: float

    @property
    def error(self) -> float:
        """Relative, with its sign: above 0 where ours is larger."""
        return (self.ours - self.reference) / self.reference


@dataclass(frozen=True, slots=True)
class Bound:
    """What the errors of a group may be, without their sign; ``close``: at least this share is within ``CLOSE``."""

    mean: float
    largest: float = math.inf
    close: float = 0.0

    @property
    def text(self) -> str:
        """``mean <= 0.3 %, max <= 2 %``."""
        parts = [f"mean <= {100 * self.mean:g} %"]
        parts += [f"max <= {100 * self.largest:g} %"] if self.largest < math.inf else []
        parts += [f"{100 * self.close:g} % within {100 * CLOSE:g} %"] if self.close else []
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Group:
    """Comparisons that share a bound: one line of the table."""

    name: str
    bound: Bound
    comparisons: tuple[Comparison, ...]

    @property
    def errors(self) -> list[float]:
        """Without sign, the smallest first."""
        return sorted(abs(each.error) for each in self.comparisons)

    @property
    def mean(self) -> float:
        """Mean error."""
        return sum(self.errors) / len(self.comparisons)

    @property
    def close(self) -> float:
        """Share of the errors that are at most ``CLOSE``."""
        return sum(error <= CLOSE for error in self.errors) / len(self.comparisons)

    @property
    def is_met(self) -> bool:
        """Whether the bound holds."""
        bound = self.bound
        return self.mean <= bound.mean and self.errors[-1] <= bound.largest and self.close >= bound.close

    def row(self) -> dict[str, Any]:
        """A row of ``summary``."""
        errors = self.errors
        return {
            "group": self.name,
            "rows": len(errors),
            "mean_error": self.mean,
            "p90_error": errors[math.ceil(0.9 * len(errors)) - 1],
            "max_error": errors[-1],
            "close_share": self.close,
            "bound": self.bound.text,
            "met": "yes" if self.is_met else "NO",
        }


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the model against its references."""

    title: str
    groups: tuple[Group, ...]

    @property
    def is_met(self) -> bool:
        """Whether all groups keep their bounds."""
        return all(group.is_met for group in self.groups)


_ERROR_COLUMNS = (
    Column("rows", "rows", "1", "count"),
    Column("mean_error", "mean error", "1", "error"),
    Column("p90_error", "p90", "1", "error"),
    Column("max_error", "max", "1", "error"),
    Column("close_share", f"within {100 * CLOSE:g} %", "1", "share"),
)


def summary(section: Section) -> Table:
    """One line a group."""
    columns = (Column("group", "reference"), *_ERROR_COLUMNS, Column("bound", "required"), Column("met", "met"))
    return Table(section.title, columns, tuple(group.row() for group in section.groups))


def details(section: Section) -> Table:
    """One line a comparison."""
    columns = (
        Column("group", "reference"),
        Column("case", "case"),
        Column("ours", "ours", "1", "count"),
        Column("reference", "theirs", "1", "count"),
        Column("error", "error", "1", "signed error"),
    )
    rows = tuple(
        {"group": group.name, "case": each.case, "ours": each.ours, "reference": each.reference, "error": each.error}
        for group in section.groups
        for each in group.comparisons
    )
    return Table(f"{section.title}, row by row", columns, rows)
