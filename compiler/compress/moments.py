"""Second moments of the activations that weights multiply: what an error of a weight costs at its layer's output.

The squared error of an output ``sum_r w_r x_r`` is ``sum_r E[x_r^2] (w_r - v_r)^2`` if the activations of different
inputs are uncorrelated; the moments are the diagonal of the Hessian of that error (GPTQ, arXiv 2210.17323, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from accel.graph import Graph, Op, weight_name
from compiler.quantise import Exponents, evaluate
from compiler.quantise.fold import folded_factors
from compiler.quantise.operators import padded, windows

Tensors = Mapping[str, npt.NDArray[Any]]
Moments = npt.NDArray[np.float32]  # [rows, reduction], rows being 1 or the layer's outputs
Progress = Callable[[int, int, str], None]

DAMPING = 0.01  # of the mean, added: inputs that samples left silent still count (as in GPTQ's reference code)


def second_moments(
    graph: Graph, weights: Tensors, samples: Sequence[Tensors], progress: Progress | None = None
) -> dict[str, Moments]:
    """For every conv and gemm weight the mean square of each activation it multiplies, over ``samples``.

    ``float32[1, reduction]`` where all outputs see the same inputs, ``[out, reduction]`` for grouped convolutions, of
    mean 1. A weight that several operators share gets the sum of theirs.
    """
    readers: dict[str, list[Op]] = {}
    for op in graph.weight_ops():
        readers.setdefault(op.inputs[0], []).append(op)
    totals: dict[str, npt.NDArray[np.float64]] = {}

    def observe(name: str, array: npt.NDArray[Any]) -> None:
        for op in readers.get(name, ()):
            found = _mean_squares(op, array, graph.parameters[weight_name(op)])
            totals[weight_name(op)] = totals.get(weight_name(op), 0) + found

    for number, sample in enumerate(samples):
        if progress is not None:
            progress(number, len(samples), "second moments")
        evaluate(graph, weights, sample, observe)
    return {name: _damped(total) for name, total in totals.items()}


def folded_moments(graph: Graph, moments: Mapping[str, Moments], exponents: Exponents) -> dict[str, Moments]:
    """Moments for weights with channel exponents folded in: the activations they multiply are divided by these."""
    factors = dict(folded_factors(graph, exponents))
    return {
        name: np.asarray(found / np.square(factors[name]), np.float32) if name in factors else found
        for name, found in moments.items()
    }


def _mean_squares(op: Op, x: npt.NDArray[Any], weight: tuple[int, ...]) -> npt.NDArray[np.float64]:
    if op.kind == "gemm":
        return np.asarray(np.square(x.reshape(1, -1, x.shape[-1]), dtype=np.float64).mean(axis=1))
    a = op.attributes
    seen = windows(np.square(padded(x, a["padding"], 0.0)), a["kernel"], a["stride"], a["dilation"])
    means = seen.mean(axis=(0, 2, 3), dtype=np.float64).reshape(a["groups"], -1)
    return np.asarray(means if len(means) == 1 else means.repeat(weight[0] // len(means), axis=0))


def _damped(total: npt.NDArray[np.float64]) -> Moments:
    """Mean 1; all ones where nothing but zeros was seen."""
    mean = total.mean()
    scaled = total / mean if np.isfinite(mean) and mean > 0 else np.ones_like(total)
    return np.asarray((scaled + DAMPING) / (1 + DAMPING), np.float32)
