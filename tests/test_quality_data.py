"""Loaders of pictures and texts; tests marked ``network`` read the real ones, and score models on them."""

from __future__ import annotations

import gzip
import io
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from graph_reference import evaluate

from accel.errors import ConfigError, FormatError, ModelError
from benchmarks import quality_data
from benchmarks.__main__ import main as run_benchmark
from benchmarks.quality_data import EFFICIENTNET_LITE, TORCHVISION
from compiler.frontend import fashion_mnist, load_model
from compiler.frontend.architectures import build_architecture
from compiler.frontend.fashion_mnist import read_idx


def idx(*shape: int, kind: int = 8) -> bytes:
    """An IDX file of increasing bytes."""
    header = bytes([0, 0, kind, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return header + bytes(n % 256 for n in range(int(np.prod(shape))))


def lay(monkeypatch: pytest.MonkeyPatch, folder: Path, files: dict[str, bytes]) -> None:
    """Let every data set consist of these files."""
    for name, data in files.items():
        (folder / name).write_bytes(data)
    for module in (quality_data, fashion_mnist):
        monkeypatch.setattr(module, "fetch_dataset", lambda *_: {name: folder / name for name in files})


def test_idx_files_are_read_in_their_shape(tmp_path: Path) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(idx(3, 4, 5)))
    np.testing.assert_array_equal(read_idx(path), np.arange(60, dtype=np.uint8).reshape(3, 4, 5))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\x00\x08",
        idx(2, 3)[:-1],
        idx(2, 3)[:6],
        idx(2, 3) + b"x",
        idx(2, kind=9),
        b"\x00\x00\x08\x00",
    ],
)
def test_other_files_are_no_idx_files(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(data))
    with pytest.raises(FormatError, match="not an IDX file of bytes, or truncated"):
        read_idx(path)


@pytest.mark.parametrize("data", [b"not gzip", gzip.compress(idx(2, 3), mtime=0)[:-4], None])
def test_unreadable_idx_files_are_one_line(tmp_path: Path, data: bytes | None) -> None:
    if data is not None:
        (tmp_path / "x.gz").write_bytes(data)
    with pytest.raises(FormatError, match=r"^'.*x\.gz': cannot read: .*$"):
        read_idx(tmp_path / "x.gz")


def test_a_corrupt_stream_in_an_idx_file_is_one_line(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(idx(50, 3)))
    data[12] ^= 0xFF
    (tmp_path / "x.gz").write_bytes(data)
    with pytest.raises(FormatError, match=r"^'.*x\.gz': .*$"):
        read_idx(tmp_path / "x.gz")


def test_fashion_pictures_are_normalised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"t10k-images-idx3-ubyte.gz": idx(2, 28, 28), "t10k-labels-idx1-ubyte.gz": idx(2)}
    lay(monkeypatch, tmp_path, {name: gzip.compress(data) for name, data in files.items()})
    data = quality_data.fashion_images("test")
    assert (data.pictures.shape, data.pictures.dtype, data.labels.tolist()) == ((2, 1, 28, 28), np.float32, [0, 1])
    assert data.pictures[0, 0, 9, 3] == pytest.approx((255 / 255 - 0.2860) / 0.3530)  # byte 255
    with pytest.raises(ConfigError, match="unknown split 'tset'; there are: train, test"):
        quality_data.fashion_images("tset")


def test_imagenet_pictures_take_their_label_from_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = pytest.importorskip("PIL.Image")
    buffer, picture = io.BytesIO(), io.BytesIO()
    image.new("RGB", (300, 100), (255, 127, 0)).save(picture, "PNG")
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in ("imagenet_01_7.png", "imagenet_00_999.png", "cifar10_00_3.png"):
            archive.writestr(f"foolbox/data/{name}", picture.getvalue())
    lay(monkeypatch, tmp_path, {"foolbox.whl": buffer.getvalue()})
    data = quality_data.imagenet_images(EFFICIENTNET_LITE)
    assert (data.pictures.shape, data.labels.tolist()) == ((2, 3, 224, 224), [999, 7])
    np.testing.assert_array_equal(data.pictures[0, :, 100, 100], [1, 0, np.float32(-127 / 128)])


