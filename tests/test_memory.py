"""Compression in bounded memory: every part that works in blocks or from disk against the twin that does it at once."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from accel.codecs import LR2VQ, MVQ, RVQ, SSVQ, VQ, Codec, Int4, Int8, vq
from accel.codecs.base import to_vectors
from accel.codecs.masks import Mask
from accel.container import ELEMENT_TYPES, write_container
from accel.errors import FormatError, ModelError
from accel.graph import GraphBuilder
from accel.packed import read_packed, write_packed
from accel.packed_spool import Spool
from compiler.compress import blocks, compress, compress_layer, kmeans, relative_error, vectors
from compiler.compress.low_rank import principal_rows
from compiler.compress.vectors import LayerVectors
from compiler.frontend.architectures import Blueprint
from compiler.frontend.architectures.base import Convolution, ModelBuilder
from compiler.frontend.stored import StoredTensors
from compiler.frontend.weights import assign, load_weights, read_safetensors, weights_digest

CODECS: tuple[Codec, ...] = (
    VQ(16, 4), SSVQ(16, 5), MVQ(16, 8, Mask(2, 4)), LR2VQ(16, 4, 3), RVQ(16, 4, 2), Int4(), Int8(),
)  # fmt: skip


def gaussian(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


@pytest.fixture
def tiny_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows or vectors, and samples that small layers exceed."""
    monkeypatch.setattr(blocks, "BLOCK_WEIGHTS", 200)
    monkeypatch.setattr(vectors, "_BLOCK_VECTORS", 7)


@pytest.mark.parametrize("axis", ["out", "in"])
@pytest.mark.parametrize("length", [1, 3, 8])
@pytest.mark.parametrize("scales", [1, 13])
@pytest.mark.usefixtures("tiny_blocks")
def test_gathered_vectors_are_those_of_the_whole_matrix(axis: str, length: int, scales: int) -> None:
    weights, norm = gaussian(13, 21), np.abs(gaussian(scales, seed=1)) + 1
    whole = to_vectors(weights / norm[:, None], length, axis)
    gathered = LayerVectors(weights, norm, length, axis)
    order = np.random.default_rng(2).permutation(len(whole))
    assert len(gathered) == len(whole)
    np.testing.assert_array_equal(gathered[order], whole[order])
    np.testing.assert_array_equal(dataclasses.replace(gathered, magnitudes=True)[order], np.abs(whole[order]))


