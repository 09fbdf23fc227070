"""Compiled programs compute what their graphs say: every address, window and stride, in exact integer arithmetic."""

from __future__ import annotations

import numpy as np
from executor import Executor, evaluate, small_integers
from hypothesis import HealthCheck, assume, event, given, settings
from strategies import codings, graphs, machines, pack_randomly

from accel.errors import CompileError
from accel.graph import Graph
from compiler import compile_model

INEXACT = frozenset(("resize",))  # resizing keeps no phase when cut in parts: its values are not addresses alone


def has_exact_values(graph: Graph) -> bool:
    """Whether no operator interpolates, and no product with constants turns into a scale of the output stage."""
    for op in graph.ops:
        constant = len(op.inputs) > 1 and op.inputs[1] in graph.parameters
        if op.kind in INEXACT or (op.kind in ("mul", "div") and constant and graph.shapes[op.inputs[1]] != (1,)):
            return False
    return True


def random_inputs(graph: Graph, rng: np.random.Generator) -> dict[str, np.ndarray]:
    tables = {op.inputs[1]: graph.shapes[op.inputs[0]][0] for op in graph.ops if op.kind == "embedding"}
    inputs: dict[str, np.ndarray] = {}
    for name, shape in graph.inputs.items():
        kind = np.int32 if name in tables else np.uint8
        inputs[name] = rng.integers(0, tables.get(name, 256), shape).astype(kind)
    return inputs


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs(), codings(), machines())
def test_programs_compute_their_graphs(graph, coding, machine) -> None:
    assume(has_exact_values(graph))
    rng = np.random.default_rng(0)
    packed = small_integers(pack_randomly(graph, coding), rng)
    try:
        program = compile_model(packed, machine)
    except CompileError:
        event("refused")
        return
    event(f"compiled, {'spilled' if program.report['spilled'] else 'resident'}")
    inputs = random_inputs(graph, rng)
    found, expected = Executor(program, packed, inputs).run(), evaluate(graph, packed, inputs)
    for name in graph.outputs:
        assert np.array_equal(found[name], expected[name]), name
