"""ONNX import of random windows, resizes and chains of operators."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from graph_reference import evaluate
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx.reference import ReferenceEvaluator
from onnx_models import TOKENS, Node, checked, node, noise, save

from compiler.frontend.interpolation import COORDINATES, ROUNDING, axis_matrix
from compiler.frontend.onnx_import import import_onnx

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(
    size=st.tuples(st.integers(5, 9), st.integers(5, 9)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.lists(st.integers(0, 2), min_size=4, max_size=4),
    kind=st.sampled_from(["Conv", "MaxPool", "AveragePool"]),
    auto=st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID"]),
    ceil=st.integers(0, 1),
    count=st.integers(0, 1),
)
def test_windows_agree_with_torch(
    size: Any, kernel: Any, stride: Any, pads: Any, kind: str, auto: str, ceil: int, count: int, tmp_path: Path
) -> None:
    """Random windows keep the reference's values; torch's for padded pools, which onnx's reference gets wrong."""
    if auto.startswith("SAME"):  # pooling: the reference evaluator disagrees with the specification
        kind, stride = "Conv", (min(stride[0], kernel[0]), min(stride[1], kernel[1]))
    attributes: dict[str, Any] = {"kernel_shape": kernel, "strides": stride, "auto_pad": auto}
    if auto == "NOTSET":
        attributes["pads"] = [min(p, k // 2) for p, k in zip(pads, kernel * 2, strict=True)]
    x = noise(1, 2, *size)
    constants = {"w": noise(3, 2, *kernel)} if kind == "Conv" else {}
    if kind != "Conv" and auto == "NOTSET":
        _check_pool(tmp_path, kind, attributes, bool(ceil), bool(count), x)
        return
    path = save(tmp_path, [node(kind, "x w" if constants else "x", **attributes)], {"x": x.shape}, constants)
    checked(path, {"x": x})


def _check_pool(folder: Path, kind: str, attributes: dict[str, Any], ceil: bool, count: bool, x: np.ndarray) -> None:
    import torch
    from torch.nn import functional

    before = attributes["pads"][:2]
    attributes = attributes | {"pads": before * 2, "ceil_mode": int(ceil)}
    window = (attributes["kernel_shape"], attributes["strides"], before)
    if kind == "MaxPool":
        expected = functional.max_pool2d(torch.from_numpy(x), *window, ceil_mode=ceil)
    else:
        attributes["count_include_pad"] = int(count)
        expected = functional.avg_pool2d(torch.from_numpy(x), *window, ceil_mode=ceil, count_include_pad=count)
    graph, params = import_onnx(save(folder, [node(kind, "x", **attributes)], {"x": x.shape}, {}))
    np.testing.assert_allclose(evaluate(graph, params, {"x": x})[0], expected.numpy(), rtol=1e-4, atol=1e-5)


@QUICK
@given(
    size=st.integers(1, 7),
    wanted=st.integers(1, 12),
    mode=st.sampled_from(["nearest", "linear", "cubic"]),
    coordinates=st.sampled_from(sorted(COORDINATES)),
    rounding=st.sampled_from(["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"]),
)
def test_interpolation_matrix_is_what_resize_does(
    size: int, wanted: int, mode: str, coordinates: str, rounding: str
) -> None:
    if coordinates == "pytorch_half_pixel" and wanted == 1:
        return  # the specification says 0 here, the reference evaluator takes -0.5
    places = COORDINATES[coordinates](np.arange(wanted, dtype=np.float64), size, wanted, wanted / size)
    if mode == "nearest" and (ROUNDING[rounding](places) != ROUNDING[rounding](np.round(places, 9))).any():
        return  # a place that is whole but for its rounding, which the reference evaluator takes as it is
    resize = node("Resize", "x - - s", mode=mode, coordinate_transformation_mode=coordinates, nearest_mode=rounding)
    graph = helper.make_graph(
        [resize], "g", [onnx.ValueInfoProto(name=n) for n in ("x", "s")], [onnx.ValueInfoProto(name="y")]
    )
    x = noise(size)
    expected = ReferenceEvaluator(graph, opsets={"": 19}).run(None, {"x": x, "s": np.array([wanted])})[0]
    np.testing.assert_allclose(axis_matrix(size, wanted, mode, coordinates, rounding) @ x, expected, atol=1e-4)


@QUICK
@given(data=st.data())
def test_random_chains(data: st.DataObject, tmp_path: Path) -> None:
    """Random sequences of shape-keeping, shaping and normalising nodes keep the reference's values."""
    steps = data.draw(st.lists(st.sampled_from(sorted(CHAIN)), min_size=2, max_size=7))
    nodes: list[Node] = []
    current = "t"
    for i, step in enumerate(steps):
        last = "y" if i == len(steps) - 1 else f"v{i}"
        nodes += CHAIN[step](current, last)
        current = last
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    numbers = {"half": np.float32(0.5), "gain": rng.random(8, np.float32), "w": rng.random((8, 8), np.float32) - 0.5}
    used = {name for n in nodes for name in n.input}
    checked(
        save(tmp_path, nodes, {"t": TOKENS}, {k: v for k, v in numbers.items() if k in used}),
        {"t": rng.standard_normal(TOKENS, np.float32)},
    )


CHAIN: dict[str, Any] = {
    "relu": lambda a, b: [node("Relu", a, b)],
    "linear": lambda a, b: [node("MatMul", f"{a} w", b)],
    "scale": lambda a, b: [node("Mul", f"half {a}", b)],
    "shift": lambda a, b: [node("Add", f"{a} gain", b)],
    "gain": lambda a, b: [node("Mul", f"{a} gain", b)],
    "residual": lambda a, b: [node("Add", f"{a} {a}", b)],
    "silu": lambda a, b: [node("Sigmoid", a, f"{b}s"), node("Mul", f"{b}s {a}", b)],
    "norm": lambda a, b: [node("LayerNormalization", f"{a} gain", b)],
    "twice": lambda a, b: [
        node("Transpose", a, f"{b}t", perm=[1, 0, 2]), node("Transpose", f"{b}t", b, perm=[1, 0, 2]),
    ],
    "scores": lambda a, b: [
        node("Transpose", a, f"{b}t", perm=[0, 2, 1]), node("MatMul", f"{a} {b}t", f"{b}m"),
        node("Softmax", f"{b}m", f"{b}p"), node("MatMul", f"{b}p {a}", b),
    ],
}  # fmt: skip
