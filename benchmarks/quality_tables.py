"""Tables of quality: a row a format under the float model's, and what each format costs on each machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accel.reporting import Column, Table
from benchmarks.quality_models import Profile
from benchmarks.quality_run import Quality

REQUIRED_OF = "int8"
FLOAT = "float32"


@dataclass(frozen=True, slots=True)
class Scored:
    """A model, what its float weights score, and each format."""

    profile: Profile
    reference: Mapping[str, float]
    formats: tuple[Quality, ...]


def score_table(scored: Scored) -> Table:
    """Scores of every format; the float model's first."""
    measures = scored.profile.measures
    columns = (
        Column("codec", "codec"),
        Column("bits_per_weight", "bits/weight", "bit"),
        *(Column(each.key, each.title, "1", each.style) for each in measures),
        Column("cpu_seconds", "CPU/inference", "1", "seconds"),
    )
    rows = [{"codec": FLOAT, "bits_per_weight": 32, **scored.reference}]
    rows += [_score_row(each) for each in scored.formats]
    notes = [f"required of {REQUIRED_OF}: {each.title} {each.required}" for each in measures if each.required]
    return Table(scored.profile.title, columns, tuple(rows), tuple(notes))


def _score_row(quality: Quality) -> dict[str, Any]:
    facts = {"codec": quality.codec, "bits_per_weight": quality.bits_per_weight, "cpu_seconds": quality.cpu_seconds}
    return {**facts, **quality.values}


def cost_table(models: Sequence[Scored]) -> Table:
    """What one inference moves and takes: a row a model, machine and format."""
    columns = (
        Column("model", "model"),
        Column("machine", "machine"),
        Column("codec", "codec"),
        Column("weight_bytes", "weights", "B"),
        Column("dram_bytes", "DRAM", "B"),
        Column("cycles", "cycles", "cycles"),
        Column("seconds", "latency", "s"),
    )
    return Table("One inference", columns, tuple(row for each in models for row in _cost_rows(each)))


def _cost_rows(scored: Scored) -> Iterator[dict[str, Any]]:
    costs = [(cost, each.codec) for each in scored.formats for cost in each.costs]
    for machine in dict.fromkeys(cost.machine for cost, _ in costs):
        for cost, codec in costs:
            if cost.machine == machine:
                yield {
                    "model": scored.profile.title,
                    "machine": machine,
                    "codec": codec,
                    "weight_bytes": cost.weight_bytes,
                    "dram_bytes": cost.dram_bytes,
                    "cycles": cost.cycles,
                    "seconds": cost.seconds,
                }


def missed(scored: Scored) -> Iterator[str]:
    """Requirements that int8, if it was measured, does not meet."""
    for quality in scored.formats:
        for each in scored.profile.measures if quality.codec == REQUIRED_OF else ():
            value, reference = quality.values[each.key], scored.reference[each.key]
            if not each.holds(value, reference):
                found = f"{each.title} {value:.4f}, float {reference:.4f}"
                yield f"{scored.profile.title}: {found}; required {each.required}"
