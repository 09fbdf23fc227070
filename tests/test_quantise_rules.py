"""Exponents and zero points where no operator takes them: the compiler refuses what ``calibrate`` would not choose."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from strategies import Coding, pack_randomly
from test_quantise_floating import random_tensors
from tiny_models import machine

from accel.errors import CompileError
from accel.graph import Graph, GraphBuilder
from accel.packed import Packed
from accel.quantisation import LARGEST_SCALE, Quantisation
from compiler import compile_model
from compiler.quantise import calibrate, nominal

ONES = (1,) * 8
CHANNELS = {"axis": 2, "exponents": ONES}


def packed(graph: Graph, changes: Mapping[str, dict]) -> Packed:
    """The graph with nominal scales, taken for calibrated ones, and changes to some."""
    model = pack_randomly(graph, Coding("int8", "out", True))
    codes = dict(nominal(graph, model.parameters).tensors)
    codes |= {name: replace(codes[name], **change) for name, change in changes.items()}
    return replace(model, quantisation=Quantisation(codes, True, "minmax", 1))


def refused(graph: Graph, changes: Mapping[str, dict], message: str) -> None:
    compile_model(packed(graph, {}), machine(4))
    with pytest.raises(CompileError, match=message) as caught:
        compile_model(packed(graph, changes), machine(4))
    assert str(caught.value).isprintable()


def stream(*kinds: str, **attributes: object) -> GraphBuilder:
    """``x``, the gemm ``g``, and operators one behind the other: ``t0``, ``t1`` and so on, the last of them a gemm."""
    b = GraphBuilder("net")
    x = b.op("gemm", b.input("x", (1, 4, 8)), b.parameter("w", (8, 8)), output="g")
    for n, kind in enumerate(kinds):
        operands = {"add": (x, x), "layernorm": (x, b.parameter("gain", (8,)), b.parameter("offset", (8,)))}
        options = {"epsilon": 1e-6} if kind == "layernorm" else attributes
        x = b.op(kind, *operands.get(kind, (x,)), output=f"t{n}", **options)
    b.op("gemm", x, b.parameter("v", (8, 8)), output="y")
    return b


def test_exponents_where_they_may_be() -> None:
    for kinds, changes in [(("add",), {"t0": CHANNELS}), (("layernorm",), {"g": CHANNELS})]:
        compile_model(packed(stream(*kinds).build("y"), changes), machine(4))


def test_views_have_the_exponents_of_what_they_view() -> None:
    graph = stream("slice", axis=1, start=0, stop=2).build("y")
    compile_model(packed(graph, {"g": CHANNELS, "t0": CHANNELS}), machine(4))
    refused(graph, {"g": CHANNELS}, r"'t0': channel exponents \[\] along axis 0; allowed: those of the tensors it sh")
    turned = stream("transpose", perm=(1, 0, 2)).build("y")
    refused(turned, {"g": {"axis": 2, "exponents": ONES}, "t0": {"axis": 2, "exponents": (2,) * 8}}, "allowed: those")


@pytest.mark.parametrize(("kinds", "changes", "message"), [
    (("relu6",), {"t0": {"axis": 1, "exponents": (1,) * 4}}, "'t0'.*allowed: none with"),
    (("add",), {"t0": {"axis": 1, "exponents": (1,) * 4}}, "'t0'.*along axis 1; allowed: axis 2"),
    (("layernorm",), {"g": {"axis": 0, "exponents": (3,)}}, "'g'.*along axis 0; allowed: axis 2"),
    (("gelu",), {"g": CHANNELS}, "'g'.*allowed: none with"),
    (("add",), {"x": CHANNELS}, "'x'.*allowed: none with"),
    (("add",), {"t0": {"zero_point": 3, "unsigned": True}}, "tensor 't0': zero point 3; allowed: 0 with"),
    (("layernorm",), {"g": {"zero_point": 3, "unsigned": True}}, "tensor 'g': zero point 3; allowed: 0"),
])  # fmt: skip
def test_codes_no_operator_takes_are_refused(kinds: tuple[str, ...], changes: dict, message: str) -> None:
    refused(stream(*kinds).build("y"), changes, message)


def test_a_weight_of_two_gemms_takes_no_exponents() -> None:
    b = stream("add")
    graph = b.build(b.op("gemm", b.op("gemm", "y", b.parameter("u", (8, 8))), "v"))
    refused(graph, {"t0": CHANNELS}, "'t0'.*allowed: none with")


def test_rows_too_long_for_layernorm_are_refused() -> None:
    b = GraphBuilder("net")
    x = b.input("x", (1, 32768))
    y = b.op("layernorm", x, b.parameter("gain", (32768,)), b.parameter("offset", (32768,)), epsilon=1e-6)
    with pytest.raises(CompileError, match=r"\(layernorm\): rows of 32768; allowed: at most 32767"):
        compile_model(pack_randomly(b.build(y), Coding("int8", "out", True)), machine(4))


def test_masks_as_large_as_numbers_go_still_have_a_scale() -> None:
    b = GraphBuilder("net")
    total = b.op("add", b.input("x", (1, 4, 8)), b.parameter("mask", (8,)), output="sum")
    graph = b.build(b.op("softmax", total, axis=-1))
    values, inputs = random_tensors(graph, 0)
    values["mask"] = np.where(np.arange(8) < 4, 0, np.finfo(np.float32).min).astype(np.float32)
    assert calibrate(graph, values, [inputs]).tensors["mask"].scale == LARGEST_SCALE


def test_views_larger_than_what_they_view_leave_as_copies() -> None:
    b = GraphBuilder("net")
    x = b.op("gemm", b.input("x", (1, 8)), b.parameter("w", (8, 8)))
    program = compile_model(
        pack_randomly(b.build(b.op("expand", x, shape=(5000, 8))), Coding("int8", "out", True)), machine(4)
    )
    assert program.outputs[0].strides == (8, 1)
