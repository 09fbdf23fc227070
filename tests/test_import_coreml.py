"""Core ML packages that would lose weights without a word, or take the wrong ones."""

from __future__ import annotations

import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coreml_program import FLOAT32, INT8, Program
from test_cli_import import Captured, refused

from accel.cli import main
from compiler.importers import mlpackage, read_foreign
from compiler.importers.assemble import Options, import_bare

pytest.importorskip("google.protobuf")

SCALED = "constexpr_blockwise_shift_scale"
INTEGERS = {"data": (np.ones((8, 16), np.int8), INT8), "scale": (np.ones((8, 1), np.float32), FLOAT32)}


def scaled_alone(program: Program, main: Any) -> None:
    program.operation(main, SCALED, "fc2", **INTEGERS)


def unknown_constant(program: Program, main: Any) -> None:
    program.operation(main, "constexpr_of_the_future", "fc2", **INTEGERS)


def one_name_twice(program: Program, main: Any) -> None:
    program.table(main, "fc1", 1)


def second_main(program: Program, main: Any) -> None:
    program.table(program.function("main"), "fc2")


def second_form(program: Program, main: Any) -> None:
    forms = program.model.mlProgram.functions[0].value.block_specializations
    program.table(forms.add(key="CoreML9").value, "fc2")


def float_indices(program: Program, main: Any) -> None:
    program.table(main, "fc2", indices=(np.full((4, 6), 1.9, np.float32), FLOAT32))


def many_axes(program: Program, main: Any) -> None:
    program.table(main, "fc2")
    dimensions = main.operations[-1].inputs[0].value.arguments[0].value.type.tensorType.dimensions
    for _ in range(68):  # more than NumPy has
        dimensions.add().constant.size = 1


def far_axis(program: Program, main: Any) -> None:
    program.table(main, "fc2", vector_axis=-3)


REFUSED: dict[Callable[[Program, Any], None], str] = {
    scaled_alone: f"layer 'fc2': a weight made by '{SCALED}', not by a table",
    unknown_constant: "layer 'fc2': a weight made by 'constexpr_of_the_future'",
    one_name_twice: "2 operations make a result called 'fc1'; expected one",
    second_main: "its functions are main, main; expected one, or one called 'main'",
    second_form: "a function in 2 forms (CoreML8, CoreML9); expected one",
    float_indices: "layer 'fc2': input 'indices' has type float32; expected whole numbers",
    many_axes: "layer 'fc2': a tensor of 70 axes",
    far_axis: "layer 'fc2': vector axis -3; allowed: -2 to 1",
}


@pytest.mark.parametrize("change", REFUSED)
def test_nothing_is_left_out_without_a_word(
    change: Callable[[Program, Any], None], tmp_path: Path, capsys: Captured
) -> None:
    program, out = Program(), tmp_path / "o"
    block = program.function()
    program.table(block, "fc1")
    path = program.archive(tmp_path / "m.mlpackage.zip")
    assert main(["import", path, "-o", str(out)]) == 0
    out.unlink()
    capsys.readouterr()
    change(program, block)
    error = refused(capsys, "import", program.archive(tmp_path / "m.mlpackage.zip"), "-o", str(out))
    assert REFUSED[change] in error and path in error and not out.exists()


@pytest.mark.parametrize("names", [("main", "adapter"), ("adapter", "main")])
def test_weights_are_those_of_main(names: tuple[str, ...], tmp_path: Path, capsys: Captured) -> None:
    program, alone = Program(), Program()
    for name in names:
        program.table(program.function(name), "fc1", seed=names.index(name))
    alone.table(alone.function("prefill"), "fc1", seed=names.index("main"))
    paths = [each.archive(tmp_path / f"{i}.mlpackage.zip") for i, each in enumerate((program, alone))]
    found, wanted = (read_foreign(Path(path))[1].layers["fc1"].values() for path in paths)
    np.testing.assert_array_equal(found, wanted)
    assert main(["import", paths[0], "-o", str(tmp_path / "o")]) == 0
    assert "note: weights are those of the function 'main'; not read: adapter" in capsys.readouterr().err


def test_names_that_would_be_one_without_their_suffixes_keep_them(tmp_path: Path) -> None:
    program = Program()
    block = program.function()
    for name in ("q_to_fp16", "q_palettized_0", "k_1_to_fp16_0_palettized", "v_2", "key_cast", "_cast_fp16"):
        program.table(block, name)
    _, checkpoint = read_foreign(Path(program.archive(tmp_path / "m.mlpackage.zip")))
    layers = import_bare(checkpoint, Options(), {}).packed.layers
    assert list(layers) == ["q_to_fp16", "q_palettized_0", "k_1", "v_2", "key_cast", "_cast_fp16"]


