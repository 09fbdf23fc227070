"""A divergence in words: a table, JSON, one sentence on where it starts, and the points of its plot."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from accel.cli.divergence import CAUSES, Divergence, TensorRow

if TYPE_CHECKING:
    from accel.reporting import Table
    from accel.snr_plot import SnrPoint

ROWS_SHOWN = 12
LABELLED = 4  # points of a plot


def divergence_text(found: Divergence) -> str:
    """The table, largest drop first, and the verdict."""
    from accel.reporting import to_text

    return f"{to_text(_table(found))}\n{verdict(found)}\n"


def verdict(found: Divergence) -> str:
    """Where the program first leaves the model, or that it does not."""
    limits = f"{found.snr_limit:g} dB, or {found.drop_limit:g} dB below its inputs"
    first, worst = found.first, min(found.rows, key=lambda row: row.found.snr)
    if first is None:
        return f"no divergence: no tensor below {limits}; lowest: {_where(worst)}, {worst.found.snr:.1f} dB"
    return f"first divergence (below {limits}): {_where(first)}, {_change(first)}; {hint(first)}"


def _where(row: TensorRow) -> str:
    return f"layer {row.layer} ({row.kind}), tensor '{row.name}', instruction {row.instruction}"


def _change(row: TensorRow) -> str:
    start = "" if row.input_snr is None else f"{row.input_snr:.1f} -> "
    return f"{start}{row.found.snr:.1f} dB"


def hint(row: TensorRow) -> str:
    """What most probably costs the tensor its accuracy, in a sentence."""
    found = row.found
    alone = "" if found.rounding_snr is None else f"rounding to its codes alone would leave {found.rounding_snr:.1f} dB"
    if row.cause == "range":
        return (
            f"{100 * found.saturated:.1f} % saturated at {found.end:+d}, {100 * found.beyond:.1f} % of the float "
            "values beyond the codes: its calibrated range is too small"
        )
    if row.cause == "outliers" and found.outlier:
        channel, times = found.outlier
        return f"{alone}: channel {channel} is {times:.0f} times as wide as the median channel, the scale follows it"
    if row.cause == "scale":
        return f"{alone}: its scale of {row.scale:.3g} is too coarse for most of its values"
    if row.cause == "layer":
        loss = "the layer itself makes or amplifies the error: its weights, or what it does not store"
        return f"{alone}: {loss}" if alone else loss
    if row.cause == "inherited":
        return f"the loss comes with its input '{row.worst_input}'"
    return "next to nothing is lost"


def _row(row: TensorRow) -> dict[str, Any]:
    found = row.found
    return {
        "tensor": row.name,
        "layer": row.layer,
        "kind": row.kind,
        "instruction": None if row.instruction < 0 else row.instruction,
        "bytes": row.bytes,
        "snr": found.snr,
        "input_snr": row.input_snr,
        "drop": row.drop,
        "rounding_snr": found.rounding_snr,
        "steps": found.steps,
        "cosine": found.cosine,
        "saturated": found.saturated,
        "beyond": found.beyond,
        "cause": CAUSES[row.cause],
    }


def _table(found: Divergence) -> Table:
    from accel.reporting import Column, Table

    columns = (
        Column("tensor", "tensor"),
        Column("layer", "layer"),
        Column("kind", "kind"),
        Column("instruction", "instr.", "count"),
        Column("bytes", "bytes", "count"),
        Column("snr", "SNR", "dB"),
        Column("input_snr", "inputs", "dB"),
        Column("drop", "drop", "dB"),
        Column("rounding_snr", "own code", "dB"),
        Column("steps", "max steps", "1", "step"),
        Column("cosine", "cosine", "1"),
        Column("saturated", "saturated", "share"),
        Column("beyond", "beyond range", "share"),
        Column("cause", "likely cause"),
    )
    shown = found.ranked[:ROWS_SHOWN]
    title = f"Against {found.reference} ({found.weights}), largest drop first"
    return Table(title, columns, tuple(map(_row, shown)), tuple(_table_notes(found, len(shown))))


def _table_notes(found: Divergence, shown: int) -> Sequence[str]:
    worst = min(row.found.snr for row in found.rows)
    rest = f"{shown} of {len(found.rows)} tensors (--json lists all); " if shown < len(found.rows) else ""
    return (
        f"{rest}lowest SNR {worst:.1f} dB, last tensor {found.rows[-1].found.snr:.1f} dB",
        "inputs: SNR of the worst tensor it is computed from; own code: SNR if the float tensor were only rounded to "
        "its codes; max steps: largest error in steps of its code; saturated: codes at an end of their range (where "
        "activation functions end, too); beyond range: float values that its codes cannot hold",
        *found.notes,
    )


def divergence_document(found: Divergence) -> dict[str, Any]:
    """All rows in the order of execution, the limits and the first tensor beyond them."""
    first = found.first
    return {
        "reference": found.reference,
        "weights": found.weights,
        "snr_limit": found.snr_limit,
        "drop_limit": found.drop_limit,
        "first": None if first is None else {"tensor": first.name, "layer": first.layer, "hint": hint(first)},
        "verdict": verdict(found),
        "notes": list(found.notes),
        "tensors": [_row(row) | {"space": row.space, "hint": hint(row)} for row in found.rows],
    }


def snr_points(found: Divergence) -> list[SnrPoint]:
    """Points in the order of execution; the first divergence and the largest drops carry a label."""
    from accel.snr_plot import SnrPoint

    named = {row.name for row in found.ranked[:LABELLED] if (row.drop or 0) > 0}
    named |= {found.first.name} if found.first else set()
    return [
        SnrPoint(row.name, row.kind, row.found.snr, row.found.rounding_snr, row.found.beyond, row.name in named)
        for row in found.rows
    ]
