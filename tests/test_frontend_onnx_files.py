"""ONNX files as they come: names, where weights are kept, symbolic sizes, what is refused and how."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_models import I64, IMAGE, TOKENS, Node, checked, kinds, node, noise, save

from accel.errors import ModelError
from compiler.frontend.onnx_import import import_onnx

QUICK = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def test_weight_names(tmp_path: Path) -> None:
    """Initializers keep their names, made-up ones come from the bias or the node, folded transposes pass them on."""
    nodes = [
        helper.make_node("MatMul", ["t", "onnx::MatMul_12"], ["a"], name="/blocks/0/attn/qkv/MatMul"),
        helper.make_node("MatMul", ["a", "val_3"], ["b"], name="node_MatMul_7"),
        helper.make_node("Add", ["b", "blocks.0.mlp.fc1.bias"], ["c"], name="node_Add_8"),
        helper.make_node(
            "Transpose", ["head.weight"], ["/head/Transpose_output_0"], perm=[1, 0], name="/head/Transpose"
        ),
        helper.make_node("MatMul", ["c", "/head/Transpose_output_0"], ["y"], name="/head/MatMul"),
    ]
    constants = {"onnx::MatMul_12": noise(8, 3), "val_3": noise(3, 4), "blocks.0.mlp.fc1.bias": noise(4)}
    graph, params = import_onnx(save(tmp_path, nodes, {"t": TOKENS}, constants | {"head.weight": noise(6, 4)}))
    assert [op.inputs[1] for op in graph.weight_ops()] == [
        "blocks.0.attn.qkv.weight", "blocks.0.mlp.fc1.weight", "head.weight",
    ]  # fmt: skip
    assert [op.name for op in graph.ops] == ["/blocks/0/attn/qkv/MatMul", "node_MatMul_7", "/head/MatMul"]
    assert params["head.weight"].shape == (6, 4)


def test_weights_in_constant_nodes_and_external_data(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(noise(8, 3), "value")
    nodes = [helper.make_node("Constant", [], ["fc.w"], value=weight), node("MatMul", "t fc.w")]
    path = save(tmp_path, nodes, {"t": TOKENS}, {})
    assert "fc.w" in checked(path, {"t": noise(*TOKENS)}).parameters
    external = save(tmp_path, [node("MatMul", "t w")], {"t": TOKENS}, {"w": noise(8, 300)})
    onnx.save_model(onnx.load(external), external, save_as_external_data=True, location="model.data", size_threshold=0)
    checked(external, {"t": noise(*TOKENS)})
    (tmp_path / "model.data").write_bytes(b"short")
    with pytest.raises(ModelError, match=r"model\.onnx"):
        import_onnx(external)
    (tmp_path / "model.data").unlink()
    with pytest.raises(ModelError, match=r"model\.onnx.*weights are in 'model\.data', which is missing"):
        import_onnx(external)


def test_symbolic_dimensions(tmp_path: Path) -> None:
    path = save(tmp_path, [node("Relu", "t")], {"t": ("batch", 3, "length")}, {})
    with pytest.raises(ModelError, match=r"input 't' has shape \[batch, 3, length\].*--input-shape t=1x3x224 "):
        import_onnx(path)
    assert import_onnx(path, {"t": (2, 3, 7)})[0].inputs["t"] == (2, 3, 7)
    for wrong in ((2, 4, 7), (2, 3), (2, 3, 0)):
        with pytest.raises(ModelError, match=r"the shape given is"):
            import_onnx(path, {"t": wrong})
    with pytest.raises(ModelError, match=r"no input 'tt'.*did you mean 't'"):
        import_onnx(path, {"tt": (1,)})
    batched = save(tmp_path, [node("Relu", "t")], {"t": ("N", 3)}, {})
    said: list[str] = []
    assert import_onnx(batched, note=said.append)[0].inputs["t"] == (1, 3)
    assert said == [f"{batched}: input 't' has shape [N, 3]; its first size is taken as 1"]
    assert import_onnx(batched, {"t": (4, 3)}, note=said.append)[0].inputs["t"] == (4, 3)
    assert len(said) == 1


def test_outputs_cut_the_graph(tmp_path: Path) -> None:
    nodes = [node("Relu", "t", "r"), node("Tanh", "r", "h"), node("LSTM", "h w", "y")]
    path = save(tmp_path, nodes, {"t": TOKENS}, {"w": noise(1)})
    graph, _ = import_onnx(path, outputs=["h", "r"])
    assert kinds(graph) == ["relu", "tanh"] and graph.outputs == ("h", "r")
    with pytest.raises(ModelError, match="no tensor 'hh' to cut at"):
        import_onnx(path, outputs=["hh"])
    with pytest.raises(ModelError, match=r"node '/y/LSTM': operator 'LSTM' cannot be lowered; supported: Add, Av"):
        import_onnx(path)


def _nan() -> np.ndarray:
    weight = noise(8, 3)
    weight[2, 1] = np.nan
    return weight


REFUSED: dict[str, tuple[list[Node], dict[str, Any], str]] = {
    "nan": ([node("MatMul", "t w")], {"w": _nan()}, "tensor 'w': 1 of 24 values are NaN or infinite"),
    "infinite": ([node("Mul", "t w")], {"w": np.float32(np.inf)}, "tensor 'w': 1 of 1 values"),
    "conv1d": ([node("Conv", "t w")], {"w": noise(4, 5, 3)},
               r"node '/y/Conv' \(Conv\): 1-D convolution of \[2, 5, 8\]"),
    "run_time_weight": ([node("Reshape", "t s", "x"), node("Conv", "x x")], {"s": np.array([2, 5, 4, 2], I64)},
                        "input 1 .* must be known at compile time"),
    "erf": ([node("Erf", "t")], {}, "node '/y/Erf': operator 'erf' cannot be lowered .*exact GELU"),
    "power": ([node("Pow", "t e")], {"e": np.float32(1.5)}, "power 1.5 cannot be lowered"),
    "truncating_cast": ([node("Cast", "t", to=TensorProto.INT32)], {}, "cast of a floating-point activation to int32"),
    "reflect": ([node("Pad", "t p", mode="reflect")], {"p": np.array([0, 0, 1, 0, 0, 1], I64)}, "mode 'reflect'"),
    "step": ([node("Slice", "t s e a d")], {"s": np.array([0]), "e": np.array([5]), "a": np.array([1]),
                                           "d": np.array([2])}, "step must divide"),
    "second_output": ([node("Reshape", "t s", "x"), node("MaxPool", "x", "p i", kernel_shape=[1, 1]),
                       node("Cast", "i", to=TensorProto.FLOAT)],
                      {"s": np.array([2, 5, 4, 2], I64)}, "reads tensor 'i', which nothing produces"),
    "bomb": ([node("ConstantOfShape", "s", "c"), node("Add", "t c")], {"s": np.array([2**40, 2**20])},
             "at most 268435456"),
    "random": ([node("RandomNormal", "-", "r", shape=[8]), node("Add", "t r")], {}, "is random"),
    "constant_output": ([node("Neg", "w")], {"w": noise(3)}, "output 'y' does not depend on any input"),
    "align_corners": ([node("Reshape", "t s", "x"),
                       node("Resize", "x - - z", mode="linear", coordinate_transformation_mode="align_corners")],
                      {"s": np.array([2, 5, 4, 2], I64), "z": np.array([2, 5, 8, 4], I64)}, "supported: nearest"),
    "same_with_holes": ([node("Reshape", "t s", "x"), node("Conv", "x w", auto_pad="SAME_UPPER", strides=[1, 4])],
                        {"s": np.array([1, 1, 10, 8], I64), "w": noise(1, 1, 1, 1)}, "skips 2 or more"),
    "misfit": ([node("Add", "t w")], {"w": noise(3)}, r"node '/y/Add' \(add\).*do not broadcast"),
    "bad_fold": ([node("Concat", "w v", "c", axis=0), node("Add", "t c")], {"w": noise(3), "v": noise(2, 2)},
                 r"node '/c/Concat' \(Concat\)"),
    "run_time_shape": ([node("Cast", "t", "i", to=TensorProto.FLOAT), node("Reshape", "t i")], {},
                       "must be known at compile time"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line_that_names_the_culprit(case: str, tmp_path: Path) -> None:
    nodes, constants, message = REFUSED[case]
    with pytest.raises(ModelError, match=message) as caught:
        import_onnx(save(tmp_path, nodes, {"t": TOKENS}, constants))
    assert "\n" not in str(caught.value)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    """Every prefix of a file, and files of noise, give a ``ModelError`` of one line, or (never) a model."""
    path = save(tmp_path, [node("MatMul", "t w")], {"t": TOKENS}, {"w": noise(8, 3)})
    whole = path.read_bytes()
    for data in [*(whole[:n] for n in range(0, len(whole), 7)), b"\x00" * 64, b"not an onnx file at all"]:
        path.write_bytes(data)
        with pytest.raises(ModelError) as caught:
            import_onnx(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="no such file"):
        import_onnx(tmp_path / "absent.onnx")


@QUICK
@given(flips=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4))
def test_flipped_bytes_give_a_model_or_a_model_error(flips: list[tuple[int, int]], tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "c", auto_pad="SAME_UPPER", kernel_shape=[3, 3]),
        node("Transpose", "c", "p", perm=[0, 2, 3, 1]),
        node("Softmax", "p", "s", axis=-1), node("Slice", "s i j", "q"), node("MatMul", "q k"),
    ]  # fmt: skip
    constants = {"w": noise(4, 4, 3, 3), "i": np.array([0], I64), "j": np.array([1], I64), "k": noise(4, 2)}
    path = save(tmp_path, nodes, {"x": IMAGE}, constants)
    data = bytearray(path.read_bytes())
    for place, value in flips:
        data[place % len(data)] = value
    path.write_bytes(data)
    with contextlib.suppress(ModelError):
        import_onnx(path)
