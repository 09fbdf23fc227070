"""A sweep of the smallest network there is, as files, and the command on it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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
