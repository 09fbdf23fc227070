"""The training loop: runs repeat themselves and resume bit for bit, faults stop them, settings are checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from training_cases import compressed, net, one_thread, same, shaken, stripes, tuned

from accel.container import read_container
from accel.errors import AccelError, ConfigError, FormatError
from compiler.training import (
    LOSSES,
    Checkpointing,
    Freezing,
    TrainingData,
    TrainingOptions,
    WeightOptions,
    find_loss,
    holds_checkpoint,
    mean_loss,
    outputs_of,
    train,
)
from compiler.training.checkpoint import FILE_NAME, SCHEMA

__all__ = ["one_thread"]  # a fixture


def test_a_run_repeats_itself_and_another_seed_is_another_run() -> None:
    torch.manual_seed(5)
    first = tuned(None)
    torch.manual_seed(6)
    assert same(first, tuned(None))
    assert not same(first, tuned(None, seed=1))
    assert not first.training


def test_training_leaves_the_random_numbers_of_others_alone() -> None:
    model = net()
    before = torch.get_rng_state()
    train(model, stripes(), LOSSES["cross_entropy"], TrainingOptions(batch=16), augment=shaken)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("killed_after", [3, 7, 11])
def test_a_killed_run_goes_on_to_the_same_result(killed_after: int, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    uninterrupted = tuned(whole)
    tuned(parts, stop_after=killed_after)
    with (parts / "log.csv").open("a") as file:
        file.write("12,0.3")  # cut off in the middle of a row
    assert same(uninterrupted, tuned(parts, resume=True))
    assert (whole / "log.csv").read_text() == (parts / "log.csv").read_text()
    assert (whole / FILE_NAME).read_bytes() == (parts / FILE_NAME).read_bytes()
    assert len((whole / "log.csv").read_text().splitlines()) == 1 + 12


@pytest.mark.parametrize("gradient", ["sum", "mean"])
@pytest.mark.parametrize("codec", ["vq:k=8,d=4", "mvq:k=8,d=4,nm=2:4", "lr2vq:k=8,m=4,r=2", "int8", "int4"])
def test_every_codec_goes_on_from_its_checkpoint(codec: str, gradient: str, tmp_path: Path) -> None:
    options = WeightOptions(codebook_gradient=gradient)  # type: ignore[arg-type]
    tuned(tmp_path, stop_after=7, codec=codec, weights=options)
    assert same(tuned(None, codec=codec, weights=options), tuned(tmp_path, resume=True, codec=codec, weights=options))


def test_a_model_that_answers_otherwise_in_training_is_checked_as_it_trains(tmp_path: Path) -> None:
    class TwoHeads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.head, self.other = nn.BatchNorm1d(36), nn.Linear(36, 2), nn.Linear(36, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
            hidden = self.norm(x.flatten(1))
            return (self.head(hidden), self.other(hidden)) if self.training else self.head(hidden)

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return sum(LOSSES["cross_entropy"](each, labels) for each in outputs)  # type: ignore[return-value]

    model = compressed("int8", None, TwoHeads())
    train(model, stripes(), loss, TrainingOptions(batch=16), checkpoints=Checkpointing(tmp_path, {}))
    assert int(model.norm.num_batches_tracked) == 4 and not model.training  # type: ignore[arg-type,operator]
    assert holds_checkpoint(tmp_path)


def blows_up(after: int) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """A loss that is finite for so many steps, the last of which leads to one that is not."""
    calls = 0

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return LOSSES["cross_entropy"](outputs, labels) + (0 if calls <= after else torch.inf)

    return loss


@pytest.mark.parametrize(("steps", "kept"), [(1, 0), (2, 1), (4, 3), (12, 11)])
def test_a_checkpoint_from_which_the_loss_is_not_finite_is_not_kept(steps: int, kept: int, tmp_path: Path) -> None:
    checkpoints = Checkpointing(tmp_path, {}, every_steps=1)
    where = "after step 12 of 12" if steps == 12 else f"step {steps + 1} of 12"
    told = f"last good checkpoint is in '{tmp_path}'" if kept else "before any checkpoint"
    with pytest.raises(ConfigError, match=f"^{where}: the loss is inf, training stopped; .*{told}"):
        train(
            compressed("vq:k=8,d=4"),
            stripes(),
            blows_up(steps),
            TrainingOptions(epochs=3, batch=16),
            checkpoints=checkpoints,
        )
    assert {path.name for path in tmp_path.iterdir()} == ({FILE_NAME} if kept else set())
    assert not kept or read_container(tmp_path / FILE_NAME, SCHEMA)[0]["step"] == kept


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    tuned(tmp_path, stop_after=3)
    with pytest.raises(ConfigError, match=r"is of a run with rate = 0\.02; this one has 0\.01"):
        tuned(tmp_path, resume=True, rate=0.01)
    path = tmp_path / FILE_NAME
    path.write_bytes(path.read_bytes()[:-5])
    for resume in (True, False):
        with pytest.raises(FormatError, match=FILE_NAME):
            tuned(tmp_path, resume=resume)


def test_a_run_without_a_checkpoint_yet_starts_and_one_with_is_not_overwritten(tmp_path: Path) -> None:
    assert same(tuned(None), tuned(tmp_path, resume=True))
    with pytest.raises(ConfigError, match=r"holds a checkpoint of an earlier run \(step 12, epochs 3\)"):
        tuned(tmp_path)


def test_a_gradient_that_is_not_finite_stops_the_run_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    model = compressed("vq:k=8,d=4")
    calls = 0

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        nonlocal calls
        calls += 1
        good = LOSSES["cross_entropy"](outputs, labels)
        return good if calls < 5 else good + 0 * torch.sqrt(outputs.sum() * 0)  # finite, with a gradient of 0 * inf

    kept = {}

    class Keep:
        def add(self, row: object) -> None:
            kept.update({name: tensor.clone() for name, tensor in model.state_dict().items()})

    options = TrainingOptions(epochs=3, batch=16)
    with pytest.raises(ConfigError, match=r"step 5 of 12: the gradient of '.*' has NaN.*last good checkpoint is in"):
        checkpoints = Checkpointing(tmp_path, {}, every_steps=2)
        train(model, stripes(), loss, options, checkpoints=checkpoints, open_logs=lambda _: [Keep()])
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())
    assert (tmp_path / FILE_NAME).exists()


def test_a_loss_that_is_not_finite_is_named() -> None:
    with pytest.raises(ConfigError, match="step 1 of 4: the loss is nan, training stopped; try a lower"):
        train(net(), stripes(), lambda outputs, _: outputs.sum() * torch.nan, TrainingOptions(batch=16))


@pytest.mark.parametrize("loss", ["mse", "cosine", "kl"])
def test_distillation_brings_a_model_closer_to_the_float_one(loss: str) -> None:
    inputs = stripes(128).inputs
    data = TrainingData(inputs, outputs_of(net(), inputs))
    model = compressed("ssvq:k=4,d=8")
    assert mean_loss(net(), data, LOSSES[loss]) == pytest.approx(0, abs=1e-6)
    before = mean_loss(model, data, LOSSES[loss])
    train(model, data, LOSSES[loss], TrainingOptions(epochs=4, batch=16, rate=5e-3))
    assert mean_loss(model, data, LOSSES[loss]) < before / 2


MISTAKES = {
    "epochs": lambda: TrainingOptions(epochs=0),
    "rate": lambda: TrainingOptions(rate=float("nan")),
    "decay": lambda: TrainingOptions(decay=-1),
    "warm-up": lambda: TrainingOptions(warm_up=1),
    "clip": lambda: TrainingOptions(clip=0),
    "precision": lambda: TrainingOptions(precision="half"),  # type: ignore[arg-type]
    "alpha": lambda: WeightOptions(alpha=0),
    "codebook gradient": lambda: WeightOptions(codebook_gradient="max"),  # type: ignore[arg-type]
    "signs": lambda: WeightOptions(signs="none"),  # type: ignore[arg-type]
    "freezing every": lambda: Freezing(interval_steps=0),
    "momentum": lambda: Freezing(momentum=0),
    "falling": lambda: Freezing(threshold=0.1, final_threshold=0.2),
    "samples": lambda: replace(stripes(), targets=np.zeros(3)),
    "checkpoint every": lambda: Checkpointing(Path(), {}, every_steps=0),
    "without labels": lambda: find_loss("cross_entropy", False),
    "did you mean 'cosine'": lambda: find_loss("cosin", False),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_settings_that_make_no_sense_are_refused(what: str) -> None:
    with pytest.raises(AccelError, match=what):
        MISTAKES[what]()
