"""How close a compiled program's answers are to the float model's: what the format costs beside what it saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from accel.metrics import cosine

if TYPE_CHECKING:
    from accel.cli.progress import Report
    from accel.program import Program
    from compiler.frontend import LoadedModel

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Reference:
    """Inputs, and the outputs of the uncompressed model in float32 for each of them."""

    inputs: Sequence[Mapping[str, Array]]
    outputs: Sequence[Mapping[str, Array]]


def float_reference(model: LoadedModel, inputs: Sequence[Mapping[str, Array]]) -> Reference:
    """Evaluate the model as its authors meant it."""
    from compiler.quantise import evaluate

    return Reference(inputs, [evaluate(model.graph, model.weights, sample) for sample in inputs])


def output_cosine(program: Program, reference: Reference, report: Report) -> float:
    """Cosine between the program's outputs (executed bit for bit) and the float model's, averaged over the inputs."""
    from sim.functional import execute

    cosines = []
    for number, (inputs, expected) in enumerate(zip(reference.inputs, reference.outputs, strict=True)):
        report(number, len(reference.inputs), "executing")
        found = execute(program, inputs)
        cosines.append(float(np.mean([cosine(found[name], expected[name]) for name in expected])))
    return float(np.mean(cosines))
