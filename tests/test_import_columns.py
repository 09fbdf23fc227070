"""Scales and offsets of input columns become operators: the same numbers, in programs that run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from cli_calls import refused
from differential import check_values, random_inputs
from foreign_files import VPTQ_CASES, VPTQ_INEXACT, VPTQLayer
from safetensors.numpy import save_file

from accel.cli import main
from accel.codecs import layer_bytes, parse_codec
from accel.errors import CodecError, FormatError, ModelError
from accel.graph import Graph, GraphBuilder
from accel.machine import load_machine
from accel.packed import Packed, model_digest, packed_digest, read_packed, write_packed
from compiler import compile_model
from compiler.compress import calibrated
from compiler.frontend import LoadedModel
from compiler.importers import Checkpoint, ForeignLayer, read_foreign
from compiler.importers.assemble import Imported, Options, import_bare, import_onto_model
from compiler.importers.columns import expressible
from compiler.quantise import evaluate, packed_values
from sim import simulate

NORMED = {"enable_norm": True}
NORMS = {"scales and offsets": (1, 1), "scales": (1, 0), "offsets": (0, 1)}
W = "l.q.weight"


def stored_layer(
    case: str = "plain", norm: str = "scales and offsets", whole: bool = True, seed: int = 1, **settings: object
) -> VPTQLayer:
    """A normed layer; ``whole``: of numbers that int8 holds."""
    stored = VPTQLayer(np.random.default_rng(seed), VPTQ_CASES[case] | NORMED | settings, uneven=True, whole=whole)
    scales, offsets = NORMS[norm]
    if not scales:
        stored.bias = np.float32(stored.bias / stored.scale)  # whole numbers of steps still
        stored.scale = np.full_like(stored.scale, 1.5)
    stored.bias = stored.bias if offsets else np.zeros_like(stored.bias)
    return stored


def read_layer(stored: VPTQLayer, folder: Path) -> ForeignLayer:
    return read_foreign(stored.write(folder))[1].layers[W]


def bare(layer: ForeignLayer, inexact: str = "") -> Imported:
    return import_bare(Checkpoint({W: layer}, {}), Options(parse_codec(inexact) if inexact else None), {})


def imported_weights(packed: Packed, weight: str = W) -> np.ndarray:
    """The matrix that the operators around a product amount to, in the order VPTQ computes it."""
    values = packed_values(packed)
    scale = values.get(f"{weight}:column_scale", np.float32(1))
    (offset,) = values.get(f"{weight}:column_offset", np.float32([0]))
    readers = [op.inputs[0] for op in packed.graph.ops if f"{weight}:column_offset" in op.inputs]
    of_scaled = any(":scaled" in tensor for tensor in readers)
    return values[weight] * scale + (offset * scale if of_scaled else offset)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("case", [case for case in VPTQ_CASES if case != "even scale"])
def test_nothing_is_lost_that_int8_holds(case: str, norm: str, tmp_path: Path) -> None:
    """Groups, residuals, outliers, permutations: the import's weights are those of VPTQ's formula, bit for bit."""
    stored = stored_layer(case, norm)
    layer = read_layer(stored, tmp_path)
    np.testing.assert_array_equal(layer.values(), stored.weights())
    result = bare(layer)
    np.testing.assert_array_equal(imported_weights(result.packed), stored.weights())
    (row,) = result.reports
    assert row.relative_error == 0 and row.note.endswith(f"{norm} of its input columns: operators of the graph")
    x = np.random.default_rng(2).normal(size=(1, 24)).astype(np.float32)
    (y,) = evaluate(result.packed.graph, packed_values(result.packed), {f"{W}:in": x}).values()
    np.testing.assert_allclose(y, x.astype(float) @ stored.weights().T.astype(float), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("scale", [0, 1e-4])
def test_offsets_beside_next_to_no_scale_read_the_input_as_it_is(scale: float, tmp_path: Path) -> None:
    """Over such a scale one of them would leave the others no steps, or be infinite."""
    stored = stored_layer(whole=False)
    stored.scale[5], stored.bias[5] = scale, 1
    result = bare(read_layer(stored, tmp_path))
    (offsets,) = (op for op in result.packed.graph.ops if op.name.endswith(":offset"))
    assert offsets.inputs[0] == f"{W}:in"
    wrong = np.abs(imported_weights(result.packed) - stored.weights())[:, 5]
    assert (wrong <= np.abs(stored.bias).max() / 254 + 1e-3).all() and result.reports[0].relative_error < 1e-3


def test_the_scaled_input_takes_the_place_of_the_input(tmp_path: Path) -> None:
    """Offsets over scales read it, too: nothing else keeps the input alive."""
    graph = bare(read_layer(stored_layer(whole=False), tmp_path)).packed.graph
    assert [op.kind for op in graph.consumers()[f"{W}:in"]] == ["mul"]


@pytest.mark.parametrize("norm", NORMS)
def test_only_operators_that_do_something(norm: str, tmp_path: Path) -> None:
    graph = bare(read_layer(stored_layer("plain", norm), tmp_path)).packed.graph
    scales, offsets = NORMS[norm]
    assert [op.kind for op in graph.ops] == ["mul"] * scales + ["gemm"] + ["gemm", "add"] * offsets
    assert graph.outputs == (f"{W}:out",)


def test_a_norm_that_does_nothing_is_none(tmp_path: Path) -> None:
    stored = stored_layer("plain", "scales")
    stored.scale[:] = 1
    layer = read_layer(stored, tmp_path)
    assert layer.norm is None and len(bare(layer).packed.graph.ops) == 1


@pytest.mark.parametrize("case", ["plain", "everything"])
def test_what_rounds_is_reported(case: str, tmp_path: Path) -> None:
    """The report's error is that of the whole layer, offsets and all; its bytes are those of all parts."""
    stored = stored_layer(case, whole=False)
    result = bare(read_layer(stored, tmp_path))
    found, exact = imported_weights(result.packed).astype(float), stored.weights().astype(float)
    (row,) = result.reports
    assert row.relative_error == pytest.approx(((found - exact) ** 2).sum() / (exact**2).sum(), rel=1e-5)
    main, offset = result.packed.layers[W], result.packed.layers[f"{W}:column_offset"]
    assert row.stored_bytes == sum((*layer_bytes(main).values(), *layer_bytes(offset).values())) + 24 * 4
    np.testing.assert_array_equal(result.packed.parameters[f"{W}:column_scale"], stored.scale.astype(np.float32))
    rounding = np.abs(main.scale).max() * (0.5 if case == "plain" else 1.01)  # of codewords, of two stages
    offsets = np.abs(stored.bias.astype(float) / stored.scale).max() / 254
    assert (np.abs(found - exact) <= stored.scale * (rounding + offsets) + 1e-5).all()