def test_biases_are_what_operators_add_not_what_is_called_so(tmp_path: Path) -> None:
    """``gate_bias`` is added by something else; ``twice`` has two; ``plain`` has none; ``far`` has one behind casts."""
    program = Program()
    block = program.function()
    for name in ("gate_weight", "twice_weight", "plain_weight", "far_weight_to_fp16_palettized"):
        program.table(block, name)
    names = ("gate_bias", "linear_0_bias_0", "twice_bias", "other_bias", "plain_bias", "far_0_to_fp16")
    for value, name in enumerate(names):
        program.constant(block, name, np.full(8, value))
    for name, source in (("cast_0", "far_weight_to_fp16_palettized"), ("cast_1", "far_0_to_fp16")):
        program.operation(block, "cast", name, x=source)
    pairs = {
        "gate_weight": "linear_0_bias_0", "twice_weight": "twice_bias", "cast_0": "cast_1", "plain_weight": None,
    }  # fmt: skip
    for index, (weight, bias) in enumerate([*pairs.items(), ("twice_weight", "other_bias")]):
        given = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
        program.operation(block, "linear", f"y{index}", x="image", **given)
    _, checkpoint = read_foreign(Path(program.archive(tmp_path / "m.mlpackage.zip")))
    found = import_bare(checkpoint, Options(), {})
    assert set(found.packed.layers) == {"gate_weight", "twice_weight", "plain_weight", "far_weight"}
    biases = {name: value.tolist() for name, value in found.packed.parameters.items()}
    assert biases == {"gate_weight:bias": [1.0] * 8, "far_weight:bias": [5.0] * 8}
    assert found.notes == ("no graph: 4 uncompressed tensors left out (--arch MODEL maps them)",)


def test_functions_without_main(tmp_path: Path, capsys: Captured) -> None:
    program = Program()
    for name in ("prefill", "decode"):
        program.table(program.function(name), "fc1")
    error = refused(capsys, "import", program.archive(tmp_path / "m.mlpackage.zip"), "-o", str(tmp_path / "o"))
    assert "its functions are prefill, decode; expected one, or one called 'main'" in error


@pytest.mark.parametrize(("axis", "same"), [(-2, 0), (-1, 1)])
def test_negative_axes_count_from_the_end(axis: int, same: int, tmp_path: Path) -> None:
    values = []
    for given in (axis, same):
        program = Program()
        program.table(program.function(), "fc1", vector_axis=given)
        values.append(read_foreign(Path(program.archive(tmp_path / "m.mlpackage.zip")))[1].layers["fc1"].values())
    np.testing.assert_array_equal(*values)


def bomb(folder: Path, claim: dict[str, int]) -> str:
    """An archive whose weight file is 16 MB of zeros and whose directory has ``claim`` for it."""
    path, program = folder / "m.mlpackage.zip", Program()
    program.table(program.function(), "fc1")
    program.blobs += bytes(16 << 20)
    data = bytearray(Path(program.archive(path)).read_bytes())
    row = data.index(b"PK\1\2", data.index(b"PK\1\2", data.index(b"PK\1\2") + 4) + 4)
    for field, number in claim.items():
        at = row + {"compress_size": 20, "file_size": 24}[field]
        data[at : at + 4] = number.to_bytes(4, "little")
    path.write_bytes(data)
    return str(path)


def test_sizes_claimed_are_held_against_the_archive(
    tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mlpackage, "EXPANSION_LIMIT", 10)
    for claim in ({}, {"compress_size": 50 << 20}):
        error = refused(capsys, "import", bomb(tmp_path, claim), "-o", str(tmp_path / "o"))
        assert "'Data/weights/weight.bin' would unpack to 1677" in error


def test_no_more_is_unpacked_than_claimed(tmp_path: Path, capsys: Captured) -> None:
    path = bomb(tmp_path, {"file_size": 1 << 16})
    refused(capsys, "import", path, "-o", str(tmp_path / "o"))
    tracemalloc.start()
    error = refused(capsys, "import", path, "-o", str(tmp_path / "o"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "'Data/weights/weight.bin' is damaged" in error and peak < 8 << 20


def test_compressions_that_unpack_at_once(tmp_path: Path, capsys: Captured) -> None:
    program = Program()
    program.table(program.function(), "fc1")
    path = program.archive(tmp_path / "m.mlpackage.zip", zipfile.ZIP_BZIP2)
    error = refused(capsys, "import", path, "-o", str(tmp_path / "o"))
    assert "'Manifest.json' is compressed by method 12; allowed: stored, deflated" in error
