"""What ``accel compress`` says of a budget: how it was spent, and how good that is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compiler.compress import Spending


def spending_facts(spending: Spending | None) -> dict[str, Any] | None:
    """What the report says of a budget."""
    if spending is None:
        return None
    best = spending.best
    return {
        "limit_bytes": spending.limit_bytes,
        "error": spending.error,
        "bound": spending.bound,
        "measure": spending.measure,
        "choice": best and best.name,
        "whole_error": best and best.whole_error,
        "whole_samples": spending.samples,
        "choices": [
            {"choice": t.name, "bytes": t.stored_bytes, "error": t.error, "whole_error": t.whole_error}
            for t in spending.trials
        ],
        "layer_errors": {name: each.error for name, each in spending.candidates.items()},
    }


def spending_notes(spending: Spending | None) -> Iterator[str]:
    """The same in sentences."""
    if spending is None:
        return
    yield (
        f"budget of {spending.limit_bytes:,} bytes: errors of layers sum to {spending.error:.4g}, and no choice "
        f"within it to less than {spending.bound:.4g} ({spending.measure})"
    )
    if (best := spending.best) is not None:
        best_of = f", best of {len(spending.trials)}" if len(spending.trials) > 1 else ""
        yield (
            f"choice: {best.name}{best_of}, with an error of the whole model of {best.whole_error:.4g} (squared error "
            f"over squared outputs, all weights coded, activations in float; samples: {spending.samples})"
        )