def attention(rows: int) -> Graph:
    """q and k of one input of three axes, q with a bias and an activation behind it, k leaving as it is."""
    b = GraphBuilder("attention")
    x = b.op("relu", b.input("x", (2, rows, 24)), name="front")
    q = b.op("gemm", x, b.parameter("q.weight", (20, 24)), b.parameter("q.bias", (20,)), name="q")
    k = b.op("gemm", x, b.parameter("k.weight", (20, 24)), name="k")
    return b.build(b.op("gelu", q, name="act"), k)


def onto_attention(folder: Path, rows: int = 5) -> tuple[Imported, Graph, dict[str, np.ndarray]]:
    """The import, the graph as it was, and all of its parameters as VPTQ has them."""
    layers, values = {}, {"q.bias": np.random.default_rng(0).normal(size=20).astype(np.float32)}
    for seed, name in enumerate(("q.weight", "k.weight")):
        stored = stored_layer("everything", seed=seed)
        (folder / name).mkdir()
        layers[name], values[name] = read_layer(stored, folder / name), stored.weights()
    graph = attention(rows)
    model = LoadedModel(graph, values, {"spec": "attention"})
    checkpoint = Checkpoint(layers, {"q.bias": values["q.bias"]})
    return import_onto_model(checkpoint, model, Options(), "c", {}), graph, values


def test_onto_a_graph(tmp_path: Path) -> None:
    """Each layer scales the shared input for itself; outputs keep their names and are those of the original graph."""
    result, graph, values = onto_attention(tmp_path)
    found = result.packed.graph
    assert [op.name for op in found.ops if op.kind == "mul"] == ["q:scaled", "k:scaled"]
    assert found.inputs == graph.inputs and found.outputs == graph.outputs
    x = {"x": np.random.default_rng(3).normal(size=(2, 5, 24)).astype(np.float32)}
    wanted = evaluate(graph, values, x)
    for name, y in evaluate(found, packed_values(result.packed), x).items():
        np.testing.assert_allclose(y, wanted[name], rtol=1e-4, atol=2e-3)
    assert result.notes == ("operators were added to the graph for scales or offsets of input columns; layers: 2",)


