"""Tables of what codecs do to models before training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from accel.reporting import Column, Table

if TYPE_CHECKING:
    from benchmarks.post_training_findings import Findings, Layer, Outcome

WORST = 3  # layers named
UNIFORM = "one codec for all layers"

_CODEC, _BITS = Column("codec", "codec"), Column("bits_per_weight", "bits/weight", "bit")
_OUTPUT = Column("output_error", "output error", "1")


def tables(models: Sequence[Findings]) -> list[Table]:
    """For each model codecs, budgets and weighing; the layers go elsewhere."""
    found = [table(each) for each in models for table in (_codecs, _budgets, _weighings)]
    return [each for each in found if each.rows]


def _codecs(found: Findings) -> Table:
    columns = (
        Column("model", "model"),
        _CODEC,
        _BITS,
        Column("bytes", "stored", "B"),
        _OUTPUT,
        Column("median", "layers: median error", "1"),
        Column("p90", "90th percentile", "1"),
        Column("most", "largest", "1"),
        Column("others", "layers in another codec", "1", "count"),
        Column("worst", "layers that hurt most (share of all layers' errors alone)"),
    )
    rows = tuple({"model": found.model, **_codec_row(each)} for each in found.uniform)
    return Table(f"{found.model}: {UNIFORM}", columns, rows)


def _codec_row(each: Outcome) -> dict[str, Any]:
    errors = [layer.weight_error for layer in each.layers]
    return {
        "codec": each.codec,
        "bits_per_weight": bits(each),
        "bytes": each.stored_bytes,
        "output_error": each.output_error,
        "median": float(np.median(errors)),
        "p90": float(np.percentile(errors, 90)),
        "most": max(errors),
        "others": sum(layer.codec != each.codec for layer in each.layers),
        "worst": ", ".join(_worst(each.layers)),
    }


def _worst(layers: Sequence[Layer]) -> Iterator[str]:
    total = sum(layer.output_error for layer in layers)
    for layer in sorted(layers, key=lambda each: -each.output_error)[:WORST]:
        yield f"{layer.name.removesuffix('.weight')} {layer.output_error / total:.0%}"


def _budgets(found: Findings) -> Table:
    columns = (
        Column("model", "model"),
        Column("codec", "as many bytes as"),
        Column("bits_per_weight", "bits/weight taken", "bit"),
        Column("uniform", "output error of that codec", "1"),
        Column("output_error", "of the budget", "1"),
        Column("ratio", "ratio", "ratio"),
        Column("alone", "sum of errors alone", "1"),
        Column("bound", "bound", "1"),
        Column("codecs", "layers in each codec"),
    )
    pairs = zip(found.uniform, found.budgets, strict=True)
    rows = tuple({"model": found.model, **_budget_row(own, other)} for own, other in pairs)
    return Table(f"{found.model}: a budget against one codec, at no more bytes", columns, rows)


def _budget_row(own: Outcome, other: Outcome) -> dict[str, Any]:
    counts: dict[str, int] = {}
    for layer in other.layers:
        counts[layer.codec] = counts.get(layer.codec, 0) + 1
    return {
        "codec": own.codec,
        "bits_per_weight": bits(other),
        "uniform": own.output_error,
        "output_error": other.output_error,
        "ratio": other.output_error / own.output_error,
        "alone": sum(layer.output_error for layer in other.layers),
        "bound": other.bound,
        "codecs": ", ".join(f"{count} {codec}" for codec, count in sorted(counts.items(), key=lambda row: -row[1])),
    }


def _weighings(found: Findings) -> Table:
    columns = (
        Column("model", "model"),
        _CODEC,
        Column("vector_axis", "vector axis"),
        Column("plain", "output error, plain", "1"),
        Column("weighted", "weighted", "1"),
        Column("ratio", "ratio", "ratio"),
    )
    rows = tuple(
        {
            "model": found.model,
            "codec": each.codec,
            "vector_axis": each.vector_axis,
            "plain": each.plain,
            "weighted": each.weighted,
            "ratio": each.weighted / each.plain,
        }
        for each in found.weighings
    )
    return Table(f"{found.model}: errors weighed by activation moments", columns, rows)


def layer_table(models: Sequence[Findings]) -> Table:
    """A row a layer and codec of every model."""
    columns = (
        Column("model", "model"),
        Column("asked", "codec asked for"),
        Column("layer", "layer"),
        _CODEC,
        Column("weights", "weights", "1", "count"),
        Column("bytes", "stored", "B"),
        Column("weight_error", "weight error", "1"),
        _OUTPUT,
        Column("reason", "why another codec"),
    )
    rows = tuple(
        {
            "model": found.model,
            "asked": outcome.codec,
            "layer": layer.name,
            "codec": layer.codec,
            "weights": layer.weights,
            "bytes": layer.stored_bytes,
            "weight_error": layer.weight_error,
            "output_error": layer.output_error,
            "reason": layer.reason,
        }
        for found in models
        for outcome in found.uniform
        for layer in outcome.layers
    )
    return Table("Layers", columns, rows)


def bits(each: Outcome) -> float:
    """Stored bits a weight, codebooks and scales included."""
    return 8 * each.stored_bytes / sum(layer.weights for layer in each.layers)
