"""The training loop: AdamW, cosine learning rate; a run repeats itself under its seed and goes on from a checkpoint."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from accel.errors import ConfigError
from compiler.training.checkpoint import (
    Identity,
    check_no_checkpoint,
    drop_unsettled,
    holds_checkpoint,
    read_checkpoint,
    settle_checkpoint,
    write_checkpoint,
)
from compiler.training.coded import ROLES
from compiler.training.data import TrainingData, batches
from compiler.training.graph_module import GraphModule
from compiler.training.imitation import Imitation
from compiler.training.log import StepRow
from compiler.training.losses import Loss
from compiler.training.modules import coded_weights, frozen_share
from compiler.training.options import TrainingOptions

Augment = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]
Progress = Callable[[int, int, str], None]

STEPS_BETWEEN_CHECKPOINTS = 200


class Log(Protocol):
    """What ``train`` tells every step to."""

    def add(self, row: StepRow) -> None:
        """Take one row."""


@dataclass(frozen=True, slots=True)
class Checkpointing:
    """A checkpoint in ``folder`` every so many steps and after the last. ``identity`` says which run it is of (model,
    data, codecs); ``train`` adds its own options and the number of torch's threads, by which sums round. With
    ``resume`` the run goes on from the folder's checkpoint, or starts if there is none yet; without, there may be none.
    """

    folder: Path
    identity: Identity
    every_steps: int = STEPS_BETWEEN_CHECKPOINTS
    resume: bool = False

    def __post_init__(self) -> None:
        if self.every_steps < 1:
            raise ConfigError(f"a checkpoint every {self.every_steps} steps; allowed: at least 1")


@dataclass(frozen=True, slots=True)
class _Run:
    """What does not change while a model is trained."""

    model: nn.Module
    data: TrainingData
    loss: Loss
    options: TrainingOptions
    optimiser: torch.optim.Optimizer
    augment: Augment | None
    imitation: Imitation | None
    checkpoints: Checkpointing | None

    def value(self, inputs: tuple[Tensor, ...], targets: Tensor) -> Tensor:
        """What a batch is to lower."""
        if self.imitation is None:
            return self.loss(self.model(*inputs), targets)
        assert isinstance(self.model, GraphModule)
        return self.imitation.loss(self.loss, self.model, inputs, targets)

    @property
    def steps(self) -> int:
        return self.options.epochs * self.steps_per_epoch

    @property
    def steps_per_epoch(self) -> int:
        return max(1, len(self.data) // self.options.batch)

    @property
    def identity(self) -> dict[str, str]:
        """What a checkpoint must have been written with to be of this run."""
        assert self.checkpoints is not None
        around = {"samples": str(len(self.data)), "threads": str(torch.get_num_threads())}
        return {**self.checkpoints.identity, **around, **{k: str(v) for k, v in asdict(self.options).items()}}


def train(
    model: nn.Module,
    data: TrainingData,
    loss: Loss,
    options: TrainingOptions,
    *,
    augment: Augment | None = None,
    imitation: Imitation | None = None,
    checkpoints: Checkpointing | None = None,
    open_logs: Callable[[int], Sequence[Log]] = lambda step: (),
    progress: Progress | None = None,
    stop_after: int | None = None,
) -> int:
    """Train ``model`` in place on ``data`` and leave it in evaluation mode; returns the number of steps it has had.

    ``augment`` changes inputs ``[B, ...]`` by torch's random numbers, which are seeded for every step and put back
    after it. With ``imitation`` the model, a ``GraphModule``, learns inner tensors of its teacher, too. ``open_logs``
    is called with the number of steps already done. After step ``stop_after`` the run ends, as if killed. Raises
    ``ConfigError`` if a loss or gradient is NaN or infinite, with the parameters as they were before that step, or
    after the last if that led there; the last checkpoint from which it was not stays. ``augment`` is called for the
    last batch once more.
    """
    run = _Run(model, data, loss, options, make_optimiser(model, options), augment, imitation, checkpoints)
    begin = _resumed(run)
    end = max(begin, min(run.steps, stop_after or run.steps))
    logs = open_logs(begin)
    model.train()
    for step in range(begin, end):
        if progress is not None:
            progress(step, run.steps, f"epoch {step // run.steps_per_epoch + 1} of {options.epochs}")
        row = _step(run, step)
        for log in logs:
            log.add(row)
        _keep(run, step + 1)
    if end > begin:
        _check_end(run, end)
    model.eval()
    return end


def _keep(run: _Run, done: int) -> None:
    """Write the state after ``done`` steps where a checkpoint is due."""
    kept = run.checkpoints
    if kept is not None and (done % kept.every_steps == 0 or done == run.steps):
        write_checkpoint(kept.folder, run.model, run.optimiser, done, run.identity)


def make_optimiser(model: nn.Module, options: TrainingOptions) -> torch.optim.Optimizer:
    """AdamW over what is trained, each parameter in a group with its ``base_rate`` and decay (``TrainingOptions``)."""
    coded = {id(parameter) for each in coded_weights(model).values() for parameter in each.parameters()}
    factors = {"codebook": options.codebook_factor, "sign": options.sign_factor}
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        role = _role(name) if id(parameter) in coded else None
        rate = options.rate * (1.0 if role is None else factors[role])
        decay = options.decay if role is None and parameter.ndim > 1 else 0.0
        groups.setdefault((rate, decay), []).append(parameter)
    if not groups:
        raise ConfigError("nothing to train: the model has no parameters that require gradients")
    return torch.optim.AdamW(
        {"params": members, "lr": rate, "base_rate": rate, "weight_decay": decay}
        for (rate, decay), members in groups.items()
    )


def _role(name: str) -> str | None:
    """Of a parameter of a ``CodedWeight``: by the attribute it, or the matrix it is in, has there."""
    inside = name.rpartition("parametrizations.")[2]  # of the layer's own name nothing follows
    return next((ROLES[part] for part in reversed(inside.split(".")) if part in ROLES), None)


def _resumed(run: _Run) -> int:
    if run.checkpoints is None:
        return 0
    folder = run.checkpoints.folder
    if not run.checkpoints.resume:
        check_no_checkpoint(folder)
    drop_unsettled(folder)
    return read_checkpoint(folder, run.model, run.optimiser, run.identity) if holds_checkpoint(folder) else 0


def _step(run: _Run, step: int) -> StepRow:
    """Forward, backward, update of one batch, which follows from the seed and ``step`` (from 0)."""
    run.optimiser.zero_grad()
    with _seeded(run.options.seed, step):
        value = _value(run, step)
        value.backward()
    norm = _gradient_norm(run, step, value)
    share = run.options.rate_share(step, run.steps)
    for group in run.optimiser.param_groups:
        group["lr"] = group["base_rate"] * share
    run.optimiser.step()
    for coded in coded_weights(run.model).values():
        coded.after_step(step + 1, run.steps)
    return StepRow(step + 1, value.item(), share, norm, frozen_share(run.model))


def _value(run: _Run, step: int) -> Tensor:
    """What ``step`` is to lower, on its batch."""
    epoch, position = divmod(step, run.steps_per_epoch)
    chosen = batches(len(run.data), run.options.batch, run.options.seed, epoch)[position]
    inputs, targets = run.data.batch(chosen)
    inputs = inputs if run.augment is None else run.augment(inputs)
    with torch.autocast("cpu", torch.bfloat16, enabled=run.options.precision == "bfloat16"):
        return run.value(inputs, targets)


def _check_end(run: _Run, done: int) -> None:
    """Raise ``ConfigError`` if the last step, whose batch is computed once more, left a model without finite loss."""
    buffers = {name: buffer.clone() for name, buffer in run.model.named_buffers()}  # norms count what they see
    with torch.no_grad(), _seeded(run.options.seed, done - 1):
        value = _value(run, done - 1)
        for name, buffer in run.model.named_buffers():
            buffer.copy_(buffers[name])
    if not math.isfinite(value.item()):
        raise ConfigError(_stopped(run, f"after step {done} of {run.steps}", f"the loss is {value.item()}"))
    _settle(run)


def _settle(run: _Run) -> None:
    if run.checkpoints is not None:
        settle_checkpoint(run.checkpoints.folder)


def _stopped(run: _Run, where: str, why: str) -> str:
    """The message of a run that cannot go on; a checkpoint that led here is dropped."""
    kept = ""
    if run.checkpoints is not None:
        folder = run.checkpoints.folder
        drop_unsettled(folder)
        kept = f"; the last good checkpoint is in '{folder}'" if holds_checkpoint(folder) else "; before any checkpoint"
    return f"{where}: {why}, training stopped{kept}; try a lower learning rate"


def _gradient_norm(run: _Run, step: int, value: Tensor) -> float:
    """Norm of all gradients, clipped if the options say so; raises ``ConfigError`` if it is not finite."""
    parameters = [parameter for parameter in run.model.parameters() if parameter.grad is not None]
    total = nn.utils.get_total_norm([parameter.grad for parameter in parameters])
    norm = float(total)
    if math.isfinite(value.item()) and math.isfinite(norm):
        _settle(run)
        if run.options.clip is not None:
            nn.utils.clip_grads_with_norm_(parameters, run.options.clip, total)
        return norm
    raise ConfigError(_stopped(run, f"step {step + 1} of {run.steps}", _culprit(run.model, value)))


def _culprit(model: nn.Module, value: Tensor) -> str:
    if not math.isfinite(value.item()):
        return f"the loss is {value.item()}"
    for name, parameter in model.named_parameters():
        if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
            return f"the gradient of '{name}' has NaN or infinite values"
    return "the norm of all gradients is beyond float32"


@contextlib.contextmanager
def _seeded(seed: int, step: int) -> Iterator[None]:
    """torch's random numbers start from ``seed`` and ``step`` inside, and go on as if nothing had been after it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed((seed << 32 | step) % (1 << 63))
        yield