def test_the_file_holds_the_rewritten_graph(tmp_path: Path) -> None:
    packed = onto_attention(tmp_path)[0].packed
    write_packed(packed, tmp_path / "n.vq.safetensors")
    again = read_packed(tmp_path / "n.vq.safetensors")
    assert again.graph == packed.graph and packed_digest(again) == packed_digest(packed)
    assert again.source.sha256 == model_digest(packed.graph, packed_values(packed))  # whole numbers: nothing rounded


@pytest.mark.parametrize("machine", ["edge64", "ecp5"])
def test_programs_compute_what_the_graph_says(machine: str, tmp_path: Path) -> None:
    """Both simulators take the program; its values are the interpreter's, bit for bit, and near the float ones."""
    result, graph, values = onto_attention(tmp_path, rows=37)
    samples = np.random.default_rng(4).normal(size=(8, 2, 37, 24)).astype(np.float32)
    packed = calibrated(result.packed, [{"x": sample} for sample in samples], "minmax").packed
    program = compile_model(packed, load_machine(machine), verify=True)
    check_values(program, packed, random_inputs(packed, np.random.default_rng(0)))
    codes = check_values(program, packed, {"x": samples[:1]})
    assert simulate(program).total_cycles > 0
    for name, wanted in evaluate(graph, values, {"x": samples[0]}).items():
        assert packed.quantisation is not None
        real = codes[name] * packed.quantisation.tensors[name].scale
        assert np.square(real - wanted).sum() < 1e-3 * np.square(wanted).sum()  # 30 dB, in 8 bits


def test_inexact_leaves_alone_what_is_exact(tmp_path: Path) -> None:
    layer = read_layer(stored_layer(), tmp_path)
    (row,) = bare(layer, "int4").reports
    assert str(row.codec) == "vq:k=16,d=8" and row.relative_error == 0


def test_layers_that_stay_impossible_are_coded_anew_norm_and_all(tmp_path: Path) -> None:
    stored = VPTQLayer(np.random.default_rng(1), VPTQ_INEXACT["short outliers"] | NORMED, uneven=True)
    layer = read_layer(stored, tmp_path)
    with pytest.raises(CodecError, match=r"outlier columns have vectors of 4, the others of 8; refused, unless"):
        bare(layer)
    result = bare(layer, "int8")
    assert [op.kind for op in result.packed.graph.ops] == ["gemm"]
    np.testing.assert_allclose(imported_weights(result.packed), stored.weights(), atol=0.05)


def test_codes_that_do_not_fit_are_coded_anew_norm_and_all(tmp_path: Path) -> None:
    stored = stored_layer(vector_lens=[-1, 128])
    layer = read_layer(stored, tmp_path)
    with pytest.raises(CodecError, match=r"vectors of 128 weights; at most 64; refused, unless"):
        bare(layer)
    packed = bare(layer, "int8").packed
    assert [op.kind for op in packed.graph.ops] == ["gemm"]
    np.testing.assert_allclose(imported_weights(packed), stored.weights(), atol=1)


def test_gains_of_output_channels_beside_a_norm_are_an_obstacle(tmp_path: Path) -> None:
    """They would have to multiply what the offsets add, too."""
    layer, graph = read_layer(stored_layer(), tmp_path), attention(1)
    found = {gain: expressible(graph, {"q.weight": (layer, np.float32([gain]))})["q.weight"][0] for gain in (1, 2)}
    assert found[1] is layer and "a normalisation is to be folded into it" in found[2].obstacle
    np.testing.assert_array_equal(found[2].values(), layer.values())


def other_places() -> dict[str, tuple[Graph, str]]:
    """Graphs in which a weight cannot have scales of its columns, and what is said of them."""
    conv, tied = GraphBuilder("conv"), GraphBuilder("tied")
    image = {"kernel": (1, 1), "stride": (1, 1), "padding": (0, 0, 0, 0), "dilation": (1, 1), "groups": 1}
    y = conv.op("conv", conv.input("x", (1, 24, 2, 2)), conv.parameter(W, (20, 24, 1, 1)), name="c", **image)
    rows = tied.op("embedding", tied.parameter(W, (20, 24)), tied.input("ids", (3,)), name="e")
    return {
        "convolution": (conv.build(y), r"which matrix products take, not node 'c' \(conv\)"),
        "tied embedding": (tied.build(tied.op("gemm", rows, W)), r"not node 'e' \(embedding\)"),
    }


