"""A sweep of the smallest network there is, as files, and the command on it."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from accel.cli import main
from accel.sweep.results import read_results

SPEC = """
models = ["model.onnx"]
machines = ["edge64-ideal"]
codecs = ["int8", "vq:k=4,d=4"]

[axes]
"array.rows, array.columns" = [8, 16]
dram.bandwidth_bytes_per_cycle = { from = 1, to = 4, factor = 2 }
"""
ROOT = Path(__file__).parents[1]
STORE = Path("sweep", "results.sqlite")


def write_case(folder: Path, spec: str = SPEC) -> Path:
    """A spec beside its model, a linear layer of 16 x 16."""
    weight = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 8, 16)) for name in "xy")
    product = helper.make_node("MatMul", ["x", "w"], ["y"], name="product")
    graph = helper.make_graph([product], "test", [x], [y], [numpy_helper.from_array(weight, "w")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    path = folder / "spec.toml"
    path.write_text(spec)
    return path


def command(*arguments: str | Path) -> list[str]:
    """``accel sweep`` as a process."""
    return [sys.executable, "-m", "accel.cli", "sweep", *map(str, arguments)]


def environment(cache: Path) -> dict[str, str]:
    """With a store of its own and the kernels of this session."""
    numba = Path(os.environ["ACCEL_CACHE"], "numba")
    cache.mkdir(exist_ok=True)
    if not (cache / "numba").exists():
        numba.mkdir(parents=True, exist_ok=True)
        (cache / "numba").symlink_to(numba)
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "ACCEL_CACHE": str(cache), "PYTHONPATH": path}


def sweep(cache: Path, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        command(*arguments), env=environment(cache), capture_output=True, text=True, timeout=300, check=False, **options
    )


def rows_of(path: Path) -> list[dict[str, Any]]:
    """The rows of a results file."""
    return read_results(path)[1]


def case_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a spec, which is also the store's; test files make a fixture of it."""
    monkeypatch.setenv("ACCEL_CACHE", environment(tmp_path / "cache")["ACCEL_CACHE"])
    write_case(tmp_path)
    return tmp_path


def run(folder: Path, *more: str) -> list[dict[str, object]]:
    """Sweep in this process; the rows."""
    assert main(["sweep", str(folder / "spec.toml"), "-o", str(folder / "r.parquet"), "--workers", "1", *more]) == 0
    return rows_of(folder / "r.parquet")


def kept(cache: Path) -> int:
    """Results in the store; what it holds of packed models not counted."""
    try:
        with closing(sqlite3.connect(cache / STORE, timeout=30)) as connection:
            return int(connection.execute("SELECT count(*) FROM found WHERE value LIKE '%status%'").fetchone()[0])
    except sqlite3.OperationalError:
        return 0