@pytest.mark.parametrize("seed", [0, 1 << 31 | 5])
def test_the_sample_is_the_one_faiss_takes(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    import faiss

    monkeypatch.setattr(kmeans, "SAMPLE_VECTORS", 1 << 10)
    data = gaussian(5000, 4)
    twin = faiss.Kmeans(4, 8, niter=kmeans.ITERATIONS, seed=seed & 0x7FFFFFFF, max_points_per_centroid=128)
    twin.train(data)
    np.testing.assert_array_equal(kmeans.cluster(data, 8, seed), twin.centroids)
    assert len(kmeans.sampled(5000, 8, seed)) == 1024


@pytest.mark.parametrize("scale", ["channel", "tensor"])
@pytest.mark.parametrize("axis", ["out", "in"])
@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_blocks_change_nothing(codec: Codec, axis: str, scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = gaussian(37, 26)
    whole = compress_layer(weights, codec, scale, axis, 3)
    monkeypatch.setattr(blocks, "BLOCK_WEIGHTS", 200)
    monkeypatch.setattr(vectors, "_BLOCK_VECTORS", 7)
    layer = compress_layer(weights, codec, scale, axis, 3)
    np.testing.assert_array_equal(blocks.decode_by_rows(layer), codec.decode(layer))
    np.testing.assert_array_equal(layer.codes, whole.codes)
    np.testing.assert_array_equal(layer.scale, whole.scale)
    if whole.side is not None:
        np.testing.assert_array_equal(layer.side, whole.side)
    error = np.square(weights - codec.decode(layer) * layer.scale[:, None], dtype=np.float64).sum()
    assert relative_error(weights, layer) == pytest.approx(error / np.square(weights, dtype=np.float64).sum(), rel=1e-6)


def test_a_gram_matrix_in_blocks_has_the_same_principal_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    data = gaussian(1000, 6) * np.linspace(1, 2, 6, dtype=np.float32)
    counts = np.abs(gaussian(1000, seed=1))
    whole = principal_rows(data, 3, counts)
    monkeypatch.setattr("compiler.compress.low_rank._BLOCK_WEIGHTS", 100)
    np.testing.assert_allclose(principal_rows(data, 3, counts), whole, rtol=1e-9)


def network() -> Blueprint:
    """A depthwise convolution with batch normalisation, gemms and a table that no codec touches."""
    build = ModelBuilder("network")
    image = build.input("image", (1, 8, 6, 6))
    first = build.conv_norm(image, "dw", "bn", Convolution(8, 3, groups=8), 1e-5)
    rows = build.reshape(first, 36, 8)
    wide = build.linear(build.op("add", rows, build.weight("table", (36, 8)), name="add"), "fc1", 48)
    return build.finish(build.linear(wide, "fc2", 24, bias=False))


def checkpoint(blueprint: Blueprint) -> dict[str, np.ndarray]:
    return {
        name: np.abs(gaussian(*shape, seed=index)) + 0.1 if name.endswith("var") else gaussian(*shape, seed=index)
        for index, (name, shape) in enumerate(blueprint.tensors.items())
    }


@pytest.mark.parametrize("codec", [SSVQ(4, 4), LR2VQ(4, 4, 2), MVQ(4, 4, Mask(2, 4)), Int8()], ids=str)
def test_a_spooled_model_is_the_same_file(codec: Codec, tmp_path: Path) -> None:
    blueprint = network()
    stored = checkpoint(blueprint)
    save_file(stored, tmp_path / "w.safetensors")
    once = compress(blueprint.graph, assign(blueprint, stored, "test"), codec)
    write_packed(once.packed, tmp_path / "memory.vq.safetensors")
    with Spool(tmp_path / "disk.vq.safetensors") as spool:
        streamed = compress(blueprint.graph, load_weights(blueprint, tmp_path / "w.safetensors"), codec, spool=spool)
        write_packed(streamed.packed, tmp_path / "disk.vq.safetensors", spool)
        assert streamed.reports == once.reports
    names = ["disk.vq.safetensors", "memory.vq.safetensors", "w.safetensors"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert (tmp_path / names[0]).read_bytes() == (tmp_path / names[1]).read_bytes()
    assert read_packed(tmp_path / names[0]).layers.keys() == {"dw.weight", "fc1.weight", "fc2.weight"}


def test_stored_tensors_are_those_of_an_eager_reader(tmp_path: Path) -> None:
    blueprint = network()
    stored = checkpoint(blueprint)
    save_file({name: value.astype(np.float16) for name, value in stored.items()}, tmp_path / "w.safetensors")
    lazy = load_weights(blueprint, tmp_path / "w.safetensors")
    eager = assign(blueprint, read_safetensors(tmp_path / "w.safetensors"), "test")
    assert list(lazy) == list(eager) == list(blueprint.graph.parameters)
    for name, value in eager.items():
        assert lazy[name].dtype == np.float32
        np.testing.assert_array_equal(lazy[name], value)
    assert weights_digest(lazy) == weights_digest(eager)
    lazy["table"][:] = 0  # what is written into one is lost
    np.testing.assert_array_equal(lazy["table"], eager["table"])


def test_unaligned_and_vanished_tensors(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    header = b'{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + np.array([1, 2], "<f4").tobytes())
    tensors = StoredTensors(path)
    assert tensors["x"].flags.aligned and tensors["x"].tolist() == [1, 2]
    path.write_bytes(b"")
    with pytest.raises(ModelError, match=r"w\.safetensors: "):
        tensors["x"]
    path.unlink()
    with pytest.raises(ModelError, match="No such file"):
        tensors["x"]


def test_the_container_is_what_safetensors_itself_writes(tmp_path: Path) -> None:
    tensors = {f"{kind} \N{GREEK SMALL LETTER ALPHA}\t{size}": np.ones((size, 3), dtype)
               for kind, dtype in ELEMENT_TYPES.items() for size in (2, 1)}  # fmt: skip
    write_container(tmp_path / "x", "schema", {"text": 'é"\n'}, {**tensors, "scalar": np.float32(2).reshape(())})
    data = (tmp_path / "x").read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    twin = save({**tensors, "scalar": np.array(2, np.float32)}, header["__metadata__"])
    assert data == bytes(twin)


class Counted(dict):
    """Weights mapped from a file count as resident; these are made when asked for, and so count as held, once."""

    def __getitem__(self, name: str) -> np.ndarray:
        return gaussian(*super().__getitem__(name))


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize("codec", [Int8(), SSVQ(4, 8)], ids=str)
def test_memory_holds_one_layer(codec: Codec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, traced: None) -> None:
    """At most twice the largest layer, whatever the number of layers; blocks are shrunk as the layers are."""
    monkeypatch.setattr(blocks, "BLOCK_WEIGHTS", 1 << 13)
    monkeypatch.setattr(kmeans, "SAMPLE_VECTORS", 1 << 8)
    monkeypatch.setattr(vectors, "_BLOCK_VECTORS", 1 << 8)
    monkeypatch.setattr(vq, "_BLOCK_DISTANCES", 1 << 12)
    build, shape = GraphBuilder("stack"), (704, 704)
    token = build.input("token", (1, 704))
    for index in range(4):
        token = build.op("gemm", token, build.parameter(f"w{index}", shape), name=f"fc{index}")
    graph = build.build(token)
    weights = Counted(graph.parameters)
    compress_layer(gaussian(8, 16), codec, "channel", "out", 0)  # imports and caches
    with Spool(tmp_path / "net") as spool:
        tracemalloc.reset_peak()
        base, _ = tracemalloc.get_traced_memory()
        write_packed(compress(graph, weights, codec, spool=spool).packed, tmp_path / "net", spool)
        _, peak = tracemalloc.get_traced_memory()
    assert peak - base <= 2 * 4 * 704 * 704


FULL_DISK = """
import os, resource, sys
from accel.cli import main
output, limits = sys.argv[1], [resource.RLIM_INFINITY, 1 << 20]
while limits:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limits.pop(0), resource.RLIM_INFINITY))
    code = main(["compress", "deit_tiny", "--codec", "int8", "-o", output])
    print(code, sorted(os.listdir(os.path.dirname(output))), file=sys.stderr)
    if code == 0:
        limits.append(os.path.getsize(output) - 1)
        os.remove(output)
"""


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """Full while layers are coded, and at the last byte of the file itself."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, tmp_path / "net.vq.safetensors"], capture_output=True, text=True, check=True
    )
    lines = [line for line in done.stderr.splitlines() if "%" not in line]
    refusal = f"accel: cannot write '{tmp_path}/net.vq.safetensors': File too large"
    assert lines[1:] == ["0 ['net.vq.safetensors']", refusal, "2 []", refusal, "2 []"]


def test_a_folder_that_is_missing_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"cannot write '.*net': No such file or directory"):
        Spool(tmp_path / "missing" / "net")