@pytest.mark.parametrize("place", other_places())
def test_only_matrix_products_take_norms(place: str, tmp_path: Path) -> None:
    graph, message = other_places()[place]
    stored = stored_layer()
    checkpoint = Checkpoint({W: read_layer(stored, tmp_path)}, {})
    model = LoadedModel(graph, {W: np.zeros(graph.parameters[W], np.float32)}, {"spec": place})
    with pytest.raises(CodecError, match=rf"layer 'l\.q\.weight'.*{message}; refused, unless --inexact"):
        import_onto_model(checkpoint, model, Options(), "c", {})
    packed = import_onto_model(checkpoint, model, Options(parse_codec("int8")), "c", {}).packed
    assert packed.graph == graph
    np.testing.assert_allclose(imported_weights(packed).reshape(20, 24), stored.weights(), atol=1)


def test_names_that_are_taken_are_refused(tmp_path: Path) -> None:
    b = GraphBuilder("g")
    y = b.op("mul", b.op("gemm", b.input("x", (1, 24)), b.parameter(W, (20, 24))), b.parameter(f"{W}:column_scale", ()))
    model = LoadedModel(b.build(y), {}, {"spec": "g"})
    checkpoint = Checkpoint({W: read_layer(stored_layer(), tmp_path)}, {f"{W}:column_scale": np.float32(2)})
    with pytest.raises(ModelError, match=r"'g' already has tensors of these names \(1\): l\.q\.weight:column_scale"):
        import_onto_model(checkpoint, model, Options(missing="random"), "c", {})


def test_from_a_checkpoint_to_cycles(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed, program = str(tmp_path / "n.vq.safetensors"), str(tmp_path / "n.prog.safetensors")
    assert main(["import", str(stored_layer().write(tmp_path / "tool")), "-o", packed, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["layers"]
    assert (row["layer"], row["codec"], row["relative_error"]) == (W, "vq:k=16,d=8", 0)
    assert main(["compile", packed, "-o", program]) == main(["sim", program]) == 0
    assert "l.q.weight:offset" in capsys.readouterr().out


def test_notes_come_with_a_file_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A full disk is told in one line."""
    folder = str(stored_layer().write(tmp_path / "tool"))

    def full(*_: object) -> None:
        raise FormatError("cannot write 'n': no space left on device")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("accel.packed.write_packed", full)
        assert "no space left" in refused(capsys, "import", folder, "-o", str(tmp_path / "n"))
    assert main(["import", folder, "-o", str(tmp_path / "n")]) == 0
    assert "note: operators were added to the graph" in capsys.readouterr().err


BAD = {
    "NaN": ("weight_scale", lambda a: np.where(np.arange(24) == 3, np.nan, a)),
    "infinite": ("weight_bias", lambda a: np.full_like(a, np.inf)),
    "too short": ("weight_scale", lambda a: a[:-1]),
    "too long": ("weight_bias", lambda a: np.append(a, 1)),
    "too large": ("weight_scale", lambda a: a.astype(np.float32) * np.float32(1e37)),
    "two axes": ("weight_scale", lambda a: a[None]),
    "missing": ("weight_bias", lambda a: None),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_norms_end_in_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    part, change = BAD[name]
    stored = stored_layer()
    tensors = stored.tensors()
    stored.write(tmp_path)
    changed = change(tensors.pop(f"l.q.{part}"))
    if changed is not None:
        dtype = np.float32 if name == "too large" else np.float16
        tensors[f"l.q.{part}"] = np.ascontiguousarray(changed.astype(dtype))
    save_file(tensors, tmp_path / "model.safetensors")
    out = tmp_path / "o"
    assert main(["import", str(tmp_path), "-o", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "layer 'l.q': " in error and not out.exists()
    wanted = {"missing": "is missing", "two axes": "with 1 axes", "too large": "some weights are NaN or infinite"}
    assert wanted.get(name, "weight_scale or weight_bias: expected 24 finite numbers") in error
