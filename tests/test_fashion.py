"""The Fashion-MNIST transformer: its graph computes what torch does, training learns, the cache is checked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from graph_reference import evaluate

from accel.errors import ModelError
from accel.graph import Graph
from benchmarks import fashion
from benchmarks.fashion import RECIPE, FashionViT, Recipe, accuracy, load_fashion, train
from benchmarks.quality_data import Labelled, fashion_images
from compiler.frontend.packages import cache_folder
from compiler.frontend.torch_import import import_torch

SMALL = Recipe(channels=(4, 8, 16), depth=1, heads=2, epochs=3, batch=16, rate=1e-2)


def stripes(count: int) -> Labelled:
    """Pictures of two classes: horizontal and vertical stripes, under noise."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, count)
    lines = np.where(np.arange(28) % 4 < 2, 1.0, -1.0)
    pictures = np.where(labels[:, None, None] == 0, lines[:, None], lines[None, :])[:, None]
    return Labelled((pictures + random.normal(0, 0.3, pictures.shape)).astype(np.float32), labels)


def with_lively_norms(model: FashionViT) -> FashionViT:
    """Norms as training leaves them, so that folding them wrongly would show."""
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean):
                torch.nn.init.normal_(tensor)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    return model.eval()


def agree(model: FashionViT, graph: Graph, weights: dict[str, np.ndarray], pictures: np.ndarray) -> None:
    with torch.no_grad():
        expected = model(torch.from_numpy(pictures)).numpy()
    (name,) = graph.inputs
    found = [evaluate(graph, weights, {name: picture[None]})[0][0] for picture in pictures]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_graph_computes_what_torch_computes() -> None:
    torch.manual_seed(1)
    model = with_lively_norms(FashionViT(RECIPE))
    graph, weights = import_torch(model, (torch.zeros(1, 1, 28, 28),))
    agree(model, graph, weights, np.random.default_rng(2).normal(size=(3, 1, 28, 28)).astype(np.float32))
    assert len(graph.weight_ops()) == 3 + 4 * 6 + 1  # stem, blocks with q, k and v apart, head
    assert weights.keys() == graph.parameters.keys()


def test_training_learns_and_repeats_itself() -> None:
    data, said = stripes(256), []
    model = train(SMALL, data, said.append)
    assert len(said) == 3
    assert accuracy(model, stripes(100)) > 0.9
    again = train(SMALL, data, said.append)
    for first, second in zip(model.state_dict().values(), again.state_dict().values(), strict=True):
        torch.testing.assert_close(first, second)


def test_augmentation_only_mirrors_and_rolls() -> None:
    picture = torch.arange(28.0 * 28).reshape(1, 1, 28, 28)
    rolled = {
        tuple(variant.roll((down, right), (2, 3)).flatten().tolist())
        for variant in (picture, picture.flip(3))
        for down in range(-2, 3)
        for right in range(-2, 3)
    }
    seen = {tuple(x.flatten().tolist()) for x in fashion.augmented(picture.expand(300, 1, 28, 28), 2)}
    assert seen <= rolled
    assert len(seen) > 40


def test_weights_are_trained_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCEL_CACHE", str(tmp_path))
    monkeypatch.setattr(fashion, "fashion_images", lambda _split: stripes(64))
    said: list[str] = []
    _, weights = load_fashion(replace(SMALL, epochs=1), said.append)
    assert len(said) == 2
    _, cached = load_fashion(replace(SMALL, epochs=1), said.append)
    assert len(said) == 2
    for name, value in weights.items():
        np.testing.assert_array_equal(cached[name], value)


@pytest.mark.parametrize("damage", ["truncated", "other shapes"])
def test_a_damaged_cache_says_what_to_do(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "w.safetensors"
    state = FashionViT(replace(SMALL, depth=2)).state_dict()
    data = fashion.save(state)
    path.write_bytes(data[:-1] if damage == "truncated" else data)
    with pytest.raises(ModelError, match=r"^'.*w\.safetensors': .*; delete it and it will be trained again$"):
        fashion.read_module(SMALL, path)


def test_every_field_of_the_recipe_names_the_weights() -> None:
    assert len({RECIPE.digest, replace(RECIPE, seed=1).digest, replace(RECIPE, channels=(32, 64, 96)).digest}) == 3


@pytest.mark.network
def test_trained_weights_know_clothes() -> None:
    if not (cache_folder() / "fashion-vit" / f"{RECIPE.digest}.safetensors").exists():
        pytest.skip("not trained here: python -m benchmarks fashion")
    test = fashion_images("test")
    some = Labelled(test.pictures[:200], test.labels[:200])
    graph, weights = load_fashion()
    model = fashion.fashion_module()
    assert accuracy(model, some) > 0.8
    agree(model, graph, weights, some.pictures[:20])
