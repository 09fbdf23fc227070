"""Numbers in foreign files that look plausible: codes below 0, sizes no tensor bears out, parts that are left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from foreign_files import VPTQ_CASES, VPTQ_INEXACT, VPTQLayer
from safetensors.numpy import save_file
from test_cli_import import Captured, refused

from compiler.importers import read_foreign
from compiler.importers.encode import encode

UNPACKED = {"is_indice_packed": False}
CODES = {
    "second group": ("groups", "indices", (1, 0, 0), "code -3 of centroids is out of range; allowed: 0 to 15"),
    "residual": ("residual", "res_indices", (0, 0, 0), "code -3 of res_centroids is out of range; allowed: 0 to 63"),
    "outlier": ("outliers", "outlier_indices", (0, 1, 2), "code -3 of outlier_centroids is out of range"),
    "short outlier": ("short outliers", "outlier_indices", (0, 1, 2), "code -3 of outlier_centroids is out of range"),
}


def vptq_folder(folder: Path, layer: VPTQLayer, settings: dict[str, Any], **parts: np.ndarray) -> str:
    """``layer`` with other ``settings`` in its file and other tensors."""
    tensors = layer.tensors() | {f"l.q.{name.replace('__', '.')}": array for name, array in parts.items()}
    save_file(tensors, folder / "model.safetensors")
    config = {"quantization_config": {"config_for_layers": {"l.q": layer.config | settings}}}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("inexact", [(), ("--inexact", "int8")])
def test_codes_below_0_read_no_other_codeword(
    name: str, inexact: tuple[str, ...], tmp_path: Path, capsys: Captured
) -> None:
    """Offsets of groups and NumPy's indices from the end would make codewords of them."""
    case, part, place, message = CODES[name]
    layer = VPTQLayer(np.random.default_rng(0), (VPTQ_CASES | VPTQ_INEXACT)[case] | UNPACKED)
    codes = layer.tensors()[f"l.q.{part}"].astype(np.int64)
    codes[place] = -3
    folder = vptq_folder(tmp_path, layer, {}, **{part: codes})
    error = refused(capsys, "import", folder, *inexact, "-o", str(tmp_path / "o"))
    assert message in error and "layer 'l.q'" in error


@pytest.mark.parametrize("number", [1.5, np.nan, 1e300])
def test_indices_that_are_not_whole(number: float, tmp_path: Path, capsys: Captured) -> None:
    layer = VPTQLayer(np.random.default_rng(0), UNPACKED)
    indices = layer.tensors()["l.q.indices"].astype(np.float64)
    indices[0, 0, 0] = number
    error = refused(capsys, "import", vptq_folder(tmp_path, layer, {}, indices=indices), "-o", str(tmp_path / "o"))
    assert "'l.q.indices' has numbers that are not whole" in error


@pytest.mark.parametrize("outliers", [10**12, 2**62, 2**80])
@pytest.mark.parametrize("case", ["plain", "outliers"])
def test_settings_of_more_columns_than_tensors_have(outliers: int, case: str, tmp_path: Path, capsys: Captured) -> None:
    """Refused before anything of that size is made."""
    layer = VPTQLayer(np.random.default_rng(0), VPTQ_CASES[case])
    settings = {"outlier_size": outliers, "in_features": layer.config["group_size"] + outliers}
    error = refused(capsys, "import", vptq_folder(tmp_path, layer, settings), "-o", str(tmp_path / "o"))
    assert "layer 'l.q': " in error and ("outlier_size=" in error if case == "plain" else "indices [1, 3, 4]" in error)


def test_empty_tensors_are_called_empty(tmp_path: Path, capsys: Captured) -> None:
    layer = VPTQLayer(np.random.default_rng(0), {})
    folder = vptq_folder(tmp_path, layer, {}, indices=np.zeros((1, 3, 0), np.int32))
    error = refused(capsys, "import", folder, "-o", str(tmp_path / "o"))
    assert "int32[1, 3, 0]; expected integers with 3 axes, none empty" in error


@pytest.mark.parametrize(("case", "tables"), [("plain", 0), ("groups", 2), ("outliers", 2), ("everything", 3)])
def test_the_remark_says_how_many_tables_were_merged(case: str, tables: int, tmp_path: Path) -> None:
    layer = VPTQLayer(np.random.default_rng(0), VPTQ_CASES[case])
    _, checkpoint = read_foreign(layer.write(tmp_path))
    _, row = encode("l.q", checkpoint.layers["l.q.weight"], np.ones(1, np.float32), None)
    assert (f"{tables} tables in one codebook" in row.note) if tables else row.note == ""
