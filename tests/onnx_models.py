"""Small ONNX models for tests: write one, import it, compare with onnx's reference evaluator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from graph_reference import evaluate
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from accel.graph import Graph
from compiler.frontend.onnx_import import import_onnx

SEEDED = np.random.default_rng(7)
I64 = np.int64
IMAGE = (1, 4, 6, 8)
TOKENS = (2, 5, 8)
Node = onnx.NodeProto


def noise(*shape: int) -> np.ndarray:
    return SEEDED.standard_normal(shape).astype(np.float32)


def node(kind: str, inputs: str, output: str = "y", **attributes: Any) -> Node:
    """A node named after its output; ``inputs`` separated by spaces, ``-`` for an absent one."""
    names = ["" if name == "-" else name for name in inputs.split()]
    return helper.make_node(kind, names, output.split(), name=f"/{output.split()[0]}/{kind}", **attributes)


def save(path: Path, nodes: list[Node], inputs: dict[str, Any], constants: dict[str, Any], opset: int = 17) -> Path:
    """Write a model whose one output is ``y``; ``inputs`` maps names to shapes (symbols allowed)."""
    types = {name: TensorProto.INT64 if name.startswith("ids") else TensorProto.FLOAT for name in inputs}
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, types[name], shape) for name, shape in inputs.items()],
        [onnx.ValueInfoProto(name="y")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    target = path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), target)
    return target


def checked(path: Path, feeds: dict[str, np.ndarray], outputs: list[str] | None = None) -> Graph:
    """Import and compare with the reference evaluator; the graph, for more checks."""
    graph, params = import_onnx(path, {name: value.shape for name, value in feeds.items()}, outputs)
    expected = ReferenceEvaluator(onnx.load(path)).run(outputs, feeds)
    for ours, theirs in zip(evaluate(graph, params, feeds), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    return graph


def kinds(graph: Graph) -> list[str]:
    return [op.kind for op in graph.ops]
