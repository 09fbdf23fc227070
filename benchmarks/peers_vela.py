"""Arm's Vela on a list of layers, and its lossless code for weights (mlw_codec) alone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.children import ChildError, run
from benchmarks.peers_environments import Result, Say, announcer, environment
from benchmarks.workloads import Layer

Matrices = Mapping[str, npt.NDArray[np.int8]]

VELA_TARGET = "ethos-u85-1024"  # 1024 multiply-accumulates a cycle
VELA_SYSTEM = "Ethos_U85_SYS_DRAM_Mid"  # of the configuration file it ships
VELA_MEMORY = "Shared_Sram"  # activations in SRAM, weights in DRAM
MACS_TOLERANCE = 0.01  # it pads a reduction of 197 activations
DRAM_PORT_BYTES = 16  # a cycle, at Dram_clock_scale = 1
_SETTINGS = """[System_Config.Peers]
inherit=System_Config.{system}
Dram_clock_scale={scale}
"""
_SCRIPT = Path(__file__).parent / "vela_network.py"

_MLW = """
import json, sys
import numpy as np
from ethosu import mlw_codec
with np.load(sys.argv[1]) as arrays:
    for name in arrays.files:
        weights = arrays[name].reshape(-1).astype(np.int16).tolist()
        encoded = mlw_codec.encode(weights)
        if list(mlw_codec.decode(encoded))[:len(weights)] != weights:
            sys.exit(f"mlw_codec does not give {name} back")
        print(json.dumps([name, len(encoded)]), flush=True)
"""


@dataclass(frozen=True, slots=True)
class VelaResult(Result):
    """Cycles, and the sums of Vela's summaries in bytes. ``array_cycles``, ``dram_cycles``: what the layers would take
    if all else were free, the array's work and the DRAM accesses; ``weight_bytes_read`` counts repeated reads."""

    original_bytes: int
    encoded_bytes: int
    dram_bytes: int
    weight_bytes_read: int
    array_cycles: int
    dram_cycles: int

    @property
    def what(self) -> str:
        """What an estimate is made of, for a table."""
        reads, rate = self.weight_bytes_read / self.encoded_bytes, self.dram_bytes / self.dram_cycles
        return (
            f"estimate; its array alone {self.array_cycles:,} cycles, its DRAM alone {self.dram_cycles:,}, at "
            f"{rate:.1f} B/cycle; weights read {reads:.2f} times"
        )


def vela(layers: Sequence[Layer], weights: Matrices, bandwidth_bytes_per_cycle: float, say: Say) -> VelaResult:
    """Vela's estimate, with activations in SRAM; ``weights`` are int8 ``[out, in, ...]`` by name."""
    python = environment("vela", say)
    with tempfile.TemporaryDirectory(prefix="vela-") as name:
        folder = Path(name)
        settings, network, arrays = folder / "peers.ini", folder / "layers.json", folder / "weights.npz"
        settings.write_text(_SETTINGS.format(system=VELA_SYSTEM, scale=bandwidth_bytes_per_cycle / DRAM_PORT_BYTES))
        network.write_text(json.dumps([_description(layer) for layer in layers]))
        np.savez(arrays, **{layer.weights: _matrix(layer, weights) for layer in layers if layer.weights})
        options = ["--accelerator-config", VELA_TARGET, "--config", "Arm/vela.ini", "--config", settings]
        options += ["--system-config", "Peers", "--memory-mode", VELA_MEMORY]
        heard = announcer("{", len(layers), say)
        bill = run([python, _SCRIPT, network, arrays, folder, *options], heard, folder)
    rows = [json.loads(line) for line in bill.lines if line.startswith("{")]
    if len(rows) != len(layers):
        raise ChildError(f"Vela reports {len(rows)} layers of {len(layers)}")
    macs, counted = sum(layer.macs for layer in layers), _sum(rows, "nn_macs")
    if abs(counted / macs - 1) > MACS_TOLERANCE:
        raise ChildError(f"Vela counts {counted} multiply-accumulates, the network has {macs}: not the same network")
    return VelaResult(
        tuple(int(row["cycles_total"]) for row in rows),
        bill,
        original_bytes=_sum(rows, "total_original_weights"),
        encoded_bytes=_sum(rows, "total_npu_encoded_weights"),
        dram_bytes=_sum(rows, "dram_total_bytes"),
        weight_bytes_read=_sum(rows, "dram_weight_read_bytes"),
        array_cycles=_sum(rows, "cycles_npu"),
        dram_cycles=_sum(rows, "cycles_dram_access"),
    )


def _sum(rows: Sequence[Mapping[str, str]], column: str) -> int:
    return sum(int(float(row[column])) for row in rows)


def _description(layer: Layer) -> dict[str, Any]:
    """A convolution of patches that do not overlap is given as the matrix product it is (``_matrix`` likewise): Vela
    would cut it into a convolution a patch and fetch the kernel for each. Maps are as large as the windows reach."""
    pixels = layer.out_height * layer.out_width
    row: dict[str, Any] = {"name": layer.name, "weights": layer.weights}
    if not layer.weights:
        operands = [[1, pixels, layer.channels], [1, layer.channels, layer.filters]]
        return row | {"kind": "matmul", "inputs": operands, "output": [1, pixels, layer.filters]}
    if _is_product(layer):
        reduction = layer.kernel_height * layer.kernel_width * layer.channels
        return row | {"kind": "gemm", "inputs": [[pixels, reduction]], "output": [pixels, layer.filters]}
    inputs = [[1, layer.reach_height, layer.reach_width, layer.channels]]
    output = [1, layer.out_height, layer.out_width, layer.filters]
    return row | {"kind": "conv", "inputs": inputs, "output": output, "stride": layer.stride}


def _is_product(layer: Layer) -> bool:
    """Whether it is a matrix product: of a GEMM, or of patches side by side."""
    patches = layer.kernel_height == layer.kernel_width == layer.stride > 1 and not any(layer.padding)
    return patches or layer.in_width == 1


def _matrix(layer: Layer, weights: Matrices) -> npt.NDArray[np.int8]:
    """As TFLite has them: ``[out, in]``, or ``[out, height, width, in]`` of a convolution."""
    matrix = weights[layer.weights]
    if matrix.ndim == 4:
        matrix = matrix.transpose(0, 2, 3, 1)
    return np.ascontiguousarray(matrix.reshape(len(matrix), -1) if _is_product(layer) else matrix)


def lossless_bytes(weights: Matrices, say: Say) -> dict[str, int]:
    """Bytes of each matrix in Arm's code, row by row; the code is decoded again and compared.

    Neither Vela's order of weights nor its padding of blocks is in it: that only adds bytes.
    """
    python = environment("vela", say)
    with tempfile.TemporaryDirectory(prefix="mlw-") as name:
        arrays = Path(name, "weights.npz")
        np.savez(arrays, **weights)
        bill = run([python, "-c", _MLW, arrays])
    return dict(json.loads(line) for line in bill.lines)
