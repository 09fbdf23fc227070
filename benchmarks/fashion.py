"""``python -m benchmarks fashion``: a small vision transformer trained on Fashion-MNIST, and its accuracy.

The one model whose quality is measured on thousands of labelled images. Its weights are in no package: they are trained
here on first use (ten minutes on one core) and kept in the cache under a digest of the recipe. The seed fixes the
order of images; torch's kernels differ between processors, so weights of two machines agree in accuracy, not in bits.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from torch.nn import functional

from accel.atomic import write_bytes
from accel.errors import ModelError
from accel.graph import Graph
from benchmarks.quality_data import Labelled, fashion_images, tell
from compiler.frontend.packages import cache_folder
from compiler.frontend.torch_import import import_torch

REQUIRED_ACCURACY = 0.86
EVALUATION_BATCH = 500
CLASSES = 10

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the weights: sizes of the network and how it is trained."""

    channels: tuple[int, ...] = (32, 64, 192)  # of the stem's stride-2 convolutions; the last is the width
    depth: int = 4
    heads: int = 3
    mlp_ratio: int = 4
    epochs: int = 4
    batch: int = 128
    rate: float = 1.2e-3  # at its highest; falls as a cosine
    warm_up: float = 0.05  # share of the steps in which it rises
    decay: float = 0.05
    roll: int = 2  # pixels an image is moved by at most
    seed: int = 0

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that name the recipe."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


RECIPE = Recipe()


# --- the network -----------------------------------------------------------------------------------------------------


class Attention(nn.Module):
    """Self-attention [B,T,D] with query, key and value as layers of their own, each with its own weights' scale."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (self._split(layer(x)) for layer in (self.query, self.key, self.value))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).flatten(2))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class Block(nn.Module):
    """Attention and a two-layer perceptron, each normalised before and added to its input [B,T,D]."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.fc1, self.fc2 = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(functional.gelu(self.fc1(self.norm2(x))))


class FashionViT(nn.Module):
    """Class scores [B,10] of images [B,1,28,28]: stride-2 convolutions to 4x4 tokens, blocks, a mean."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        width = recipe.channels[-1]
        self.stem = _stem(recipe.channels)
        self.position = nn.Parameter(torch.zeros(1, 16, width))
        nn.init.trunc_normal_(self.position, std=0.02)
        self.blocks = nn.Sequential(
            *(Block(width, recipe.heads, recipe.mlp_ratio * width) for _ in range(recipe.depth))
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = self.stem(image).flatten(2).transpose(1, 2) + self.position
        return self.head(self.norm(self.blocks(x)).mean(1))


def _stem(channels: tuple[int, ...]) -> nn.Sequential:
    """Convolutions 3x3 of stride 2, each with a norm (folded on import) and, but for the last, a ReLU."""
    layers: list[nn.Module] = []
    for inputs, outputs in zip((1, *channels), channels, strict=False):
        layers += [nn.Conv2d(inputs, outputs, 3, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


# --- training --------------------------------------------------------------------------------------------------------


def train(recipe: Recipe, data: Labelled, say: Say) -> FashionViT:
    """A network trained on pictures [N,1,28,28], in evaluation mode; tells of every epoch. Runs on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # where cores are shared, two are slower
    torch.manual_seed(recipe.seed)
    model = FashionViT(recipe).train()
    pictures, labels = torch.from_numpy(data.pictures), torch.from_numpy(data.labels)
    steps = recipe.epochs * (len(pictures) // recipe.batch)
    optimiser = torch.optim.AdamW(model.parameters(), recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.rate, steps, pct_start=recipe.warm_up)
    for epoch in range(1, recipe.epochs + 1):
        start, losses = time.process_time(), []
        for chosen in _batches(len(pictures), recipe.batch):
            losses.append(_step(model, augmented(pictures[chosen], recipe.roll), labels[chosen], optimiser))
            schedule.step()
        spent = time.process_time() - start
        say(f"fashion: epoch {epoch} of {recipe.epochs}: loss {sum(losses) / len(losses):.3f}, {spent:.0f} CPU-s")
    torch.set_num_threads(threads)
    return model.eval()


def _step(model: FashionViT, pictures: Tensor, labels: Tensor, optimiser: torch.optim.Optimizer) -> float:
    """One step of gradient descent; returns the loss."""
    with torch.autocast("cpu", torch.bfloat16):
        loss = functional.cross_entropy(model(pictures), labels)
    optimiser.zero_grad()
    loss.backward()
    optimiser.step()
    return loss.item()


def _batches(count: int, size: int) -> Iterator[Tensor]:
    """Index batches of one epoch in random order; the incomplete last one is left out."""
    order = torch.randperm(count)
    return iter(order[: count - count % size].split(size))


def augmented(pictures: Tensor, roll: int) -> Tensor:
    """Every picture [B,1,H,W] mirrored with probability one half and rolled by up to ``roll`` pixels either way."""
    count, _, height, width = pictures.shape
    down, right = torch.randint(-roll, roll + 1, (2, count, 1))
    rows, columns = (torch.arange(height) + down) % height, (torch.arange(width) + right) % width
    columns = torch.where(torch.rand(count, 1) < 0.5, columns.flip(1), columns)
    return pictures[torch.arange(count)[:, None, None], 0, rows[:, :, None], columns[:, None, :]].unsqueeze(1)


# --- trained weights -------------------------------------------------------------------------------------------------


def fashion_module(recipe: Recipe = RECIPE, say: Say = tell) -> FashionViT:
    """The trained network, out of the cache or trained now. Raises ``ModelError`` if neither is possible."""
    path = cache_folder() / "fashion-vit" / f"{recipe.digest}.safetensors"
    if path.exists():
        return read_module(recipe, path)
    say(f"fashion: training {path.name} for {recipe.epochs} epochs, once")
    model = train(recipe, fashion_images("train"), say)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, save(model.state_dict()))
    return model


def read_module(recipe: Recipe, path: Path) -> FashionViT:
    """The network with the weights of a file; raises ``ModelError`` if it is not one of this recipe."""
    model = FashionViT(recipe)
    try:
        model.load_state_dict(load(path.read_bytes()))
    except (OSError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"'{path}': {reason}; delete it and it will be trained again") from error
    return model.eval()


def load_fashion(recipe: Recipe = RECIPE, say: Say = tell) -> tuple[Graph, dict[str, npt.NDArray[np.float32]]]:
    """Graph of the trained network, for one picture [1,1,28,28] with its norms folded, and its weights.

    Raises ``ModelError`` if it is neither in the cache nor can be trained.
    """
    return import_torch(fashion_module(recipe, say), (torch.zeros(1, 1, 28, 28),))


def accuracy(model: FashionViT, data: Labelled) -> float:
    """Share of the pictures whose highest score is that of their label."""
    with torch.inference_mode():
        scores = [model(batch) for batch in torch.from_numpy(data.pictures).split(EVALUATION_BATCH)]
    return float((torch.cat(scores).argmax(1).numpy() == data.labels).mean())


def main() -> bool:
    """Print the accuracy on the 10000 test pictures; whether it is enough to tell good weights from bad."""
    model = fashion_module()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    reached = accuracy(model, fashion_images("test"))
    met = reached >= REQUIRED_ACCURACY
    print(f"Fashion-MNIST, ViT of {parameters:,} parameters, recipe {RECIPE.digest}: {reached:.4f} of 10000 right")
    print(f"{'meets' if met else 'MISSES'} the requirement of {REQUIRED_ACCURACY}")
    return met
