"""The vision transformer's part of the accuracy benchmark: pictures held back whole, scores of features, views."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_quality_data import lay

from accel.graph import Graph
from benchmarks import accuracy_pictures, quality_data
from benchmarks.accuracy_parts import VIT_HELD_BACK, VIT_SIDE, VIT_VALIDATION, VIT_VIEWS, Part
from benchmarks.accuracy_pictures import feature_scores, similarities, token_cosine, tokens
from benchmarks.quality_data import EFFICIENTNET_LITE, TORCHVISION
from compiler.frontend.torch_import import import_torch
from compiler.training import GraphModule, outputs_of

PICTURES, VIEWS, POOL = 20, 2, 12


class TinyTransformer(torch.nn.Module):
    """Patches and one layer, with the names of the real one."""

    def __init__(self) -> None:
        super().__init__()
        self.embeddings = torch.nn.Conv2d(3, 8, 14, 14)
        self.encoder = torch.nn.ModuleDict({"layer": torch.nn.ModuleList([torch.nn.Linear(8, 8)])})

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        patches = self.embeddings(pictures).flatten(2).transpose(1, 2)
        return patches + self.encoder["layer"][0](patches)


def tiny() -> tuple[Graph, dict[str, np.ndarray]]:
    torch.manual_seed(0)
    return import_torch(TinyTransformer().eval(), (torch.zeros(1, 3, VIT_SIDE, VIT_SIDE),))


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[set[int]]:
    """The part's sources replaced by small ones; of each batch that goes through ``tokens`` its pictures' numbers."""
    graph, weights = tiny()
    random = np.random.default_rng(0)
    numbers = np.arange(PICTURES, dtype=np.float32)[:, None, None, None, None]
    pictures = random.normal(size=(PICTURES, VIEWS, 3, VIT_SIDE, VIT_SIDE)).astype(np.float32)
    pictures[..., :1, :1] = numbers
    batches: list[set[int]] = []

    def recorded(model: GraphModule, given: np.ndarray) -> np.ndarray:
        batches.append({int(number) for number in given[..., 0, 0].ravel()})
        return tokens(model, given)

    def views(count: int, side: int, _: object) -> np.ndarray:
        return random.normal(size=(count, 3, side, side)).astype(np.float32)

    monkeypatch.setattr(accuracy_pictures, "load_model", lambda *_, **__: SimpleNamespace(graph=graph, weights=weights))
    monkeypatch.setattr(accuracy_pictures, "VIT_POOL", POOL)
    monkeypatch.setattr(accuracy_pictures, "distillation_views", views)
    monkeypatch.setattr(accuracy_pictures, "imagenet_views", lambda *_: pictures)
    monkeypatch.setattr(accuracy_pictures, "tokens", recorded)
    return batches


def built() -> Part:
    """The part anew, not the one kept."""
    return accuracy_pictures.vit_s14.__wrapped__(inside=False)


# --- the part --------------------------------------------------------------------------------------------------------


def test_pictures_that_decide_rates_are_not_scored(seen: list[set[int]]) -> None:
    part = built()
    assert [len(batch) for batch in seen] == [VIT_VALIDATION, PICTURES - VIT_VALIDATION]
    assert seen[0].isdisjoint(seen[1])
    model = GraphModule(part.graph, part.weights)
    assert part.validate(model) == pytest.approx(1)
    assert part.score(model) == pytest.approx({"cosine": 1, "class_token": 1, "relations": 1})
    assert seen[2:] == seen[:2]


def test_targets_are_the_float_tokens_of_views_drawn_by_the_seed(seen: list[set[int]]) -> None:
    part = built()
    first, again, other = part.training(0, 8), part.training(0, 8), part.training(1, 8)
    (name,) = part.graph.inputs
    np.testing.assert_array_equal(first.inputs[name], again.inputs[name])
    assert not np.array_equal(first.inputs[name], other.inputs[name])
    assert len(np.unique(first.targets, axis=0)) == len(first) == 8
    wanted = outputs_of(GraphModule(part.graph, part.weights), first.inputs)
    np.testing.assert_allclose(first.targets, wanted, rtol=1e-5, atol=1e-6)


def test_only_layers_of_the_encoder_are_compressed(seen: list[set[int]]) -> None:
    assert built().compressed == ("encoder.layer.0.weight",)


# --- scores ----------------------------------------------------------------------------------------------------------


def test_tokens_keep_pictures_and_views_apart() -> None:
    model = GraphModule(*tiny())
    pictures = np.random.default_rng(0).normal(size=(3, 2, 3, VIT_SIDE, VIT_SIDE)).astype(np.float32)
    found = tokens(model, pictures)
    assert found.shape == (3, 2, 64, 8)
    (name,) = model.graph.inputs
    np.testing.assert_allclose(found[2, 1], outputs_of(model, {name: pictures[2, 1][None, None]})[0, 0], atol=1e-6)


def test_the_cosine_is_a_mean_over_tokens_of_any_length() -> None:
    wanted = np.array([[1.0, 0.0], [0.0, 2.0], [3.0, 0.0]])
    found = np.array([[5.0, 0.0], [0.0, -1.0], [1.0, 1.0]])
    assert token_cosine(found, wanted) == pytest.approx((1 - 1 + 0.5**0.5) / 3)


def test_similarities_are_of_different_pictures() -> None:
    features = np.array([[[1.0, 0.0], [2.0, 0.0]], [[3.0, 4.0], [0.0, 1.0]], [[-1.0, 0.0], [0.0, -1.0]]])
    expected = [0.6, 0, -1, 0, 0.6, 0, -1, 0, -0.6, -0.8, 0, -1]
    np.testing.assert_allclose(similarities(features), expected, atol=1e-12)


def test_scores_tell_the_class_token_from_the_others() -> None:
    wanted = np.random.default_rng(0).normal(size=(3, 2, 4, 5))
    found = wanted.copy()
    found[:, :, 0] *= -1  # opposite class tokens, as alike to one another as before
    assert feature_scores(found, wanted) == pytest.approx({"cosine": 0.5, "class_token": -1, "relations": 1})


def test_one_answer_to_everything_has_no_relations() -> None:
    random = np.random.default_rng(0)
    common = random.normal(size=64)
    wanted = common + 0.1 * random.normal(size=(16, 5, 2, 64))
    found = common + 0.1 * random.normal(size=wanted.shape)
    scores = feature_scores(found, wanted)
    assert scores["cosine"] > 0.95 and abs(scores["relations"]) < 0.2


# --- views -----------------------------------------------------------------------------------------------------------


def png(pixels: np.ndarray) -> bytes:
    image = pytest.importorskip("PIL.Image")
    buffer = io.BytesIO()
    image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def wheel(pictures: dict[str, np.ndarray]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, pixels in pictures.items():
            file.writestr(f"foolbox/data/{name}", png(pixels))
    return archive.getvalue()


def test_distillation_views_do_not_depend_on_how_many_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    image, random = pytest.importorskip("PIL.Image"), np.random.default_rng(0)
    kinds = [[image.fromarray(random.integers(0, 256, (60, 80, 3), np.uint8)) for _ in range(n)] for n in (2, 5)]
    monkeypatch.setattr(quality_data, "distillation_pictures", lambda: kinds)
    views = quality_data.distillation_views(12, 28, TORCHVISION)
    assert views.shape == (12, 3, 28, 28)
    np.testing.assert_array_equal(quality_data.distillation_views(7, 28, TORCHVISION), views[:7])
    assert len(np.unique(views, axis=0)) == 12


def test_nothing_of_imagenet_is_trained_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"cifar100_00_1.png": 2, "cifar10_00_1.png": 1, "imagenet_00_1.png": 3, "mnist_00_1.png": 4}
    archive = wheel({name: np.full((4, 4, 3), value, np.uint8) for name, value in kinds.items()})
    lay(monkeypatch, tmp_path, {"foolbox.whl": archive})
    monkeypatch.setattr(quality_data, "_photographs", lambda name: [name])
    photographs, cifar = quality_data.distillation_pictures()
    assert photographs == ["pictures"]
    assert sorted(int(np.asarray(picture)[0, 0, 0]) for picture in cifar) == [1, 2]


def test_views_of_imagenet_pictures_are_the_whole_and_its_corners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.zeros((256, 256, 3), np.uint8)
    pixels[:100, 156:] = 255  # top right
    lay(monkeypatch, tmp_path, {"foolbox.whl": wheel({"imagenet_00_1.png": pixels})})
    views = quality_data.imagenet_views(28, EFFICIENTNET_LITE)
    assert views.shape == (1, 5, 3, 28, 28)
    white = (views[0, :, 0] > 0).mean((1, 2))
    inside = (100 / 256) ** 2, (100 / 154) ** 2
    assert white == pytest.approx([inside[0], 0, inside[1], 0, 0], abs=0.03)


@pytest.mark.network
def test_the_pictures_trained_on_are_as_many_as_the_page_says() -> None:
    pytest.importorskip("PIL")
    kinds = quality_data.distillation_pictures()
    assert [len(kind) for kind in kinds] == [14, 40]
    assert len({np.asarray(picture).tobytes() for kind in kinds for picture in kind}) == 54
    assert quality_data.imagenet_views(28, TORCHVISION).shape == (VIT_HELD_BACK, VIT_VIEWS, 3, 28, 28)
