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
    return {
        "limit_bytes": spending.limit_bytes,
        "error": spending.error,
        "bound": spending.bound,
        "measure": spending.measure,
        "whole_error": spending.whole_error,
        "choices_tried": spending.choices,
        "whole_samples": spending.samples,
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
    if spending.whole_error is not None:
        which = f"the least of {spending.choices} choices" if spending.choices > 1 else "of the only choice"
        yield (
            f"error of the whole model: {spending.whole_error:.4g}, {which} (squared error over squared outputs, "
            f"all weights coded, activations in float; samples: {spending.samples})"
        )
