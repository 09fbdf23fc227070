"""Memory that compressing a large model takes: what its process holds at most, against the largest layer.

A stack of linear layers is written as a safetensors checkpoint and compressed from it to a packed file by a process of
its own, as ``accel compress ARCH:weights.safetensors`` does it: checked, digested, coded, spooled, written. Counted is
its peak of resident memory (``ru_maxrss``: mapped pages of files are in it, the page cache is not) less that of the
same process after compressing a toy, when interpreter and libraries are loaded; the unit is the largest layer in
float32.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from accel.codecs import parse_codec
from accel.container import Tensor, write_container
from accel.packed import write_packed
from accel.packed_spool import Spool
from benchmarks.children import RSS_UNIT_BYTES, python
from compiler.compress import compress
from compiler.frontend.architectures import Blueprint
from compiler.frontend.architectures.base import ModelBuilder
from compiler.frontend.weights import load_weights, weights_digest

LAYERS_AT_MOST = 2.0  # required
TOY_WIDTH, EXPANSION = 64, 4
CODECS_MEASURED = ("int8", "ssvq:k=16,d=8")

_COMPRESS = "import sys; from benchmarks.memory import compress_file; compress_file(*sys.argv[1:])"
_HEADER = (
    f"{'codec':<16}{'weights':>15}{'layers':>8}{'largest MB':>12}{'base MB':>9}{'peak MB':>9}{'ratio':>7}{'CPU s':>8}"
)


class _Gaussian(Mapping[str, Tensor]):
    """Weights of ``blueprint``, made when they are asked for: one draw, scaled differently for each layer."""

    def __init__(self, blueprint: Blueprint) -> None:
        self._shapes = blueprint.tensors
        largest = max(map(math.prod, self._shapes.values()))
        self._drawn: npt.NDArray[np.float32] = np.random.default_rng(0).standard_normal(largest, np.float32)

    def __getitem__(self, name: str) -> Tensor:
        shape = self._shapes[name]
        scale = np.float32(1 + list(self._shapes).index(name) / len(self._shapes))
        return (self._drawn[: math.prod(shape)] * scale).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._shapes)

    def __len__(self) -> int:
        return len(self._shapes)


def stack(width: int, layers: int) -> Blueprint:
    """Linear layers from ``width`` to ``EXPANSION`` times that and back, one behind the other."""
    build = ModelBuilder(f"{layers} linear layers")
    token = build.input("token", (1, width))
    for index in range(layers):
        token = build.linear(token, f"layer{index}", width if index % 2 else EXPANSION * width, bias=False)
    return build.finish(token)


def compress_file(codec: str, width: str, layers: str, folder: str) -> None:
    """Compress the checkpoint in ``folder``; print the memory held before it, as JSON (run as a process)."""
    with tempfile.TemporaryDirectory() as toy:
        _write(stack(TOY_WIDTH, 2), Path(toy))
        _packed(stack(TOY_WIDTH, 2), Path(toy), codec)
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * RSS_UNIT_BYTES
    _packed(stack(int(width), int(layers)), Path(folder), codec)
    print(json.dumps({"base_bytes": base}))


def _write(blueprint: Blueprint, folder: Path) -> None:
    write_container(folder / "weights.safetensors", "benchmark", {}, _Gaussian(blueprint))


def _packed(blueprint: Blueprint, folder: Path, codec: str) -> None:
    weights, target = load_weights(blueprint, folder / "weights.safetensors"), folder / "net.vq.safetensors"
    weights_digest(weights)  # load_model makes one
    with Spool(target) as spool:
        result = compress(blueprint.graph, weights, parse_codec(codec), spool=spool)
        write_packed(result.packed, target, spool)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Size of the model, and which codecs."""
    parser.add_argument("--weights", type=float, default=1e8, help="of the model, at least (default 1e8)")
    parser.add_argument("--width", type=int, default=2048, help=f"layers are W x {EXPANSION}W weights (default 2048)")
    parser.add_argument("--codec", nargs="+", default=CODECS_MEASURED, help=f"default: {' '.join(CODECS_MEASURED)}")
    parser.add_argument("--folder", type=Path, help="where checkpoint and packed file go (default: a temporary folder)")


def main(arguments: argparse.Namespace) -> bool:
    """Print a row a codec; whether all stay within the limit."""
    layers = max(2, math.ceil(arguments.weights / (EXPANSION * arguments.width**2)))
    with tempfile.TemporaryDirectory(prefix="accel-memory-", dir=arguments.folder) as folder:
        print(f"writing a checkpoint of {layers} layers", file=sys.stderr)
        _write(stack(arguments.width, layers), Path(folder))
        print(_HEADER, flush=True)
        ratios = [_ratio(codec, arguments.width, layers, folder) for codec in arguments.codec]
    met = max(ratios) <= LAYERS_AT_MOST
    print(f"{'PASS' if met else 'FAIL'}: at most {LAYERS_AT_MOST:g} times the largest layer in float32")
    return met


def _ratio(codec: str, width: int, layers: int, folder: str) -> float:
    """Measure and print one codec."""
    bill = python("-c", _COMPRESS, codec, str(width), str(layers), folder)
    base, largest = json.loads(bill.lines[-1])["base_bytes"], EXPANSION * width**2 * 4
    ratio = (bill.peak_bytes - base) / largest
    sizes = "".join(f"{size / 1e6:>{columns}.0f}" for size, columns in ((largest, 12), (base, 9), (bill.peak_bytes, 9)))
    weights = layers * EXPANSION * width**2
    print(f"{codec:<16}{weights:>15,}{layers:>8}{sizes}{ratio:>7.2f}{bill.cpu_seconds:>8.0f}", flush=True)
    return ratio
