"""Which of several calibrations serves a model best: executed on the samples, not on what the model is scored on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from accel.metrics import cosine
from accel.packed import Packed
from accel.quantisation import Quantisation, dequantise
from compiler.interpreter import interpret
from compiler.quantise.floating import Tensors, evaluate

SAMPLES_TRIED = 8


def closest(
    packed: Packed, candidates: Sequence[Quantisation], values: Tensors, samples: Sequence[Tensors]
) -> Quantisation:
    """The candidate whose outputs have the largest mean cosine with the float model's, whose parameters are ``values``,
    over the first ``SAMPLES_TRIED`` samples; the first of equals."""
    tried = samples[:SAMPLES_TRIED]
    wanted = [evaluate(packed.graph, values, sample) for sample in tried]
    return max(candidates, key=lambda each: _closeness(replace(packed, quantisation=each), wanted, tried))


def _closeness(packed: Packed, wanted: Sequence[Tensors], samples: Sequence[Tensors]) -> float:
    assert packed.quantisation is not None
    codes = packed.quantisation.tensors
    cosines = []
    for sample, reals in zip(samples, wanted, strict=True):
        found = interpret(packed, sample)
        cosines += [cosine(dequantise(found[name], codes[name]), reals[name]) for name in found]
    return float(np.mean(cosines))