def test_calibration_views_do_not_depend_on_how_many_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = pytest.importorskip("PIL.Image")
    files = {}
    for index in range(5):
        buffer = io.BytesIO()
        pixels = np.random.default_rng(index).integers(0, 256, (60, 80, 3), np.uint8)
        image.fromarray(pixels).save(buffer, "PNG")
        files[f"{index}.png"] = buffer.getvalue()
    lay(monkeypatch, tmp_path, files)
    views = quality_data.calibration_images(12, TORCHVISION)
    np.testing.assert_array_equal(quality_data.calibration_images(7, TORCHVISION), views[:7])
    assert len(np.unique(views, axis=0)) == 12
    with pytest.raises(ConfigError, match="0 calibration images"):
        quality_data.calibration_images(0, TORCHVISION)


def test_human_similarities_are_made_symmetric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(monkeypatch, tmp_path, {"similarities0-1.txt": b"1\t0.3\t0.2\n0\t1\t0.5\n0\t0\t1\n"})
    expected = [[1, 0.3, 0.2], [0.3, 1, 0.5], [0.2, 0.5, 1]]
    np.testing.assert_array_equal(quality_data.human_similarities(), expected)
    vectors = np.linalg.cholesky(np.array(expected))  # their cosines are exactly these
    assert quality_data.lee_correlation(3 * vectors) == pytest.approx(1)


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ModelError, match=r"need tokenizers: pip install 'accel-codesign\[quality\]'"):
        quality_data.require_extra(["fashion", "vit_s14"])
        quality_data.require_extra(["minilm"])


def test_a_benchmark_without_its_package_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "benchmarks.kmeans", raising=False)
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert run_benchmark(["kmeans"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("benchmarks kmeans: ") and "faiss" in line and "pip install '.[torch,quality,bench]'" in line


@pytest.mark.parametrize("name", ["post_training", "quality"])
def test_a_missing_package_is_told_in_one_line_before_any_work(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert run_benchmark([name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"benchmarks {name}: quality data need tokenizers: pip install 'accel-codesign[quality]'"


@pytest.mark.network
def test_efficientnet_knows_most_imagenet_pictures() -> None:
    pytest.importorskip("PIL")
    data = quality_data.imagenet_images(EFFICIENTNET_LITE)
    model = load_model("zoo:efficientnet_lite0")
    (name,) = model.graph.inputs
    found = [evaluate(model.graph, model.weights, {name: x[None]})[0].argmax() for x in data.pictures]
    assert (found == data.labels).sum() == 18


@pytest.mark.network
def test_calibration_photographs_are_real() -> None:
    pytest.importorskip("PIL")
    views = quality_data.calibration_images(10, EFFICIENTNET_LITE)
    assert views.shape == (10, 3, 224, 224)
    assert views.std((1, 2, 3)).min() > 0.1


@pytest.mark.network
def test_minilm_agrees_with_people_about_news() -> None:
    """float32: Pearson 0.6564 over whole texts, 0.6538 when five of them are cut off at 128 tokens."""
    pytest.importorskip("tokenizers")
    texts = quality_data.lee_sentences()
    assert (len(texts), max(map(len, texts))) == (50, 154)
    longest, table = load_model("zoo:minilm", input_shapes={"input_ids": (1, 154)}), "embeddings.position_and_segment"
    vectors = []
    for ids in texts:
        graph = build_architecture("minilm", {"input_ids": (1, len(ids))}).graph
        weights = {**longest.weights, table: longest.weights[table][: len(ids)]}
        vectors.append(evaluate(graph, weights, {"input_ids": ids[None]})[0][0])
    assert quality_data.lee_correlation(np.array(vectors)) == pytest.approx(0.6564, abs=0.001)
    assert max(map(len, quality_data.lee_sentences(128))) == 128


@pytest.mark.network
def test_calibration_texts_are_others_than_the_scored_ones() -> None:
    pytest.importorskip("tokenizers")
    scored = {tuple(ids) for ids in quality_data.lee_sentences()}
    others = quality_data.calibration_sentences(300)
    assert (len(others), max(map(len, others))) == (300, 256)
    assert scored.isdisjoint(map(tuple, others))
    with pytest.raises(ConfigError, match="301 calibration texts; there are 1 to 300"):
        quality_data.calibration_sentences(301)
