"""Training where something is odd: gradients of NaN, parameters nothing uses, layers with misleading names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from training_cases import Net, net, one_thread, same, stripes

from accel.codecs import parse_codec
from accel.errors import ConfigError
from compiler.training import (
    LOSSES,
    Checkpointing,
    TrainingData,
    TrainingOptions,
    WeightOptions,
    coded_weights,
    compress_modules,
    make_optimiser,
    train,
)
from compiler.training.codebooks import Rounded8
from compiler.training.straight_through import rounded

__all__ = ["one_thread"]  # a fixture


class Poisoned(torch.autograd.Function):
    """The identity, with a gradient of NaN."""

    @staticmethod
    def forward(context: Any, values: torch.Tensor) -> torch.Tensor:
        return values.clone()

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        return gradient * torch.nan


class PoisonedNet(nn.Module):
    """``Net`` with a last parameter that is always at fault."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = net(), nn.ParameterList([torch.ones(())])  # modules follow in order

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.first(x) * Poisoned.apply(self.last[0])


@pytest.mark.parametrize("clip", [None, 1.0])
def test_the_gradient_at_fault_is_the_one_that_is_named(clip: float | None) -> None:
    """Not the first of all, which dividing by a norm of NaN would spoil too."""
    with pytest.raises(ConfigError, match=r"the gradient of 'last\.0' has NaN"):
        train(PoisonedNet(), stripes(), LOSSES["cross_entropy"], TrainingOptions(batch=16, clip=clip))


def test_gradients_are_clipped_together() -> None:
    norms: list[float] = []
    model = net()

    class Seen:
        def add(self, row: Any) -> None:
            norms.append(row.gradient_norm)
            squares = [each.grad.square().sum() for each in model.parameters() if each.grad is not None]
            assert torch.stack(squares).sum().sqrt().item() == pytest.approx(min(1e-3, row.gradient_norm), rel=1e-2)

    options = TrainingOptions(batch=16, clip=1e-3)
    train(model, stripes(), LOSSES["cross_entropy"], options, open_logs=lambda _: [Seen()])
    assert len(norms) == 4 and min(norms) > 1e-2  # what is told is the norm before


def test_a_parameter_learns_by_what_it_is_not_by_what_its_layer_is_called() -> None:
    model = nn.ModuleDict({"codebook": nn.Linear(8, 8)})
    compress_modules(model, lambda name, shape: parse_codec("int8"))
    options = TrainingOptions(rate=1e-3, codebook_factor=7.0)
    rates = {id(each): group["lr"] for group in make_optimiser(model, options).param_groups for each in group["params"]}
    found = {name.rpartition(".")[2]: rates[id(each)] for name, each in model.named_parameters()}
    assert found == {"bias": 1e-3, "weights": 1e-3, "gains": 7e-3}


class IdleNet(Net):
    """A head that nothing calls, as checkpoints of language models have: no gradient, no state in the optimiser."""

    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(3, 3)


def test_a_run_goes_on_past_parameters_that_nothing_uses(tmp_path: Path) -> None:
    def run(folder: Path, stop_after: int | None = None, resume: bool = False) -> nn.Module:
        torch.manual_seed(0)
        model, options = IdleNet(), TrainingOptions(epochs=2, batch=16, decay=0.1)
        checkpoints = Checkpointing(folder, {}, every_steps=1, resume=resume)
        train(model, stripes(), LOSSES["cross_entropy"], options, checkpoints=checkpoints, stop_after=stop_after)
        return model

    (tmp_path / "whole").mkdir()
    whole = run(tmp_path / "whole")
    run(tmp_path, stop_after=3)
    assert same(whole, run(tmp_path, resume=True))


@pytest.mark.parametrize("codec", ["vq:k=4,d=4", "mvq:k=4,d=4,nm=2:4"])
def test_padding_has_no_part_in_a_mean(codec: str) -> None:
    """Ten channels in vectors of four: two lanes of every last vector are padding, without a gradient to average."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 10, bias=False))
    compress_modules(model, lambda name, shape: parse_codec(codec), WeightOptions(codebook_gradient="mean"))
    (coded,) = coded_weights(model).values()
    model[0].weight.sum().backward()
    gradient = coded.codebook.latent.grad / coded.codebook.unit
    wanted = coded.initial_scale.reshape(1, -1)
    assert wanted.shape == (1, 10)
    real = torch.zeros(4, 4)
    total = torch.zeros(4, 4)
    kept = getattr(coded, "kept", torch.ones(len(coded.codes), 4))
    for vector, code in enumerate(coded.codes.tolist()):
        for lane in range(4):
            channel = vector // 6 * 4 + lane
            if channel < 10 and kept[vector, lane]:
                real[code, lane] += 1
                total[code, lane] += coded.initial_scale[channel]
    np.testing.assert_allclose(gradient.numpy(), (total / real.clamp(min=1)).numpy(), rtol=1e-5)


def test_the_largest_codeword_learns_from_the_start() -> None:
    """A unit divided out and multiplied in again may make 127 a little more; that is rounding, not clipping."""
    units = set()
    for seed in range(40):
        start = np.random.default_rng(seed).integers(-127, 128, (4, 4)).astype(np.int8)
        start[0, :2] = 127, -127
        matrix = Rounded8(start, -127)
        np.testing.assert_array_equal(matrix.stored(), start)
        matrix().sum().backward()
        assert matrix.latent.grad is not None and bool((matrix.latent.grad == matrix.unit).all())
        units.add(float((matrix.latent.detach() * matrix.unit).abs().max()))
    assert max(units) > 127


def test_what_is_clipped_does_not_learn() -> None:
    values = torch.tensor([-9.0, -7.6, -7.4, 0.2, 7.4, 7.6], requires_grad=True)
    rounded(values, -7, 7).sum().backward()
    assert values.grad is not None and values.grad.tolist() == [0, 0, 1, 1, 1, 0]


def test_a_dimension_that_an_outlier_stretches_moves_by_what_its_codewords_are() -> None:
    """LR2VQ: one step of the optimiser is at most the rate times the RMS of each dimension, in real numbers."""
    weights = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    weights[:4, 0] = 60  # a vector of the first four channels
    model = nn.Sequential(nn.Linear(64, 64, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.from_numpy(weights))
    compress_modules(model, lambda *_: parse_codec("lr2vq:k=128,m=4,r=4"), scale="tensor")
    (coded,) = coded_weights(model).values()
    before = coded.codebook.latent.detach() * coded.codebook.unit
    power = before.square().mean(0).sqrt()
    assert power.max() > 3 * power.min()  # the outlier's dimension has small numbers
    data = TrainingData({"x": np.random.default_rng(1).normal(size=(8, 64)).astype(np.float32)}, np.zeros((8, 64)))
    options = TrainingOptions(batch=8, rate=0.01, codebook_factor=1.0)
    train(model, data, lambda outputs, _: outputs.square().mean(), options)
    moved = coded.codebook.latent.detach() * coded.codebook.unit - before
    assert moved.abs().max() > 0
    assert bool((moved.abs().amax(0) <= 1.01 * options.rate * power).all())
