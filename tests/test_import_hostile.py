"""Foreign files that look right: damaged archives, NaN, numbers beyond float32, more stages than a codec has."""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from coreml_program import FLOAT32, UINT8, Program
from foreign_files import aqlm_tensors
from safetensors.numpy import save_file
from test_cli_import import Captured, refused

from accel.cli import main


def aqlm(folder: Path, stages: int = 1, **parts: Any) -> str:
    """A file of one layer ``m.q``, some of its tensors replaced."""
    tensors = aqlm_tensors(np.random.default_rng(0), stages, 4, 1, 8)
    save_file({**tensors, **{f"m.q.{name}": array for name, array in parts.items()}}, folder / "m.safetensors")
    return str(folder / "m.safetensors")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_dense_weight_that_is_no_number(value: float, tmp_path: Path, capsys: Captured) -> None:
    """It is nearest to no codeword, or to every one."""
    table = np.linspace(-1, 1, 4, dtype=np.float32)
    weight = np.random.default_rng(0).choice(table, (8, 8))
    weight[2, 3] = value
    state = {"fc.weight": weight, "fc._COREML_/weight/lut": table.reshape(1, 1, 4, 1)}
    torch.save({name: torch.from_numpy(array) for name, array in state.items()}, tmp_path / "c.pt")
    error = refused(capsys, "import", str(tmp_path / "c.pt"), "-o", str(tmp_path / "o"))
    assert "layer 'fc.weight'" in error and "NaN or infinite" in error and not (tmp_path / "o").exists()


BEYOND = {
    "product": {"codebooks": np.full((1, 16, 1, 8), 3e38, np.float32), "scales": np.full((24, 1, 1, 1), 9.0)},
    "codeword": {"codebooks": np.full((1, 16, 1, 8), 1e300)},
}


@pytest.mark.parametrize("name", [*BEYOND, "sum"])
@pytest.mark.parametrize("options", [(), ("--inexact", "int8")])
def test_weights_beyond_float32(name: str, options: tuple[str, ...], tmp_path: Path, capsys: Captured) -> None:
    path = aqlm(tmp_path, **BEYOND[name]) if name in BEYOND else aqlm(
        tmp_path, 2, codebooks=np.full((2, 16, 1, 8), 3e38, np.float32)
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a second line
        error = refused(capsys, "import", path, *options, "-o", str(tmp_path / "o"))
    assert "layer 'm.q" in error and "NaN or infinite" in error and not (tmp_path / "o").exists()


def test_more_stages_than_a_codec_has(tmp_path: Path, capsys: Captured) -> None:
    path = aqlm(tmp_path, 9)
    message = "layer 'm.q.weight' (9x4 g8): 9 codebooks that add up; at most 8; refused, unless --inexact"
    assert message in refused(capsys, "import", path, "-o", str(tmp_path / "o"))
    assert main(["import", path, "--inexact", "int8", "-o", str(tmp_path / "o")]) == 0
    assert "coded anew: 9 codebooks that add up" in capsys.readouterr().out


def package(path: Path, compression: int) -> None:
    """A Core ML package of one layer, as small as they get, in an archive."""
    program, table = Program(), np.arange(16, dtype=np.float32).reshape(1, 1, 16, 1)
    indices = np.random.default_rng(0).integers(0, 16, (64, 64)).astype(np.uint8)
    program.table(program.function(), "w", lut=(table, FLOAT32), indices=(indices, UINT8))
    program.archive(path, compression)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_damage_anywhere_in_an_archive(compression: int, tmp_path: Path, capsys: Captured) -> None:
    """One flipped byte: refused in one line, or (in names and times nobody reads) no harm."""
    pytest.importorskip("google.protobuf")
    path, out = tmp_path / "a.mlpackage.zip", tmp_path / "o"
    package(path, compression)
    whole = path.read_bytes()
    assert main(["import", str(path), "-o", str(out)]) == 0
    good = out.read_bytes()
    out.unlink()
    capsys.readouterr()
    refusals = 0
    for at in range(0, len(whole), len(whole) // 150):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        code = main(["import", str(path), "-o", str(out)])
        stderr = capsys.readouterr().err
        if code == 0:
            assert out.read_bytes() == good
            out.unlink()
        else:
            refusals += 1
            assert code == 2 and stderr.count("\n") == 1 and str(path) in stderr
    assert refusals > 100


SHAPES = {
    "no elements": ([0, 1 << 62, 1 << 62, 1], "more than 281474976710656 elements but for an axis without any"),
    "axes": ([0] + [1] * 100, "has 101 axes; allowed: 32"),
    "axes of one element": ([1] * 100, "has 100 axes; allowed: 32"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_that_numpy_has_none_for(name: str, tmp_path: Path, capsys: Captured) -> None:
    shape, message = SHAPES[name]
    row = {"dtype": "I8", "shape": shape, "data_offsets": [0, int(0 not in shape)]}
    header = json.dumps({"m.q.codes": row}).encode()
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(row["data_offsets"][1]))
    error = refused(capsys, "import", str(tmp_path / "m.safetensors"), "-o", str(tmp_path / "o"))
    assert "tensor 'm.q.codes'" in error and message in error


def test_names_do_not_speak_to_the_terminal(tmp_path: Path, capsys: Captured) -> None:
    """Neither in errors nor in tables and notes: escape sequences are shown, or replaced."""
    red, tensors = "\x1b[31m", aqlm_tensors(np.random.default_rng(0), 1, 4, 1, 8)
    path, argv = tmp_path / "m.safetensors", ["import", str(tmp_path / "m.safetensors"), "-o", str(tmp_path / "o")]
    named = {name.replace("m.", f"{red}."): array for name, array in tensors.items()}
    save_file(named, path)
    assert main(argv) == 0
    out, err = capsys.readouterr()
    assert ".q.weight" in out and "\x1b" not in out + err
    save_file(named | {f"{red}.q.scales": np.full((24, 1, 1, 1), np.nan, np.float16)}, path)
    assert "layer '\\x1b[31m.q': a codeword or scale is NaN" in refused(capsys, *argv)
