"""What changed between two runs: facts about model, machine and tool, every metric, every part of a total, every layer.

A change is measured against the total it is a part of in the first run, so that a tolerance means the same everywhere:
0.01 is one per cent of the cycles, bytes or joules of the whole run. A metric is its own total.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from accel.machine import machine_digest
from accel.metrics import METRICS
from accel.reporting import metric_values, numbered
from accel.run import LayerRun, Run

METRIC = "metric"
_ROUNDING = 1e-9  # of shares: seconds are quotients themselves


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of figure: what a table of them is called, and the metric they add up to (none for metrics)."""

    title: str
    metric: str = ""


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        METRIC: Kind("Metrics"),
        "cycles_by_cause": Kind("Cycles by cause", "total_cycles"),
        "dram_bytes": Kind("DRAM bytes by kind", "dram_bytes_total"),
        "energy_joules": Kind("Energy by component", "energy_total"),
        "layer_cycles": Kind("Layers by change of cycles", "total_cycles"),
        "layer_dram_bytes": Kind("Layers by change of DRAM bytes", "dram_bytes_total"),
    }
)
_PARTS, _LAYERS = ("cycles_by_cause", "dram_bytes", "energy_joules"), ("layer_cycles", "layer_dram_bytes")


@dataclass(frozen=True, slots=True)
class Fact:
    """Something about two runs that is not the same in both."""

    name: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Change:
    """One number before and after, in the unit of ``metric``; ``None``: that run has none (a layer it lacks).

    ``kind`` is a key of ``KINDS``; ``total`` the first run's, which the change is measured against.
    """

    kind: str
    name: str
    metric: str
    before: float | None
    after: float | None
    total: float

    @property
    def difference(self) -> float:
        """After less before; what is missing counts as nothing."""
        return (self.after or 0) - (self.before or 0)

    @property
    def relative(self) -> float | None:
        """Of its own value before; ``None`` if that was nothing."""
        return self.difference / self.before if self.before else None

    @property
    def share(self) -> float:
        """Of the total before: infinite where something follows nothing."""
        if self.difference == 0:
            return float("inf") if (self.before is None) != (self.after is None) and self.kind == METRIC else 0.0
        return self.difference / abs(self.total) if self.total else float("inf")

    @property
    def is_worse(self) -> bool:
        """Whether it went the way its metric calls worse; a metric with no such way, or of one run only, never did."""
        better = METRICS[self.metric].better
        if self.kind == METRIC and (self.before is None or self.after is None):
            return False
        return bool(better) and self.difference != 0 and (self.difference > 0) == (better == "lower")

    def exceeds(self, tolerance: float) -> bool:
        """Whether it is past ``tolerance``, a share of the total; what rounding adds to a quotient is not."""
        share = abs(self.share)
        return share > tolerance and not math.isclose(share, tolerance, rel_tol=_ROUNDING)


def past_tolerance(found: Iterable[Change], tolerance: float, *, only_worse: bool = False) -> tuple[Change, ...]:
    """The changes past ``tolerance``; with ``only_worse``, metrics that got worse by more, and the parts and layers
    that made them.

    A part that grew while its total did not is no loss: cycles, bytes and joules only moved.
    """
    past = tuple(change for change in found if change.exceeds(tolerance))
    if not only_worse:
        return past
    worse = {change.metric for change in past if change.kind == METRIC and change.is_worse}
    return tuple(change for change in past if change.is_worse and change.metric in worse)


def changed_facts(before: Run, after: Run) -> tuple[Fact, ...]:
    """Model, weights, codec, program, tool, energy table, and every key of the machine, where they differ."""
    one, other = dict(_facts(before)), dict(_facts(after))
    names = dict.fromkeys((*one, *other))
    return tuple(Fact(name, one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name))


def _facts(run: Run) -> Iterator[tuple[str, Any]]:
    program = run.program
    source = program.get("source") or {}
    yield "accel version", run.tool
    yield from ((name, program.get(name)) for name in ("model", "codec", "batch"))
    yield "model digest", source.get("sha256")
    yield "program digest", program.get("digest")
    yield "instructions", program.get("instructions")
    yield "layers", len(run.layers)
    yield "energy table", run.energy_table.get("sha256")
    yield "machine", run.machine.name
    yield "machine digest", machine_digest(run.machine)
    yield from run.machine.flat().items()


def changes(before: Run, after: Run) -> tuple[Change, ...]:
    """Every metric, part of a total and layer of the two runs, changed or not."""
    values = metric_values(before), metric_values(after)
    metrics = (
        Change(METRIC, name, name, values[0][name], values[1][name], values[0][name] or 0)
        for name in METRICS
        if values[0][name] is not None or values[1][name] is not None
    )
    parts = ((kind, dict(getattr(before, kind)), dict(getattr(after, kind))) for kind in _PARTS)
    layers = ((kind, _of_layers(before, kind), _of_layers(after, kind)) for kind in _LAYERS)
    return (*metrics, *(change for part in (*parts, *layers) for change in _changes_of(*part, values[0])))


def _changes_of(
    kind: str, before: Mapping[str, float], after: Mapping[str, float], totals: Mapping[str, float | None]
) -> Iterator[Change]:
    metric = KINDS[kind].metric
    for name in dict.fromkeys((*before, *after)):
        yield Change(kind, name, metric, before.get(name), after.get(name), totals[metric] or 0)


def _of_layers(run: Run, kind: str) -> dict[str, float]:
    """The figure of each layer; layers that share a name are numbered from the second on."""
    names = numbered(layer.name for layer in run.layers)
    return {name: _figure(layer, kind) for name, layer in zip(names, run.layers, strict=True)}


def _figure(layer: LayerRun, kind: str) -> int:
    return layer.cycles if kind == "layer_cycles" else sum(layer.dram_bytes.values())
