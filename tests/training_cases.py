"""Small networks and data that training is tested on."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import nn

from accel.codecs import EncodedLayer, parse_codec
from compiler.frontend import LoadedModel, from_torch
from compiler.training import (
    LOSSES,
    Checkpointing,
    CsvLog,
    Freezing,
    TrainingData,
    TrainingOptions,
    WeightOptions,
    compress_modules,
    encoded_layers,
    train,
)

BUSY = Freezing(interval_steps=2, momentum=0.5, threshold=0.2, final_threshold=0.1)
relaxed = settings(deadline=None, max_examples=25, suppress_health_check=list(HealthCheck))


class Net(nn.Module):
    """Pictures [B,1,6,6] to class scores [B,2]; a convolution with a norm, and two linear layers."""

    def __init__(self, norm: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, 2, 1)
        self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.fc, self.head = nn.Linear(72, 16), nn.Linear(16, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.fc(torch.relu(self.norm(self.conv(x))).flatten(1))))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Layers this small are slower with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@cache
def exported(norm: bool = False) -> LoadedModel:
    """Its graph; tracing takes seconds."""
    return from_torch(net(norm), (torch.zeros(1, 1, 6, 6),))


def net(norm: bool = False, seed: int = 0) -> Net:
    torch.manual_seed(seed)
    return Net(norm).eval()


def stripes(count: int = 64, seed: int = 0) -> TrainingData:
    """Horizontal and vertical stripes under noise."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    lines = np.where(np.arange(6) % 2, 1.0, -1.0)
    pictures = np.where(labels[:, None, None] == 0, lines[:, None], lines[None, :])[:, None]
    return TrainingData({"x": (pictures + random.normal(0, 1, pictures.shape)).astype(np.float32)}, labels)


def compressed(codec: str, options: WeightOptions | None = None, module: nn.Module | None = None, **more: str) -> Net:
    model = module or net()
    compress_modules(model, lambda name, shape: parse_codec(codec), options, **more)  # type: ignore[arg-type]
    return model  # type: ignore[return-value]


def trained(model: nn.Module, steps: int = 5, **options: object) -> nn.Module:
    chosen = {"epochs": 2, "batch": 16, "rate": 0.02, **options}
    train(model, stripes(), LOSSES["cross_entropy"], TrainingOptions(**chosen), stop_after=steps)  # type: ignore[arg-type]
    return model


def decoded(layer: EncodedLayer) -> np.ndarray:
    return layer.codec.decode(layer).astype(np.float32) * layer.scale[:, None]


def computes_what_it_stores(model: nn.Module) -> None:
    for name, layer in encoded_layers(model).items():
        weight = model.get_submodule(name.removesuffix(".weight")).weight.detach().numpy()
        np.testing.assert_array_equal(weight.reshape(layer.shape), decoded(layer), err_msg=name)


def shaken(inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """An augmentation."""
    return tuple(each + torch.randn_like(each) for each in inputs)


def tuned(
    folder: Path | None,
    stop_after: int | None = None,
    resume: bool = False,
    codec: str = "ssvq:k=8,d=4",
    weights: WeightOptions | None = None,
    **options: object,
) -> nn.Module:
    """A run of 12 steps, with augmentation and a checkpoint every 3."""
    model = compressed(codec, weights or WeightOptions(freezing=BUSY), net(norm=True))
    checkpoints = folder and Checkpointing(folder, {"model": "net"}, every_steps=3, resume=resume)
    train(
        model,
        stripes(),
        LOSSES["cross_entropy"],
        TrainingOptions(**{"epochs": 3, "batch": 16, "rate": 0.02, "decay": 0.01, **options}),  # type: ignore[arg-type]
        augment=shaken,
        checkpoints=checkpoints or None,
        open_logs=lambda step: [CsvLog(folder / "log.csv", step)] if folder else [],
        stop_after=stop_after,
    )
    return model


def same(one: nn.Module, other: nn.Module) -> bool:
    states = one.state_dict(), other.state_dict()
    return states[0].keys() == states[1].keys() and all(
        torch.equal(states[0][key], states[1][key]) for key in states[0]
    )
